--- Runs when Neovim loads its plugins: registers `:Nestling` and starts the server for the configured file types.

if vim.g.loaded_nestling then
  return
end
vim.g.loaded_nestling = true

vim.api.nvim_create_user_command('Nestling', function(call)
  require('nestling.command').run(call.fargs, call.range > 0 and { call.line1, call.line2 } or nil)
end, {
  nargs = '*',
  range = true,
  desc = 'nestling: questions, status, repairs, fine-tuning, statistics',
  complete = function(lead, line)
    return require('nestling.command').complete(lead, line)
  end,
})

-- A plugin manager may call setup() just after this file: wait for it, so that the server starts once.
local function start()
  require('nestling').start()
end
if vim.v.vim_did_enter == 1 then
  vim.schedule(start)
else
  vim.api.nvim_create_autocmd('VimEnter', { once = true, callback = start })
end
