--- The server's process. Where it ends by itself it is started again after a pause, but not for ever.

local config = require('nestling.config')
local say = require('nestling.say')

local M = {}

--- Pauses before the first, second, … start after a stop. After one stop more there is none.
local PAUSES_MS = { 500, 1000, 2000, 4000 }
--- Stops that are further back do not count any more.
local WINDOW_MS = 180000

---@type integer[] when it stopped, in milliseconds
local stops = {}
---@type string? why no server runs, where one should
local trouble

---@return string?
function M.trouble()
  return trouble
end

--- A server is attached.
function M.attached()
  trouble = nil
end

--- Forgets what happened, because the user wants another try.
function M.reset()
  stops, trouble = {}, nil
end

--- Switches the plugin off, with one message that says why.
---@param why string
---@param where string the command that shows more
function M.give_up(why, where)
  require('nestling').disable()
  trouble = why
  say(('nestling: %s (%s)'):format(why, where), vim.log.levels.ERROR)
  vim.cmd.redrawstatus()
end

---@param how string
local function stopped(how)
  if not require('nestling').is_enabled() or vim.v.exiting ~= vim.NIL then
    return
  end
  local now = vim.uv.now()
  stops = vim.tbl_filter(function(at)
    return now - at < WINDOW_MS
  end, stops)
  table.insert(stops, now)
  local pause = PAUSES_MS[#stops]
  if not pause then
    return M.give_up(('stopped %d times in a row, %s'):format(#stops, how), ':Nestling log')
  end
  trouble = ('stopped (%d of %d), starts again'):format(#stops, #PAUSES_MS + 1)
  vim.cmd.redrawstatus()
  vim.defer_fn(function()
    if require('nestling').is_enabled() then
      vim.lsp.enable('nestling')
    end
  end, pause)
end

--- Starts the server: the `cmd` of the configuration.
---@param dispatchers vim.lsp.rpc.Dispatchers
---@param settings? vim.lsp.ClientConfig
---@return vim.lsp.rpc.PublicClient
function M.start(dispatchers, settings)
  local own = vim.tbl_extend('force', dispatchers, {
    on_exit = function(code, signal)
      -- Neovim would tell of every end. Here the status does, and a message when there is no other start.
      dispatchers.on_exit(0, 0)
      if code ~= 0 or (signal ~= 0 and signal ~= 15) then
        vim.schedule(function()
          stopped(signal ~= 0 and ('signal %d'):format(signal) or ('exit code %d'):format(code))
        end)
      end
    end,
  })
  settings = settings or {}
  local spawn = { cwd = settings.cmd_cwd, env = settings.cmd_env, detached = settings.detached }
  local ok, result = pcall(vim.lsp.rpc.start, config.command_line(), own, spawn)
  if not ok then
    trouble = 'the program cannot be started'
    vim.schedule(function()
      require('nestling').disable()
    end)
    -- Neovim shows it.
    error(('nestling: %s (:checkhealth nestling)'):format(trouble), 0)
  end
  return result
end

return M
