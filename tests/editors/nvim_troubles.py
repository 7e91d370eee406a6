"""Tests of Neovim: how the plugin is installed, and what may go wrong. nvim_test.py runs them.

When something goes wrong there is one message or none, the status says why, and the editor goes on.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from editor import CLIENT, LOOK, PLUGIN, Editor, same, until
from steps import BINARY, PLACES, PYTHON, accept_what_is_displayed, program, ready, scripted, suggestion

# What the README calls the places on the user's machine.
ADDRESS, CLONE = "<address of this repository>", "~/src/nestling"
LAZY = os.environ.get("NESTLING_LAZY")


def readme(word):
    """The lines of Lua in the README that install the plugin, by a word in them."""
    text = (PLUGIN / "README.md").read_text().split("\n## Install")[1].split("\n## ")[0]
    [block] = [block for block in re.findall(r"```lua\n(.*?)```", text, re.DOTALL) if word in block]
    return block


@contextmanager
def installed(lines, first=lambda editor: None):
    """An editor that is started by a user with these lines in the init.lua; the home has a clone, and the program on PATH."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        clone, bare = home / CLONE[2:], home / "nestling.git"
        shutil.copytree(PLUGIN, clone / "editors" / "nvim")
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", clone]
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "begin"], ["clone", "-q", "--bare", clone, bare],
                          ["--git-dir", bare, "config", "uploadpack.allowFilter", "true"]):
            subprocess.run([*git, *arguments], check=True)
        (home / "bin").mkdir()
        (home / "bin" / "nestling").symlink_to(Path(BINARY).resolve())
        init = LOOK + lines.replace(ADDRESS, f"file://{bare}")
        path = f"{home / 'bin'}:{os.environ['PATH']}"
        with Editor(PYTHON, init, is_user=True, first=first, HOME=str(home), PATH=path) as editor:
            yield editor


def completes(editor, root):
    """The plugin comes from a folder, its help is there, and ghost text is accepted."""
    suggestion(ready(editor), PLACES[PYTHON])
    accept_what_is_displayed(editor)
    same(editor.lua("return vim.api.nvim_get_runtime_file('lua/nestling/init.lua', true)"), [f"{root}/editors/nvim/lua/nestling/init.lua"])
    same(editor.lua("return vim.fn.getcompletion('nestling-install', 'help')"), ["nestling-install"])
    assert "❌" not in editor.health(), editor.health()


def program_is_installed_without_a_manager():
    with installed(readme("runtimepath:append('~")) as editor:
        completes(editor, editor.lua(f"return vim.fs.normalize('{CLONE}')"))


def program_is_installed_by_vim_pack():
    def agree(editor):
        until(lambda: any("[Y]es" in row for row in editor.screen.rows()), "the question", 20)
        editor.screen.press("y")

    with installed(readme("vim.pack.add"), agree) as editor:
        completes(editor, editor.lua("return vim.pack.get({ 'nestling' })[1].path"))


def program_is_installed_by_lazy():
    if not LAZY:
        print("     NESTLING_LAZY names no checkout of lazy.nvim: not tried")
        return
    for word in "dir =", "url =":
        lines = f"vim.opt.runtimepath:prepend('{Path(LAZY).resolve()}')\nrequire('lazy').setup({{\n{readme(word)}}})"
        with installed(lines) as editor:
            until(lambda: editor.lua("return vim.fn.exists(':Nestling')") == 2, "the plugin is loaded", 30)
            # Its window tells of what was installed.
            if editor.lua("return vim.bo.filetype") == "lazy":
                editor.screen.press("q")
                until(lambda: editor.lua("return vim.bo.filetype") == "python", "the window is closed")
            completes(editor, editor.lua("return vim.fs.dirname(vim.fs.dirname(require('lazy.core.config').plugins.nestling.dir))"
                                         if word == "dir =" else "return require('lazy.core.config').plugins.nestling.dir"))


def said(editor):
    """The lines of `:messages` that are not about files."""
    text = editor.lua("return vim.api.nvim_exec2('messages', { output = true }).output")
    return [line for line in text.splitlines() if "nestling" in line.replace("nestling-nvim-", "") or "Client" in line]


def status(editor):
    return editor.lua("return require('nestling').status()")


def types(editor, text="x = 12"):
    editor.open_line()
    editor.type(text)
    same(editor.line(), text)
    editor.screen.press("Escape")


@contextmanager
def script(body):
    """A program of the shell."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nestling"
        file.write_text(f"#!/bin/sh\ncd {folder}\n{body}\n")
        file.chmod(0o755)
        yield file


def plugin_explains_what_is_missing():
    old = "local has = vim.fn.has; vim.fn.has = function(f) return f == 'nvim-0.11.2' and 0 or has(f) end"
    for before, options, wanted in (old, "", "needs Neovim 0.11.2 or newer"), ("", "cmd = { 'no-such-program' }", "no-such-program is not an executable"):
        with Editor("python/pantry/shopping.py", f"{before}\nrequire('nestling').setup({{ {options} }})") as editor:
            until(lambda: wanted in editor.lua("return vim.api.nvim_exec2('messages', { output = true }).output"), wanted)
            assert wanted in editor.health()
            same(editor.lua("return #vim.lsp.get_clients()"), 0)


def plugin_refuses_what_is_too_old():
    with scripted(SCRIPTED_VERSION="0.0.9") as editor:
        wanted = "nestling: version 0.0.9 is too old, 0.1.0 is needed (:checkhealth nestling)"
        until(lambda: said(editor) == [wanted], "one message", 10)
        until(lambda: editor.lua("return #vim.lsp.get_clients()") == 0, "the server is stopped")
        types(editor)
        assert "0.1.0 is needed" in status(editor)
        assert "❌ ERROR" in (health := editor.health()) and "0.1.0 is needed" in health, health
        same(len(said(editor)), 1)


def plugin_starts_a_server_again():
    with scripted().attached() as editor:
        status(editor)
        [server] = servers(editor)
        # Looked at from within: the pause is short.
        told = "return require('nestling').status() == 'nestling: stopped (1 of 5), starts again'"
        is_told = editor.lua(f"vim.uv.kill({server}, 'sigkill') return vim.wait(10000, function() {told} end, 10)")
        assert is_told, f"the status does not tell of the stop: {status(editor)}"
        editor.attached().open_line()
        editor.type("mean = ")
        assert editor.see(), "no ghost text from the new server"
        same((said(editor), status(editor)), ([], "nestling"))


def servers(editor):
    """The ids of the processes that Neovim has started."""
    parent = str(editor.lua("return vim.fn.getpid()"))
    return [int(line) for line in subprocess.run(["pgrep", "-P", parent], capture_output=True, text=True, check=False).stdout.split()]


def plugin_gives_up_a_server_that_keeps_ending():
    # The health check asks the program for its version: that is no start of a server.
    with script('[ "$1" = serve ] && date +%s%3N >> starts; exit 3') as file, Editor(PYTHON, f"require('nestling').setup({{ cmd = {{ '{file}', 'serve' }} }})") as editor:
        times = lambda: [int(line) for line in (file.parent / "starts").read_text().split()]
        until(lambda: said(editor), "the message", 20)
        same(said(editor), ["nestling: stopped 5 times in a row, exit code 3 (:Nestling log)"])
        gaps = [after - before for before, after in zip(times(), times()[1:])]
        assert len(gaps) == 4 and all(gap >= 500 * 2 ** at for at, gap in enumerate(gaps)), gaps
        types(editor)
        same(status(editor), "nestling: stopped 5 times in a row, exit code 3")
        assert "stopped 5 times in a row" in editor.health()
        same(len(said(editor)), 1)
        editor.rpc.command("Nestling enable")
        # It ends as the others did, and may be tried again by the time we look.
        until(lambda: len(times()) > 5, "another try")


def plugin_does_not_wait_for_a_server_that_is_silent():
    with script("exec sleep 60") as file, Editor(PYTHON, f"require('nestling').setup({{ cmd = {{ '{file}', 'serve' }} }})") as editor:
        types(editor)
        editor.rpc.command("Nestling status")
        same(said(editor), ["nestling: not running, the server is starting"])
        begin = time.monotonic()
        editor.screen.type(":qa!\r")
        until(lambda: not editor.screen.is_alive(), "Neovim ends", 10)
        assert time.monotonic() - begin < 5, "Neovim waits for the server"


def plugin_says_that_a_program_cannot_be_started():
    with script("") as file:
        file.write_text("#!/no/such/loader\n")
        with Editor(PYTHON, f"require('nestling').setup({{ cmd = {{ '{file}', 'serve' }} }})") as editor:
            until(lambda: said(editor) == ["nestling: the program cannot be started (:checkhealth nestling)"], "one message")
            types(editor)
            same(status(editor), "nestling: the program cannot be started")


def plugin_leaves_views_alone():
    with scripted().attached() as editor:
        views = {"new | setlocal buftype=nofile | setfiletype python": "a view (nofile)", "split | terminal": "a view (terminal)",
                 "copen | setlocal filetype=python": "a view (quickfix)", "new": "no file type", "new | setfiletype text": "files of type text"}
        for command, wanted in views.items():
            editor.rpc.command(command)
            same((editor.lua(f"return {CLIENT} == nil"), status(editor), editor.lua("return vim.fn.maparg('<Tab>', 'i', false, true).buffer")), (True, "", 0))
            shown = editor.lua("return vim.api.nvim_exec2('Nestling status', { output = true }).output")
            assert wanted in shown.split("here ")[1], shown
            editor.rpc.command("close!")
        same(said(editor), [])


def plugin_shows_ghost_text_beside_differences():
    with scripted().attached() as editor:
        other = editor.folder / "other.py"
        other.write_text("\n".join(editor.lines()[3:]) + "\n")
        editor.rpc.command(f"vertical diffsplit {other} | wincmd p")
        editor.open_line()
        editor.type("mean = ")
        assert editor.see(), "no ghost text"
        editor.accept()
        same(editor.line(), "mean = total / count")


def program_says_that_a_model_does_not_load():
    with script("") as file:
        broken = file.parent / "broken.gguf"
        broken.write_text("this is no model")
        with program(PYTHON, f", model = '{broken}'") as editor:
            editor.attached()
            until(lambda: "broken.gguf" in status(editor), "the status names the file", 20)
            types(editor)
            time.sleep(1)
            same(len(said(editor)), 1)
            assert "❌ ERROR model" in editor.health()


def program_on_a_disk_that_is_read_only():
    def mount(folder):
        return all(subprocess.run(["mount", *arguments, folder], capture_output=True, check=False).returncode == 0
                   for arguments in (["--bind", folder], ["-o", "remount,bind,ro"]))

    with program(PYTHON, before="vim.lsp.enable('nestling', false)") as editor:
        folders = [editor.folder / "projects", editor.folder / "home"]
        ready(editor)
        if not all(map(mount, folders)):
            print("     mounts are not permitted here: not looked at")
            return
        try:
            editor.rpc.command("Nestling disable")
            until(lambda: editor.lua(f"return {CLIENT} == nil"), "the server stops")
            editor.rpc.command("Nestling enable")
            suggestion(ready(editor), PLACES[PYTHON])
            accept_what_is_displayed(editor)
            assert not os.access(folders[0], os.W_OK), "the disk can be written to"
            same(said(editor), [])
        finally:
            for folder in folders:
                subprocess.run(["umount", "--lazy", folder], check=False)


def program_in_buffers_without_a_name():
    with program(PYTHON) as editor:
        ready(editor)
        lines = editor.lines()
        for _ in range(2):
            editor.rpc.command("enew | setfiletype python")
            editor.rpc.current.buffer[:] = lines
            suggestion(editor.attached(), PLACES[PYTHON])
            accept_what_is_displayed(editor)
        same(said(editor), [])


def program_in_a_file_of_50000_lines():
    with program(PYTHON) as editor:
        ready(editor)
        lines = editor.lines()
        half = ["def filler(x):", "    return x + 1", "", ""] * 6250
        file = editor.folder / "projects" / "python" / "long.py"
        file.write_text("\n".join([*half, *lines, *half]) + "\n")
        begin = time.monotonic()
        editor.rpc.command(f"edit {file}")
        editor.attached()
        print(f"     opened after {time.monotonic() - begin:.1f} s", end="")
        suggestion(editor, PLACES[PYTHON])
        begin = time.monotonic()
        editor.type("  # some words, one after the other")
        took = time.monotonic() - begin
        print(f", 35 keys in {took:.2f} s")
        assert took < 2, "the editor is blocked"
        same(said(editor), [])
