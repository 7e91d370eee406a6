// Finding the program: the order of the places, and what is said where none can be used.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { findProgram, NoProgram } from '../src/binary';

const root = mkdtempSync(path.join(tmpdir(), 'nestling-binary-'));
after(() => rmSync(root, { recursive: true }));
// The programs of these tests are scripts of a shell.
const options = { skip: process.platform === 'win32' };

/** A folder with a program that prints a line. */
function program(name: string, prints: string, mode = 0o755): string {
  const file = path.join(root, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\necho '${prints}'\n`, { mode });
  return file;
}

const setting = program('set/other', 'nestling 0.9.1');
const bundled = program('extension/bin/nestling', 'nestling 0.1.0');
const onPath = program('path/nestling', 'nestling 0.2.0');
const cargo = program('home/.cargo/bin/nestling', 'nestling 0.3.0');
const places = {
  setting: '',
  extension: path.join(root, 'extension'),
  searchPath: [path.join(root, 'nowhere'), path.join(root, 'path')].join(path.delimiter),
  home: path.join(root, 'home'),
};

test('the setting comes first, then the extension, PATH and the folder of cargo', options, async () => {
  assert.deepEqual(await findProgram({ ...places, setting }), { path: setting, version: '0.9.1' });
  assert.equal((await findProgram(places)).path, bundled);
  assert.equal((await findProgram({ ...places, extension: root })).path, onPath);
  assert.equal((await findProgram({ ...places, extension: root, searchPath: '' })).path, cargo);
  assert.equal((await findProgram({ ...places, setting: '~/.cargo/bin/nestling' })).path, cargo);
});

async function refusal(setting: string): Promise<string> {
  const problem = await findProgram({ ...places, setting }).then(() => undefined, (error: Error) => error);
  assert.ok(problem instanceof NoProgram, String(problem));
  return problem.message;
}

test('a setting that names nothing is not passed over', options, async () => {
  assert.match(await refusal('/no/such'), /no program at \/no\/such.*nestling\.path/);
  assert.match(await refusal(program('plain', 'nestling 0.1.0', 0o644)), /no program at/);
});

test('what is too old, no nestling or does not run is refused with its reason', options, async () => {
  assert.match(await refusal(program('old', 'nestling 0.0.9')), /is nestling 0\.0\.9; this extension needs 0\.1\.0/);
  assert.match(await refusal(program('other', 'bird 7')), /is not nestling.*“bird 7”/);
  const failing = path.join(root, 'failing');
  writeFileSync(failing, '#!/bin/sh\nexit 3\n', { mode: 0o755 });
  assert.match(await refusal(failing), /cannot be run/);
});

test('where there is none at all the way out is said', options, async () => {
  const nowhere = { setting: '', extension: root, searchPath: '', home: root };
  await assert.rejects(findProgram(nowhere), /not found.*cargo install.*nestling\.path/);
});
