"""What the tests of Neovim share: editors with a server, places with suggestions, and ghost text that is accepted."""

import os
from pathlib import Path

from editor import HERE, Editor, same, until
from terminal import COLUMNS, ROWS

SCRIPTED = str(HERE / "scripted_server.py")
BINARY = os.environ.get("NESTLING_BIN") or str(HERE.parent.parent / "target" / "release" / "nestling")


def accept_what_is_displayed(editor):
    """Accepts the ghost text on the screen; screen before, screen after and buffer must be the same text."""
    ghost = editor.see()
    assert ghost, "no ghost text on the screen"
    before, (row, column) = editor.lines(), editor.rpc.current.window.cursor
    editor.quiet()
    displayed, ghost = editor.screen.settled(), editor.ghost()
    editor.accept()
    after = editor.lines()
    same(editor.screen.settled()[: ROWS - 1], displayed[: ROWS - 1])
    top = editor.lua("return vim.fn.line('w0')") - 1
    same([row.rstrip() for row in after[top:top + ROWS - 1] if row.isascii() and len(row) < COLUMNS],
         [row for row, line in zip(displayed, after[top:top + ROWS - 1]) if line.isascii() and len(line) < COLUMNS])
    head = before[row - 1].encode()[:column].decode()
    inserted = "\n".join(after[row - 1:])[len(head):]
    assert inserted.startswith(ghost), f"the buffer has {inserted[:len(ghost)]!r}, the screen had {ghost!r}"
    same(after[: row - 1], before[: row - 1])
    return ghost


def scripted(options="", path="python/pantry/shopping.py", before="", **environment):
    """An editor whose server is scripted; `options` are further Lua fields of setup(), `before` runs ahead of it."""
    setup = f"{before}\nrequire('nestling').setup({{ cmd = {{ '{SCRIPTED}', 'serve' }}, {options} }})"
    return Editor(path, setup, **environment)


def program(path, options="", before=""):
    """An editor whose server is the real program."""
    assert os.access(BINARY, os.X_OK), f"{BINARY} is missing: cargo build --release, or name it in NESTLING_BIN"
    if model := os.environ.get("NESTLING_MODEL"):
        options += f", model = '{Path(model).resolve()}'"
    setup = f"{before}\nrequire('nestling').setup({{ cmd = {{ '{Path(BINARY).resolve()}', 'serve' }} {options} }})"
    return Editor(path, setup)


PYTHON, RUST = "python/pantry/shopping.py", "rust/src/day.rs"
# Where to type (below the first line with this text) and what; the first place with a suggestion is taken.
PLACES = {
    PYTHON: [("amounts = available(", "    for shelf in"), ("result = {}", "    for name, amount in"), ("items = []", "    for shelf in shelves:\n        for item in"),
             ("lines = []", "    return "), ("def format_list", "    amounts = ")],
    RUST: [("spans: Vec::new()", "        let mut"), ("let mut merged", "        self.spans."), ("pub fn minutes", "        self.spans.iter()"),
           ("impl Day {", "    pub fn is_empty(&self) ->"), ("pub fn breaks", "        let spans = ")],
}
EMOJI = {PYTHON: [("amounts = available(", "    tag = '🐣'; amounts = "), ("result = {}", "    print('🐣🐥', "), ("items = []", "    tag = \"🐣\" if items else "),
                  ("lines = []", "    assert lines, '🐣'; return "),
                  # What stands in the file already.
                  ("lines = []", "    tag = '🐣'; return sorted(items, key=lambda item: item."), ("result = {}", "    tag = '🐣'; amounts = available(")]}


def suggestion(editor, places):
    """Types at one place after the other until there is ghost text."""
    silences = []
    # Twice: on a busy machine an answer may not be finished in time.
    for above, text in places * 2:
        editor.open_line(above)
        editor.type(text.replace("\n", "\r"))
        if editor.see(6):
            return text
        silences.append(f"{text!r}: {(editor.status().get('lastSilence') or {}).get('reason')}")
        editor.screen.press("Escape")
        editor.screen.type("u")
    raise AssertionError("silent everywhere: " + "; ".join(silences))


def ready(editor):
    editor.attached()
    until(lambda: editor.status()["model"]["state"] == "ready", "the model is loaded", 30)
    return editor
