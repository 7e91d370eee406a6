--- nestling: code completion as ghost text, from a small model on your own machine.
---
--- This module is what a user's configuration calls; everything else in this folder is private to the plugin.

local config = require('nestling.config')
local ghost = require('nestling.ghost')
local keys = require('nestling.keys')
local process = require('nestling.process')
local say = require('nestling.say')
local server = require('nestling.server')

local M = {}

local group = vim.api.nvim_create_augroup('nestling', { clear = true })
local started = false

--- Changes the defaults. Calling it is optional; calling it later restarts the server with the new options.
---@param options? nestling.Options
function M.setup(options)
  config.set(options or {})
  if started then
    M.disable()
    M.start()
  end
end

--- Starts the server for the configured file types. The plugin calls it once Neovim is up.
---@return boolean started false, and one message that says why, when this cannot work here
function M.start()
  local problem = config.problem()
  if problem then
    say('nestling: ' .. problem .. ' (:checkhealth nestling)', vim.log.levels.WARN)
    return false
  end
  config.apply()
  process.reset()

  vim.api.nvim_clear_autocmds({ group = group })
  vim.api.nvim_create_autocmd('LspAttach', {
    group = group,
    desc = 'nestling: ghost text and keys in this buffer',
    callback = function(event)
      if server.is_ours(event.data.client_id) then
        local info = assert(vim.lsp.get_client_by_id(event.data.client_id)).server_info
        local old = config.too_old(info and info.version)
        if old then
          -- Later, because an error is told as one of the autocommand here.
          return vim.schedule(function()
            process.give_up(old, ':checkhealth nestling')
          end)
        end
        process.attached()
        ghost.enable(event.data.client_id)
        -- The options may be others than those of the client before.
        keys.unmap(event.buf)
        keys.map(event.buf)
        -- Hints are quiet: underlined, without a column of signs that moves the text.
        vim.diagnostic.config({ signs = false }, vim.lsp.diagnostic.get_namespace(event.data.client_id))
      end
    end,
  })
  vim.api.nvim_create_autocmd('LspDetach', {
    group = group,
    desc = 'nestling: give the keys back',
    callback = function(event)
      local is_other = function(client)
        return client.id ~= event.data.client_id
      end
      -- A client that ends slowly may leave after its successor has come.
      local clients = vim.lsp.get_clients({ name = 'nestling', bufnr = event.buf })
      if server.is_ours(event.data.client_id) and not vim.iter(clients):any(is_other) then
        keys.unmap(event.buf)
      end
    end,
  })
  server.watch(group)

  vim.lsp.enable('nestling')
  started = true
  return true
end

--- Starts the server again after |nestling.disable()|.
function M.enable()
  M.start()
end

--- Stops the server in all buffers, which also gives its memory back.
function M.disable()
  if started then
    vim.lsp.enable('nestling', false)
    -- Neovim leaves out those that have not answered yet.
    for _, client in ipairs(vim.lsp.get_clients({ name = 'nestling', _uninitialized = true })) do
      if not client.initialized then
        client:stop(true)
      end
    end
    started = false
  end
end

--- Whether the plugin is switched on.
---@return boolean
function M.is_enabled()
  return started
end

--- Whether ghost text is on the screen in the current buffer.
---@return boolean
function M.visible()
  return ghost.visible()
end

--- Accepts all of the ghost text.
---@return boolean # false when none is shown
function M.accept()
  return ghost.accept('all')
end

--- Accepts the next word of the ghost text.
---@return boolean # false when none is shown
function M.accept_word()
  return ghost.accept('word')
end

--- Accepts the ghost text up to the end of its line.
---@return boolean # false when none is shown
function M.accept_line()
  return ghost.accept('line')
end

--- Takes the ghost text away until the next keystroke.
---@return boolean # false when none is shown
function M.dismiss()
  return ghost.dismiss()
end

--- Shows what could repair the line under the cursor, for the diagnostics of all servers, and applies what is chosen.
function M.repair()
  require('nestling.repair').repair()
end

--- Shows what could make the line under the cursor faster, and applies what is chosen.
function M.optimize()
  require('nestling.repair').optimize()
end

--- A word for the status line: empty where nestling is not attached, else its state and why it is silent.
---@return string
function M.status()
  return server.component()
end

return M
