// What goes into a package: for which platform a program is, and what is refused before anything is packed.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { HEAD, platformsOf, TARGETS } from '../scripts/platforms.mjs';

const root = mkdtempSync(path.join(tmpdir(), 'nestling-package-'));
after(() => rmSync(root, { recursive: true }));

/** The beginning of a program; each part is an offset and the bytes there, in hexadecimal. */
function head(parts) {
  const bytes = Buffer.alloc(512);
  for (const [at, hex] of Object.entries(parts)) {
    bytes.write(hex, Number(at), 'hex');
  }
  return bytes;
}

const HEADS = {
  'linux-x64': head({ 0: '7f454c460201', 18: '3e00' }),
  'linux-arm64': head({ 0: '7f454c460201', 18: 'b700' }),
  'darwin-x64': head({ 0: 'cffaedfe07000001' }),
  'darwin-arm64': head({ 0: 'cffaedfe0c000001' }),
  'win32-x64': head({ 0: '4d5a', 60: '80000000', 128: '504500006486' }),
  'win32-arm64': head({ 0: '4d5a', 60: '80000000', 128: '5045000064aa' }),
};

test('a program is for the platform that its first bytes say', () => {
  assert.deepEqual(Object.keys(HEADS), TARGETS);
  for (const [target, bytes] of Object.entries(HEADS)) {
    assert.deepEqual(platformsOf(bytes), [target]);
  }
  const universal = head({ 0: 'cafebabe00000002', 8: '01000007', 28: '0100000c' });
  assert.deepEqual(platformsOf(universal), ['darwin-x64', 'darwin-arm64']);
});

test('what is no such program is for none', () => {
  const others = [
    Buffer.from('#!/bin/sh\nexec other\n'),
    Buffer.alloc(0),
    head({ 0: '7f454c460101', 18: '0300' }), // 32 bits
    head({ 0: 'cafebabe00000041' }), // a class of Java
    head({ 0: '4d5a', 60: 'ffffff7f' }), // of DOS
    head({ 0: 'cafebabe00000027' }).subarray(0, 64), // cut off
  ];
  for (const bytes of others) {
    assert.deepEqual(platformsOf(Buffer.concat([bytes], Math.min(bytes.length, HEAD))), []);
  }
});

function refusal(...args) {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/package.mjs', '--out', root, ...args], { encoding: 'utf8' });
  assert.equal(status, 2, stderr);
  assert.deepEqual(readdirSync(root).filter((name) => name.endsWith('.vsix')), []);
  return stderr.trim();
}

test('the wrong program is refused with both platforms, and nothing is packed', () => {
  const mac = path.join(root, 'mac');
  writeFileSync(mac, HEADS['darwin-arm64']);
  assert.match(refusal('--target', 'linux-x64', '--binary', mac), /mac is a program for darwin-arm64, not for linux-x64/);
  writeFileSync(path.join(root, 'text'), 'hello');
  assert.match(refusal('--target', 'win32-x64', '--binary', path.join(root, 'text')), /is no program for any/);
  assert.match(refusal('--target', 'linux-x64', '--binary', path.join(root, 'none')), /none is not there: build it/);
  assert.match(refusal('--target', 'beos-x64', '--binary', mac), /no package for beos-x64; the platforms are linux-x64, /);
  assert.match(refusal('--targt', 'linux-x64'), /--targt/);
});

test('a folder of programs is checked as a whole', () => {
  const all = path.join(root, 'all');
  assert.match(refusal('--all', all), /all holds nothing: .*linux-x64/);
  for (const [target, file, bytes] of [['linux-x64', 'nestling', HEADS['linux-x64']], ['win32-x64', 'nestling.exe', HEADS['win32-arm64']]]) {
    mkdirSync(path.join(all, target), { recursive: true });
    writeFileSync(path.join(all, target, file), bytes);
  }
  assert.match(refusal('--all', all), /nestling\.exe is a program for win32-arm64, not for win32-x64/);
  assert.match(refusal('--all', all, '--target', 'linux-x64'), /exclude each other/);
});
