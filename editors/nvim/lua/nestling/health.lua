--- `:checkhealth nestling`: what works here, what does not, and what to do about it.

local config = require('nestling.config')
local server = require('nestling.server')
local health = vim.health

local M = {}

local function check_program()
  local program = config.options.cmd[1]
  health.ok('found ' .. vim.fn.exepath(program))
  local ok, result = pcall(function()
    return vim.system({ program, '--version' }, { text = true, timeout = 5000 }):wait()
  end)
  local old = ok and config.too_old(result.stdout:match('^nestling (%S+)'))
  if old then
    health.error(old, 'Install it again, from the repository that this plugin comes from: cargo install --path .')
  elseif ok and result.code == 0 then
    health.ok('version: ' .. vim.trim(result.stdout))
  else
    health.error(('`%s --version` failed'):format(program), 'Is this the nestling program? Install it again.')
  end
end

local function check_model(model)
  local name = model.name and (' ' .. model.name) or ''
  if model.state == 'loading' then
    health.info(('model%s is still loading; run this again in a moment'):format(name))
  elseif model.state == 'unused' then
    health.info(('model%s is not loaded, because completion is switched off in the server'):format(name))
  elseif model.state == 'ready' then
    health.ok(('model%s is ready'):format(name))
  else
    health.error(
      ('model%s: %s%s'):format(name, model.state or 'unknown', model.reason and (', ' .. model.reason) or ''),
      'Run `nestling doctor` in a terminal; `:Nestling log` has what the server wrote.'
    )
  end
end

local function check_keys()
  for action, lhs in vim.spairs(config.options.keymaps or {}) do
    health.info(('%s: %s'):format(action, lhs or 'not mapped'))
  end
end

function M.check()
  health.start('nestling')
  local problem, advice = config.problem()
  if problem then
    return health.error(problem, advice)
  end
  check_program()

  health.start('nestling: server')
  local client = server.client()
  if not client then
    local trouble = require('nestling.process').trouble()
    if trouble then
      health.error(trouble, '`:Nestling log` has what the server wrote, `:Nestling enable` tries again.')
    elseif not require('nestling').is_enabled() then
      health.warn('switched off', ':Nestling enable')
    else
      local filetypes = table.concat(vim.lsp.config.nestling.filetypes or {}, ', ')
      health.warn('not attached to any buffer', 'Open a file of one of these types: ' .. filetypes)
    end
    return
  end
  health.ok(('attached to %d buffer(s), started as `%s`'):format(
    vim.tbl_count(client.attached_buffers),
    table.concat(config.command_line(), ' ')
  ))
  local status, why = server.ask(client, 2000)
  if not status then
    return health.error('no answer to nestling/status: ' .. why, 'See :Nestling log')
  end
  health.ok('nestling/status is answered')
  check_model(status.model or {})
  for _, line in ipairs(vim.list_slice(require('nestling.command').describe(status), 2)) do
    health.info(line)
  end

  health.start('nestling: keys in insert mode')
  check_keys()
end

return M
