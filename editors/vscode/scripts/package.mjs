// Makes the .vsix: `npm run package` for this platform with the program inside, and one without it for all platforms.
// Options: --target PLATFORM and --binary PATH (another platform, another program), --all FOLDER (a package for each
// FOLDER/PLATFORM/nestling[.exe]), --without-binary (only the one for all platforms), --out FOLDER.

import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, copyFileSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fileOf, HEAD, platformsOf, TARGETS } from './platforms.mjs';

/** What the one without the program may weigh, in bytes. */
const MOST = 500 * 1024;

const root = fileURLToPath(new URL('..', import.meta.url));
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const bin = path.join(root, 'bin');
/** Where cargo builds. */
const built = process.env.CARGO_TARGET_DIR ?? path.join(root, '../../target');

function fail(text) {
  console.error(`package: ${text}`);
  process.exit(2);
}

function options() {
  const names = { target: 'string', binary: 'string', all: 'string', out: 'string', 'without-binary': 'boolean' };
  try {
    return parseArgs({ options: Object.fromEntries(Object.entries(names).map(([name, type]) => [name, { type }])) }).values;
  } catch (error) {
    return fail(error.message);
  }
}

/** A path as it was meant where npm was called. */
function resolve(file) {
  return path.resolve(process.env.INIT_CWD ?? '.', file);
}

/** The programs to pack, by platform. */
function wanted({ target, binary, all, 'without-binary': without }) {
  const given = [target, binary].some((value) => value !== undefined);
  if ([given, all !== undefined, without].filter(Boolean).length > 1) {
    fail('--target and --binary, --all, and --without-binary exclude each other');
  }
  if (without) {
    return {};
  }
  if (all === undefined) {
    const platform = target ?? `${process.platform}-${process.arch}`;
    return { [platform]: binary ? resolve(binary) : path.join(built, 'release', fileOf(platform)) };
  }
  const folder = resolve(all);
  const names = existsSync(folder) ? readdirSync(folder) : [];
  if (names.length === 0) {
    fail(`${folder} holds nothing: it must have a folder with the program for each platform (${TARGETS.join(', ')})`);
  }
  return Object.fromEntries(names.map((name) => [name, path.join(folder, name, fileOf(name))]));
}

/** Ends with the reason if a program is not what belongs into the package of a platform. */
function check(target, binary) {
  if (!TARGETS.includes(target)) {
    fail(`there is no package for ${target}; the platforms are ${TARGETS.join(', ')}`);
  }
  if (!existsSync(binary)) {
    fail(`${binary} is not there: build it (cargo build --release) or name another with --binary`);
  }
  const head = Buffer.alloc(HEAD);
  const file = openSync(binary);
  const length = readSync(file, head);
  closeSync(file);
  const platforms = platformsOf(head.subarray(0, length));
  if (!platforms.includes(target)) {
    const is = platforms.length > 0 ? `a program for ${platforms.join(' and ')}` : 'no program for any of the platforms';
    fail(`${binary} is ${is}, not for ${target}: build it for that one, or name the right one with --binary`);
  }
}

/** Packs what lies there now. */
function pack(name, ...args) {
  const file = path.join(out, name);
  const vsce = path.join(root, 'node_modules', '@vscode', 'vsce', 'vsce');
  const options = ['package', '--no-dependencies', '--allow-missing-repository', '--no-rewrite-relative-links', '-o', file];
  const { status } = spawnSync(process.execPath, [vsce, ...options, ...args], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) {
    fail(`vsce failed for ${name}`);
  }
  const { size } = statSync(file);
  console.log(`${path.relative(process.env.INIT_CWD ?? '.', file)}  ${(size / 1024).toFixed(0)} KB`);
  return size;
}

const values = options();
const out = resolve(values.out ?? '.');
const programs = Object.entries(wanted(values));
for (const [target, binary] of programs) {
  check(target, binary);
}
mkdirSync(out, { recursive: true });
rmSync(bin, { recursive: true, force: true });
const bare = pack(`nestling-${version}.vsix`);
if (bare > MOST) {
  fail(`without the program it weighs ${bare} bytes, and ${MOST} is the limit`);
}
for (const [target, binary] of programs) {
  mkdirSync(bin);
  copyFileSync(binary, path.join(bin, fileOf(target)));
  chmodSync(path.join(bin, fileOf(target)), 0o755);
  try {
    pack(`nestling-${version}-${target}.vsix`, '--target', target);
  } finally {
    rmSync(bin, { recursive: true, force: true });
  }
}
