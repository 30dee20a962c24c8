#!/bin/sh
# Takes out of a virtual environment what no step runs, and compiles the rest.
set -eu
venv=$1
packages=$(echo "$venv"/lib/python3*/site-packages)

# Symbol tables, headers and type stubs are of use to a compiler and a debugger only.
if [ -d "$packages/tensorflow" ]; then
  rm -rf "$packages/tensorflow/include"
  find "$packages/tensorflow" -type f -name '*.so*' -exec strip --strip-unneeded {} +
fi
rm -rf "$packages"/clang "$packages"/libclang-*.dist-info  # TensorFlow lists it, and never imports it
find "$packages" -type f \( -name '*.pyi' -o -name '*.h' -o -name '*.hpp' -o -name '*.pxd' -o -name '*.a' \) -delete
# The packages' own tests are of use to nobody here.
for package in numpy scipy pandas matplotlib nibabel pydicom sklearn; do
  [ ! -d "$packages/$package" ] || find "$packages/$package" -type d -name tests -prune -exec rm -rf {} +
done
# Bytecode is made now: on a read-only file system every start would compile it anew.
"$venv/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" || true
