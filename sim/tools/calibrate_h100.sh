#!/bin/sh
# How sim/gpus/h100-sxm.json was fitted: one call of `moeref calibrate` a step, each of which starts
# from the description of the step before, fits only the keys that it names, and leaves shapes out.
#
#     sim/tools/calibrate_h100.sh START.json TABLES OUT        (MOEREF: the program, default moeref)
#
# START.json is the shipped description with rough values for what is fitted. TABLES is a folder of
# measured tables that are not part of this repository (sim/CALIBRATION.md says what they are):
#     gemm.tsv          dense GEMMs           moe.tsv           forward MoE layers
#     bmm_settled.tsv   batched GEMMs at settled clocks, by sim/tools/peers_tables.py
# OUT gets h1.json ... h12.json; the last one is the shipped file.
set -eu
if [ $# != 3 ]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
start=$(realpath "$1")
tables=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")
moeref=${MOEREF:-moeref}
case $moeref in */*) moeref=$(realpath "$moeref") ;; esac
for name in gemm.tsv moe.tsv bmm_settled.tsv; do
    if [ ! -f "$tables/$name" ]; then
        echo "$0: $tables/$name is missing: measured tables are not in the repository" >&2
        exit 1
    fi
done
cd "$(dirname "$0")/../.."

# step FROM TO OPTION...: description h$FROM.json to h$TO.json.
step() {
    from=$out/h$1.json
    [ "$1" != 0 ] || from=$start
    to=$out/h$2.json
    shift 2
    "$moeref" calibrate --gpu "$from" --to "$to" "$@"
}

# keys METHOD KEY...: METHOD.KEY,METHOD.KEY...
keys() {
    method=$1
    shift
    printf "$method.%s," "$@" | sed 's/,$//'
}

gpu=tensor_eff,hbm_eff,inflight_kib,overlap_p,kernel_us,tile_us,epilogue_bw,splitk_us,throttle
step 0 1 --from "$tables/gemm.tsv" --free $gpu --evaluations 400 --sample 800
step 1 2 --from "$tables/bmm_settled.tsv" --clock settled --free throttle --evaluations 30

m=cutlass_moe
step 2 3 --from "$tables/moe.tsv" --kernel moe_torch_flow_cutlass --method $m \
    --free "$(keys $m hbm stream fixed_us gap_us)" --folds 6 --evaluations 150
m=triton_fused_moe
step 3 4 --from "$tables/moe.tsv" --kernel vllm_unquantizedfusedmoe_triton_tritonexperts \
    --method $m --free "$(keys $m hbm stream fixed_us gap_us tensor)" --folds 4 --evaluations 250
m=sglang_fused_moe
step 4 5 --from "$tables/moe.tsv" --kernel sglang_fused_moe_triton --method $m \
    --free "$(keys $m hbm fixed_us load half_lines)" --folds 6 --evaluations 200

m=grouped_mm
step 5 6 --from golden/sim/grouped_mm.json --method $m --free "$(keys $m stream)" \
    --folds 17 --evaluations 80
m=scattermoe
step 6 6b --from golden/sim/scattermoe.json --method $m --free "$(keys $m load stream)" \
    --folds 16 --evaluations 100
step 6b 7 --from golden/sim/peers.tsv --kernel $m --method $m --clock settled \
    --free "$(keys $m fixed_us)" --folds 16 --evaluations 30
m=sonicmoe
step 7 8 --from golden/sim/sonicmoe_bars.tsv --method $m --clock settled \
    --free "$(keys $m tensor fixed_us)" --folds 12 --evaluations 60
m=moeref
step 8 9 --from golden/timing/h100-sxm/moeref.json --method $m --clock settled --stream \
    --free "$(keys $m tensor stream gap_us)" --folds 16 --evaluations 80

# bars FROM TO METHOD KEY...: a method of which only the bars of a figure are known.
bars() {
    from_step=$1 to_step=$2 m=$3
    shift 3
    step "$from_step" "$to_step" --from golden/sim/sonicmoe_figure.tsv --kernel "$m" --method "$m" \
        --clock settled --free "$(keys "$m" "$@")" --folds 12 --evaluations 100
}
bars 9 10 momoe tensor load fixed_us
bars 10 11 megablocks load fixed_us
bars 11 12 deepgemm stream fixed_us
