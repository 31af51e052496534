#!/bin/sh
# Lays a virtual environment out with what it needs to run, and nothing else: Python, shared libraries, certificates.
# An image of this folder alone has no shell and no package manager.
#   flatten.sh VENV FOLDER
set -eu
venv=$1 root=$2
python=$(readlink -f "$venv/bin/python3")
stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
mkdir -p "$root/tmp" "$root/etc" "$root$stdlib" && chmod 1777 "$root/tmp"
cp -L --parents "$python" /etc/passwd /etc/group /etc/ssl/certs/ca-certificates.crt "$root"
ln -sf "$python" "$venv/bin/python3"
tar -C "$stdlib" -c --exclude=test --exclude=site-packages --exclude=dist-packages --exclude=ensurepip --exclude=idlelib \
  --exclude=lib2to3 --exclude=tkinter --exclude=turtledemo --exclude='config-3*' . | tar -C "$root$stdlib" -x
{
  ldd "$python"
  find "$venv" "$stdlib/lib-dynload" -name '*.so*' -type f -exec ldd {} + 2>/dev/null || true
  find / -xdev -name 'libgcc_s.so.1' -printf '=> %p (found by name: loaded when a thread ends)\n' 2>/dev/null
} | sed -nE 's/^.*(=> |^[[:space:]]+)(\/[^ ]+) \(.*/\2/p' | grep -v "^$venv" | sort -u | xargs cp -L --parents -t "$root"
mkdir -p "$root$(dirname "$venv")" && mv "$venv" "$root$venv"
