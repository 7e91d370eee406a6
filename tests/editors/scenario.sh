#!/usr/bin/env bash
# One scenario in every editor: suggestions, repairs, rewrites, a fine-tune, another model, a restart (scenario.json).
#
#   tests/editors/scenario.sh [--only NAME]... [--budget TIME] [--keep]
#
# NAME is vscode, nvim, helix or emacs; all of them by default. What is missing is installed first (setup.sh,
# vscode/setup.sh); an editor that cannot be had here is a failure unless --only leaves it out. The program is the one in
# NESTLING_BIN (target/release/nestling). --budget gives the fine-tune more time than the scenario does, --keep leaves
# the folders. Without a network where the system permits that. Exit code 0 or 1; a table at the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export NESTLING_BIN=${NESTLING_BIN:-$root/target/release/nestling}
[ -x "$NESTLING_BIN" ] || { echo "scenario.sh: $NESTLING_BIN is not there; build it or name it in NESTLING_BIN" >&2; exit 2; }

editors=()
others=()
while [ $# -gt 0 ]; do
  case $1 in
    --only) editors+=("${2:?--only NAME}"); shift 2 ;;
    --budget) others+=("$1" "${2:?--budget TIME}"); shift 2 ;;
    --keep) others+=("$1"); shift ;;
    *) sed -n '4p' "${BASH_SOURCE[0]}" | sed 's/^# */usage: /' >&2; exit 2 ;;
  esac
done
[ ${#editors[@]} -gt 0 ] || editors=(nvim vscode helix emacs)

# pynvim stands in the environment that comes with Neovim's setup; what an editor needs beyond that, its own.
terminals=()
for editor in "${editors[@]}"; do
  case $editor in
    vscode) "$here/vscode/package.sh" ;;
    nvim | helix | emacs) terminals+=("$editor") ;;
    *) echo "scenario.sh: $editor: vscode, nvim, helix and emacs are known" >&2; exit 2 ;;
  esac
done
[ ${#terminals[@]} -eq 0 ] || "$here/setup.sh" "$here/.cache" "${terminals[@]}"

python=$here/.cache/venv/bin/python
[ -x "$python" ] || python=python3
flags=-n
[ "$(id -u)" = 0 ] || flags=-rn
if command -v unshare >/dev/null && unshare $flags true 2>/dev/null; then
  exec unshare $flags sh -c 'ip link set lo up 2>/dev/null; exec "$@"' sh "$python" "$here/scenario/run.py" "${others[@]}" "${editors[@]}"
fi
echo "note: network namespaces are not permitted here, the network stays reachable"
exec "$python" "$here/scenario/run.py" "${others[@]}" "${editors[@]}"
