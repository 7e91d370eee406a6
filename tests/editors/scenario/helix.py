"""The scenario's Helix: editors/helix/README.md as its configuration, in a terminal, driven by keys, read off the screen."""

import json
import re
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from play import Failure, matches, until  # noqa: E402
from terminal import ROWS, Terminal  # noqa: E402

CACHE = HERE.parent / ".cache"
PAGE = HERE.parents[2] / "editors" / "helix" / "README.md"
# What is typed must be what is there, and the list must have nothing but suggestions.
CONFIG = """
[editor]
auto-pairs = false
[editor.word-completion]
enable = false
[editor.lsp]
display-messages = true
display-progress-messages = true
"""
GUTTER = 7


class Driver:
    abilities = {"list", "actions", "resolve", "commands", "progress"}

    def __init__(self, project, file, settings, binary, folder, environment):
        self.project, self.file, self.folder = Path(project), Path(project) / file, folder
        self.original = self.file.read_text()
        (folder / "bin").mkdir()
        (folder / "bin" / "nestling").symlink_to(binary)
        config = folder / "config" / "helix"
        config.mkdir(parents=True)
        (config / "config.toml").write_text(CONFIG)
        own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        languages = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.S)[1]
        (config / "languages.toml").write_text(f"{languages}\n[language-server.nestling.config.nestling]\n{own}")
        self.environment = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
                            "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", **environment}
        self.cache = Path(environment["XDG_CACHE_HOME"])
        self.screen, self.watcher, self.watching = None, None, False
        self.heard = []
        # The text while keys of a known effect are typed: to read it, insert mode must be left.
        self.known = self.row = None

    def start(self):
        command = [str(CACHE / "bin" / "helix"), "-w", str(self.project), str(self.file)]
        self.screen, self.heard = Terminal("helix", command, self.environment, self.folder), []
        self.watching, self.watcher = True, threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        until(lambda: any("NOR" in row for row in self.screen.rows()), "Helix starts")
        # It does not say when the server has read the project; its index is a file then.
        until(lambda: any(path.is_file() for path in self.cache.glob("nestling/**/*")), "the index is there", 60)

    def stop(self):
        self.watching = False
        if self.screen:
            self.watcher.join()
            self.normal()
            self.command(":quit-all!")
            time.sleep(0.5)
            self.screen.close()
        self.screen = None

    def close(self):
        self.stop()

    def watch(self):
        """Keeps what appears in the last row, where messages and progress are."""
        while self.watching:
            row = self.screen.rows()[ROWS - 1].strip()
            if "nestling" in row and not row.startswith(":") and (not self.heard or self.heard[-1] != row):
                self.heard.append(row)
            time.sleep(0.12)

    def model(self):
        return None

    def normal(self):
        self.screen.press("Escape", "Escape")
        until(lambda: any(" NOR " in row for row in self.screen.rows()), "normal mode")

    def command(self, text):
        self.screen.type(text)
        self.screen.press("Enter")

    def place(self, row, column):
        self.normal()
        self.command(":reload")
        self.command(f":{row}")
        self.screen.type("gh" + "l" * ((column or 1) - 1))
        self.known, self.row = self.original, row
        if column is None:
            if self.original.split("\n")[row - 1]:
                raise Failure("only empty rows can be typed into")
            self.screen.type("i")
            until(lambda: any(" INS " in row for row in self.screen.rows()), "insert mode")

    def type(self, text):
        self.screen.type(text)
        lines = self.known.split("\n")
        lines[self.row - 1] += text
        self.known = "\n".join(lines)
        until(lambda: any(text in row for row in self.screen.rows()), "the typed text")

    def below(self):
        """The rows below the cursor: what is in them where the text has empty lines is a list or a menu."""
        row = int(self.screen._tmux("display-message", "-p", "#{cursor_y}"))
        return [row[GUTTER:].strip() for row in self.screen.rows()[row + 1:ROWS - 2]]

    def entry(self):
        found = re.fullmatch(r"(.+?)\s+text", self.below()[0])
        return found[1] if found else ""

    def shown(self):
        """What the list has; asked for until it comes, since it comes by itself only after some characters."""
        for _ in range(4):
            try:
                return until(self.entry, "a list", 1.5)
            except Failure:
                self.screen.press("C-x")
        return ""

    def take(self):
        self.screen.press("Tab", "Enter")
        self.known = None

    def text(self):
        if self.known is None:
            self.normal()
            file = self.folder / "text"
            file.unlink(missing_ok=True)
            self.screen.type("%")
            self.command(f":pipe-to cat > {file}.part; mv {file}.part {file}")
            until(file.exists, "the text is written")
            self.screen.type(";")
            return file.read_text()
        return self.known

    def choose(self, _, pattern):
        self.normal()

        def chosen():
            self.screen.press("Escape", "Escape")
            self.screen.press("Space")
            self.screen.type("a")
            try:
                entries = until(lambda: [row[row.index("nestling: "):] for row in self.below() if "nestling: " in row], "a menu", 3)
            except Failure:
                return False
            at = next((number for number, entry in enumerate(entries) if matches(pattern, entry)), None)
            if at is None:
                return False
            self.screen.press(*["Down"] * at, "Enter")
            return True

        until(chosen, f"an entry like {pattern}", 30)
        self.known = None

    def execute(self, command, argument):
        self.normal()
        self.command(f":lsp-workspace-command {command} {json.dumps(argument) if argument else ''}")

    def said(self):
        return [row for row in self.heard if "fine-tuning" not in row]

    def progress(self):
        return [row for row in self.heard if "fine-tuning" in row]
