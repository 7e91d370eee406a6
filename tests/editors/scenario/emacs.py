"""The scenario's Emacs: eglot as editors/emacs/README.md configures it, in a terminal, driven by keys, asked by emacsclient."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from play import matches, until  # noqa: E402
from terminal import Terminal  # noqa: E402

CACHE = HERE.parent / ".cache"
PAGE = HERE.parents[2] / "editors" / "emacs" / "README.md"
# The commands for one kind do nothing in eglot 1.9: the menu of all kinds is taken.
MENU = "eglot-code-actions"


class Driver:
    def __init__(self, project, file, settings, binary, folder, environment):
        self.file, self.folder = Path(project) / file, folder
        (folder / "bin").mkdir()
        (folder / "bin" / "nestling").symlink_to(binary)
        (folder / "home").mkdir()
        (folder / "sockets").mkdir(mode=0o700)
        pairs = " ".join(f"({key} . {json.dumps(value)})" for key, value in settings.items())
        own = f"(setq-default eglot-workspace-configuration '((nestling . ({pairs}))))\n"
        (folder / "page.el").write_text(re.search(r"```elisp\n(.*?)```", PAGE.read_text(), re.S)[1] + own)
        path = f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        self.environment = {"HOME": str(folder / "home"), "PATH": path, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8",
                            "SCENARIO_SOCKETS": str(folder / "sockets"), **environment}
        self.screen = None
        self.abilities = {"list", "actions", "commands"}
        # What the installed eglot can do depends on its age.
        asked = "(princ (list (and (boundp 'eglot-report-progress) 'progress) (and (string-match-p \"resolveSupport\" (format \"%s\" (symbol-function 'eglot-client-capabilities))) 'resolve)))"
        asks = [str(CACHE / "bin" / "emacs"), "-q", "--batch", "-l", "eglot", "--eval", asked]
        done = subprocess.run(asks, env={**os.environ, **self.environment}, capture_output=True, text=True, check=True)
        self.abilities |= {word for word in ("progress", "resolve") if word in done.stdout}

    def start(self):
        command = [str(CACHE / "bin" / "emacs"), "-nw", "-q", "-l", str(self.folder / "page.el"), "-l", str(HERE / "emacs.el"), str(self.file)]
        self.screen = Terminal("emacs", command, self.environment, self.folder)
        until((self.folder / "sockets" / "scenario").exists, "Emacs starts")

        def ready():
            status = self.ask("(scenario-status)")
            return status and status["model"]["state"] == "ready" and (status["index"] or {}).get("state") == "ready"

        until(ready, "model and index are ready", 60)

    def stop(self):
        if self.screen:
            # In good order, so that the server hears of it.
            subprocess.run([self.client(), "-s", str(self.folder / "sockets" / "scenario"), "--eval", "(kill-emacs)"],
                           capture_output=True, timeout=20, check=False)
            self.screen.close()
            (self.folder / "sockets" / "scenario").unlink(missing_ok=True)
        self.screen = None

    def close(self):
        self.stop()

    def client(self):
        near = (CACHE / "bin" / "emacs").resolve().with_name("emacsclient")
        return str(near if near.exists() else shutil.which("emacsclient"))

    def ask(self, expression):
        command = [self.client(), "-s", str(self.folder / "sockets" / "scenario"), "--eval", f"(scenario-answer {expression})"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{expression}: {done.stderr.strip()} {done.stdout.strip()}")
        return json.loads(base64.b64decode(done.stdout.strip().strip('"')))

    def model(self):
        return self.ask("(scenario-status)")["model"].get("name")

    def quit(self):
        """Leaves the minibuffer. C-g throws away what is typed behind it, so it is waited for."""
        if self.ask("(and (active-minibuffer-window) t)"):
            self.screen.press("C-g")
            until(lambda: not self.ask("(and (active-minibuffer-window) t)"), "the minibuffer is left")

    def place(self, row, column):
        self.quit()
        self.ask(f"(scenario-place {row} {column or 'nil'})")

    def type(self, text):
        self.screen.type(text)
        until(lambda: self.ask("(scenario-in-file (buffer-substring (line-beginning-position) (point)))").endswith(text), "the typed text")

    def shown(self):
        end = time.monotonic() + 6
        while not (found := self.ask("(scenario-list)")) and time.monotonic() < end:
            time.sleep(0.2)
        return (found or [""])[0]

    def take(self):
        self.screen.press("M-Tab")

    def text(self):
        return self.ask("(scenario-in-file (buffer-substring-no-properties (point-min) (point-max)))")

    def choose(self, _, pattern):
        before = self.text()

        def chosen():
            self.quit()
            self.screen.press("M-x")
            until(lambda: self.ask("(and (active-minibuffer-window) t)"), "the minibuffer")
            self.screen.type(MENU)
            self.screen.press("Enter")
            try:
                until(lambda: self.text() != before or self.ask("(scenario-menu)"), "a menu", 5)
            except AssertionError:
                return False
            # A single entry is applied without a question.
            if self.text() != before:
                return True
            entry = next((title for title in self.ask("(scenario-menu)") if matches(pattern, title)), None)
            if entry:
                self.ask(f"(scenario-answer-menu {json.dumps(entry, ensure_ascii=False)})")
                self.screen.press("Enter")
            return entry

        until(chosen, f"an entry like {pattern}", 30)

    def execute(self, command, argument):
        pairs = " ".join(f":{key} {json.dumps(value) if isinstance(value, str) else 't' if value else ':json-false'}" for key, value in (argument or {}).items())
        self.ask(f"(scenario-in-file (eglot-execute-command (eglot-current-server) '{command} {f'[({pairs})]' if argument else '[]'}))")

    def said(self):
        text = self.ask('(with-current-buffer "*Messages*" (buffer-substring-no-properties (point-min) (point-max)))')
        return [line for line in text.split("\n") if "nestling" in line]

    def progress(self):
        return [line for line in self.said() if "fine-tuning" in line]
