#!/bin/sh
# measure.sh BUILD OUT: what a GPU says of itself, and the project's own passes on it, to hold the
# cost model's description of it to. By hand, on a device, some four minutes. OUT gets gpu.json,
# gemm.tsv, settled.tsv, micro.tsv and fitted.json (moeref measure), large.json and small.json (moeref bench,
# settled clocks).
set -u
build=$1
out=$2
mkdir -p "$out"
moeref=$build/src/cli/moeref
{
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit \
        --format=csv,noheader
    date -u
} >"$out/device.txt" 2>&1
begin=$(date +%s)
"$moeref" measure --no-fit --to "$out" || exit 1
echo "measure --no-fit: $(($(date +%s) - begin)) s"
begin=$(date +%s)
"$moeref" measure --to "$out" --source "this device" || exit 1
echo "measure: $(($(date +%s) - begin)) s"
cat "$out/device.txt" "$out/micro.tsv" "$out/gpu.json"

# bench NAME CASE...: times in OUT/NAME.json; a line a kernel on standard output.
bench() {
    name=$1
    shift
    printf '%s\n' "$@" >"$out/$name.cases"
    timeout 150 "$moeref" bench --backend cuda --settle 500 --repeat 30 --no-check \
        --cases "$out/$name.cases" --output json >"$out/$name.json" 2>"$out/$name.err"
    echo "$name: exit $?"
}
bench large "T=32768 d=2048 n=1024 E=64 K=8 route=uniform" \
    "T=24576 d=1536 n=256 E=128 K=8 route=uniform" "T=40960 d=768 n=1024 E=32 K=2 route=uniform" \
    "T=24576 d=1536 n=1024 E=32 K=2 route=uniform" "T=40960 d=768 n=256 E=128 K=8 route=uniform" \
    "T=32768 d=4096 n=512 E=128 K=8 route=uniform" "T=16384 d=2048 n=512 E=512 K=10 route=uniform"
bench small "T=16 d=2048 n=768 E=128 K=8 route=uniform" \
    "T=128 d=2048 n=768 E=128 K=8 route=uniform" "T=512 d=2048 n=768 E=128 K=8 route=uniform" \
    "T=2048 d=2048 n=768 E=128 K=8 route=uniform" "T=128 d=2048 n=1024 E=64 K=8 route=uniform"
for gpu in h200-sxm "$out/fitted.json"; do
    "$moeref" predict --against "$out/large.json" --gpu "$gpu" --clock settled --stream
    "$moeref" predict --against "$out/small.json" --gpu "$gpu" --clock settled --stream
done
"$moeref" calibrate --gpu h200-sxm --from "$out/gemm.tsv" --source "this device"
