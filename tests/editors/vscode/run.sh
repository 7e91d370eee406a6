#!/usr/bin/env bash
# A real VS Code with the packaged extension: types, sees ghost text on the page, accepts it, reads the document.
#
#   tests/editors/vscode/run.sh [--only WORD] [--loops N] [--picture]
#
# Builds and packages editors/vscode with the program in NESTLING_BIN (target/release/nestling), starts code-server
# with a fresh profile on a copy of tests/data/projects, and drives Chromium. --loops is how often the test of fast
# typing types (50), --picture writes editors/vscode/media/ghost-text.png anew. Without a network where the system
# permits that. Exit code 0 or 1; the last line counts.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=$here/.cache
"$here/package.sh"
export PATH=$cache/bin:$PATH

# A network of its own, without a way out, and mounts that nobody else sees.
flags=-nm
[ "$(id -u)" = 0 ] || flags=-rnm
if command -v unshare >/dev/null && unshare $flags true 2>/dev/null; then
  exec unshare $flags sh -c 'ip link set lo up 2>/dev/null; exec node "$@"' sh "$here/run.mjs" "$@"
fi
echo "note: namespaces are not permitted here, the network stays reachable"
exec node "$here/run.mjs" "$@"
