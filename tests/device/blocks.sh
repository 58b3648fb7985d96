#!/bin/sh
# Every block of the literature and every family on a device's backend: what passes, what fails, what
# is skipped and why. By hand, on a machine with a GPU, from a build tree with CUDA.
# usage: blocks.sh BUILD OUT [BACKEND...] (cuda cuda:portable). MOEREF_DRAWN names a folder of
# checkpoints, one a family, where there is no NumPy to draw them:
#   MOEREF_TWINS="32 16 8 3 24 40 bfloat16" python3 tests/twins/twins.py --draw FOLDER 1
set -u
build=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- cuda cuda:portable
here=$(cd "$(dirname "$0")" && pwd)
moeref=$build/src/cli/moeref
drawn=${MOEREF_DRAWN:-$out/drawn}
failed=""
mkdir -p "$out"

names=$("$moeref" list | sed -n '/^blocks/,/^[^ ]/s/^  \([a-z_]*\).*/\1/p')
# Shapes: tails in every tile; more than one tile of rows and columns; wide rows.
for name in $names; do
    act=swiglu
    [ "$name" != relu_rms ] || act=silu
    for dtype in bf16 fp16; do
        for shape in "T=77 d=64 n=40 E=6 K=2" "T=300 d=256 n=136 E=8 K=2" "T=160 d=1024 n=256 E=4 K=2"
        do
            experts=$shape
            case $name in
            depths | recursions) experts=$(echo "$shape" | sed 's/E=[0-9]* K=2/E=1 K=1 capacity=50/') ;;
            esac
            echo "$experts block=$name act=$act dtype=$dtype seed=7"
        done
    done
done > "$out/blocks.cases"
[ -n "${MOEREF_DRAWN:-}" ] || MOEREF_TWINS="32 16 8 3 24 40 bfloat16" \
    python3 "$here/../twins/twins.py" --draw "$drawn" 1 || echo "no drawn checkpoints"

# part NAME BACKEND OPTIONS...: a check's text in a file, its end here; then what was wrong, and each
# reason to skip with how often it was given.
part() {
    name=$1 file=$out/$1.txt backend=$2
    shift
    begin=$(date +%s)
    timeout 280 "$moeref" check --backend "$@" > "$file" 2>&1
    code=$?
    echo "$name on $backend: exit $code in $(($(date +%s) - begin)) s: $(tail -n 1 "$file")"
    grep -A 1 '^fail\|^error\|^ambiguous' "$file" | cut -c1-160
    sed -n '/^skip/{n;s/^  *//;p;}' "$file" | sort | uniq -c | sort -rn
    [ $code -eq 0 ] || failed="$failed $name"
}
# folders FOLDER...: as options
folders() {
    for folder; do
        [ ! -f "$folder/config.json" ] || printf -- '--hf %s ' "$folder"
    done
}

for backend; do
    plain=$(echo "$backend" | tr : _)
    part "blocks_$plain" "$backend" --cases "$out/blocks.cases"
    # Names of folders have no spaces.
    # shellcheck disable=SC2046
    part "golden_$plain" "$backend" $(folders "$here"/../../golden/hf/*)
    # shellcheck disable=SC2046
    part "drawn_$plain" "$backend" $(folders "$drawn"/*)
done
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]
