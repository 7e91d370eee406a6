// What the tests share: keys and texts, ghost text, messages, and another program for a while.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from './editor.mjs';

export const MENU = '.action-widget';

/** A place where the projects say what comes next. */
export const SHELVES = `from pantry.items import Shelf


def amounts_of(shelves):
    amounts = {}
    for shelf in |
`;

export async function type(editor, text) {
  for (const key of text) {
    await editor.page.keyboard.press(key === ' ' ? 'Space' : key);
    await sleep(60);
  }
}

/** The ghost text at the cursor, asked for if it does not come by itself. */
export async function shownAt(editor) {
  return until('ghost text', async () => {
    const shown = await editor.settled(1500);
    if (!shown) {
      await editor.command('editor.action.inlineSuggest.trigger');
      await sleep(150);
    }
    return shown;
  }, 15_000);
}

/** Accepts the ghost text that is shown; it, and the document before and after. */
export async function accept(editor, key) {
  const shown = await shownAt(editor);
  const before = await editor.document();
  await editor.page.keyboard.press(key);
  return { shown, before, after: await changed(editor, before) };
}

export async function changed(editor, before) {
  await until('a change', async () => (await editor.document()).text !== before.text);
  await sleep(150);
  return editor.document();
}

/** The text with `added` at the cursor. */
export function insert({ text, at }, added) {
  return text.slice(0, at) + added + text.slice(at);
}

/** Seconds of processor time that the servers take in each second from now on. */
export function processorTime(editor) {
  const now = () => {
    // The name of a program may hold spaces; the fields are counted from behind it.
    const ticks = servers(editor).map((id) => fs.readFileSync(`/proc/${id}/stat`, 'utf8').split(') ').pop().split(' ')).map((fields) => Number(fields[11]) + Number(fields[12]));
    return ticks.reduce((sum, ticks) => sum + ticks, 0) / 100;
  };
  const [begin, before] = [Date.now(), now()];
  return () => (now() - before) / ((Date.now() - begin) / 1000);
}

/** The text that the keys must have made: each once, and at each acceptance what was displayed then, or the beginning of it. */
export function fold(text, pressed, changes) {
  let accepted = 0;
  for (const { key, ctrl, shown } of pressed) {
    if (key === 'Control' || key === 'Escape' || key === 'swallowed') {
      continue;
    }
    if (key === 'Tab' || (ctrl && key === 'ArrowRight')) {
      // It put what was shown, or a part of it, at the end of what was there; where the page lags behind the keys, without
      // those that were typed into it.
      const ends = changes.filter((change) => change.rangeOffset + change.rangeLength === text.length);
      const put = ends.map((change) => text.slice(0, change.rangeOffset) + change.text).filter((now) => now.length > text.length && now.startsWith(text));
      const typed = [0, 1, 2, 3].filter((count) => text.endsWith(shown.slice(0, count))).map((count) => shown.slice(count));
      const isOne = (part) => typed.some((rest) => (key === 'Tab' ? rest === part : rest.startsWith(part)));
      text = put.find((now) => isOne(now.slice(text.length))) ?? `${text}(nothing was put in)`;
      accepted++;
    } else {
      text += key;
    }
  }
  return { text, accepted };
}

/** Opens a list until an entry is in it: what is not known yet in the first is in the next. */
export async function menu(editor, command, entry, list = MENU) {
  await until(`a menu with ${entry}`, async () => {
    await editor.command(command);
    const row = editor.page.locator(`${list} .monaco-list-row`, { hasText: entry }).first();
    const isThere = await row.waitFor({ timeout: 1500 }).then(() => true, () => false);
    if (!isThere) {
      await editor.page.keyboard.press('Escape');
    }
    return isThere;
  }, 30_000);
}

export function parses(text) {
  try {
    execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: text, stdio: ['pipe', 'ignore', 'ignore'] });
    return true;
  } catch {
    return false;
  }
}

export function tooltip(editor) {
  return editor.page.evaluate(() => '').then(() => editor.vs(async (vscode) => {
    const found = await vscode.commands.executeCommand('nestling.status');
    return `accepted: ${found.counts.accepted}`;
  }));
}

export function lines(file) {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line)) : [];
}

export function script(editor, name, body) {
  const file = path.join(editor.folder, name);
  fs.writeFileSync(file, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  return file;
}

/** The ids of the servers that the bundled program runs as. */
export function servers(editor) {
  return execFileSync('pgrep', ['-f', `${editor.folder}/extensions/.*/bin/nestling serve`], { encoding: 'utf8' }).trim().split('\n').map(Number);
}

/** Starts the server again, and comes back once that has been tried. */
export async function restart(editor) {
  await editor.vs(async (vscode) => void (await vscode.commands.executeCommand('nestling.restart')));
}

/** The settings of the machine on which the extension runs. */
export async function machine(editor, settings) {
  const folder = path.join(editor.folder, 'user', 'Machine');
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'settings.json'), JSON.stringify(settings));
}

/** With another program than the bundled one. */
export async function withProgram(editor, program, run) {
  await machine(editor, { 'nestling.path': program });
  try {
    await until('the setting', () => editor.vs((vscode, program) => vscode.workspace.getConfiguration('nestling').get('path') === program, program));
    await run();
  } finally {
    await machine(editor, {});
    await editor.clearMessages();
    await editor.ready();
  }
}

/** Exactly one message, and it stays the only one. */
export async function oneMessage(editor, pattern, limitMs = 10_000) {
  await until(`a message like ${pattern}`, async () => (await editor.messages()).some((message) => pattern.test(message)), limitMs);
  await sleep(1500);
  const all = await editor.messages();
  assert.equal(all.length, 1, all.join('\n'));
}
