--- The running server: which client it is, what it says about itself, and the status line made of it.

local config = require('nestling.config')
local ghost = require('nestling.ghost')
local process = require('nestling.process')

local M = {}

---@class nestling.Status the answer to `nestling/status`
---@field model { state: 'unused'|'loading'|'ready'|'failed'|'restarting', reason?: string, name?: string }
---@field openDocuments integer
---@field lastSilence? { reason: string }
---@field counts { requests: integer, answered: integer, cancelled: integer, shown: integer, accepted: integer }
---@field latencyMs { p50?: number, p95?: number }

---@type nestling.Status?
local known
local watched = false
local asking = false

--- Drops JSON nulls, so that an absent field is nil.
local function without_nulls(value)
  if value == vim.NIL then
    return nil
  elseif type(value) ~= 'table' then
    return value
  end
  return vim.iter(pairs(value)):fold({}, function(all, key, field)
    all[key] = without_nulls(field)
    return all
  end)
end

---@param client_id integer
---@return boolean
function M.is_ours(client_id)
  local client = vim.lsp.get_client_by_id(client_id)
  return client ~= nil and client.name == 'nestling'
end

--- The client of a buffer, or of any buffer.
---@param bufnr? integer
---@return vim.lsp.Client?
function M.client(bufnr)
  return vim.lsp.get_clients({ name = 'nestling', bufnr = bufnr })[1]
end

--- Why a buffer is not served, whatever the server does; nil where it is, or will be.
---@param bufnr integer
---@return string?
local function why_not(bufnr)
  local buftype, filetype = vim.bo[bufnr].buftype, vim.bo[bufnr].filetype
  if buftype ~= '' then
    return ('this is a view (%s), not a file: it is left alone'):format(buftype)
  elseif filetype == '' then
    return 'this buffer has no file type'
  elseif not vim.list_contains((vim.lsp.config.nestling or {}).filetypes or {}, filetype) then
    return ('files of type %s are not served'):format(filetype)
  end
end

--- Why nothing is shown in a buffer; nil where the server is attached to it.
---@param bufnr integer
---@return string?
function M.why_not_here(bufnr)
  if M.client(bufnr) then
    return nil
  end
  local off = not require('nestling').is_enabled() and 'switched off (:Nestling enable)'
  return config.problem() or process.trouble() or off or why_not(bufnr) or 'the server is starting'
end

--- Asks the server and waits.
---@param client vim.lsp.Client
---@param timeout_ms integer
---@return nestling.Status?
---@return string? problem
function M.ask(client, timeout_ms)
  local answer, problem = client:request_sync('nestling/status', {}, timeout_ms)
  if not answer then
    return nil, problem or 'not running'
  elseif answer.err then
    return nil, answer.err.message
  end
  return without_nulls(answer.result)
end

local function refresh()
  local client = M.client()
  if not client or asking then
    return
  end
  asking = client:request('nestling/status', {}, function(_, result)
    asking = false
    known = without_nulls(result)
    vim.cmd.redrawstatus()
    if known and known.model and known.model.state == 'loading' then
      vim.defer_fn(refresh, 500)
    end
  end)
end

--- Keeps the status line fresh: asks after each suggestion, once somebody shows the component.
---@param group integer
function M.watch(group)
  vim.api.nvim_create_autocmd('LspRequest', {
    group = group,
    desc = 'nestling: status line',
    callback = function(event)
      local request = event.data.request
      if watched and request.type == 'complete' and request.method == 'textDocument/inlineCompletion' then
        vim.schedule(refresh)
      end
    end,
  })
  vim.api.nvim_create_autocmd('LspAttach', {
    group = group,
    callback = function(event)
      if watched and M.is_ours(event.data.client_id) then
        vim.schedule(refresh)
      end
    end,
  })
  vim.api.nvim_create_autocmd('LspDetach', {
    group = group,
    callback = function(event)
      if M.is_ours(event.data.client_id) then
        known, asking = nil, false
      end
    end,
  })
end

---@return string
function M.component()
  local bufnr = vim.api.nvim_get_current_buf()
  if not M.client(bufnr) then
    local trouble = process.trouble()
    return trouble and not why_not(bufnr) and 'nestling: ' .. trouble or ''
  end
  if not watched then
    watched = true
    vim.schedule(refresh)
  end
  local model = known and known.model or {}
  if model.state == 'loading' then
    return 'nestling: loading the model'
  elseif model.reason then
    return 'nestling: ' .. model.reason
  elseif known and known.lastSilence and not ghost.visible() then
    return 'nestling: ' .. known.lastSilence.reason
  end
  return 'nestling'
end

return M
