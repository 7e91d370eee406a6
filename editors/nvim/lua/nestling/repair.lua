--- Code actions of the line under the cursor: repairs for the diagnostics of all servers, and rewrites that should be faster.

local server = require('nestling.server')

local M = {}

--- A diagnostic of Neovim as the protocol has it.
---@param diagnostic vim.Diagnostic
---@param bufnr integer
---@param encoding string
local function to_lsp(diagnostic, bufnr, encoding)
  local known = vim.tbl_get(diagnostic, 'user_data', 'lsp')
  if known then
    -- Which server it came from is known to Neovim alone.
    return vim.tbl_extend('keep', known, { source = diagnostic.source })
  end
  local function position(row, column)
    local line = vim.api.nvim_buf_get_lines(bufnr, row, row + 1, false)[1] or ''
    return { line = row, character = vim.str_utfindex(line, encoding, math.min(column, #line), false) }
  end
  return {
    range = {
      start = position(diagnostic.lnum, diagnostic.col),
      ['end'] = position(diagnostic.end_lnum or diagnostic.lnum, diagnostic.end_col or diagnostic.col),
    },
    severity = diagnostic.severity,
    code = diagnostic.code,
    source = diagnostic.source,
    message = diagnostic.message,
  }
end

--- Applies an entry of the menu, after the server has worked it out if it is one of those.
local function apply(client, bufnr, action)
  local function done(resolved)
    if resolved and resolved.edit then
      vim.lsp.util.apply_workspace_edit(resolved.edit, client.offset_encoding)
    end
  end
  if action.edit then
    return done(action)
  end
  if action.command then
    -- A proof: its evidence is shown with the difference, and the server asks whether to apply it.
    return client:request('workspace/executeCommand', {
      command = action.command.command,
      arguments = action.command.arguments,
    }, function(problem, proof)
      if problem then
        return vim.notify('nestling: ' .. problem.message, vim.log.levels.WARN)
      elseif not proof or proof.cancelled then
        return
      end
      local lines = vim.split(proof.summary, ' · ', { plain = true })
      vim.list_extend(lines, { '', '```diff' })
      vim.list_extend(lines, vim.split(vim.trim(proof.diff), '\n', { plain = true }))
      table.insert(lines, '```')
      vim.lsp.util.open_floating_preview(lines, 'markdown', { title = 'nestling: ' .. proof.title, focus = false })
    end, bufnr)
  end
  client:request('codeAction/resolve', action, function(problem, resolved)
    if problem then
      return vim.notify('nestling: ' .. problem.message, vim.log.levels.WARN)
    end
    done(resolved)
  end, bufnr)
end

--- Shows the entries of one kind for the line under the cursor, and applies what is chosen. A single one is applied at once.
---@param kind string
---@param prompt string
---@param nothing string
local function menu(kind, prompt, nothing)
  local bufnr = vim.api.nvim_get_current_buf()
  local client = server.client(bufnr)
  if not client then
    return vim.notify('nestling: not running in this buffer', vim.log.levels.WARN)
  end
  local params = vim.lsp.util.make_range_params(0, client.offset_encoding)
  local diagnostics = vim.diagnostic.get(bufnr, { lnum = vim.api.nvim_win_get_cursor(0)[1] - 1 })
  params.context = {
    only = { kind },
    diagnostics = vim.tbl_map(function(diagnostic)
      return to_lsp(diagnostic, bufnr, client.offset_encoding)
    end, diagnostics),
  }
  client:request('textDocument/codeAction', params, function(problem, actions)
    if problem then
      return vim.notify('nestling: ' .. problem.message, vim.log.levels.WARN)
    end
    actions = actions or {}
    if #actions == 0 then
      return vim.notify('nestling: ' .. nothing, vim.log.levels.INFO)
    elseif #actions == 1 then
      return apply(client, bufnr, actions[1])
    end
    vim.ui.select(actions, {
      prompt = prompt,
      kind = 'codeaction',
      format_item = function(action)
        return action.title
      end,
    }, function(action)
      if action then
        apply(client, bufnr, action)
      end
    end)
  end, bufnr)
end

--- What could repair the line under the cursor.
function M.repair()
  menu('quickfix', 'Repair', 'nothing to repair in this line')
end

--- What could make it faster.
function M.optimize()
  menu('refactor.rewrite', 'Optimize', 'nothing to make faster in this line')
end

return M
