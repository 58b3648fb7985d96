#!/bin/sh
# Layers over GPUs that reach each other's memory: bits, judge, sanitizer, a rank that does not come,
# times, what a plain copy reaches, torch's exchange around the same kernels. Each part has a time
# limit; one that fails does not stop the rest. By hand, on a machine with GPUs, from a build tree
# with CUDA. With one GPU the ranks share it: then all but what needs two.
# usage: two_gpus.sh BUILD OUT [PYTHONPATH]
set -u
build=$1 out=$2 site=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
moeref=$build/src/cli/moeref
same=$build/tests/device/moeref-same-bits
times=$build/tests/device/moeref-ranks-bench
tiles=$here/../conformance/tiles.txt
devices=$(nvidia-smi -L | wc -l)
failed=""
mkdir -p "$out"

# part NAME SECONDS COMMAND...: its output in a file, its end here.
part() {
    name=$1 limit=$2
    shift 2
    begin=$(date +%s)
    timeout "$limit" "$@" > "$out/$name.txt" 2>&1
    code=$?
    echo "$name: exit $code in $(($(date +%s) - begin)) s: $(tail -n 1 "$out/$name.txt" | cut -c1-150)"
    [ $code -eq 0 ] && return
    failed="$failed $name"
    grep -m 6 'differ\|^fail\|^error\|rank ' "$out/$name.txt" | cut -c1-200
}
case_file() { # NAME CASE: a case in a file
    echo "$2" > "$out/$1.case"
    echo "$out/$1.case"
}
# late NAME: over ranks of which one does not come, a failure that says so.
late() {
    timeout 60 "$moeref" check --backend cuda:ranks2+limit2+late --no-explanation \
        --case "T=128 d=128 n=64 E=8 K=2 route=uniform" > "$out/late.txt" 2>&1
    if grep -q "rank . waited 2 s for rank 1 in dispatch" "$out/late.txt"; then
        echo "late: a rank that does not come is a verdict"
    else
        echo "late: no verdict on a rank that does not come"
        failed="$failed late"
    fi
}

qwen_one="T=8192 d=2048 n=768 E=64 K=8 route=uniform seed=7"   # as many pairs as one of two has
large_one="T=8192 d=7168 n=2048 E=32 K=8 route=uniform seed=7"
small="T=2048 d=1024 n=512 E=32 K=4 route=uniform seed=7"
qwen="T=16384 d=2048 n=768 E=128 K=8 route=uniform seed=7"
large="T=16384 d=7168 n=2048 E=64 K=8 route=uniform seed=7"
"$moeref" golden | sed -n 's/^--case "\(.*\)"$/\1/p' > "$out/suite.case"

[ "$devices" -lt 2 ] || part rates 60 "$build/tests/device/moeref-peer-rates"
for words in ranks2 ranks2+chunks3 ranks2+chunks3+early1; do
    part "bits_small_$words" 60 "$same" cuda:$words cuda "$(case_file small "$small")"
done
part bits_tiles 120 "$same" cuda:ranks2+chunks3+early4 cuda "$tiles"
part bits_suite 120 "$same" cuda:ranks2+chunks3+early1 cuda "$out/suite.case"
late
if [ "$devices" -lt 2 ]; then
    part time_qwen 120 "$times" 15 "$qwen" cuda cuda:ranks1 cuda:ranks2 cuda:ranks2+chunks3
else
    part time_qwen 120 "$times" 25 "$qwen_one" cuda "$qwen" cuda:ranks2 cuda:ranks2+early0 \
        cuda:ranks2+early2 cuda:ranks2+chunks1 cuda:ranks2+chunks2 cuda:ranks2+chunks4 \
        cuda:ranks2+links
    part time_large 150 "$times" 9 "$large_one" cuda "$large" cuda:ranks2 cuda:ranks2+early0 \
        cuda:ranks2+chunks4 cuda:ranks2+links
    cat "$out/time_large.txt"
fi
cat "$out/time_qwen.txt"
part memcheck 100 compute-sanitizer --tool memcheck --error-exitcode 9 "$same" cuda:ranks2+chunks3+early1 cuda \
    "$(case_file memcheck "T=600 d=128 n=64 E=4 K=2 seed=3")"
for words in ranks3+early1 ranks4+chunks2+early1 ranks4; do
    part "bits_$words" 60 "$same" cuda:$words cuda "$tiles" 0 3
done
part bits_portable 60 "$same" cuda:ranks2+portable cuda:portable "$tiles" 0 3
part bits_ranks16 60 "$same" cuda:ranks16+chunks2+early1 cuda "$(case_file small "$small")"
part check_tiles 120 "$moeref" check --backend cuda:ranks2+chunks3+early1 --cases "$tiles" --no-explanation
part check_suite 120 "$moeref" check --backend cuda:ranks2+chunks3 --no-explanation
if [ -n "$site" ] && [ "$devices" -ge 2 ]; then
    for sizes in 8192,2048,768,128,8 8192,7168,2048,64,8; do
        PYTHONPATH=$site part "torch_$(echo $sizes | tr , x)" 100 python3 -m torch.distributed.run \
            --nproc-per-node 2 "$here/../bench/peers/ranks.py" --case $sizes
    done
    cat "$out"/torch_*.txt
fi
rm -f "$out"/*.case
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]
