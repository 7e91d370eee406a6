"""The scenario's Neovim: editors/nvim in a terminal, driven by keys, asked over its socket."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from editor import CLIENT, Editor, until  # noqa: E402

SETUP = """
vim.g.said, vim.g.progress = {}, {}
local function keep(name, text)
  local all = vim.g[name]
  table.insert(all, text)
  vim.g[name] = all
end
vim.lsp.config('nestling', {
  settings = { nestling = vim.json.decode('%s') },
  -- Whole, and not shown.
  handlers = { ['window/showMessage'] = function(_, result) keep('said', result.message) end },
})
require('nestling').setup({ cmd = { '%s', 'serve' } })
vim.api.nvim_create_autocmd('LspProgress', { callback = function(event)
  local value = event.data.params.value
  titles = titles or {}
  titles[event.data.params.token] = value.title or titles[event.data.params.token]
  keep('progress', (titles[event.data.params.token] or '') .. ': ' .. (value.message or ''))
end })
"""
# The menu is answered at once: with the entry that matches, if it is there.
CHOOSE = """
local pattern = ...
vim.g.chosen = nil
vim.ui.select = function(items, options, choose)
  for _, item in ipairs(items) do
    local title = options.format_item(item)
    if vim.fn.match(title, '\\\\v' .. pattern) >= 0 then
      vim.g.chosen = title
      return choose(item)
    end
  end
  choose(nil)
end
"""
COMMANDS = {"quickfix": "Nestling fix", "refactor.rewrite": "Nestling optimize"}


class Driver:
    abilities = {"ghost", "parts", "actions", "resolve", "commands", "progress"}

    def __init__(self, project, file, settings, binary, folder, environment):
        self.project, self.file, self.environment = project, file, environment
        self.setup = SETUP % (json.dumps(settings), binary)
        self.editor, self.asked = None, 0

    def start(self):
        self.editor = Editor(self.file, self.setup, self.project, **self.environment)
        self.editor.attached()
        until(lambda: self.status()["model"]["state"] == "ready" and (self.status()["index"] or {}).get("state") == "ready",
              "model and index are ready", 60)

    def stop(self):
        if self.editor:
            self.editor.__exit__()
        self.editor = None

    def close(self):
        self.stop()

    def status(self):
        return self.editor.status()

    def model(self):
        return self.status()["model"].get("name")

    def place(self, row, column):
        editor = self.editor
        editor.screen.press("Escape")
        until(lambda: editor.rpc.api.get_mode()["mode"] == "n", "normal mode")
        editor.rpc.command("edit!")
        editor.attached()
        editor.rpc.command("setlocal indentexpr= noautoindent nosmartindent nocindent")
        editor.rpc.current.window.cursor = (row, (column or 1) - 1)
        editor.rpc.command("normal! zz")
        if column is None:
            editor.screen.type("A")
            until(lambda: editor.rpc.api.get_mode()["mode"] == "i", "insert mode")

    def type(self, text):
        # Insert mode alone asks, too.
        self.editor.quiet()
        self.asked = self.status()["counts"]["requests"]
        self.editor.type(text)

    def shown(self):
        def answered():
            counts = self.status()["counts"]
            return counts["requests"] > self.asked and counts["requests"] == counts["answered"] + counts["cancelled"]

        until(answered, "an answer, or silence", 15)
        self.editor.quiet()
        return self.editor.see(1)

    def take_word(self):
        self.asked = self.status()["counts"]["requests"]
        self.editor.screen.press("M-Right")

    def take(self):
        self.editor.screen.press("Tab")

    def text(self):
        return "\n".join(self.editor.lines()) + "\n"

    def choose(self, kind, pattern):
        editor = self.editor
        editor.screen.press("Escape")
        until(lambda: editor.rpc.api.get_mode()["mode"] == "n", "normal mode")
        editor.lua(CHOOSE, pattern)
        tick = editor.lua("return vim.b.changedtick")

        def changed():
            editor.rpc.command(COMMANDS[kind])
            try:
                return until(lambda: editor.lua("return vim.b.changedtick") != tick, "the entry is applied", 5)
            except AssertionError:
                return False

        # The menu answers soon; what takes longer is there the next time.
        until(changed, f"an entry like {pattern}", 20)

    def execute(self, command, argument):
        order = json.dumps({"command": command, "arguments": [argument] if argument else [], "title": command})
        self.editor.screen.press("Escape")
        self.editor.lua(f"{CLIENT}:exec_cmd(vim.json.decode(...), {{ bufnr = 0 }})", order)

    def said(self):
        return self.editor.lua("return vim.g.said")

    def progress(self):
        return self.editor.lua("return vim.g.progress")
