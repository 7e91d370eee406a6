// The tests; those of troubles are in troubles.mjs. Each begins with a text and ends with a comparison of what is there and
// what must be there.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { CACHE, Editor, HERE, ROOT, until } from './editor.mjs';
import { accept, changed, fold, insert, lines, menu, MENU, parses, processorTime, SHELVES, shownAt, tooltip, type, withProgram } from './helpers.mjs';
import { troubles } from './troubles.mjs';

const { values: options } = parseArgs({
  options: { only: { type: 'string' }, loops: { type: 'string', default: '25' }, picture: { type: 'boolean', default: false } },
});
const LOOPS = Number(options.loops);
const PACKAGES = path.join(CACHE, 'vsix');
const ENDS = [`-${process.platform}-${process.arch}.vsix`, 'probe.vsix'];
const EXTENSIONS = fs.readdirSync(PACKAGES).filter((name) => ENDS.some((end) => name.endsWith(end))).map((name) => path.join(PACKAGES, name));
const LIST = '.quick-input-widget';

const tests = {};

tests['ghost text appears after typing, and Tab accepts what was shown'] = async (editor) => {
  await editor.show('python/typed.py', SHELVES.replace('for shelf in ', ''));
  await type(editor, 'for shelf in');
  const { shown, before, after } = await accept(editor, 'Tab');
  assert.equal(after.text, insert(before, shown));
  await until('the acceptance in the figures', async () => /accepted: [1-9]/.test(await tooltip(editor)));
  if (options.picture) {
    await picture(editor);
  }
};

tests['a word is accepted, then the rest of the line, then the rest'] = async (editor) => {
  const place = 'class Larder:\n    def add(self, item: Item) -> None:\n        known = |\n';
  await editor.show('python/parts.py', place);
  const whole = await shownAt(editor);
  const start = await editor.document();
  await editor.page.keyboard.press('Control+ArrowRight');
  const word = await changed(editor, start);
  const taken = word.text.slice(start.at, word.at);
  assert.ok(whole.startsWith(taken) && taken.length > 0 && taken.length < whole.length, `${taken} of ${whole}`);
  const rest = await editor.settled();
  assert.ok(rest, 'the rest is still shown');
  await editor.page.keyboard.press('Control+Alt+ArrowRight');
  const line = await changed(editor, word);
  const takenLine = line.text.slice(word.at, line.at);
  assert.ok(rest.startsWith(takenLine), `${takenLine} of ${rest}`);
};

tests['several suggestions come on request'] = async (editor) => {
  for (const place of ['import |\n', 'class Box:\n    def |\n', 'def consume(shelf, name):\n    |\n']) {
    await editor.show('python/several.py', place);
    await editor.command('editor.action.inlineSuggest.trigger');
    const first = await until('a suggestion', () => editor.settled(1500), 6000).catch(() => '');
    await editor.command('editor.action.inlineSuggest.showNext');
    await sleep(400);
    const second = await editor.settled(1000);
    if (first && second && first !== second) {
      return;
    }
  }
  assert.fail('never more than one');
};

tests['what was broken is repaired by a quick fix'] = async (editor) => {
  await editor.show('python/broken.py', 'def total(amounts:|\n    return sum(amounts)\n');
  await sleep(1200);
  await menu(editor, 'editor.action.quickFix', /nestling: .*parses/);
  await editor.page.locator(`${MENU} .monaco-list-row`, { hasText: /nestling: .*parses/ }).first().click();
  await until('a text that Python takes', async () => parses((await editor.document()).text));
};

tests['a slow piece of Python is rewritten'] = async (editor) => {
  const slow = 'def vowels(text: str) -> int:\n    count = 0\n    for letter in text:\n        if| letter in ("a", "e", "i", "o", "u"):\n            count += 1\n    return count\n';
  await editor.show('python/slow.py', slow);
  await sleep(1200);
  await menu(editor, 'editor.action.refactor', /nestling: Look it up in a set/);
  await editor.choose(MENU, /nestling: Look it up in a set/);
  await until('a set', async () => (await editor.document()).text.includes('in {"a", "e", "i", "o", "u"}:'));
};

tests['a rewrite is proven with progress, and applied when that is chosen'] = async (editor) => {
  const slow = 'def common(words: list[str]) -> int:\n    count = 0\n    for word in words:\n        if| word in ("the", "a", "an", "of", "to"):\n            count += 1\n    return count\n';
  await editor.show('python/proven.py', slow);
  await sleep(1200);
  await editor.command('nestling.proveRewrite');
  const said = await until('the evidence', async () => (await editor.messages()).find((m) => /Look it up in a set: /.test(m)), 180_000);
  assert.match(said, /same results|nothing|not/);
  const apply = editor.page.locator('.notifications-toasts .monaco-button', { hasText: 'Apply' });
  if (await apply.count()) {
    await apply.first().click();
    await until('a set', async () => (await editor.document()).text.includes('in {"the", '));
  }
  await editor.clearMessages();
};

tests['a repair is previewed before it is applied'] = async (editor) => {
  await editor.show('python/previewed.py', 'def mean(amounts:|\n    return sum(amounts) / len(amounts)\n');
  await sleep(1200);
  const { text } = await editor.document();
  await menu(editor, 'nestling.previewRepairs', 'parses', LIST);
  await editor.choose(LIST, 'parses');
  const texts = () => editor.vs((vscode) => Object.fromEntries(vscode.workspace.textDocuments.map((d) => [d.uri.scheme, d.getText()])));
  const after = await until('the difference', async () => (await texts())['nestling-preview']);
  await editor.page.locator('.diffEditor, .monaco-diff-editor').first().waitFor();
  assert.ok(parses(after) && !parses(text));
  assert.equal((await texts()).file, text);
  await editor.page.locator('.notifications-toasts .monaco-button', { hasText: 'Apply' }).first().click();
  await until('a text that Python takes', async () => parses((await editor.document()).text));
};

tests['the status item says why nothing was shown'] = async (editor) => {
  await editor.show('python/quiet.py', 'zqx = "qqzzq|\n');
  await type(editor, ' wvvq zz');
  const said = await until('a reason', async () => /nothing shown: (?!.*\(in ).+/.exec(await editor.said())?.[0]);
  assert.match(said, /nothing shown: (the|it|no)/);
  console.log(`     ${said}`);
};

tests['a language is switched off and on, and a snooze is silent'] = async (editor) => {
  await editor.show('python/off.py', SHELVES);
  await editor.command('nestling.toggleLanguage');
  await until('off', async () => /python is switched off/.test(await editor.said()));
  await type(editor, 'shel');
  assert.equal(await editor.settled(), '');
  await editor.command('nestling.toggleLanguage');
  await editor.ready();
  await editor.command('nestling.snooze', 5);
  await until('snoozed', async () => /snoozed until/.test(await editor.said()));
  await editor.command('editor.action.inlineSuggest.trigger');
  assert.equal(await editor.settled(), '');
  await editor.command('nestling.wake');
  await editor.ready();
  await editor.set('nestling.languages', undefined);
};

tests['the menu of the status item'] = async (editor) => {
  await editor.show('python/menu.py', 'x = 1|\n');
  await editor.page.locator('.statusbar-item', { hasText: 'nestling' }).last().click();
  for (const entry of ['Switch off for python', 'Snooze for 30 minutes', 'Choose the model', 'Fine-tune']) {
    await editor.page.locator(`${LIST} .monaco-list-row`, { hasText: entry }).first().waitFor({ timeout: 5000 });
  }
  await editor.page.keyboard.press('Escape');
  await editor.command('nestling.chooseModel');
  await editor.page.locator(`${LIST} .monaco-list-row`, { hasText: 'inside the program' }).first().waitFor({ timeout: 8000 });
  await editor.page.keyboard.press('Escape');
};

tests['a workspace is trusted after a question, and not any more'] = async (editor) => {
  await editor.show('python/trust.py', 'x = 1|\n');
  await editor.command('nestling.trust');
  await editor.page.locator('.monaco-dialog-box .monaco-button', { hasText: 'Trust' }).first().click({ timeout: 8000 });
  await until('the word', async () => (await editor.messages()).some((m) => /pantry is trusted/.test(m)));
  await editor.clearMessages();
  await editor.command('nestling.withdrawTrust');
  await until('the word', async () => (await editor.messages()).some((m) => /pantry is not trusted/.test(m)));
  await editor.clearMessages();
};

for (const [name, [file, place, extra]] of Object.entries({
  'an unsaved text': ['', 'def shelves_of(pantry):\n    for shelf in |\n', { language: 'python' }],
  'lines that end in CR LF': ['python/crlf.py', 'from pantry.items import Item\r\n\r\ndef shelves_of(pantry):\r\n    for shelf in |\r\n', {}],
  'emoji before the cursor': ['python/emoji.py', 'chick = "🐣🐥"; known = |\n', {}],
  'tabs': ['python/tabs.py', 'def shelves_of(pantry):\n\tif pantry:\n\t\tfor shelf in |\n', {}],
})) {
  tests[`${name}: what is accepted is what was shown`] = async (editor) => {
    await editor.show(file, place, extra);
    const { shown, before, after } = await accept(editor, 'Tab', true);
    const end = before.text.includes('\r\n') ? '\r\n' : '\n';
    const [got, wanted] = [after.text, insert(before, shown.replaceAll('\n', end))];
    // Tabs are drawn as spaces.
    const plain = (text) => (name === 'tabs' ? text.replace(/[\t ]+/g, ' ') : text);
    assert.equal(plain(got), plain(wanted));
    assert.ok(end === '\n' || !/[^\r]\n/.test(got), 'all lines end the same');
  };
}

tests['parts that are taken are told to the server'] = async (editor) => {
  const record = path.join(editor.folder, 'record.jsonl');
  await withProgram(editor, path.join(HERE, 'recorder.py'), async () => {
    await editor.ready();
    await editor.show('python/told.py', 'mean = |\n');
    await until('the script', async () => {
      if ((await editor.ghost()) === '') {
        await editor.command('editor.action.inlineSuggest.trigger');
      }
      return (await editor.settled()) === 'total / count';
    });
    await editor.page.keyboard.press('Control+ArrowRight');
    const sent = (method) => lines(record).filter((message) => message.method === method);
    const parts = await until('the parts', () => {
      const found = sent('textDocument/didPartiallyAcceptCompletion');
      return found.length > 0 && found;
    });
    const [{ params }] = parts;
    assert.equal(params.item.insertText, 'total / count');
    assert.equal(params.item.command.command, 'nestling.accepted');
    assert.equal((await editor.document()).text, `mean = ${params.item.insertText.slice(0, params.acceptedLength)}\n`);
    await until('the focus', () => sent('textDocument/didFocus').some(({ params }) => params.textDocument?.uri.endsWith('told.py')));
  });
};

tests[`typing through suggestions at 8 keys a second, ${LOOPS} times, loses and doubles nothing`] = async (editor) => {
  const quiet = { 'editor.autoClosingBrackets': 'never', 'editor.autoClosingQuotes': 'never', 'editor.autoIndent': 'none', 'editor.trimAutoWhitespace': false };
  for (const [name, value] of Object.entries(quiet)) {
    await editor.set(name, value);
  }
  const texts = ['for shelf in shelves:', 'known = self.items.get(item.name)', 'return self.best_before < today', 'amounts[item.name] += item.amount', 'if known is None:'];
  await editor.show('python/fast.py', 'from pantry.items import Item, Shelf\n\n|');
  await editor.page.evaluate(() => (window.nestlingTest.state.swallow = true));
  let accepted = 0;
  await editor.ready();
  // The program of the test before may still be going.
  const used = await until('the program itself', () => Promise.resolve().then(() => processorTime(editor)).catch(() => false));
  for (let loop = 0; loop < LOOPS; loop++) {
    const text = texts[loop % texts.length];
    const before = await editor.document();
    assert.equal(before.at, before.text.length, 'the cursor is at the end');
    await editor.page.evaluate(() => (window.nestlingTest.state.keys = []));
    await editor.vs(() => void (globalThis.probe.changes.length = 0));
    // Between the keys, at the same pace, acceptances of all or of a word; without ghost text the page drops them.
    const keys = [...text.slice(0, 11)].flatMap((key, i) => (i % 4 === 3 ? [key, (loop + i) % 3 ? 'Control+ArrowRight' : 'Tab'] : [key]));
    keys.push(...'  ok');
    let next = Date.now();
    for (const key of keys) {
      await editor.page.keyboard.press(key === ' ' ? 'Space' : key);
      next += 125;
      await sleep(Math.max(0, next - Date.now()));
    }
    await editor.page.keyboard.press('Escape');
    const after = await until('the last key', async () => {
      const now = await editor.document();
      return now.text.endsWith('ok') && now;
    });
    const pressed = await editor.page.evaluate(() => window.nestlingTest.state.keys);
    const changes = await editor.vs(() => globalThis.probe.changes);
    const wanted = fold(before.text, pressed, changes);
    accepted += wanted.accepted;
    assert.equal(after.text, wanted.text, `loop ${loop}: ${JSON.stringify(pressed)}`);
    await editor.page.keyboard.press('Enter');
    await until('the new line', async () => (await editor.document()).text === `${after.text}\n`);
  }
  await editor.page.evaluate(() => (window.nestlingTest.state.swallow = false));
  const typing = used();
  await editor.page.keyboard.press('Escape');
  await sleep(5000);
  const idle = processorTime(editor);
  await sleep(20_000);
  console.log(`     ${accepted} acceptances; the server takes ${typing.toFixed(3)} s of processor time in a second of typing, ${idle().toFixed(4)} in one of rest`);
  assert.ok(accepted > LOOPS / 10, 'something was accepted');
  for (const name of Object.keys(quiet)) {
    await editor.set(name, undefined);
  }
};

tests['from a key to ghost text on the screen'] = async (editor) => {
  const lines = fs.readFileSync(path.join(ROOT, 'tests/data/projects/python/pantry/shopping.py'), 'utf8').split('\n').filter((line) => line.trim().length > 12);
  await editor.show('python/timed.py', 'from pantry.items import Item, Shelf\n\n\ndef weekly(shelves, needs):\n    |');
  await editor.page.evaluate(() => (window.nestlingTest.state.latencies = []));
  const times = () => editor.page.evaluate(() => window.nestlingTest.state.latencies);
  for (let i = 0; i < 75 && (await times()).length < 25; i++) {
    const known = (await times()).length;
    for (const key of lines[i % lines.length].trim()) {
      await editor.page.keyboard.press(key === ' ' ? 'Space' : key);
      await sleep(150);
      // What follows would be typed along with what is shown.
      if ((await times()).length > known) {
        break;
      }
    }
    await editor.page.keyboard.press('Escape');
    await editor.page.keyboard.press('Enter');
  }
  const sorted = (await times()).sort((a, b) => a - b);
  assert.ok(sorted.length >= 20, `${sorted.length} times`);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)].toFixed(0);
  console.log(`     ${sorted.length} times: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms (VS Code waits some 50 of them)`);
};

tests['a fine-tune shows its progress, and can be cancelled'] = async (editor) => {
  await editor.show('python/learn.py', 'x = 1|\n');
  await editor.command('nestling.startFinetune');
  await editor.choose(LIST, '10 minutes');
  await until('that there is too little', async () => (await editor.messages()).some((m) => /at least 30 KB are needed/.test(m)), 30_000);
  await editor.clearMessages();
  fs.cpSync(path.join(ROOT, 'src/server'), path.join(editor.workspace, 'server'), { recursive: true });
  editor.git('add', '.');
  editor.git('commit', '-qm', 'more to learn from');
  await editor.command('nestling.startFinetune');
  await editor.choose(LIST, '10 minutes');
  const cancel = editor.page.locator('.notifications-toasts .monaco-button', { hasText: 'Cancel' });
  await cancel.waitFor({ timeout: 20_000 });
  await until('progress', async () => (await editor.messages()).some((m) => /nestling: fine-tuning: (?!starting)./.test(m)), 120_000);
  console.log(`     ${await editor.messages()}`);
  await cancel.click();
  await until('the end', async () => (await editor.messages()).some((m) => /was stopped and can go on/.test(m)), 30_000);
  await editor.clearMessages();
};

Object.assign(tests, troubles);

tests['a workspace in restricted mode gets suggestions, and names no program and no command'] = async () => {
  const other = fs.mkdtempSync(path.join(os.tmpdir(), 'nestling-vscode-'));
  const editor = await Editor.open(other, EXTENSIONS, { isTrusted: false });
  try {
    fs.mkdirSync(path.join(editor.workspace, '.vscode'));
    const wishes = { 'nestling.path': '/bin/false', 'nestling.check': 'false', 'nestling.maxItems': 5 };
    fs.writeFileSync(path.join(editor.workspace, '.vscode/settings.json'), JSON.stringify(wishes));
    const read = () => editor.vs((vscode) => ['maxItems', 'path', 'check'].map((name) => vscode.workspace.getConfiguration('nestling').get(name)));
    await until('the harmless one', async () => (await read())[0] === 5);
    assert.deepEqual(await read(), [5, '', '']);
    await editor.ready();
    await editor.show('python/restricted.py', SHELVES);
    assert.ok(await shownAt(editor));
    await editor.command('nestling.trust');
    await until('the refusal', async () => (await editor.messages()).some((m) => /does not trust this workspace yet/.test(m)));
  } finally {
    await editor.close();
    fs.rmSync(other, { recursive: true, force: true, maxRetries: 5 });
  }
};

async function picture(editor) {
  await editor.page.setViewportSize({ width: 1100, height: 520 });
  await editor.show('python/pantry/shopping.py', fs.readFileSync(path.join(ROOT, 'tests/data/projects/python/pantry/shopping.py'), 'utf8') + '\n\ndef total_of(shelves: list[Shelf], unit: str) -> float:\n    total = 0.0\n    for |\n');
  await type(editor, 'shelf in');
  await shownAt(editor);
  assert.match((await editor.document()).text, /\n {4}for shelf in\n$/);
  await editor.page.mouse.move(700, 300);
  await sleep(300);
  const file = path.join(ROOT, 'editors/vscode/media/ghost-text.png');
  await editor.page.locator('.editor-group-container').first().screenshot({ path: file });
  await editor.page.setViewportSize({ width: 1100, height: 700 });
  console.log(`     ${path.relative(ROOT, file)}: ${(fs.statSync(file).size / 1024).toFixed(0)} KB`);
}

const begin = Date.now();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'nestling-vscode-'));
let editor;
let [passed, failed] = [0, 0];
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await editor?.close();
    process.exit(130);
  });
}
try {
  const record = { RECORDER_PROGRAM: path.join(HERE, '../scripted_server.py'), RECORDER_FILE: path.join(folder, 'record.jsonl') };
  editor = await Editor.open(folder, EXTENSIONS, { environment: record });
  await editor.ready();
  console.log(`VS Code is ready after ${((Date.now() - begin) / 1000).toFixed(1)} s`);
  for (const [name, run] of Object.entries(tests)) {
    if (options.only && !name.includes(options.only)) {
      continue;
    }
    const start = Date.now();
    try {
      await run(editor);
      passed++;
      console.log(`ok   ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed++;
      console.log(`FAIL ${name}\n${error.stack}`);
      await editor.page.screenshot({ path: path.join(CACHE, `failed-${failed}.png`) });
      await editor.page.keyboard.press('Escape');
    }
  }
} catch (error) {
  failed++;
  console.log(`FAIL to start\n${error.stack}`);
  await editor?.page?.screenshot({ path: path.join(CACHE, 'failed-start.png') });
} finally {
  await editor?.close();
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
console.log(`${((Date.now() - begin) / 1000).toFixed(0)} s: ${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
