// The platforms that there are packages for, and for which of them a program is made, by its first bytes.

/** What a program for each platform is: its format, and the machine in the format's own numbers. */
const PLATFORMS = {
  'linux-x64': 'ELF 62',
  'linux-arm64': 'ELF 183',
  'darwin-x64': 'Mach-O 0x1000007',
  'darwin-arm64': 'Mach-O 0x100000c',
  'win32-x64': 'PE 0x8664',
  'win32-arm64': 'PE 0xaa64',
};

export const TARGETS = Object.keys(PLATFORMS);

/** So many bytes of a program are enough for {@link platformsOf}. */
export const HEAD = 4096;

/** The name of the program's file on a platform. */
export function fileOf(target) {
  return target.startsWith('win32') ? 'nestling.exe' : 'nestling';
}

/** The platforms that a program with these first bytes is made for: none, one, or several if it is universal. */
export function platformsOf(head) {
  const found = machines(head);
  return TARGETS.filter((target) => found.includes(PLATFORMS[target]));
}

function machines(head) {
  const magic = head.length < 64 ? 0 : head.readUInt32BE(0);
  const hex = (number) => `0x${number.toString(16)}`;
  // 64 bits, little-endian
  if (magic === 0x7f454c46 && head[4] === 2 && head[5] === 1) {
    return [`ELF ${head.readUInt16LE(18)}`];
  }
  if (magic === 0xcffaedfe) {
    return [`Mach-O ${hex(head.readUInt32LE(4))}`];
  }
  // A universal one lists what it holds, in 20 bytes each; the same first bytes on a class of Java are a version from 45 up.
  if (magic === 0xcafebabe && head.readUInt32BE(4) < 40) {
    const places = Array.from({ length: head.readUInt32BE(4) }, (_, i) => 8 + 20 * i);
    return places.filter((at) => at + 4 <= head.length).map((at) => `Mach-O ${hex(head.readUInt32BE(at))}`);
  }
  if (magic >>> 16 === 0x4d5a) {
    const at = head.readUInt32LE(60);
    const isPe = at + 6 <= head.length && head.readUInt32BE(at) === 0x50450000;
    return isPe ? [`PE ${hex(head.readUInt16LE(at + 4))}`] : [];
  }
  return [];
}
