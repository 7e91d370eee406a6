--- The options: defaults, validation, and how they reach `vim.lsp.config`.

local M = {}

---@class nestling.Keymaps
---@field accept? string|false
---@field accept_word? string|false
---@field accept_line? string|false
---@field dismiss? string|false

---@class nestling.Options
---@field cmd? string[] how to start the server
---@field model? string a model other than the built-in one: a GGUF file or a Hugging Face directory
---@field filetypes? table<string, boolean> switches single file types on or off; '*' stands for all that are not named
---@field keymaps? nestling.Keymaps|false keys in insert mode; false for a key, or for all, maps nothing

---@type nestling.Options
local defaults = {
  cmd = { 'nestling', 'serve' },
  model = nil,
  filetypes = {},
  keymaps = {
    accept = '<Tab>',
    accept_word = '<M-Right>',
    accept_line = false,
    dismiss = '<C-]>',
  },
}

---@type nestling.Options
M.options = vim.deepcopy(defaults)

---@type string[]?
local served_filetypes

--- The oldest program that this plugin can talk to.
M.OLDEST = '0.1.0'

local types = { cmd = 'table', model = 'string', filetypes = 'table' }

---@param options nestling.Options
function M.set(options)
  for name, value in pairs(options) do
    if name == 'keymaps' then
      assert(value == false or type(value) == 'table', 'nestling: keymaps must be a table or false')
      for action in pairs(value or {}) do
        assert(defaults.keymaps[action] ~= nil, ('nestling: keymaps has no %q'):format(action))
      end
    else
      assert(types[name], ('nestling: there is no option %q, see :help nestling-options'):format(name))
      assert(type(value) == types[name], ('nestling: %s must be a %s'):format(name, types[name]))
    end
  end
  M.options = vim.tbl_deep_extend('force', vim.deepcopy(defaults), options)
  M.options.cmd = options.cmd or M.options.cmd
end

--- What keeps the plugin from working at all: one line that fits the screen, and what to do about it.
---@return string? problem
---@return string? advice
function M.problem()
  if vim.fn.has('nvim-0.11.2') == 0 then
    return ('needs Neovim 0.11.2 or newer, this is %s'):format(tostring(vim.version())),
      'The server is started by vim.lsp.enable(), which older versions lack, or do not apply to open files.'
  end
  local program = M.options.cmd[1]
  if not program or vim.fn.executable(program) == 0 then
    return ('%s is not an executable on PATH'):format(program or 'cmd[1]'),
      'Install it, or name it: require("nestling").setup({ cmd = { "/path/to/nestling", "serve" } })'
  end
end

--- What is wrong with the version of a program; nil where nothing is, or where it does not tell its version.
---@param version? string
---@return string?
function M.too_old(version)
  local parsed = version and vim.version.parse(version, { strict = true })
  if parsed and vim.version.lt(parsed, M.OLDEST) then
    return ('version %s is too old, %s is needed'):format(version, M.OLDEST)
  end
end

--- The command line of the server, with the model that was asked for.
---@return string[]
function M.command_line()
  local cmd = vim.deepcopy(M.options.cmd)
  if M.options.model then
    vim.list_extend(cmd, { '--model', vim.fs.normalize(M.options.model) })
  end
  return cmd
end

--- Hands the options to Neovim, on top of lsp/nestling.lua and of the user's own `vim.lsp.config`.
function M.apply()
  local own = M.options.filetypes
  served_filetypes = served_filetypes or vim.lsp.config.nestling.filetypes or {}
  local filetypes = vim.tbl_filter(function(filetype)
    return vim.F.if_nil(own[filetype], own['*'], true)
  end, served_filetypes)
  for filetype, wanted in pairs(own) do
    if wanted and filetype ~= '*' and not vim.list_contains(filetypes, filetype) then
      table.insert(filetypes, filetype)
    end
  end
  local function cmd(...)
    return require('nestling.process').start(...)
  end
  vim.lsp.config('nestling', { cmd = cmd, filetypes = filetypes })
end

return M
