--- Keys in insert mode, which do what they did before whenever no ghost text is shown.

local api = vim.api
local config = require('nestling.config')
local ghost = require('nestling.ghost')

local M = {}

---@type table<integer, table<string, table|false>> by buffer and key: the buffer's own mapping before ours
local replaced = {}

local function raw(keys)
  return api.nvim_replace_termcodes(keys, true, true, true)
end

--- The mapping that the key would have without us: the buffer's own, else the global one as it is now.
local function inherited(bufnr, lhs)
  local own = replaced[bufnr] and replaced[bufnr][lhs]
  if own then
    return own
  end
  for _, mapping in ipairs(api.nvim_get_keymap('i')) do
    if mapping.lhsraw == raw(lhs) or mapping.lhsrawalt == raw(lhs) then
      return mapping
    end
  end
end

--- Does what the key does without us.
local function pass_on(bufnr, lhs)
  local mapping = inherited(bufnr, lhs)
  if not mapping then
    return api.nvim_feedkeys(raw(lhs), 'in', false)
  end
  local keys = mapping.rhs and mapping.rhs:gsub('<SID>', ('<SNR>%d_'):format(mapping.sid or 0))
  if mapping.expr == 1 then
    -- Keys in an expression are replaced when it is mapped; what is listed has their names.
    keys = mapping.callback and mapping.callback() or keys and api.nvim_eval(raw(keys))
    keys = type(keys) == 'string' and (mapping.replace_keycodes == 1 and raw(keys) or keys) or ''
  elseif mapping.callback then
    return mapping.callback()
  else
    keys = raw(keys or '')
  end
  local own = raw(lhs)
  if mapping.noremap ~= 1 and vim.startswith(keys, own) then
    -- As without us: the key itself at the beginning is not mapped again. The second call puts it in front.
    api.nvim_feedkeys(keys:sub(#own + 1), 'im', false)
    return api.nvim_feedkeys(own, 'in', false)
  end
  api.nvim_feedkeys(keys, mapping.noremap == 1 and 'in' or 'im', false)
end

local actions = {
  accept = function(otherwise)
    return ghost.accept('all', otherwise)
  end,
  accept_word = function(otherwise)
    return ghost.accept('word', otherwise)
  end,
  accept_line = function(otherwise)
    return ghost.accept('line', otherwise)
  end,
  dismiss = function()
    return ghost.dismiss()
  end,
}

---@param bufnr integer
function M.map(bufnr)
  if replaced[bufnr] then
    return
  end
  replaced[bufnr] = {}
  for action, lhs in pairs(config.options.keymaps or {}) do
    if lhs then
      local before = api.nvim_buf_call(bufnr, function()
        return vim.fn.maparg(lhs, 'i', false, true)
      end)
      replaced[bufnr][lhs] = before.buffer == 1 and before or false
      vim.keymap.set('i', lhs, function()
        local function otherwise()
          pass_on(bufnr, lhs)
        end
        if not actions[action](otherwise) then
          otherwise()
        end
      end, { buffer = bufnr, desc = 'nestling: ' .. action:gsub('_', ' ') })
    end
  end
end

---@param bufnr integer
function M.unmap(bufnr)
  for lhs, before in pairs(replaced[bufnr] or {}) do
    if api.nvim_buf_is_valid(bufnr) then
      pcall(vim.keymap.del, 'i', lhs, { buffer = bufnr })
      if before then
        api.nvim_buf_call(bufnr, function()
          vim.fn.mapset('i', false, before)
        end)
      end
    end
  end
  replaced[bufnr] = nil
end

return M
