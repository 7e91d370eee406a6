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
  -- Neovim waits 200 ms after a keystroke before it asks; a second wait in the server would only add to that.
  settings = { nestling = { debounce = 0 } },
  get_language_id = function(_, filetype)
    return (filetype == 'sh' or filetype == 'bash') and 'shellscript' or filetype
  end,
}
