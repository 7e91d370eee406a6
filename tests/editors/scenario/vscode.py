"""The scenario's VS Code: a code-server in Chromium with the packaged extension; vscode.mjs does what is asked here."""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "vscode" / ".cache"


class Driver:
    abilities = {"ghost", "parts", "actions", "resolve", "commands", "progress"}

    def __init__(self, project, file, settings, binary, folder, environment):
        # The program is the one that is packed into the extension.
        self.where, self.folder, self.starts = (str(project), str(file)), folder, 0
        self.settings, self.environment = settings, environment
        self.process = subprocess.Popen([str(CACHE / "bin" / "node"), str(HERE / "vscode.mjs")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=(folder / "vscode.log").open("w"), text=True)

    def ask(self, *order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": (self.folder / "vscode.log").read_text()[-2000:]}
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def start(self):
        # A fresh profile each time: what stays is what the program keeps.
        self.starts += 1
        self.ask("start", *self.where, str(self.folder / f"profile-{self.starts}"), self.settings, self.environment)

    def stop(self):
        if self.process.poll() is None:
            self.ask("stop")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def model(self):
        return self.ask("status")["model"].get("name")

    def place(self, row, column):
        self.ask("place", row, column)

    def type(self, text):
        self.ask("type", text)

    def shown(self):
        return self.ask("shown")

    def take_word(self):
        self.ask("take_word")

    def take(self):
        self.ask("take")

    def text(self):
        return self.ask("text")

    def choose(self, kind, pattern):
        self.ask("choose", kind, pattern)

    def execute(self, command, argument):
        self.ask("execute", command, argument)

    def said(self):
        return self.ask("said")

    def progress(self):
        return self.ask("progress")
