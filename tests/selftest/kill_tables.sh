#!/bin/sh
# The kill tables of `moeref selftest` at the size of real layers and on the suite, in every type,
# by many processes within a given time:
#
#   kill_tables.sh [PROCESSES [SECONDS]]          (default: 16 and 240)
#
# Needs the program alone (MOEREF, default `moeref`, and what MOEREF_* tells it), no build tools. A
# fault that stands for all is timed first; from that follows how many are tried: one in N, where
#   N = ceil(faults * seconds of one / (processes * seconds left * 0.7)),
# the 0.7 because faults differ, and for the copy without a fault that is tried on each layer. A
# part that has not ended in time is stopped, and counted so far.
set -eu
moeref=${MOEREF:-moeref} processes=${1:-16} seconds=${2:-240}
types="fp32 bf16 fp16"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT INT TERM
started=$(date +%s)
faults=$("$moeref" selftest --list | wc -l)

left() { echo $((seconds - $(date +%s) + started)); }

# one_in SIZE SHARE CHECKS: N for the faults of that size in a share (percent) of the time left. All
# the processes time the same fault, as they will run: together. CHECKS is 2 where the copy without
# a fault is tried first.
one_in() {
    begin=$(date +%s.%N)
    # shellcheck disable=SC2016
    seq "$processes" | xargs -P "$processes" -I{} timeout "$(left)" sh -c \
        '"$0" selftest --threads 1 --size "$1" --dtype bf16 --fault k_tail_H >/dev/null || :' \
        "$moeref" "$1" || :
    awk -v n="$((faults * 3))" -v p="$processes" -v t="$(($(left) * $2 / 100))" \
        -v one="$(date +%s.%N)" -v begin="$begin" -v checks="$3" '
        BEGIN {
            x = t > 0 ? n * (one - begin) / checks / (p * t * 0.7) : n / 3
            x = x < n / 3 ? x : n / 3
            print (x > 1 ? int(x) + (x > int(x)) : 1)
        }'
}

# try SIZE N SHARE: every type, in a share of the time left.
try() {
    limit=$(($(left) * $3 / 100))
    until=$(($(date +%s) + limit))
    # shellcheck disable=SC2016
    for i in $(seq 0 $((processes - 1))); do
        for type in $types; do echo "$type $i"; done
    done | xargs -P "$processes" -L 1 sh -c \
        'left=$(($4 - $(date +%s))); [ "$left" -gt 0 ] || exit 0
         timeout "$left" "$0" selftest --threads 1 --size "$1" --dtype "$6" --sample "$2" \
             --shard "$7/$5" >"$3/$1.$6.$7" 2>&1 || :' \
        "$moeref" "$1" "$2" "$out" "$until" "$processes"
    echo "$1: one fault in $2, $(date +%s | awk -v s="$started" '{ print $1 - s }') s so far"
}

try real "$(one_in real 60 2)" 65
try suite "$(one_in suite 95 1)" 97
cd "$out"
awk '
    { sub(/^.*\//, "", FILENAME); split(FILENAME, part, "."); cell = part[1] " " part[2] }
    /^(named|caught|SURVIVED) / {
        tried[cell]++; caught[cell] += $1 != "SURVIVED"; named[cell] += $1 == "named"
        if ($1 != "named") list = list "  " part[1] "  " $0 "\n"
    }
    /the right copy FAILS/ { getline why; list = list "  " part[1] $0 "\n  " why "\n" }
    END {
        print "\n| size  | type | tried | caught | named |"
        print "|-------|------|------:|-------:|------:|"
        for (i = split("real suite", size); i; i--)
            for (k = split("fp16 bf16 fp32", type); k; k--) {
                cell = size[3 - i] " " type[k]
                printf "| %-5s | %s | %5d | %6d | %5d |\n", size[3 - i], type[k], tried[cell],
                    caught[cell], named[cell]
            }
        print "\nnot named, or not caught:\n" list
    }' ./*.*.*
