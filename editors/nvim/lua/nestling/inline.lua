--- Ghost text: requests, draws and keeps a suggestion.
---
--- `vim.lsp.inline_completion` of Neovim 0.12 does that, too, but waits 200 ms after each key, in which who types on sees
--- nothing, and leaves on the screen what no longer fits. Here each key asks, and the server decides how long to wait.

local api = vim.api
local ghost = require('nestling.ghost')
local server = require('nestling.server')

local M = {}

---@type nestling.Item? what is shown, as long as it fits what stands there
local current
---@type { client: vim.lsp.Client, id: integer? }? the request on its way
local pending
---@type string? the text and the cursor that a suggestion was last wanted for
local place
local timer = assert(vim.uv.new_timer())

--- Whether the user types in a buffer of ours, and not with the entries of a popup.
local function typing()
  return server.client(0)
    and vim.startswith(api.nvim_get_mode().mode, 'i')
    and not (vim.fn.pumvisible() == 1 and vim.fn.complete_info({ 'selected' }).selected >= 0)
end

--- Draws what is missing of the suggestion, or nothing when it does not fit.
local function draw()
  api.nvim_buf_clear_namespace(0, ghost.namespace, 0, -1)
  if not current or not typing() then
    return
  end
  local now = ghost.here()
  local rest, replaced = ghost.remaining(current, now)
  if not rest then
    return
  end
  local covered = now.suffix:sub(1, replaced)
  local aside = now.suffix == '' or not rest:find('\n', 1, true) and vim.endswith(rest, covered)
  -- A closer that stands there already moves aside. Else the rest of the line is covered, and shown where it will be.
  rest = aside and rest:sub(1, #rest - #covered) or rest .. now.suffix:sub(replaced + 1)
  local lines = vim.split(rest, '\n', { plain = true })
  if not aside then
    local width = vim.fn.strdisplaywidth(now.line:sub(1, now.col) .. lines[1])
    lines[1] = lines[1] .. (' '):rep(vim.fn.strdisplaywidth(now.line) - width)
  end
  local rows = vim.tbl_map(function(line)
    return { { line, 'ComplHint' } }
  end, lines)
  api.nvim_buf_set_extmark(0, ghost.namespace, now.row, now.col, {
    virt_text = rows[1],
    virt_text_pos = aside and 'inline' or 'overlay',
    virt_lines = vim.list_slice(rows, 2),
    hl_mode = 'combine',
  })
end

local function cancel()
  if pending and pending.id then
    pending.client:cancel_request(pending.id)
  end
  pending = nil
end

--- Forgets the suggestion, and the one on its way.
local function abort()
  timer:stop()
  cancel()
  current = nil
  draw()
end

--- The first suggestion of an answer; others cannot be chosen here.
---@param answer lsp.InlineCompletionList|lsp.InlineCompletionItem[]|nil
---@param client vim.lsp.Client
---@param anchor nestling.Anchor
---@return nestling.Item?
local function first(answer, client, anchor)
  local item = answer and (answer.items or answer)[1]
  if not item or type(item.insertText) ~= 'string' or not item.range then
    return nil
  end
  local corners = {}
  for _, position in ipairs({ item.range.start, item.range['end'] }) do
    -- The line is taken as it was when asked for, because the user may have typed on since.
    local line = position.line == anchor.row and anchor.line or vim.fn.getline(position.line + 1)
    local column = vim.str_byteindex(line, client.offset_encoding, position.character, false)
    vim.list_extend(corners, { position.line, column })
  end
  return { client_id = client.id, insert_text = item.insertText, range = corners, command = item.command, anchor = anchor }
end

--- Asks about the place of the cursor, instead of where it was asked before.
local function request()
  local client = server.client(0)
  if not client or not typing() then
    return
  end
  cancel()
  local anchor, mine = ghost.here(), { client = client }
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = 2 } -- automatic
  pending = mine
  _, mine.id = client:request(ghost.METHOD, params, function(_, answer)
    if pending == mine then
      pending, current = nil, first(answer, client, anchor)
      draw()
    end
  end)
end

local group = api.nvim_create_augroup('nestling.inline', { clear = true })
local keys = { 'InsertEnter', 'CursorMovedI', 'TextChangedI', 'TextChangedP', 'CompleteChanged', 'CompleteDone' }
api.nvim_create_autocmd(keys, {
  group = group,
  desc = 'nestling: keeps ghost text where it fits, and asks anew',
  callback = function(event)
    draw()
    -- Several events come for one key, and none of them may bring back what was dismissed. With these two nothing was.
    local fresh = event.event == 'InsertEnter' or event.event == 'CompleteDone'
    local now = ('%d %d %d %d'):format(event.buf, vim.b.changedtick, unpack(api.nvim_win_get_cursor(0)))
    if fresh or now ~= place then
      place = now
      -- Once all events of the key are over, and the server has heard of the text.
      timer:start(0, 0, vim.schedule_wrap(request))
    end
  end,
})
-- Not InsertLeave, which CTRL-C does not cause.
for event, pattern in pairs({ ModeChanged = 'i*:[^i]*', BufLeave = '*', LspDetach = '*' }) do
  api.nvim_create_autocmd(event, { group = group, pattern = pattern, desc = 'nestling: no ghost text', callback = abort })
end

--- Shows suggestions, as in all buffers of the server.
function M.enable()
  api.nvim_set_hl(0, 'ComplHint', { link = 'NonText', default = true })
  request() -- the user may have been faster than the server
end

--- Hands what is shown to a function, in a moment, and takes it away unless the function inserted a part of it.
---@param take fun(item: nestling.Item)
---@return boolean # false when nothing is shown
function M.get(take)
  if not typing() or not ghost.visible() then
    return false
  end
  -- In a moment, so that an <expr> mapping may call this.
  vim.schedule(function()
    local tick = api.nvim_buf_get_changedtick(0)
    if current and typing() then
      take(current)
    end
    if tick == api.nvim_buf_get_changedtick(0) or not ghost.remaining(current, ghost.here()) then
      return abort()
    end
    draw()
  end)
  return true
end

return M
