// Finding the program: the order of the places, and what is said where none can be used.

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
  assert.match(await refusal(failing), /failing cannot be run: it ends with exit code 3\./);
  const unknown = path.join(root, 'unknown');
  writeFileSync(unknown, '#!/no/such/loader\n', { mode: 0o755 });
  assert.match(await refusal(unknown), /unknown cannot be run: the system does not start it \(ENOENT\)\./);
});

test('the one inside the extension gets back the right to be run', options, async () => {
  chmodSync(bundled, 0o644);
  assert.equal((await findProgram(places)).path, bundled);
  assert.equal(statSync(bundled).mode & 0o777, 0o755);
});

test('where the one inside the extension does not run another is used, and both is said', options, async () => {
  const extension = path.join(root, 'foreign');
  const file = program('foreign/bin/nestling', '');
  writeFileSync(file, "#!/bin/sh\necho 'libc.so.6: version GLIBC_2.99 not found' >&2\nexit 1\n");
  const why = 'The program inside this extension cannot be run: libc.so.6: version GLIBC_2.99 not found.';
  assert.deepEqual(await findProgram({ ...places, extension }), { path: onPath, version: '0.2.0', instead: `${why} ${onPath} is used instead.` });
  await assert.rejects(findProgram({ setting: '', extension, searchPath: '', home: root }), (error: Error) => {
    assert.ok(error instanceof NoProgram && error.message.startsWith(`${why} There is no other on PATH or in`), error.message);
    return true;
  });
});

test('where there is none at all the way out is said', options, async () => {
  const nowhere = { setting: '', extension: root, searchPath: '', home: root };
  await assert.rejects(findProgram(nowhere), /not found.*cargo install.*nestling\.path/);
});
