// Finds the `nestling` program and makes sure that it can be used.
// The order: the setting, inside the extension, PATH, the folder of `cargo install`.

import { execFile } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { compareVersions, OLDEST, readVersion } from './version';

const run = promisify(execFile);
/** A program that does not even say its version in this time is not one of ours. */
const VERSION_TIME_MS = 10_000;
const FILE = process.platform === 'win32' ? 'nestling.exe' : 'nestling';

export interface Program {
  path: string;
  version: string;
}

/** Why there is none, in a sentence that says what to do about it. */
export class NoProgram extends Error {}

/** Where to look. */
export interface Places {
  /** The setting `nestling.path`; empty if it is not set. */
  setting: string;
  extension: string;
  searchPath?: string;
  home?: string;
}

/** The program to start. Rejects with {@link NoProgram}. */
export async function findProgram(places: Places): Promise<Program> {
  const file = await locate(places);
  const version = await versionOf(file);
  if (compareVersions(version, OLDEST) < 0) {
    throw new NoProgram(
      `${file} is nestling ${version}; this extension needs ${OLDEST} or newer. Install it anew (cargo install --path .) or name another one in nestling.path.`,
    );
  }
  return { path: file, version };
}

async function locate(places: Places): Promise<string> {
  const home = places.home ?? homedir();
  if (places.setting) {
    const named = places.setting.replace(/^~(?=[/\\])/, home);
    if (await isProgram(named)) {
      return named;
    }
    throw new NoProgram(`There is no program at ${named}, which the setting nestling.path names.`);
  }
  const folders = (places.searchPath ?? process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  const candidates = [
    path.join(places.extension, 'bin', FILE),
    ...folders.map((folder) => path.join(folder, FILE)),
    path.join(home, '.cargo', 'bin', FILE),
  ];
  for (const candidate of candidates) {
    if (await isProgram(candidate)) {
      return candidate;
    }
  }
  throw new NoProgram(
    'The nestling program was not found: it is not in this extension, not on PATH and not in ~/.cargo/bin. Install it (cargo install --path . in its repository) or name it in nestling.path.',
  );
}

async function isProgram(file: string): Promise<boolean> {
  try {
    await access(file, process.platform === 'win32' ? constants.F_OK : constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}

async function versionOf(file: string): Promise<string> {
  let printed: string;
  try {
    printed = (await run(file, ['--version'], { timeout: VERSION_TIME_MS })).stdout;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new NoProgram(`${file} cannot be run: ${reason}`);
  }
  const version = readVersion(printed);
  if (version === undefined) {
    throw new NoProgram(`${file} is not nestling: --version prints “${printed.trim().slice(0, 80)}”.`);
  }
  return version;
}
