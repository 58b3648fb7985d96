#!/bin/sh
# Every case of the suite and every golden layer over many numbers of ranks, by hand: minutes.
# Prints one line a run, and how many cases have all of one rank's bits.
# usage: sweep.sh MOEREF [TRANSPORT [RANKS...]]
moeref=$1 transport=${2:-threads}
[ $# -ge 1 ] && shift
[ $# -ge 1 ] && shift
out=$(mktemp)
trap 'rm -f "$out"' EXIT
export OMP_NUM_THREADS=1
failed=0
for backend in reference openblas:invariant; do
    for ranks in ${*:-1 2 3 5 8 64}; do
        "$moeref" check --backend "$backend" --ep "$ranks" --transport "$transport" \
            --no-explanation > "$out" 2>&1 || failed=1
        exact=$(sed -n 's/.*, \([0-9]*\) of \1 elements with one rank.*/\1/p' "$out" | wc -l)
        echo "$backend $transport $ranks ranks: $(tail -n 1 "$out"); all bits in $exact"
    done
done
exit $failed
