#!/bin/sh
# Removes files that no step needs from a virtual environment, and compiles the rest.
set -eu
venv=$1
packages=$(echo "$venv"/lib/python3*/site-packages)

# Only compilers and debuggers need symbol tables, headers and type stubs.
if [ -d "$packages/tensorflow" ]; then
  rm -rf "$packages/tensorflow/include"
  find "$packages/tensorflow" -type f -name '*.so*' -exec strip --strip-unneeded {} +
fi
rm -rf "$packages"/clang "$packages"/libclang-*.dist-info  # declared by TensorFlow, but never imported
find "$packages" -type f \( -name '*.pyi' -o -name '*.h' -o -name '*.hpp' -o -name '*.pxd' -o -name '*.a' \) -delete
for package in numpy scipy pandas matplotlib nibabel pydicom sklearn; do
  [ ! -d "$packages/$package" ] || find "$packages/$package" -type d -name tests -prune -exec rm -rf {} +
done
# Bytecode is compiled now because the root file system is read-only at run time.
"$venv/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" || true
