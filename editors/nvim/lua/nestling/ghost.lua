--- Accepting ghost text, all of it or a piece.
---
--- Neovim requests, draws and keeps the suggestions. It keeps one on the screen while the user types on, with the
--- range it had when it was requested, so accepting it as it stands would double the text typed since. This module
--- remembers where each request was made and inserts only what is still missing.

local api = vim.api
local METHOD = 'textDocument/inlineCompletion'

local M = {}

local namespace = api.nvim_create_namespace('nvim.lsp.inline_completion')

---@class nestling.Anchor where a request was made
---@field row integer 0-based
---@field col integer in bytes
---@field suffix string the rest of the line after the cursor

---@type table<string, nestling.Anchor> requests on their way, by client and request
local pending = {}
---@type table<integer, nestling.Anchor> the last answered request, by buffer
local answered = {}

--- How much of the remaining text each way of accepting takes, as a pattern. A newline counts as the start of a line.
local pieces = {
  all = [[^\_.*]],
  word = [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\|\)]],
  line = [[^\n\?[^\n]*]],
}

---@return nestling.Anchor
local function here(bufnr)
  local win = api.nvim_get_current_win()
  if api.nvim_win_get_buf(win) ~= bufnr then
    win = vim.fn.bufwinid(bufnr)
  end
  local row, col = unpack(api.nvim_win_get_cursor(win))
  local line = api.nvim_buf_get_lines(bufnr, row - 1, row, false)[1] or ''
  return { row = row - 1, col = col, suffix = line:sub(col + 1) }
end

--- Remembers the place of every request.
---@param group integer
function M.watch(group)
  api.nvim_create_autocmd('LspRequest', {
    group = group,
    desc = 'nestling: where a suggestion was asked for',
    callback = function(event)
      local request = event.data.request
      if request.method ~= METHOD then
        return
      end
      local key = event.data.client_id .. ':' .. event.data.request_id
      if request.type == 'pending' then
        pending[key] = here(request.bufnr)
      elseif request.type == 'complete' then
        answered[request.bufnr] = pending[key]
        pending[key] = nil
      end
    end,
  })
  api.nvim_create_autocmd('BufUnload', {
    group = group,
    callback = function(event)
      answered[event.buf] = nil
    end,
  })
end

---@return boolean
function M.visible()
  for _, mark in ipairs(api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })) do
    local details = mark[4]
    if details.virt_lines and #details.virt_lines > 0 then
      return true
    end
    for _, chunk in ipairs(details.virt_text or {}) do
      if chunk[1] ~= '' then
        return true
      end
    end
  end
  return false
end

--- The text that is still to be inserted at the cursor, and how many bytes after the cursor it replaces.
---@return string? rest nil when the user has typed something else meanwhile
---@return integer? replaced
local function remaining(item, now, anchor)
  if not item.range then
    return nil
  end
  local start_row, start_col, end_row, end_col = item.range:to_extmark()
  anchor = anchor or now
  if now.suffix ~= anchor.suffix or end_row ~= anchor.row or end_col < anchor.col then
    return nil
  end
  local ok, typed = pcall(api.nvim_buf_get_text, 0, start_row, start_col, now.row, now.col, {})
  local text = item.insert_text:gsub('\r\n?', '\n')
  if not ok or not vim.startswith(text, table.concat(typed, '\n')) then
    return nil
  end
  local rest = text:sub(#table.concat(typed, '\n') + 1)
  if rest ~= '' then
    return rest, end_col - anchor.col
  end
end

---@param item vim.lsp.inline_completion.Item
---@param kind 'all'|'word'|'line'
---@return boolean inserted
local function insert(item, kind)
  local bufnr = api.nvim_get_current_buf()
  local now = here(bufnr)
  local rest, replaced = remaining(item, now, answered[bufnr])
  if not rest then
    return false
  end
  local piece = vim.fn.matchstr(rest, pieces[kind])
  local whole = piece == rest
  local lines = vim.split(piece, '\n', { plain = true })

  -- One `u` takes the accepted text back and leaves what was typed.
  vim.cmd([[let &g:undolevels = &g:undolevels]])
  api.nvim_buf_set_text(bufnr, now.row, now.col, now.row, now.col + (whole and replaced or 0), lines)
  api.nvim_win_set_cursor(0, { now.row + #lines, (#lines == 1 and now.col or 0) + #lines[#lines] })

  local client = vim.lsp.get_client_by_id(item.client_id)
  if whole and item.command and client then
    client:exec_cmd(item.command, { bufnr = bufnr })
  end
  return true
end

--- Accepts what is shown.
---@param kind 'all'|'word'|'line'
---@param otherwise? fun() called, later, when what is shown no longer fits what was typed
---@return boolean # false when nothing is shown
function M.accept(kind, otherwise)
  if not vim.lsp.inline_completion or not M.visible() then
    return false
  end
  return vim.lsp.inline_completion.get({
    on_accept = function(item)
      if type(item.insert_text) ~= 'string' then
        return item -- a snippet of another server
      end
      if not insert(item, kind) and otherwise then
        otherwise()
      end
    end,
  })
end

--- Takes what is shown away.
---@return boolean # false when nothing is shown
function M.dismiss()
  if not vim.lsp.inline_completion or not M.visible() then
    return false
  end
  return vim.lsp.inline_completion.get({
    on_accept = function() end,
  })
end

return M
