// Tests of what may go wrong: each time the editor goes on, there is one message or none, and the status says why.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CACHE, until } from './editor.mjs';
import { insert, machine, oneMessage, restart, script, servers, SHELVES, shownAt, type, withProgram } from './helpers.mjs';

/** What brings text into the views of output. */
const SPDLOG = path.join(CACHE, 'code/node_modules/code-server/lib/vscode/node_modules/@vscode/spdlog/build/Release/spdlog.node');

export const troubles = {};

troubles['the program inside the extension runs; if it does not, another is used or it is said'] = async (editor) => {
  const extensions = path.join(editor.folder, 'extensions');
  const bin = path.join(extensions, fs.readdirSync(extensions).find((name) => name.startsWith('nestling.nestling-')), 'bin');
  const [bundled, aside, other] = [path.join(bin, 'nestling'), path.join(bin, 'aside'), path.join(editor.env.HOME, '.cargo/bin/nestling')];
  const elsewhere = [...editor.env.PATH.split(':').map((folder) => path.join(folder, 'nestling')), other];
  assert.deepEqual(elsewhere.filter((file) => fs.existsSync(file)), []);
  assert.equal(fs.statSync(bundled).mode & 0o777, 0o755);
  // As some ways of unpacking leave it.
  fs.chmodSync(bundled, 0o644);
  await restart(editor);
  await editor.ready();
  assert.equal(servers(editor).length, 1);
  fs.renameSync(bundled, aside);
  try {
    fs.writeFileSync(bundled, '#!/bin/sh\necho "version GLIBC_2.99 not found" >&2\nexit 1\n', { mode: 0o755 });
    await restart(editor);
    await oneMessage(editor, /The program inside this extension cannot be run: version GLIBC_2\.99 not found\. There is no other on PATH/);
    await editor.clearMessages();
    fs.mkdirSync(path.dirname(other), { recursive: true });
    fs.copyFileSync(aside, other);
    await restart(editor);
    await editor.ready();
    await editor.show('python/other.py', SHELVES);
    assert.ok(await shownAt(editor));
    assert.deepEqual(await editor.messages(), []);
    await editor.command('nestling.menu');
    const used = `GLIBC_2.99 not found. ${other} is used instead.`;
    await editor.page.locator('.quick-input-widget .monaco-list-row', { hasText: used }).first().waitFor({ timeout: 8000 });
    await editor.page.keyboard.press('Escape');
  } finally {
    fs.renameSync(aside, bundled);
    fs.rmSync(other, { force: true });
    await restart(editor);
    await editor.ready();
  }
};

troubles['a server that is killed comes back'] = async (editor) => {
  await editor.show('python/killed.py', SHELVES);
  // The test before may have had another program, which is being replaced.
  const ids = await until('the server', () => {
    try {
      return servers(editor);
    } catch {
      return false;
    }
  });
  await editor.ready();
  for (const id of ids) {
    process.kill(id, 'SIGKILL');
  }
  await until('the pause', async () => /starts again|starting/.test(await editor.said()), 3000);
  await editor.ready();
  assert.deepEqual(await editor.messages(), []);
  assert.ok(await shownAt(editor));
};

troubles['a program that is not there is said once'] = async (editor) => {
  await withProgram(editor, '/no/such/nestling', async () => {
    await oneMessage(editor, /There is no program at \/no\/such\/nestling/);
    await editor.show('python/missing.py', 'x = |\n');
    await type(editor, '12');
    assert.equal((await editor.document()).text, 'x = 12\n');
    assert.match(await editor.said(), /There is no program/);
  });
};

troubles['a program that is too old is said once'] = async (editor) => {
  const old = script(editor, 'old', 'echo nestling 0.0.9');
  await withProgram(editor, old, () => oneMessage(editor, /is nestling 0\.0\.9; this extension needs 0\.1\.0 or newer/));
};

troubles['a program that crashes in a loop is given up after five times'] = async (editor) => {
  const starts = path.join(editor.folder, 'starts');
  const crashing = script(editor, 'crashing', `[ "$1" = --version ] && { echo nestling 0.1.0; exit; }\ndate +%s%3N >> ${starts}\nexit 3`);
  await withProgram(editor, crashing, async () => {
    await oneMessage(editor, /stopped 5 times in a row.*exit code 3/, 60_000);
    const times = fs.readFileSync(starts, 'utf8').trim().split('\n').map(Number);
    const gaps = times.slice(1).map((time, i) => time - times[i]);
    assert.equal(times.length, 5);
    assert.ok(gaps.every((gap, i) => gap >= 500 * 2 ** i), `${gaps}`);
    await editor.show('python/crashed.py', 'y = |\n');
    await type(editor, '34');
    assert.equal((await editor.document()).text, 'y = 34\n');
  });
};

troubles['a server that never answers is waited for while the editor goes on'] = async (editor) => {
  const silent = script(editor, 'silent', '[ "$1" = --version ] && { echo nestling 0.1.0; exit; }\nexec sleep 600');
  await withProgram(editor, silent, async () => {
    await until('the start', async () => /^nestling: starting; nothing shown: the server is not running yet/.test(await editor.said()));
    await editor.show('python/silent.py', 'z = |\n');
    await type(editor, '56');
    assert.equal((await editor.document()).text, 'z = 56\n');
    assert.deepEqual(await editor.messages(), []);
  });
};

troubles['a model that does not load is said once, with its reason in the status'] = async (editor) => {
  const broken = path.join(editor.folder, 'broken.gguf');
  fs.writeFileSync(broken, 'this is no model');
  await machine(editor, { 'nestling.model': broken });
  await until('the reason', async () => /the model could not be loaded: /.test(await editor.said()), 20_000);
  await oneMessage(editor, /the model could not be loaded/);
  await machine(editor, {});
  await editor.ready();
  await editor.clearMessages();
};

troubles['on a disk that is read-only suggestions come, and nothing is said'] = async (editor) => {
  const folders = [editor.workspace, editor.env.HOME];
  await editor.show('python/readonly.py', SHELVES.replace('for shelf in ', ''));
  if (!folders.every(makeReadOnly)) {
    return console.log('     mounts are not permitted here: not looked at');
  }
  try {
    assert.throws(() => fs.writeFileSync(path.join(editor.workspace, 'new'), ''), { code: 'EROFS' });
    await restart(editor);
    await editor.ready();
    const before = await editor.document();
    await type(editor, 'for shelf in');
    assert.equal((await editor.document()).text, insert(before, 'for shelf in'));
    assert.ok(await shownAt(editor));
    console.log(`     ${await editor.said()}`);
    assert.deepEqual(await editor.messages(), []);
  } finally {
    for (const folder of folders) {
      spawnSync('umount', ['--lazy', folder]);
    }
    await restart(editor);
    await editor.ready();
  }
};

/** Makes a folder read-only for all that is started here; false where that is not permitted. */
function makeReadOnly(folder) {
  const options = [['--bind', folder, folder], ['-o', 'remount,bind,ro', folder]];
  return options.every((args) => spawnSync('mount', args).status === 0);
}

troubles['a view of differences: the file in it is completed, the older version is left alone'] = async (editor) => {
  await editor.show('python/differs.py', SHELVES.replace('for shelf in ', ''));
  editor.git('add', '.');
  editor.git('commit', '-qm', 'differs');
  await editor.vs(async (vscode, file) => {
    const now = vscode.Uri.file(file);
    const before = now.with({ scheme: 'git', query: JSON.stringify({ path: file, ref: 'HEAD' }) });
    await vscode.commands.executeCommand('vscode.diff', before, now);
    const { document } = vscode.window.activeTextEditor;
    const place = document.lineAt(5).range.end;
    vscode.window.activeTextEditor.selection = new vscode.Selection(place, place);
  }, path.join(editor.workspace, 'python/differs.py'));
  await editor.command('workbench.action.compareEditor.focusPrimarySide');
  await sleep(300);
  await type(editor, 'for shelf in');
  assert.match((await editor.document()).text, /\n {4}for shelf in\n$/);
  assert.ok(await shownAt(editor));
  await editor.page.keyboard.press('Escape');
  await editor.command('workbench.action.compareEditor.focusSecondarySide');
  await until('the reason', async () => /nothing shown: this is a view of another version, not a file/.test(await editor.said()));
  await editor.command('editor.action.inlineSuggest.trigger');
  assert.equal(await editor.settled(), '');
  assert.deepEqual(await editor.messages(), []);
};

troubles['the output view has the log, and is left alone'] = async (editor) => {
  await editor.command('nestling.doctor');
  const view = editor.page.locator('.output-view .view-lines').first();
  if (fs.existsSync(SPDLOG)) {
    await until('the log', async () => /doctor|model/.test(await view.innerText()), 10_000);
    console.log(`     ${(await view.innerText()).replace(/\s+/g, ' ').slice(0, 120)}…`);
  } else {
    console.log('     without spdlog, which was not built: the view is not looked at');
  }
  await editor.command('workbench.action.output.focus');
  await sleep(500);
  assert.doesNotMatch(await editor.said(), /error|stopped/);
  await editor.command('workbench.action.closePanel');
};

troubles['a file of 50,000 lines is typed into'] = async (editor) => {
  const half = 'def filler(x):\n    return x + 1\n\n\n'.repeat(6250);
  await editor.show('python/long.py', `${half}${SHELVES.replace('for shelf in ', '')}${half}`);
  // So long a text is on its way to the page for a while, and the cursor behind it.
  await sleep(3000);
  const before = await editor.document();
  const start = Date.now();
  await type(editor, 'for shelf in');
  await until('all keys', async () => (await editor.document()).text === insert(before, 'for shelf in'));
  assert.ok(Date.now() - start < 5000, 'the editor is not blocked');
  assert.ok(await shownAt(editor));
};
