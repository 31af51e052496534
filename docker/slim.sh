#!/bin/sh
# Removes from a virtual environment what no stage uses: tests, headers, sources and symbols of compiled libraries.
#   slim.sh FOLDER
set -eu
cd "$(echo "$1"/lib/python3*/site-packages)"
find . -depth -type d \( -name tests -o -path ./torch/test -o -path ./torch/include -o -path ./onnx/backend/test \
  -o -path ./pyarrow/include \) -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.a' -o -name '*.h' -o -name '*.hpp' -o -name '*.pyx' -o -name '*.pxd' \
  -o -name '*.c' -o -name '*.cpp' \) -delete
[ ! -d torch/bin ] || find torch/bin -type f ! -name torch_shm_manager -delete
rm -rf pyarrow/libarrow_flight* pyarrow/_flight*
rm -f onnxruntime/capi/libonnxruntime.so*  # for programs in C: Python's module holds all of it a second time
# Libraries in *.libs were moved about when their wheel was made; strip would break them.
find . -type f -name '*.so*' ! -path './*.libs/*' -exec strip --strip-unneeded {} +
