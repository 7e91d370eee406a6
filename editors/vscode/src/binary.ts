// Finds the `nestling` program and makes sure that it can be used.
// The order: the setting, inside the extension, PATH, the folder of `cargo install`.

import { execFile, type ExecFileException } from 'node:child_process';
import { access, chmod, constants, stat } from 'node:fs/promises';
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
  /** Why it is not the one inside the extension, if there is one. */
  instead?: string;
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
  const home = places.home ?? homedir();
  if (places.setting) {
    const named = places.setting.replace(/^~(?=[/\\])/, home);
    if (await isProgram(named)) {
      return usable(named);
    }
    throw new NoProgram(`There is no program at ${named}, which the setting nestling.path names.`);
  }
  let problem = '';
  const bundled = path.join(places.extension, 'bin', FILE);
  if (await isThere(bundled, constants.F_OK)) {
    try {
      return await unpacked(bundled);
    } catch (error) {
      problem = (error as Error).message;
    }
  }
  const folders = (places.searchPath ?? process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  for (const folder of [...folders, path.join(home, '.cargo', 'bin')]) {
    const candidate = path.join(folder, FILE);
    if (await isProgram(candidate)) {
      const program = await usable(candidate);
      return problem ? { ...program, instead: `${problem} ${candidate} is used instead.` } : program;
    }
  }
  const missing = problem
    ? `${problem} There is no other on PATH or in ~/.cargo/bin.`
    : 'The nestling program was not found: it is not in this extension, not on PATH and not in ~/.cargo/bin.';
  throw new NoProgram(`${missing} Install it (cargo install --path . in its repository) or name it in nestling.path.`);
}

/** The program inside the extension, which may have lost the right to be run on its way here. */
async function unpacked(file: string): Promise<Program> {
  const name = 'The program inside this extension';
  if (!(await isProgram(file))) {
    try {
      await chmod(file, 0o755);
    } catch (error) {
      throw new NoProgram(`${name} cannot be made executable: ${(error as Error).message}.`);
    }
  }
  return usable(file, name);
}

/** A program that says a version which this extension can talk to. */
async function usable(file: string, name = file): Promise<Program> {
  let printed: string;
  try {
    printed = (await run(file, ['--version'], { timeout: VERSION_TIME_MS })).stdout;
  } catch (error) {
    throw new NoProgram(`${name} cannot be run: ${reasonOf(error as ExecFileException)}.`);
  }
  const version = readVersion(printed);
  if (version === undefined) {
    throw new NoProgram(`${name} is not nestling: --version prints “${printed.trim().slice(0, 80)}”.`);
  }
  if (compareVersions(version, OLDEST) < 0) {
    throw new NoProgram(
      `${name} is nestling ${version}; this extension needs ${OLDEST} or newer. Install it anew (cargo install --path .) or name another one in nestling.path.`,
    );
  }
  return { path: file, version };
}

/** In the program's own words, as a loader's that misses a library, if it has any. */
function reasonOf(error: ExecFileException): string {
  const said = error.stderr?.trim().split('\n')[0];
  if (said) {
    return said.replace(/\.$/, '');
  }
  if (error.killed) {
    return `it does not say its version within ${VERSION_TIME_MS / 1000} s`;
  }
  if (error.signal) {
    return `it was ended by ${error.signal}`;
  }
  return typeof error.code === 'number' ? `it ends with exit code ${error.code}` : `the system does not start it (${error.code})`;
}

async function isProgram(file: string): Promise<boolean> {
  return isThere(file, process.platform === 'win32' ? constants.F_OK : constants.X_OK);
}

async function isThere(file: string, mode: number): Promise<boolean> {
  try {
    await access(file, mode);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
