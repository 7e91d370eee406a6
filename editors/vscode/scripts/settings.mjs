// Writes the settings into package.json: the server's own ones, as `nestling settings --json` prints them, and the few of
// settings.client.json. With --check nothing is written, and a difference is an error. NESTLING_BIN names the program.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** More would not be read. */
const MOST = 20;
/** Set by the extension itself. */
const HIDDEN = ['nestling.statusNotifications', 'nestling.trusted'];

const at = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const read = (name) => JSON.parse(readFileSync(at(name), 'utf8'));

const program = process.env.NESTLING_BIN ?? at('../../target/release/nestling');
let printed;
try {
  printed = execFileSync(program, ['settings', '--json'], { encoding: 'utf8' });
} catch (error) {
  console.error(`settings: ${program} settings --json failed: ${error.message.split('\n')[0]}`);
  process.exit(2);
}
const server = JSON.parse(printed).properties;
for (const name of HIDDEN) {
  delete server[name];
}
const clientOnly = read('settings.client.json');
const double = Object.keys(clientOnly).filter((name) => name in server);
if (double.length > 0) {
  console.error(`settings: both the server and the extension have ${double.join(', ')}`);
  process.exit(2);
}
const properties = { ...server, ...clientOnly };
const count = Object.keys(properties).length;
if (count > MOST) {
  console.error(`settings: there are ${count}, and ${MOST} is the limit`);
  process.exit(2);
}
const manifest = read('package.json');
manifest.contributes.configuration.properties = properties;
const now = readFileSync(at('package.json'), 'utf8');
const wanted = `${JSON.stringify(manifest, null, 2)}\n`;
if (now === wanted) {
  console.log(`settings: ${count}, as they should be`);
} else if (process.argv.includes('--check')) {
  console.error('settings: package.json differs from what the program says; run npm run settings');
  process.exit(1);
} else {
  writeFileSync(at('package.json'), wanted);
  console.log(`settings: ${count} written into package.json`);
}
