--- Messages that nobody has asked for: in one line that fits the screen, because Neovim waits for Enter after a longer one.

---@param text string
---@param level integer one of vim.log.levels
return function(text, level)
  local line = text:gsub('%s*\n%s*', ' ')
  local width = math.max(vim.v.echospace, 40)
  if vim.fn.strdisplaywidth(line) > width then
    line = vim.fn.strcharpart(line, 0, width - 1) .. '…'
  end
  vim.notify(line, level)
end
