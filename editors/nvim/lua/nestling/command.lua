--- `:Nestling`, the one command.

local config = require('nestling.config')
local server = require('nestling.server')

local M = {}

local function number(value)
  return value and ('%.0f'):format(value) or '-'
end

--- What `:Nestling status` prints, line by line.
---@param status nestling.Status
---@return string[]
function M.describe(status)
  local model, counts, latency = status.model or {}, status.counts or {}, status.latencyMs or {}
  local name = model.name and (', ' .. model.name) or ''
  local reason = model.reason and (': ' .. model.reason) or ''
  local lines = {
    ('model      %s%s%s'):format(model.state or 'unknown', name, reason),
    ('documents  %s open'):format(number(status.openDocuments)),
    ('requests   %s, of them %s answered, %s cancelled'):format(
      number(counts.requests),
      number(counts.answered),
      number(counts.cancelled)
    ),
    ('shown      %s, accepted %s'):format(number(counts.shown), number(counts.accepted)),
    ('latency    p50 %s ms, p95 %s ms'):format(number(latency.p50), number(latency.p95)),
    ('silence    %s'):format(status.lastSilence and status.lastSilence.reason or 'none'),
  }
  local remote = status.remote
  if type(remote) == 'table' then
    local told = type(remote.reason) == 'string' and remote.reason or remote.url
    table.insert(lines, ('remote     %s, %s'):format(remote.state, told))
  end
  return lines
end

--- Asks the server to do something that takes its time; it tells of it by itself.
---@param command string
---@param arguments? any[]
---@param done? fun(answer: any)
local function execute(command, arguments, done)
  local client = server.client(0) or server.client()
  if not client then
    return vim.notify('nestling: not running', vim.log.levels.WARN)
  end
  client:request('workspace/executeCommand', { command = command, arguments = arguments or {} }, function(problem, answer)
    if problem then
      vim.notify('nestling: ' .. problem.message, vim.log.levels.WARN)
    elseif done then
      done(answer)
    end
  end)
end

--- Shows what the program printed, in a window that leaves nothing behind when it is closed.
---@param text string
local function window(text)
  vim.cmd('botright new')
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile, vim.wo[0][0].wrap = 'nofile', 'wipe', false, false
  vim.api.nvim_buf_set_lines(0, 0, -1, false, vim.split(text, '\n', { plain = true }))
  vim.bo.modifiable = false
  vim.api.nvim_win_set_height(0, math.min(vim.api.nvim_buf_line_count(0), 15))
end

---@param done vim.SystemCompleted
local function show(done)
  if done.code ~= 0 then
    return vim.notify('nestling: ' .. vim.trim(done.stderr), vim.log.levels.ERROR)
  end
  window(vim.trim(done.stdout))
end

local commands = {
  fix = function()
    require('nestling').repair()
  end,
  optimize = function()
    require('nestling').optimize()
  end,
  finetune = function()
    execute('nestling.finetune')
  end,
  cancel = function()
    if not require('nestling.chat').stop() then
      execute('nestling.cancelFinetune')
    end
  end,
  chat = function(question, lines)
    require('nestling.chat').ask(question, lines)
  end,
  message = function()
    local buffer = vim.api.nvim_get_current_buf()
    local is_message = vim.bo[buffer].filetype == 'gitcommit'
    -- The file of a message lies in the folder of git, which for a worktree or a submodule is elsewhere; git starts
    -- the editor at the top of what is committed.
    local within = vim.fs.dirname(vim.api.nvim_buf_get_name(buffer))
    local folder = vim.uv.cwd()
    if not is_message or vim.fs.basename(within) == '.git' then
      folder = vim.fs.root(buffer, '.git') or folder
    end
    -- By the program, not by a server: where git starts the editor there is none.
    local words = { config.options.cmd[1], 'commit-message', '--json', '--repo', folder }
    vim.system(words, { text = true }, vim.schedule_wrap(function(done)
      if done.code ~= 0 then
        return vim.notify(vim.trim(done.stderr), vim.log.levels.WARN)
      end
      local message = vim.json.decode(done.stdout).message
      local lines = vim.split(message, '\n', { plain = true })
      if is_message and vim.api.nvim_buf_is_valid(buffer) then
        return vim.api.nvim_buf_set_lines(buffer, 0, 0, false, lines)
      end
      vim.fn.setreg('"', message)
      vim.notify('nestling: p puts “' .. lines[1] .. '”')
    end))
  end,
  why = function()
    local client = server.client(0)
    if not client then
      return vim.notify('nestling: not running here', vim.log.levels.WARN)
    end
    local place = vim.lsp.util.make_position_params(0, client.offset_encoding)
    local line = vim.api.nvim_get_current_line()
    -- Escape steps back from the end, where the suggestion was.
    if vim.fn.mode() == 'n' and vim.fn.col('.') == #line then
      place.position.character = vim.str_utfindex(line, client.offset_encoding)
    end
    execute('nestling.explain', { place }, function(answer)
      if type(answer) ~= 'table' then
        return vim.notify('nestling: nothing is suggested here (:Nestling status says why)')
      end
      window(vim.trim(answer.text) .. '\n\n' .. answer.table)
    end)
  end,
  status = function()
    local client, why = server.client(0) or server.client(), server.why_not_here(0)
    if not client then
      return vim.notify('nestling: not running, ' .. why, vim.log.levels.WARN)
    end
    local status, problem = server.ask(client, 1000)
    if not status then
      return vim.notify('nestling: no answer, ' .. problem, vim.log.levels.ERROR)
    end
    local lines = M.describe(status)
    if why then
      table.insert(lines, 'here       ' .. why)
    end
    vim.api.nvim_echo({ { table.concat(lines, '\n') } }, false, {})
  end,
  stats = function()
    local problem = config.problem()
    if problem then
      return vim.notify('nestling: ' .. problem, vim.log.levels.WARN)
    end
    vim.system({ config.options.cmd[1], 'doctor', '--stats' }, { text = true }, vim.schedule_wrap(show))
  end,
  enable = function()
    require('nestling').enable()
  end,
  disable = function()
    require('nestling').disable()
  end,
  log = function()
    vim.cmd.tabedit({ args = { vim.fn.fnameescape(vim.lsp.log.get_filename()) } })
    vim.cmd.normal({ args = { 'G' }, bang = true })
  end,
}

---@param args string[]
---@param lines? integer[] the first and the last of a range
function M.run(args, lines)
  local command = commands[args[1] or 'status']
  if args[1] == 'chat' then
    return command(table.concat(args, ' ', 2), lines)
  end
  if not command or #args > 1 then
    return vim.notify('nestling: :Nestling ' .. table.concat(M.complete('', ''), '|'), vim.log.levels.ERROR)
  end
  command()
end

---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  if line:match('^%S+%s+%S+%s') then
    return {}
  end
  local names = vim.tbl_filter(function(name)
    return vim.startswith(name, lead)
  end, vim.tbl_keys(commands))
  table.sort(names)
  return names
end

return M
