#!/bin/sh
# The CUDA backend over ranks with a GPU each, NCCL between them: goldens, tiles and the suite,
# forward and backward. By hand, on a machine with at least two GPUs.
# usage: ranks.sh BUILD OUT [RANKS]
set -u
build=$1 out=$2 ranks=${3:-2}
mkdir -p "$out"
failed=0
check() { # NAME WORDS...: one run, its summary, and the reports of what failed
    name=$1
    shift
    "$build/src/cli/moeref" check "$@" > "$out/$name.txt" 2> "$out/$name.err"
    code=$?
    echo "$name: exit $code, $(tail -n 1 "$out/$name.txt")"
    [ $code -eq 0 ] || { failed=1; grep -A 4 -m 3 '^fail\|^error' "$out/$name.txt"; head -n 3 "$out/$name.err"; }
}
list=$(dirname "$0")/../conformance/tiles.txt
one="T=512 d=768 n=256 E=64 K=4 dtype=bf16 renorm=1 seed=7"
check smoke --backend cuda --case "$one" --ep "$ranks" --transport nccl
check uneven --backend cuda --case "$one" --ep "$ranks skew=2" --transport nccl
check sums --backend cuda --case "$one" --ep "$ranks combine=ranks" --transport nccl
check host --backend cuda --case "$one" --ep 4
for combine in pairs ranks; do
    check tiles-$combine --backend cuda --cases "$list" --ep "$ranks combine=$combine" \
        --transport nccl --no-explanation
    check suite-$combine --backend cuda --ep "$ranks combine=$combine" --transport nccl \
        --no-explanation
done
"$build/src/cli/moeref" check --backend cuda --case "$one" --ep "$ranks" --transport nccl \
    --ep-fault rank_sleeps --ep-limit 2 --no-explanation > "$out/late.txt" 2>&1
if grep -q "waited 2 s for rank" "$out/late.txt"; then
    echo "late: a rank that sleeps is a verdict"
else
    failed=1
    echo "late: no verdict on a rank that sleeps"
fi
exit $failed
