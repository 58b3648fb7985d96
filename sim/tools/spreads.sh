#!/bin/sh
# The intervals of the shipped descriptions: errors as they are, nothing fitted. After a change of the
# model or of a description's numbers; then sim/tools/accuracy.py says what the intervals hold.
#
#     sim/tools/spreads.sh TABLES        (MOEREF: the program, default moeref)
#
# TABLES as in sim/tools/accuracy.py. Writes sim/gpus/*-sxm.json.
set -eu
[ $# = 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
tables=$(realpath "$1")
moeref=${MOEREF:-moeref}
case $moeref in */*) moeref=$(realpath "$moeref") ;; esac
cd "$(dirname "$0")/../.."

# spread GPU SOURCE OPTION...
spread() {
    gpu=sim/gpus/$1.json
    source="errors as shipped, $2"
    shift 2
    "$moeref" calibrate --gpu "$gpu" --to "$gpu" --source "$source" "$@" >/dev/null
}
layers() { # GPU FOLDER SOURCE METHOD KERNEL
    spread "$1" "$3" --from "$tables/$2/moe.tsv" --method "$4" --kernel "$5"
}
cutlass=moe_torch_flow_cutlass
sglang=sglang_fused_moe_triton
spread h100-sxm "aiconfigurator gemm table" --from "$tables/h100/gemm.tsv"
layers h100-sxm h100 "aiconfigurator MoE table" cutlass_moe $cutlass
layers h100-sxm h100 "aiconfigurator MoE table" triton_fused_moe \
    vllm_unquantizedfusedmoe_triton_tritonexperts
layers h100-sxm h100 "aiconfigurator MoE table" sglang_fused_moe $sglang
spread h100-sxm golden/sim/sonicmoe_bars.tsv --from golden/sim/sonicmoe_bars.tsv --method sonicmoe \
    --clock settled
for m in momoe megablocks deepgemm; do
    spread h100-sxm golden/sim/sonicmoe_figure.tsv --from golden/sim/sonicmoe_figure.tsv --method $m \
        --kernel $m --clock settled
done
for m in grouped_mm scattermoe; do
    spread h100-sxm golden/sim/peers.tsv --from golden/sim/peers.tsv --method $m --kernel $m \
        --clock settled
done
spread h100-sxm golden/timing/h100-sxm/moeref.tsv --from golden/timing/h100-sxm/moeref.tsv \
    --method moeref --clock settled
half="half of aiconfigurator's"
spread a100-sxm "$half gemm table" --from "$tables/a100/gemm.tsv"
layers a100-sxm a100 "$half MoE table" sglang_fused_moe $sglang
spread b200-sxm "$half gemm table" --from "$tables/b200/gemm.tsv"
# Without the layer that another layer's settings ran: sim/CALIBRATION.md, weak spots.
own=$(mktemp)
trap 'rm -f "$own"' EXIT
awk '!($3 == 5120 && $4 == 8192 && $6 == 16)' "$tables/b200/moe.tsv" >"$own"
spread b200-sxm "$half MoE table" --from "$own" --method cutlass_moe --kernel $cutlass

# The same chips.
python3 - <<'PYTHON'
import json
from pathlib import Path
for of, names in {"h100-sxm": ("h100-pcie", "h200-sxm", "h800-sxm"),
                  "b200-sxm": ("gb200", "gb300")}.items():
    spread = json.loads(Path(f"sim/gpus/{of}.json").read_text())["spread"]
    for entry in spread.values():
        entry["source"] = f"assumed: as {of}, the same chip"
    for name in names:
        path = Path(f"sim/gpus/{name}.json")
        gpu = json.loads(path.read_text())
        gpu["spread"] = spread
        path.write_text(json.dumps(gpu, indent=1, ensure_ascii=False) + "\n")
PYTHON
# The same chip, measured on another board.
spread h200-sxm golden/timing/h200/gemm.tsv --from golden/timing/h200/gemm.tsv
