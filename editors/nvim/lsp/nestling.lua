--- The language server as Neovim configures it; `require('nestling').setup()` and `vim.lsp.config()` add to it.

---@type vim.lsp.Config
return {
  cmd = { 'nestling', 'serve' },
  filetypes = {
    'bash',
    'c',
    'cpp',
    'go',
    'java',
    'javascript',
    'javascriptreact',
    'json',
    'jsonc',
    'markdown',
    'python',
    'rust',
    'sh',
    'toml',
    'typescript',
    'typescriptreact',
  },
  -- A file outside of any repository is served too, without a root.
  root_markers = { 'nestling.toml', '.git', '.hg', '.jj' },
  -- Neovim does not announce ghost text by itself, and the server would offer entries of the popup instead.
  capabilities = { textDocument = { inlineCompletion = { dynamicRegistration = false } } },
  handlers = {
    ['window/showMessage'] = function(_, params)
      require('nestling.say')(params.message, 5 - params.type) -- both count from errors to details, in opposite directions
    end,
  },
  get_language_id = function(_, filetype)
    return (filetype == 'sh' or filetype == 'bash') and 'shellscript' or filetype
  end,
}
