// Versions of the program: read from what `nestling --version` prints, and compared.
// No editor in here.

/** The oldest program that this extension can talk to. */
export const OLDEST = '0.1.0';

/** The version in a line such as `nestling 0.1.0`; undefined where there is none. */
export function readVersion(printed: string): string | undefined {
  return /^nestling (\d+\.\d+\.\d+(?:[-+.\w]*)?)/m.exec(printed)?.[1];
}

/** Negative where `a` is older than `b`, 0 where they are equal, positive where it is newer. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [parts(a), parts(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (left.numbers[i] ?? 0) - (right.numbers[i] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  // A pre-release comes before its release.
  return Number(left.isFinal) - Number(right.isFinal);
}

function parts(version: string): { numbers: number[]; isFinal: boolean } {
  const core = version.split('+')[0] ?? '';
  const [numbers = '', ...pre] = core.split('-');
  return { numbers: numbers.split('.').map(Number), isFinal: pre.length === 0 };
}
