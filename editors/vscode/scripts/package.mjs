// Makes the .vsix: `npm run package` for this platform with the program inside, and one without it for all platforms.
// Options: --target PLATFORM --binary PATH (another platform), --without-binary (only the one for all platforms), --out FOLDER.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const TARGETS = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64', 'win32-x64'];
/** What the one without the program may weigh, in bytes. */
const MOST = 500 * 1024;

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: `${process.platform}-${process.arch}` },
    binary: { type: 'string' },
    out: { type: 'string', default: '.' },
    'without-binary': { type: 'boolean', default: false },
  },
});
const out = path.resolve(values.out);
const root = fileURLToPath(new URL('..', import.meta.url));
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const bin = path.join(root, 'bin');

function fail(text) {
  console.error(`package: ${text}`);
  process.exit(2);
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
  console.log(`${path.relative(process.cwd(), file)}  ${(size / 1024).toFixed(0)} KB`);
  return size;
}

mkdirSync(out, { recursive: true });
rmSync(bin, { recursive: true, force: true });
const bare = pack(`nestling-${version}.vsix`);
if (bare > MOST) {
  fail(`without the program it weighs ${bare} bytes, and ${MOST} is the limit`);
}
if (!values['without-binary']) {
  if (!TARGETS.includes(values.target)) {
    fail(`there is no package for ${values.target}; the platforms are ${TARGETS.join(', ')}`);
  }
  const isWindows = values.target.startsWith('win32');
  const file = isWindows ? 'nestling.exe' : 'nestling';
  const binary = values.binary ?? path.join(root, '..', '..', 'target', 'release', file);
  if (!existsSync(binary)) {
    fail(`${binary} is not there: build it (cargo build --release) or name another with --binary`);
  }
  mkdirSync(bin);
  copyFileSync(binary, path.join(bin, file));
  chmodSync(path.join(bin, file), 0o755);
  try {
    pack(`nestling-${version}-${values.target}.vsix`, '--target', values.target);
  } finally {
    rmSync(bin, { recursive: true, force: true });
  }
}
