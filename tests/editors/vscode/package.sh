#!/usr/bin/env bash
# Checks, tests, builds and packages editors/vscode with the program in NESTLING_BIN (target/release/nestling), and the probe.
# The packages lie in .cache/vsix afterwards; what is needed for that is installed first.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=$here/.cache
"$here/setup.sh" "$cache"
export PATH=$cache/bin:$PATH
export NESTLING_BIN=${NESTLING_BIN:-$root/target/release/nestling}
[ -x "$NESTLING_BIN" ] || { echo "package.sh: $NESTLING_BIN is not there; build it or name it in NESTLING_BIN" >&2; exit 2; }

cd "$root/editors/vscode"
npm run -s check
npm run -s test >"$cache/unit.log" 2>&1 || { cat "$cache/unit.log"; exit 1; }
npm run -s build
rm -rf "$cache/vsix"
node scripts/package.mjs --binary "$NESTLING_BIN" --out "$cache/vsix"
(cd "$here/probe" && node "$root/editors/vscode/node_modules/@vscode/vsce/vsce" package --no-dependencies \
  --allow-missing-repository --skip-license -o "$cache/vsix/probe.vsix" >/dev/null)
