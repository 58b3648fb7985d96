#!/bin/sh
# Four processes over an MPI: right, rows that are wrong on other ranks than the one that reports, a
# rank that sleeps, a rank that dies. The two are ended with a sentence, and so are the others. (Two
# ranks are as many as the sleepers need.)
# usage: mpi.sh MOEREF NAME
moeref=$1 name=$2 out=$(mktemp)
trap 'rm -f "$out"' EXIT
case_line="T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=1"
fail() {
    echo "$1"
    cat "$out"
    exit 1
}
run() {
    timeout 50 "$moeref" check --backend reference --case "$case_line" --transport "$name" \
        --no-explanation "$@" > "$out" 2>&1
}
run --ep 4 || fail "four ranks over $name do not pass"
grep -q "3456 of 3456 elements with one rank's bits" "$out" || fail "other bits than one rank's"
grep -q "144 rows in their places, 28992 bytes" "$out" || fail "not all ranks' rows are counted"
# Two experts: ranks 0 and 2 have none, and nothing comes to them.
run --case "T=16 d=16 n=8 E=2 K=2 dtype=fp32 seed=2" --ep 4 --ep-fault peers_swapped &&
    fail "swapped peers pass"
grep -q "on rank 1 should be token 0 of rank 0, is token 4 of rank 1" "$out" ||
    fail "rank 0 does not say what rank 1 received"
grep -q "waited" "$out" && fail "ranks wait for one that has found something"
run --ep 2 --ep-fault rank_sleeps --ep-limit 1 && fail "a rank that sleeps passes"
grep -q "rank 0 waited 1 s for rank 1 in combine" "$out" || fail "nobody says who sleeps"
run --ep 2 --ep-fault rank_dies --ep-limit 1 && fail "a rank that dies passes"
# By who waits, or where the launcher ends the others first by who started them all.
grep -q -e "rank 0 waited 1 s for rank 1 in combine" \
    -e "the process of rank 1 ended, after dispatch, while others waited for it in combine" "$out" ||
    fail "nobody says who is gone"
exit 0
