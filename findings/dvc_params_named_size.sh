#!/usr/bin/env bash
# dvc 3.67.1: a parameter called `size` (or `nfiles`) is not part of a stage's key in the run-cache.
#
# Expected: a stage that lists the parameter `image` runs again when `image.size` has a value that it never ran with.
# Seen: `dvc repro` says "is cached - skipping run" and checks out the output of another size. A parameter with another
# name (`image.width`) behaves as expected. DVC leaves both names out of every mapping that it hashes, because it uses
# them itself for the size and the number of files of an output.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export DVC_NO_ANALYTICS=1 PATH="$folder/venv/bin:$PATH"
mkdir "$folder/project"
cd "$folder/project"
dvc init --quiet --no-scm
dvc --version

cat >copy_image.py <<'PY'
import re

text = open("params.yaml").read()
open("out.txt", "w").write(re.search(r"image: (.*)", text).group(1))
PY
cat >dvc.yaml <<'YAML'
stages:
  copy:
    cmd: python copy_image.py
    deps: [copy_image.py]
    params: [image]
    outs: [out.txt]
YAML

# Runs the stage with two values of one name, and prints what the second run left and said.
second_run() {
  rm -rf dvc.lock out.txt .dvc/cache
  echo "image: {$1: 1}" >params.yaml
  dvc repro --quiet
  echo "image: {$1: 2}" >params.yaml
  rm -f dvc.lock out.txt
  dvc repro >log.txt 2>&1
  echo "$(cat out.txt) | $(grep -c 'is cached - skipping run' log.txt || true) from the cache"
}

width=$(second_run width)
size=$(second_run size)
nfiles=$(second_run nfiles)
printf 'width:  %s\nsize:   %s\nnfiles: %s\n' "$width" "$size" "$nfiles"
[ "$width" = '{width: 2} | 0 from the cache' ]
[ "$size" = '{size: 1} | 1 from the cache' ]
[ "$nfiles" = '{nfiles: 1} | 1 from the cache' ]
echo "still so: the output of size 1 was taken for size 2"
