"""Neovim with editors/nvim in a terminal, on a copy of the sample projects, and a connection for asking it."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pynvim

from terminal import COLUMNS, Terminal

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
PLUGIN = HERE.parent.parent / "editors" / "nvim"
PROJECTS = HERE.parent / "data" / "projects"

LOOK = """
vim.o.swapfile, vim.o.shadafile = false, 'NONE'
vim.o.wrap, vim.o.showmode, vim.o.showcmd, vim.o.ruler, vim.o.laststatus = false, false, false, false, 0
"""
INIT = "vim.opt.runtimepath:prepend(vim.env.PLUGIN)" + LOOK
GHOST = """
local ns = vim.api.nvim_create_namespace('nestling.ghost')
local mark = vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })[1]
if not mark or not require('nestling').visible() then return '' end
local lines = { (mark[4].virt_text or {{''}})[1][1] }
for _, line in ipairs(mark[4].virt_lines or {}) do table.insert(lines, line[1][1]) end
return table.concat(lines, '\\n')
"""
CLIENT = "vim.lsp.get_clients({ name = 'nestling', bufnr = 0 })[1]"


class Editor:
    """One Neovim; a context manager that ends it and removes its files."""

    def __init__(self, path, setup, project=None, is_user=False, first=lambda editor: None, **environment):
        """`setup` is Lua for the user's init.lua, `environment` is added to the editor's. Without a project it is a copy of
        the samples. With `is_user` it is started as a user does, without the plugin; `first` does what is needed before it answers."""
        self.folder = Path(tempfile.mkdtemp(prefix="nestling-nvim-"))
        if project is None:
            project = shutil.copytree(PROJECTS, self.folder / "projects")
        (self.folder / "home").mkdir()
        init = self.folder / "home" / "nvim" / "init.lua"
        init.parent.mkdir()
        init.write_text(setup if is_user else INIT + setup)
        home = {name: str(self.folder / "home") for name in
                ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")}
        environment = {**home, "PLUGIN": str(PLUGIN), "TERM": "xterm-256color", "COLORTERM": "truecolor",
                       "LC_ALL": "C.UTF-8", **environment}
        socket = str(self.folder / "nvim.sock")
        command = [str(CACHE / "bin" / "nvim"), *([] if is_user else ["--clean", "-u", str(init)]), "--listen", socket,
                   str(Path(project) / path)]
        self.screen = Terminal("nvim", command, environment, self.folder)
        self.rpc = None
        first(self)
        self.rpc = until(lambda: os.path.exists(socket) and pynvim.attach("socket", path=socket), "Neovim starts")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.screen.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lua(self, code, *arguments):
        return self.rpc.exec_lua(code, *arguments)

    def attached(self):
        until(lambda: self.lua(f"local c = {CLIENT}; return c and c.initialized or false"), "the server attaches", 20)
        return self

    def lines(self):
        return self.rpc.current.buffer[:]

    def line(self):
        return self.rpc.current.line

    def ghost(self):
        return self.lua(GHOST)

    def open_line(self, above=""):
        """Opens a line below the first one that contains a text, at the top of the screen, in insert mode."""
        self.screen.press("Escape")
        until(lambda: self.rpc.api.get_mode()["mode"] == "n", "normal mode")
        row = next((i for i, line in enumerate(self.lines(), 1) if above in line), 1)
        self.rpc.command("setlocal indentexpr= noautoindent nosmartindent nocindent noexpandtab softtabstop=0")
        self.rpc.command(f"normal! {row}Gzt")
        self.screen.type("o")
        until(lambda: self.rpc.api.get_mode()["mode"] == "i", "insert mode")

    def type(self, text):
        self.screen.type(text)
        last = text.replace("\r", "\n").split("\n")[-1]
        until(lambda: self.lua("return vim.api.nvim_get_current_line():sub(1, vim.fn.col('.') - 1)").endswith(last), "the typed text")

    def see(self, limit=10.0):
        """Waits until ghost text is on the screen and returns it, or '' when none comes."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            first = (ghost := self.ghost()).split("\n")[0]
            if ghost and any(first[: COLUMNS // 2] in row for row in self.screen.rows()):
                return ghost
            time.sleep(0.05)
        return ""

    def quiet(self):
        """Waits until the request for the present text has been answered."""
        time.sleep(0.35)
        until(lambda: self.lua(f"return next({CLIENT}.requests) == nil"), "all requests are answered")

    def accept(self, key="Tab"):
        """Presses a key that must change the buffer, and leaves insert mode before the next suggestion."""
        tick = self.lua("return vim.b.changedtick")
        self.screen.press(key)
        until(lambda: self.lua("return vim.b.changedtick") != tick, f"{key} changes the buffer")
        self.screen.press("Escape")
        until(lambda: self.rpc.api.get_mode()["mode"] == "n", "normal mode")

    def status(self):
        return self.lua(f"return {CLIENT}:request_sync('nestling/status', {{}}, 20000).result")

    def accepted(self, count):
        until(lambda: self.status()["counts"]["accepted"] == count, f"{count} acceptance(s) counted by the server")

    def health(self):
        self.rpc.command("checkhealth nestling")
        text = "\n".join(self.lines())
        self.rpc.command("bwipeout!")
        return text


def until(condition, what, limit=20.0):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except (ConnectionError, FileNotFoundError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {limit:.0f} s: {what}")


def same(got, wanted):
    assert got == wanted, f"\n      got    {got!r}\n      wanted {wanted!r}"
