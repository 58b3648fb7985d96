#!/bin/sh
# The products of rows as an ARM processor runs them (NEON), under qemu: arm.sh SOURCE_ROOT. Exit
# code 77 is Meson's word for skipped.
set -eu
cd "$1"

# first PROGRAM...: the first that is here.
first() {
    for name in "$@"; do
        command -v "$name" && return
    done
    echo "skipped: none of these is here: $*"
    exit 77
}

compiler=$(first aarch64-linux-gnu-gcc) || { echo "$compiler"; exit 77; }
emulator=$(first qemu-aarch64-static qemu-aarch64) || { echo "$emulator"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/criterion"
cp tests/unit/plain_criterion.h "$folder/criterion/criterion.h"
"$compiler" -std=gnu11 -O3 -fno-math-errno -fno-trapping-math -static -DOB_ISA=base \
    -I"$folder" -Isrc/include -Isrc -Ibackends/openblas tests/unit/test_backend_openblas_rows.c \
    backends/openblas/rows.c backends/openblas/rows_kernel.c src/core/coded.c src/core/convert.c \
    src/core/dtype.c src/core/elements.c src/core/quant.c src/core/rng.c src/core/status.c \
    -lm -o "$folder/test"
"$emulator" "$folder/test"
