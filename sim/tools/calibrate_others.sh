#!/bin/sh
# How sim/gpus/a100-sxm.json and b200-sxm.json were fitted: one call of `moeref calibrate` a step,
# each of which starts from the description of the step before, fits only the keys that it names,
# and leaves shapes out.
#
#     sim/tools/calibrate_others.sh TABLES OUT        (MOEREF: the program, default moeref)
#
# TABLES is a folder of measured tables that are not part of this repository: a100/ and b200/, each
# with gemm.tsv (dense GEMMs) and moe.tsv (forward MoE layers), and b300_sxm/moe.tsv of
# public_moe.py; sim/CALIBRATION.md says what they are. The first step starts from the shipped facts
# and, by --what-if, from rough values of what is fitted. OUT gets a1.json ... b3.json; a2.json and
# b3.json are the shipped files.
set -eu
if [ $# != 2 ]; then
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
tables=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
moeref=${MOEREF:-moeref}
case $moeref in */*) moeref=$(realpath "$moeref") ;; esac
cd "$(dirname "$0")/../.."
dense=tensor_eff,hbm_eff,inflight_kib,overlap_p,kernel_us,tile_us,epilogue_bw,splitk_us,throttle

# keys METHOD KEY...: METHOD.KEY,METHOD.KEY...
keys() {
    method=$1
    shift
    printf "$method.%s," "$@" | sed 's/,$//'
}

half="half of its shapes, rows of 4 us and more"
"$moeref" calibrate --gpu sim/gpus/a100-sxm.json --from "$tables/a100/gemm.tsv" \
    --what-if tensor_eff=0.93 --what-if hbm_eff=0.77 --what-if overlap_p=2.6 \
    --what-if kernel_us=3.5 --what-if sync_clocks=30 --what-if refetch=0.1 \
    --what-if throttle=0.04 \
    --free $dense,sync_clocks,refetch --evaluations 600 --to "$out/a1.json" \
    --source "aiconfigurator gemm table, A100 SXM, bf16, $half"
m=sglang_fused_moe
"$moeref" calibrate --gpu "$out/a1.json" --from "$tables/a100/moe.tsv" \
    --kernel sglang_fused_moe_triton --method $m \
    --what-if $m.hbm=1.46 --what-if $m.stream=1.4 --what-if $m.load=0.8 --what-if $m.tensor=1 \
    --what-if $m.fixed_us=8 --what-if $m.gap_us=1.7 --what-if $m.half_lines=0.83 \
    --what-if $m.scattered=2 \
    --free "$(keys $m hbm stream fixed_us gap_us load half_lines scattered)" --folds 7 --evaluations 300 \
    --to "$out/a2.json" --source "aiconfigurator MoE table, A100 SXM, bf16, half of its shapes"

"$moeref" calibrate --gpu sim/gpus/b200-sxm.json --from "$tables/b200/gemm.tsv" \
    --what-if tensor_eff=0.8 --what-if hbm_eff=0.85 --what-if inflight_kib=50 \
    --what-if overlap_p=3 --what-if kernel_us=2 --what-if epilogue_bw=40 \
    --what-if splitk_us=3.4 --what-if throttle=0.2 --what-if epilogue_hidden=0.5 \
    --free $dense,epilogue_hidden --evaluations 400 --to "$out/b1.json" \
    --source "aiconfigurator gemm table, B200, bf16, $half"
m=cutlass_moe
moe="aiconfigurator MoE table"
sed 's/_tp\t/\t/' "$tables/b300_sxm/moe.tsv" > "$out/b300-moe.tsv"
"$moeref" calibrate --gpu "$out/b1.json" --from "$out/b300-moe.tsv" \
    --kernel moe_torch_flow_cutlass --method $m --what-if $m.tensor=1.25 --what-if $m.hidden=1 \
    --what-if $m.stream=0.8 --what-if $m.sum=1.8 --what-if $m.epilogue=0.5 \
    --free "$(keys $m hbm stream fixed_us gap_us sum epilogue)" --folds 6 --evaluations 400 \
    --to "$out/b2.json" --source "$moe, B300, bf16, whole experts and cut ones"
# Without the layer that ran untuned (sim/LOG.md).
awk -F'\t' '!($3 == 5120 && $4 == 8192 && $6 == 16)' "$tables/b200/moe.tsv" > "$out/b200-moe.tsv"
"$moeref" calibrate --gpu "$out/b2.json" --from "$out/b200-moe.tsv" \
    --kernel moe_torch_flow_cutlass --method $m --free "$(keys $m hbm stream fixed_us gap_us)" \
    --folds 12 --evaluations 250 --to "$out/b3.json" \
    --source "$moe, B200, bf16, half of its shapes, but one that ran untuned (sim/LOG.md)"
