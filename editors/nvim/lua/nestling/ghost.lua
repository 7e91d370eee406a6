--- Accepting ghost text, all of it or a piece.
---
--- inline.lua requests, draws and keeps the suggestions. One stays on the screen while the user types on, with the range
--- it had when it was requested, so accepting it as it stands would double the text typed since. This module inserts only
--- what is still missing.

local api = vim.api

local M = {}

M.METHOD = 'textDocument/inlineCompletion'
--- Where it is drawn.
M.namespace = api.nvim_create_namespace('nestling.ghost')

---@class nestling.Anchor where a request was made
---@field row integer 0-based
---@field col integer in bytes
---@field line string
---@field suffix string the rest of the line after the cursor

---@class nestling.Item a suggestion
---@field client_id integer
---@field insert_text string
---@field range integer[] start row and column, end row and column; 0-based, in bytes
---@field command? lsp.Command
---@field anchor nestling.Anchor

--- How much of the remaining text each way of accepting takes, as a pattern. A newline counts as the start of a line.
local pieces = {
  all = [[^\_.*]],
  word = [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\|\)]],
  line = [[^\n\?[^\n]*]],
}

--- Shows the suggestions of a client from now on, here and nowhere else.
---@param client_id integer
function M.enable(client_id)
  if vim.lsp.inline_completion then
    vim.lsp.inline_completion.enable(false, { client_id = client_id })
  end
  require('nestling.inline').enable()
end

--- The place of the cursor.
---@param bufnr? integer
---@return nestling.Anchor
function M.here(bufnr)
  bufnr = bufnr or api.nvim_get_current_buf()
  local win = api.nvim_get_current_win()
  if api.nvim_win_get_buf(win) ~= bufnr then
    win = vim.fn.bufwinid(bufnr)
  end
  local row, col = unpack(api.nvim_win_get_cursor(win))
  local line = api.nvim_buf_get_lines(bufnr, row - 1, row, false)[1] or ''
  return { row = row - 1, col = col, line = line, suffix = line:sub(col + 1) }
end

---@return boolean
function M.visible()
  for _, mark in ipairs(api.nvim_buf_get_extmarks(0, M.namespace, 0, -1, { details = true })) do
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
---@param item nestling.Item
---@param now nestling.Anchor the place of the cursor
---@return string? rest nil when the user has typed something else meanwhile
---@return integer? replaced
---@return integer? typed bytes of the suggestion that stand there already
function M.remaining(item, now)
  local start_row, start_col, end_row, end_col = unpack(item.range)
  local anchor = item.anchor
  if now.suffix ~= anchor.suffix or end_row ~= anchor.row or end_col < anchor.col then
    return nil
  end
  local ok, typed = pcall(api.nvim_buf_get_text, 0, start_row, start_col, now.row, now.col, {})
  local text = item.insert_text:gsub('\r\n?', '\n')
  if not ok or not vim.startswith(text, table.concat(typed, '\n')) then
    return nil
  end
  local there = #table.concat(typed, '\n')
  local rest = text:sub(there + 1)
  if rest ~= '' then
    return rest, end_col - anchor.col, there
  end
end

---@param item nestling.Item
---@param kind 'all'|'word'|'line'
---@return boolean inserted
local function insert(item, kind)
  local bufnr = api.nvim_get_current_buf()
  local now = M.here(bufnr)
  local rest, replaced, typed = M.remaining(item, now)
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
  elseif client then
    local taken = item.insert_text:gsub('\r\n?', '\n'):sub(1, typed + #piece)
    client:notify('textDocument/didPartiallyAcceptCompletion', {
      item = { insertText = item.insert_text, command = item.command },
      acceptedLength = vim.str_utfindex(taken, 'utf-16'),
    })
  end
  return true
end

--- Accepts what is shown.
---@param kind 'all'|'word'|'line'
---@param otherwise? fun() called, later, when what is shown no longer fits what was typed
---@return boolean # false when nothing is shown
function M.accept(kind, otherwise)
  if not M.visible() then
    return false
  end
  return require('nestling.inline').get(function(item)
    if not insert(item, kind) and otherwise then
      otherwise()
    end
  end)
end

--- Takes what is shown away.
---@return boolean # false when nothing is shown
function M.dismiss()
  if not M.visible() then
    return false
  end
  return require('nestling.inline').get(function() end)
end

return M
