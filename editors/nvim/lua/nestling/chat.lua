--- Questions about the workspace: the answer is written into a scratch buffer as it comes, with the places it was made of.

local api = vim.api
local server = require('nestling.server')

local M = {}

---@class nestling.Talk
---@field bufnr integer
---@field messages { role: string, content: string }[]
---@field token? string what the text of the running answer is told under
---@field told string what of it came so far
---@field cancel? fun() stops it
---@field notice? string what was said beside an answer

---@type table<integer, nestling.Talk> by buffer
local talks = {}
local count = 0

--- Writes text at the end of a talk, and moves the windows along that look at the end.
local function write(talk, text)
  if not api.nvim_buf_is_valid(talk.bufnr) then
    return
  end
  local last = api.nvim_buf_line_count(talk.bufnr) - 1
  local line = api.nvim_buf_get_lines(talk.bufnr, last, last + 1, false)[1] or ''
  local following = vim.tbl_filter(function(window)
    return api.nvim_win_get_cursor(window)[1] == last + 1
  end, vim.fn.win_findbuf(talk.bufnr))
  api.nvim_buf_set_text(talk.bufnr, last, #line, last, #line, vim.split(text, '\n', { plain = true }))
  for _, window in ipairs(following) do
    api.nvim_win_set_cursor(window, { api.nvim_buf_line_count(talk.bufnr), 0 })
  end
end

api.nvim_create_autocmd('LspProgress', {
  group = api.nvim_create_augroup('nestling.chat', { clear = true }),
  desc = 'nestling: the text of an answer',
  callback = function(event)
    local params = event.data.params
    for _, talk in pairs(talks) do
      if talk.token and talk.token == params.token and type(params.value.text) == 'string' then
        talk.told = talk.told .. params.value.text
        write(talk, params.value.text)
      end
    end
  end,
})

--- A new talk in a split.
---@return nestling.Talk
local function open()
  vim.cmd('botright new')
  local bufnr = api.nvim_get_current_buf()
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile = 'nofile', 'hide', false
  -- Afterwards: servers are attached to files of a type, and to no views.
  vim.bo.filetype = 'markdown'
  vim.wo[0][0].wrap, vim.wo[0][0].linebreak = true, true
  local talk = { bufnr = bufnr, messages = {}, told = '' }
  talks[bufnr] = talk
  api.nvim_create_autocmd('BufWipeout', {
    buffer = bufnr,
    callback = function()
      if talk.cancel then
        talk.cancel()
      end
      talks[bufnr] = nil
    end,
  })
  return talk
end

--- Places that `gF` opens: below the folder that Neovim is in, else whole.
local function place(source)
  local path = vim.uri_to_fname(source.uri)
  return ('%s:%d'):format(vim.fn.fnamemodify(path, ':~:.'), source.range.start.line + 1)
end

--- Asks, in the talk of this buffer or in a new one. A range of lines (from 1) says what it is about.
---@param question string
---@param lines? integer[]
function M.ask(question, lines)
  local bufnr = api.nvim_get_current_buf()
  local talk = talks[bufnr]
  local client = server.client(bufnr) or server.client()
  if not client then
    return vim.notify('nestling: not running', vim.log.levels.WARN)
  end
  if vim.trim(question) == '' then
    return vim.notify('nestling: what is the question? :Nestling chat QUESTION', vim.log.levels.WARN)
  end
  local argument = {}
  if lines and server.client(bufnr) then
    argument.textDocument = { uri = vim.uri_from_bufnr(bufnr) }
    argument.range = { start = { line = lines[1] - 1, character = 0 }, ['end'] = { line = lines[2], character = 0 } }
  end
  talk = talk or open()
  if talk.cancel then
    talk.cancel()
  end
  table.insert(talk.messages, { role = 'user', content = question })
  write(talk, (#talk.messages > 1 and '\n' or '') .. '# ' .. question:gsub('\n.*', ' …') .. '\n\n')
  count = count + 1
  talk.token, talk.told = ('nestling/chat/%d'):format(count), ''
  argument.messages, argument.partialResultToken = talk.messages, talk.token
  local mine = talk.token
  local _, id = client:request('workspace/executeCommand', {
    command = 'nestling.chat',
    arguments = { argument },
  }, function(problem, reply)
    if talk.token ~= mine then
      return
    end
    talk.token, talk.cancel = nil, nil
    if problem then
      table.remove(talk.messages)
      write(talk, '\n*' .. problem.message .. '*\n')
      return
    end
    table.insert(talk.messages, { role = 'assistant', content = reply.text })
    -- The last pieces may come behind the whole.
    if vim.startswith(reply.text, talk.told) then
      write(talk, reply.text:sub(#talk.told + 1))
    end
    local after = {}
    if type(reply.sources) == 'table' and #reply.sources > 0 then
      vim.list_extend(after, { '', 'Sources:', '' })
      for _, source in ipairs(reply.sources) do
        table.insert(after, ('- %s %s'):format(place(source), source.title))
      end
    end
    if type(reply.notice) == 'string' and talk.notice ~= reply.notice then
      talk.notice = reply.notice
      vim.list_extend(after, { '', ('*%s*'):format(reply.notice) })
    end
    write(talk, '\n' .. table.concat(after, '\n') .. '\n')
  end)
  talk.cancel = function()
    if id then
      client:cancel_request(id)
    end
  end
end

--- Stops what is being written.
---@return boolean # false when nothing is
function M.stop()
  local stopped = false
  for _, talk in pairs(talks) do
    if talk.cancel then
      talk.cancel()
      stopped = true
    end
  end
  return stopped
end

return M
