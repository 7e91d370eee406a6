// The scenario's VS Code: carries out orders that come as lines of JSON, [method, ...arguments], and answers each with one.
// scenario/vscode.py gives them.

import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { CACHE, Editor, until } from '../vscode/editor.mjs';

const MENU = '.action-widget';
const COMMANDS = { quickfix: 'editor.action.quickFix', 'refactor.rewrite': 'editor.action.refactor' };
// What is typed must be what is there.
const SETTINGS = { 'editor.autoClosingBrackets': 'never', 'editor.autoClosingQuotes': 'never', 'editor.autoIndent': 'none', 'editor.trimAutoWhitespace': false };

const PACKAGES = path.join(CACHE, 'vsix');
const ENDS = [`-${process.platform}-${process.arch}.vsix`, 'probe.vsix'];
const EXTENSIONS = fs.readdirSync(PACKAGES).filter((name) => ENDS.some((end) => name.endsWith(end))).map((name) => path.join(PACKAGES, name));

let editor;
let file;
let text;
/** Messages on the screen, those of progress apart; they go away after some time. */
let [said, progress, watching] = [[], [], undefined];

const orders = {
  async start(project, name, folder, settings, environment) {
    file = name;
    text = fs.readFileSync(path.join(project, name), 'utf8');
    fs.mkdirSync(folder, { recursive: true });
    [said, progress] = [[], []];
    editor = await Editor.open(folder, EXTENSIONS, { environment, workspace: project });
    const own = Object.entries(settings).map(([name, value]) => [`nestling.${name}`, value]);
    for (const [name, value] of [...Object.entries(SETTINGS), ...own]) {
      await editor.set(name, value);
    }
    await editor.show(file, `${text}|`);
    await editor.ready(60_000);
    await until('model and index', async () => {
      const { model, index } = await orders.status();
      return model.state === 'ready' && index?.state === 'ready';
    }, 60_000);
    watching = setInterval(() => editor.messages().then(keep, () => {}), 150);
  },

  async stop() {
    clearInterval(watching);
    await editor?.close();
    editor = undefined;
  },

  status() {
    return editor.vs((vscode) => vscode.commands.executeCommand('nestling.status'));
  },

  async place(row, column) {
    const lines = text.split('\n');
    const at = lines.slice(0, row - 1).join('\n').length + (row > 1 ? 1 : 0) + (column === null ? lines[row - 1].length : column - 1);
    await editor.show(file, `${text.slice(0, at)}|${text.slice(at)}`);
  },

  async type(keys) {
    for (const key of keys) {
      await editor.page.keyboard.press(key === ' ' ? 'Space' : key);
      await sleep(60);
    }
  },

  /** What is shown, asked for until it comes: a text typed before the extension listens gets no question of its own. */
  async shown() {
    for (const end = Date.now() + 6000; ; ) {
      const shown = await editor.settled(2000);
      if (shown || Date.now() > end) {
        return shown;
      }
      await editor.command('editor.action.inlineSuggest.trigger');
      await sleep(150);
    }
  },

  take_word: () => editor.page.keyboard.press('Control+ArrowRight'),
  take: () => editor.page.keyboard.press('Tab'),
  text: async () => (await editor.document()).text,

  async choose(kind, pattern) {
    await editor.page.keyboard.press('Escape');
    const entry = editor.page.locator(`${MENU} .monaco-list-row`, { hasText: new RegExp(pattern) }).first();
    await until(`a menu with ${pattern}`, async () => {
      await editor.command(COMMANDS[kind]);
      const isThere = await entry.waitFor({ timeout: 1500 }).then(() => true, () => false);
      if (!isThere) {
        await editor.page.keyboard.press('Escape');
      }
      return isThere;
    }, 20_000);
    await entry.click();
  },

  execute: (command, argument) => editor.command(command, ...(argument ? [argument] : [])),
  said: () => said,
  progress: () => progress,
};

function keep(messages) {
  for (const message of messages) {
    const all = /^nestling: fine-tuning/.test(message) ? progress : said;
    if (all.at(-1) !== message) {
      all.push(message);
    }
  }
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => orders.stop().finally(() => process.exit(130)));
}
for await (const line of createInterface({ input: process.stdin })) {
  const [method, ...args] = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await orders[method](...args)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await orders.stop();
process.exit(0);
