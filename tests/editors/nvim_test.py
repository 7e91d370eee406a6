#!/usr/bin/env python3
"""Neovim with editors/nvim, in a real terminal: types, sees ghost text on the screen, accepts it, reads the buffer.

    tests/editors/nvim_test.py [--only WORD] [--nvim VERSION] [--picture FILE.svg]

All of it in Neovim 0.12, and then in 0.11, where the plugin draws the ghost text itself. Two groups of tests. `plugin`
talks to scripted_server.py, whose answers are known, and holds the plugin to the letter. `program` talks to the real
binary (NESTLING_BIN, default target/release/nestling, with NESTLING_MODEL as its model if set) and takes whatever it
suggests: what was displayed must be what ends up in the buffer. Those of installing and of what may go wrong are in
nvim_troubles.py; lazy.nvim is tried where NESTLING_LAZY names a checkout of it.
All of it runs without a network where the system permits that. Exit code 0 or 1; the last line counts.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
TEST_LIMIT = 120  # seconds
# Where bin/nvim is this version, and the tests for it alone: the picture is made once, and 0.11 has no package manager.
VERSIONS = {"0.12": CACHE, "0.11": CACHE / "venv"}
ONLY_IN = {"program_picture": "0.12", "program_is_installed_by_vim_pack": "0.12"}


def enter():
    """Starts this script again with the Python of the cache, where that is permitted without a network and with mounts of its own."""
    if "NVIM_TEST_INSIDE" in os.environ:
        return
    subprocess.run([HERE / "setup.sh", CACHE], check=True)
    os.environ["NVIM_TEST_INSIDE"] = "1"
    command = [str(CACHE / "venv" / "bin" / "python"), __file__, *sys.argv[1:]]
    flags = "-nm" if os.geteuid() == 0 else "-rnm"
    if shutil.which("unshare") and subprocess.run(["unshare", flags, "true"], capture_output=True, check=False).returncode == 0:
        command = ["unshare", flags, *command]
    else:
        print("note: namespaces are not permitted here, the network stays reachable")
    os.execvp(command[0], command)


if __name__ == "__main__":
    enter()

import editor as driver  # noqa: E402  (needs the Python of the cache)
from editor import CLIENT, GHOST, PLUGIN, PROJECTS, Editor, same, until  # noqa: E402
from nvim_troubles import *  # noqa: E402, F403  (the tests in it)
from steps import EMOJI, PLACES, PYTHON, RUST, accept_what_is_displayed, program, ready, scripted, suggestion  # noqa: E402


def plugin_accepts_what_is_displayed():
    with scripted().attached() as editor:
        editor.open_line()
        editor.type("def add(")
        same(accept_what_is_displayed(editor), "a, b):\n    return a + b")
        same(editor.lines()[1:3], ["def add(a, b):", "    return a + b"])
        editor.accepted(1)
        editor.screen.type("u")
        until(lambda: editor.line() == "def add(", "u takes back the accepted text and nothing else")


def plugin_replaces_the_closer_after_the_cursor():
    with scripted().attached() as editor:
        editor.open_line()
        editor.type("print()")
        editor.screen.press("Left")
        # 0.11 shows the closer that stands there as it is.
        same(accept_what_is_displayed(editor).rstrip(")"), "total, count")
        same(editor.line(), "print(total, count)")


def plugin_keeps_text_right_around_emoji():
    for encoding in "utf-16", "utf-8":
        with scripted(SCRIPTED_ENCODING=encoding).attached() as editor:
            editor.open_line()
            editor.type("egg = '🐣'; chick = ")
            same(accept_what_is_displayed(editor), '"🐣🐥" + name')
            same(editor.line(), "egg = '🐣'; chick = \"🐣🐥\" + name")


def plugin_inserts_only_what_is_missing_when_typed_through():
    with scripted().attached() as editor:
        editor.open_line()
        editor.type("def add(")
        assert editor.see(), "no ghost text"
        editor.screen.type("a, ")
        editor.accept()
        same(editor.lines()[1:3], ["def add(a, b):", "    return a + b"])
        editor.open_line()
        editor.type("print()")
        editor.screen.press("Left")
        assert editor.see(), "no ghost text"
        editor.screen.type("tot")
        editor.accept()
        same(editor.line(), "print(total, count)")


def plugin_passes_the_key_on_when_typed_otherwise():
    with scripted().attached() as editor:
        editor.open_line()
        editor.type("def add(")
        assert editor.see(), "no ghost text"
        editor.screen.type("z")
        editor.accept()
        same(editor.line(), "def add(z\t")
        editor.accepted(0)


def plugin_accepts_words_and_lines():
    with scripted("keymaps = { accept_line = '<M-l>' }").attached() as editor:
        editor.open_line()
        editor.type("mean = ")
        assert editor.see(), "no ghost text"
        for wanted in "mean = total", "mean = total /", "mean = total / count":
            editor.screen.press("M-Right")
            until(lambda: editor.line() == wanted, f"the next word makes {wanted!r}")
            assert wanted.endswith("count") or editor.see(), "no ghost text after a word"
        editor.accepted(1)
        editor.open_line()
        editor.type("def add(")
        assert editor.see(), "no ghost text"
        editor.screen.press("M-l")
        until(lambda: editor.line() == "def add(a, b):", "the rest of the line")
        assert editor.see(), "no ghost text after a line"
        editor.accept("M-l")
        same(editor.lines()[1:3], ["def add(a, b):", "    return a + b"])


def plugin_dismisses():
    with scripted().attached() as editor:
        editor.open_line()
        editor.type("mean = ")
        assert editor.see(), "no ghost text"
        editor.screen.press("C-]")
        until(lambda: not editor.ghost(), "the ghost text goes away")
        editor.quiet()
        same((editor.ghost(), editor.line()), ("", "mean = "))


def plugin_leaves_other_mappings_alone():
    mapping = "vim.keymap.set('i', '<Tab>', function() return '<lt>' .. 'TAB>' end, { expr = true })"
    with scripted(before=mapping).attached() as editor:
        editor.open_line()
        editor.accept()
        same(editor.line(), "<TAB>")
    # As plugins of snippets tell their users to map it: an expression that names keys, and is mapped again.
    for mapping, wanted in (
        ("imap <expr> <Tab> col('.') > 9 ? '<Plug>(jump)' : '<Tab>'", "\t"),
        ("imap <expr> <Tab> col('.') < 9 ? '<Plug>(jump)' : '<Tab>'", "jumped"),
        ("imap <expr> <Tab> \"\\<Tab>jump\"", "\tjump"),
        ("inoremap <expr> <Tab> \"\\<C-v>u00e9\"", "é"),
    ):
        before = f"vim.cmd([[{mapping}]]) vim.cmd([[inoremap <Plug>(jump) jumped]])"
        with scripted(before=before).attached() as editor:
            editor.open_line()
            editor.accept()
            until(lambda: editor.line() == wanted, f"{wanted!r} by {mapping}")
    with scripted("keymaps = { accept = false }").attached() as editor:
        editor.open_line()
        editor.type("mean = ")
        assert editor.see(), "no ghost text"
        editor.accept()
        same(editor.line(), "mean = \t")


def plugin_says_why_it_is_silent():
    with scripted().attached() as editor:
        until(lambda: editor.lua("return require('nestling').status()") == "nestling", "the status line is ready")
        editor.open_line()
        editor.type("nothing")
        reason = "nestling: the script has nothing here"
        until(lambda: editor.lua("return require('nestling').status()") == reason, "the status line names the reason")
        shown = editor.lua("return vim.api.nvim_exec2('Nestling status', { output = true }).output")
        assert "scripted" in shown and "silence    the script has nothing here" in shown, shown
    with scripted(SCRIPTED_MODEL="failed").attached() as editor:
        until(lambda: editor.lua("return require('nestling').status()") == "nestling: the file is broken", "the broken model")
        assert "❌ ERROR model scripted: failed, the file is broken" in editor.health()
    with scripted(SCRIPTED_MODEL="loading").attached() as editor:
        until(lambda: editor.lua("return require('nestling').status()") == "nestling: loading the model", "the model loads")


def plugin_switches_off_and_on():
    with scripted().attached() as editor:
        same(editor.lua("return vim.fn.getcompletion('Nestling ', 'cmdline')"), ["cancel", "chat", "disable", "enable", "finetune", "fix", "log", "message", "optimize", "stats", "status", "why"])
        editor.rpc.command("Nestling disable")
        until(lambda: editor.lua(f"return {CLIENT} == nil"), "the server stops")
        same(editor.lua("return { vim.fn.maparg('<Tab>', 'i', false, true).buffer, require('nestling').status() }"), [0, ""])
        assert "switched off" in editor.health()
        editor.rpc.command("Nestling enable")
        # At once again, while the one before has not ended yet.
        editor.attached().lua("vim.cmd('Nestling disable') vim.cmd('Nestling enable')")
        until(lambda: editor.lua("return #vim.lsp.get_clients({ name = 'nestling' })") == 1, "one client")
        editor.attached().open_line()
        editor.type("mean = ")
        assert editor.see(), "no ghost text after enabling again"
        same(editor.lua("return vim.fn.maparg('<Tab>', 'i', false, true).buffer"), 1)
        editor.screen.press("Escape")
        editor.rpc.command("Nestling log")
        assert editor.rpc.current.buffer.name.endswith("lsp.log")


def plugin_takes_its_options():
    options = "model = '~/some.gguf', filetypes = { ['*'] = false, rust = true, lua = true }"
    with scripted(options, path="rust/src/span.rs").attached() as editor:
        [server] = servers(editor)  # noqa: F405
        arguments = Path(f"/proc/{server}/cmdline").read_text().split("\0")[:-1]
        same(arguments[-3:], ["serve", "--model", str(editor.folder / "home" / "some.gguf")])
        for filetype, wanted in ("lua", True), ("python", False):
            editor.rpc.command(f"enew | setfiletype {filetype}")
            editor.rpc.command(f"file some.{filetype}")
            time.sleep(0.3)
            same((filetype, editor.lua(f"return {CLIENT} ~= nil")), (filetype, wanted))
        wrong = "local ok, why = pcall(require('nestling').setup, { modle = 'x' }); return why"
        assert 'there is no option "modle"' in editor.lua(wrong)


def plugin_uses_nothing_deprecated():
    with scripted().attached() as editor:
        editor.open_line()
        editor.type("mean = ")
        accept_what_is_displayed(editor)
        for command in "Nestling fix", "checkhealth nestling", "Nestling disable", "checkhealth vim.deprecated":
            editor.rpc.command(command)
        assert "No deprecated functions detected" in "\n".join(editor.lines()), editor.lines()


def plugin_has_help():
    with scripted() as editor:
        docs = editor.folder / "help" / "doc"
        shutil.copytree(PLUGIN / "doc", docs)
        (docs / "tags").unlink()
        editor.rpc.command(f"helptags {docs}")
        # Plugin managers look for help at the top of a repository only, so the tags come with it.
        same((docs / "tags").read_text(), (PLUGIN / "doc" / "tags").read_text())
        editor.rpc.command(f"set runtimepath+={docs.parent}")
        for tag in "nestling", ":Nestling", "nestling-options", "nestling-keys", "nestling.status()":
            editor.rpc.command(f"help {tag}")
            same(Path(editor.rpc.current.buffer.name).name, "nestling.txt")
        names = set(editor.lua("return vim.tbl_keys(require('nestling'))"))
        tags = {line.split("\t")[0] for line in (docs / "tags").read_text().splitlines()}
        same({name for name in names if f"nestling.{name}()" not in tags}, set())


# Answers that take some drawing: what the line ends with, what follows, and what after the cursor it replaces.
DRAWN = [
    ("tabs = ", "[\n\t1,\n]", ""),
    ("crlf = ", "[\r\n    2,\r\n]", ""),
    ("call(", "\n    first)", ")"),
    ("short(", "a", "abcdef)"),
    ("two", " words here", ""),
]
DRAWING = """#!{python}
import sys
sys.path.insert(0, {folder!r})
import scripted_server
scripted_server.SCRIPT = [(head, tail, "cursor", covers) for head, tail, covers in {script!r}]
scripted_server.serve()
"""


@contextmanager
def drawing(before=""):
    """An editor whose server has the answers of DRAWN."""
    with tempfile.TemporaryDirectory() as folder:
        server = Path(folder) / "server.py"
        server.write_text(DRAWING.format(python=sys.executable, folder=str(HERE), script=DRAWN))
        server.chmod(0o755)
        with Editor(PYTHON, f"{before}\nrequire('nestling').setup({{ cmd = {{ '{server}' }} }})").attached() as editor:
            yield editor


def plugin_draws_what_will_stand_there():
    with drawing() as editor:
        for typed, back, ghost, after in [
            ("tabs = ", 0, "[\n\t1,\n]", ["tabs = [", "\t1,", "]"]),
            ("crlf = ", 0, "[\n    2,\n]", ["crlf = [", "    2,", "]"]),
            # Another line is covered, and its end goes behind the suggestion.
            ("call() + rest", 8, " " * 8 + "\n    first) + rest", ["call(", "    first) + rest"]),
            ("short(abcdef) * 2", 11, "a * 2" + " " * 6, ["short(a * 2"]),
        ]:
            editor.open_line()
            editor.type(typed)
            editor.screen.press(*["Left"] * back)
            until(lambda: editor.ghost() == ghost, f"the ghost text {ghost!r}")
            shown = [line.expandtabs(4) for line in after]
            until(lambda: editor.screen.settled()[1:1 + len(after)] == shown, f"the screen with {shown}")
            editor.accept()
            same(editor.lines()[1:1 + len(after)], after)
            same(editor.screen.settled()[1:1 + len(after)], shown)


def plugin_draws_in_the_last_line_and_in_folds():
    with drawing("vim.o.foldmethod, vim.o.foldlevel = 'indent', 0") as editor:
        assert editor.lua("return vim.fn.foldclosed(vim.fn.line('$'))") > 0, "the last line is not in a closed fold"
        editor.screen.press("G", "o")
        editor.type("tabs = ")
        last = len(editor.lines())
        assert editor.see(), "no ghost text"
        editor.accept()
        same(editor.lines()[-3:], [*editor.lines()[last - 1:last], "\t1,", "]"])
        assert editor.line() == "]" and tuple(editor.rpc.current.window.cursor) == (last + 2, 0)


def plugin_draws_in_one_of_two_windows():
    with drawing() as editor:
        editor.open_line()
        editor.screen.press("Escape")
        editor.rpc.command("split")
        editor.rpc.command("wincmd w")
        editor.open_line()
        editor.type("tabs = ")
        assert editor.see(), "no ghost text"
        editor.accept()
        same(editor.lines()[1:4], ["tabs = [", "\t1,", "]"])
        same(tuple(editor.rpc.current.window.cursor), (4, 0))
        editor.open_line()
        editor.type("tabs = ")
        assert editor.see(), "no ghost text"
        # Another buffer in the window, without a key.
        here = editor.rpc.current.buffer
        editor.rpc.command("enew")
        namespace = editor.rpc.api.create_namespace("nestling.ghost")
        same(editor.rpc.api.buf_get_extmarks(here, namespace, 0, -1, {}), [])


def plugin_draws_only_where_it_fits():
    with drawing() as editor:
        for keys in ["z"], ["C-c"], ["Escape"], ["Left"], ["Up"], ["C-o", "0"]:
            editor.open_line()
            editor.type("two words")
            same(editor.see(), " here")
            editor.screen.press(*keys)
            # Another place may have a suggestion of its own.
            until(lambda: editor.ghost() != " here", f"it is gone after {keys}")
            assert ("two wordsz" if keys == ["z"] else "two words") in editor.lines(), editor.lines()
        # Taken back, it fits again.
        editor.open_line()
        editor.type("two words")
        same(editor.see(), " here")
        editor.quiet()
        editor.lua(f"{CLIENT}.request = function() end")
        editor.screen.press("z")
        until(lambda: not editor.ghost(), "no ghost text")
        editor.screen.press("BSpace")
        until(lambda: editor.ghost() == " here", "the ghost text is back")
        editor.lua(f"{CLIENT}.request = nil")
        # An entry of a popup is chosen, and then it is closed.
        editor.open_line()
        editor.type("two wo")
        same(editor.see(), "rds here")
        editor.screen.press("C-x", "C-n")
        until(lambda: editor.lua("return vim.fn.pumvisible()") and not editor.ghost(), "the popup is there, the ghost text is not")
        editor.screen.press("C-e")
        until(lambda: editor.line() == "two wo" and editor.ghost() == "rds here", "the popup is gone, the ghost text is back")


def plugin_draws_the_rest_at_once():
    with drawing() as editor:
        editor.open_line()
        editor.type("two")
        same(editor.see(), " words here")
        editor.quiet()
        editor.lua(f"{CLIENT}.request = function() end")  # nothing is asked any more
        editor.screen.press("M-Right")
        until(lambda: (editor.line(), editor.ghost()) == ("two words", " here"), "the rest is shown")
        editor.screen.type(" h")
        editor.accept()
        same(editor.line(), "two words here")
        # What is typed after a piece belongs to it.
        for line in "two words h", "two":
            editor.screen.type("u")
            until(lambda: editor.line() == line, f"u leaves {line!r}")


def plugin_draws_in_the_colours_of_the_scheme():
    with drawing() as editor:
        for _ in range(2):
            same(editor.lua("return vim.api.nvim_get_hl(0, { name = 'ComplHint' }).link"), "NonText")
            editor.rpc.command("colorscheme habamax")


def program_python():
    with program(PYTHON) as editor:
        suggestion(ready(editor), PLACES[PYTHON])
        accept_what_is_displayed(editor)
        editor.accepted(1)


def program_rust():
    with program(RUST) as editor:
        suggestion(ready(editor), PLACES[RUST])
        accept_what_is_displayed(editor)
        editor.accepted(1)


def program_counts_a_word():
    with program(PYTHON) as editor:
        typed = suggestion(ready(editor), PLACES[PYTHON]).split("\n")[-1]
        ghost = editor.ghost()
        editor.accept("M-Right")
        assert f"{typed}{ghost}".startswith(editor.line()) or ghost[0] == "\n", (ghost, editor.line())
        editor.accepted(1)


def program_emoji():
    with program(PYTHON) as editor:
        typed = suggestion(ready(editor), EMOJI[PYTHON])
        ghost = accept_what_is_displayed(editor)
        assert (typed + ghost).split("\n")[0] in editor.lines(), "the line is not what was typed and what was displayed"
        editor.accepted(1)


def program_tab():
    with program(PYTHON) as editor:
        ready(editor).open_line("amounts = available(")
        same(editor.ghost(), "")
        editor.accept()
        same(editor.line(), "\t")
        editor.accepted(0)


def program_health():
    with program(PYTHON) as editor:
        health = ready(editor).health()
        assert "❌" not in health and "⚠️" not in health, health
        for wanted in "✅ OK found ", "✅ OK version: nestling", "✅ OK attached to 1 buffer", "✅ OK nestling/status", r"✅ OK model.* is ready":
            assert re.search(wanted, health), f"{wanted!r} is not in\n{health}"


def program_statistics():
    def shown(beginning):
        editor.rpc.command("Nestling stats")
        until(lambda: editor.lua("return vim.bo.buftype") == "nofile", "the statistics")
        same(editor.lua("return vim.bo.modifiable"), False)
        text = editor.lines()
        editor.rpc.command("bwipeout!")
        return text[0].startswith(beginning) and text

    with program(PYTHON) as editor:
        ready(editor)
        assert shown("nothing was counted yet")
        suggestion(editor, PLACES[PYTHON])
        accept_what_is_displayed(editor)
        editor.accepted(1)
        # What becomes of a closed document nobody knows: the server writes down what it knows.
        editor.rpc.command("enew! | bwipeout! #")
        table = until(lambda: shown("language "), "the table", 15)
        python = next(line.split() for line in table if line.startswith("python "))
        assert int(python[1]) >= int(python[2]) == 1, python


def program_is_typed_through():
    """At 8 keys a second, with acceptances between the keys: what is there in the end is what was typed and shown."""
    texts = ["for shelf in shelves:", "known = amounts.get(item.name)", "return amounts[item.name] + item.amount", "if item.name in amounts:"]
    accepted = 0
    # Much is shown, whether right or not.
    with program(PYTHON, before="vim.lsp.config('nestling', { settings = { nestling = { precision = 10 } } })") as editor:
        ready(editor).open_line("items = []")
        # Each key, and what was shown when it was pressed; vim.on_key hears it before any mapping does.
        editor.lua(f"""
            vim.g.pressed = {{}}
            vim.on_key(function(_, typed)
              local ok, name = pcall(vim.fn.keytrans, typed or '')
              if not ok or name == '' then return end
              local ghost = (function() {GHOST} end)()
              local all = vim.g.pressed
              table.insert(all, {{ name, ghost }})
              vim.g.pressed = all
            end)""")
        for loop in range(max(ARGUMENTS.loops, 30)):
            # On a slow machine little comes between two keys.
            if loop >= ARGUMENTS.loops and accepted >= 3:
                break
            rows, (row, column) = editor.lines(), editor.rpc.current.window.cursor
            head = "\n".join([*rows[: row - 1], rows[row - 1].encode()[:column].decode()])
            tail = "\n".join([rows[row - 1].encode()[column:].decode(), *rows[row:]])
            editor.lua("vim.g.pressed = {}")
            text, due = texts[loop % len(texts)][:14], time.monotonic()
            for at, key in enumerate(text):
                for name in [key, *(["Tab"] if at % 5 == 4 else [])]:
                    (editor.screen.press if name == "Tab" else editor.screen.type)(name)
                    due += 0.125
                    time.sleep(max(0.0, due - time.monotonic()))
            editor.screen.type("ok")
            until(lambda: [key for key, _ in editor.lua("return vim.g.pressed")][-2:] == ["o", "k"], "the last key")
            editor.quiet()
            wanted = head
            for name, ghost in editor.lua("return vim.g.pressed"):
                accepted += name == "<Tab>" and bool(ghost)
                wanted += (ghost or "\t") if name == "<Tab>" else {"<Space>": " ", "<lt>": "<"}.get(name, name)
            found = "\n".join(editor.lines())
            assert found == wanted + tail, f"{editor.lua('return vim.g.pressed')} made {found[len(head):len(found) - len(tail)]!r}"
            editor.screen.press("Enter")
            until(lambda: len(editor.lines()) > (wanted + tail).count("\n") + 1, "the new line")
    print(f"     {accepted} accepted in {loop} loops")
    assert accepted > 0, "nothing was accepted"


def program_shows_soon():
    """From a key to ghost text on the screen, as the screen is read: every ten milliseconds or so."""
    lines = [line.strip() for line in (PROJECTS / PYTHON).read_text().splitlines() if len(line.strip()) > 12]
    times = []
    with program(PYTHON) as editor:
        ready(editor).open_line("items = []")
        for line in lines * 3:
            for key in line:
                begin = time.monotonic()
                editor.screen.type(key)
                while (took := time.monotonic() - begin) < 0.5:
                    if (ghost := editor.ghost()) and any(ghost.split("\n")[0] in row for row in editor.screen.rows()):
                        times.append(1000 * took)
                        break
                if took < 0.5:
                    break
            editor.screen.press("Escape")
            editor.screen.type("o")
            until(lambda: editor.rpc.api.get_mode()["mode"] == "i", "insert mode")
            if len(times) >= ARGUMENTS.times:
                break
    assert len(times) >= 0.8 * ARGUMENTS.times, f"{len(times)} times"
    at = sorted(times)
    print(f"     {len(at)} times: p50 {at[len(at) // 2]:.0f} ms, p95 {at[int(0.95 * len(at))]:.0f} ms")


def program_offers_no_popup():
    # The server would, to a client that does not announce ghost text.
    with program(PYTHON) as editor:
        can = editor.attached().lua(f"return {CLIENT}.server_capabilities")
        assert can["inlineCompletionProvider"] and "completionProvider" not in can, can


def program_has_its_commands():
    with program(PYTHON) as editor:
        commands = editor.attached().lua(f"return {CLIENT}.server_capabilities.executeCommandProvider.commands")
        for name in "nestling.finetune", "nestling.cancelFinetune", "nestling.accepted":
            assert name in commands, commands


def repair(editor, wanted):
    """Asks for repairs of the current line, chooses the first, and waits for the line."""
    editor.screen.press("Escape")
    until(lambda: editor.rpc.api.get_mode()["mode"] == "n", "normal mode")
    editor.lua("vim.ui.select = function(items, _, choose) vim.g.menu = vim.tbl_map(function(i) return i.title end, items); choose(items[1]) end")
    editor.rpc.command("Nestling fix")
    until(lambda: editor.line() == wanted, f"the line {wanted!r}", 30)


def program_repairs_broken_syntax():
    with program(PYTHON) as editor:
        ready(editor).open_line("items = []")
        editor.type("    print(len(items)")
        editor.screen.press("Escape")
        problems = "return vim.tbl_map(function(d) return d.source end, vim.diagnostic.get(0))"
        until(lambda: "nestling" in editor.lua(problems), "a hint appears", 10)
        repair(editor, "    print(len(items))")
        until(lambda: editor.lua(problems) == [], "the hint is gone", 10)
        editor.screen.type("u")
        until(lambda: editor.line() == "    print(len(items)", "u takes the repair back")


def program_repairs_what_another_server_reports():
    # The program finds the checker on PATH, as it would beside the user's editor.
    path = f"vim.env.PATH = '{CACHE / 'venv' / 'bin'}:' .. vim.env.PATH\n"
    other = "vim.lsp.config('ruff', { cmd = { 'ruff', 'server' }, filetypes = { 'python' }, root_markers = { '.' } })\nvim.lsp.enable('ruff')"
    with program(PYTHON, before=path + other) as editor:
        ready(editor).open_line("items = []")
        editor.type("    print(itemz)")
        editor.screen.press("Escape")
        row = editor.rpc.current.window.cursor[0] - 1
        found = f"return vim.tbl_map(function(d) return d.code end, vim.diagnostic.get(0, {{ lnum = {row} }}))"
        until(lambda: editor.lua(found) == ["F821"], "the other server reports the name", 20)
        repair(editor, "    print(items)")
        until(lambda: editor.lua(found) == [], "the other server is content", 20)


def program_explains_a_suggestion():
    with program(PYTHON) as editor:
        suggestion(ready(editor), PLACES[PYTHON])
        ghost = editor.ghost().strip().split("\n")[0]
        editor.screen.press("Escape")
        until(lambda: editor.rpc.api.get_mode()["mode"] == "n", "normal mode")
        editor.rpc.command("Nestling why")
        until(lambda: editor.lua("return vim.bo.buftype") == "nofile", "the explanation", 10)
        lines = editor.lines()
        assert ghost.split()[0] in lines[0], (ghost, lines)
        assert lines[2].split() == ["likely", "model", "memory", "text", "read", "in"] and len(lines) > 3, lines


def program_writes_a_commit_message():
    with program(PYTHON) as editor:
        ready(editor)
        folder = editor.folder / "projects" / "python"
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", folder]
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "pantry: Begin"]):
            subprocess.run([*git, *arguments], check=True)
        file = folder / "pantry" / "shopping.py"
        file.write_text(file.read_text() + "\n\ndef is_open(hour):\n    return 8 <= hour < 20\n")
        subprocess.run([*git, "add", "."], check=True)
        editor.rpc.command("Nestling message")
        until(lambda: editor.rpc.eval("getreg('\"')") == "pantry: Add is_open to shopping", "the message", 10)
        # As git opens it.
        editor.rpc.command(f"new {folder}/.git/COMMIT_EDITMSG | Nestling message")
        until(lambda: editor.lines()[0] == "pantry: Add is_open to shopping", "the message in the buffer", 10)


def program_answers_a_question():
    with program(PYTHON) as editor:
        ready(editor)
        editor.rpc.command("1,20Nestling chat What does `available` do?")
        until(lambda: any(line.startswith("Sources:") for line in editor.lines()), "an answer with its sources", 30)
        lines = editor.lines()
        same(lines[0], "# What does `available` do?")
        assert "```python" in lines and any("def available" in line for line in lines), lines
        same(editor.rpc.current.buffer.options["filetype"], "markdown")
        # The place opens with gF, in the line that it names.
        row = next(at for at, line in enumerate(lines) if line.startswith("- ") and ":" in line)
        path, line = lines[row].split()[1].rsplit(":", 1)
        editor.rpc.current.window.cursor = (row + 1, 2)
        editor.rpc.command("normal! gF")
        assert editor.rpc.current.buffer.name.endswith(path.split("/")[-1]), path
        same(editor.rpc.current.window.cursor[0], int(line))


def program_proves_a_rewrite():
    with program(PYTHON) as editor:
        ready(editor)
        slow = ["def kept(xs: list[int], ys: list[int]):", "    known = sorted(xs)", "    out = []", "    for y in ys:",
                "        if y in known:", "            out.append(y)", "    return out"]
        editor.rpc.current.buffer.append(["", "", *slow])
        editor.rpc.command("normal! G")
        editor.rpc.current.window.cursor = (len(editor.lines()) - 2, 12)
        # The entry that proves is chosen, and the evidence is met with "Apply".
        editor.lua("vim.ui.select = function(items, _, choose) for i, item in ipairs(items) do"
                   " local title = type(item) == 'table' and item.title or item;"
                   " if title == 'Apply' or title:find('prove') then return choose(item, i) end end end")
        editor.rpc.command("Nestling optimize")
        until(lambda: "        if y in known_2:" in editor.lines(), "the proven rewrite is applied", 60)
        assert "    known_2 = set(known)" in editor.lines()


def program_picture():
    look = "vim.o.number, vim.o.laststatus, vim.o.statusline = true, 2, ' %f %= %{v:lua.require(\"nestling\").status()}  %l:%c '\n"
    look += "vim.api.nvim_set_hl(0, 'ComplHint', { fg = '#8a919c', italic = true })"
    with program(PYTHON, before=look) as editor:
        ready(editor).rpc.command(f"cd {editor.folder / 'projects' / 'python'}")
        suggestion(editor, PLACES[PYTHON])
        editor.rpc.command("let &scrolloff = 12")
        editor.quiet()
        editor.screen.settled()
        picture = editor.screen.picture("shopping.py - Neovim with nestling")
        for word in editor.ghost().split():
            assert escape(word) in picture, f"{word!r} of the ghost text is not in the picture"
        if ARGUMENTS.picture:
            Path(ARGUMENTS.picture).write_text(picture)


def too_long(*_):
    raise TimeoutError(f"took more than {TEST_LIMIT} s; Neovim may be waiting for a key")


def main():
    signal.signal(signal.SIGALRM, too_long)
    tests = {name: test for name, test in globals().items() if re.match("(plugin|program)_", name) and ARGUMENTS.only in name}
    chosen = [(version, name) for version in VERSIONS for name in tests if version.startswith(ARGUMENTS.nvim)
              and all(version == only for start, only in ONLY_IN.items() if name.startswith(start))]
    passed = 0
    for version, name in chosen:
        driver.CACHE = VERSIONS[version]
        began = time.monotonic()
        signal.alarm(TEST_LIMIT)
        try:
            tests[name]()
        except Exception as error:  # every failure is reported, whatever its kind
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAIL {version} {name}: {type(error).__name__} {error} ({Path(where.filename).name}:{where.lineno})", flush=True)
        else:
            passed += 1
            print(f"ok   {version} {name} ({time.monotonic() - began:.1f} s)", flush=True)
        signal.alarm(0)
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return 0 if chosen and passed == len(chosen) else 1


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--only", default="", help="run the tests whose name contains this")
    options.add_argument("--nvim", default="", choices=list(VERSIONS), help="run them in this version only")
    options.add_argument("--loops", type=int, default=8, help="how often program_is_typed_through types a line")
    options.add_argument("--times", type=int, default=10, help="how often program_shows_soon measures the time to ghost text")
    options.add_argument("--picture", help="where program_picture writes the screen as an SVG image")
    ARGUMENTS = options.parse_args()
    sys.exit(main())
