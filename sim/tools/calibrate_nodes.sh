#!/bin/sh
# The fits behind sim/nodes: calibrate_nodes.sh MOEREF TABLES FOLDER
# TABLES holds measured transfers that are not part of this repository (nccl, deepep-normal,
# deepep-ll and trtllm-alltoall, each NAME-calibrate.tsv; sim/CALIBRATION.md says what they are).
# Descriptions are read from sim/nodes and written to FOLDER.
set -eu
moeref=$1 tables=$2 to=$3
nodes=$(dirname "$0")/../nodes
aic="NVIDIA's aiconfigurator 095f58a5, measured there"

# fit NODE TABLE WHERE KERNEL KEYS...: keys of the carrier, whose name stands before each.
fit() {
    node=$1 table=$2 where=$3 kernel=$4 keys=$5 least=$6
    echo "== $node $kernel"
    from=$to/$node.json
    [ -f "$from" ] || cp "$nodes/$node.json" "$from"
    "$moeref" calibrate --from "$tables/$table-calibrate.tsv" --node "$from" --where "$where" \
        --kernel "$kernel" --free "$keys" --folds 1000 --evaluations 1500 --sample 5000 \
        --min-us "$least" --to "$from" --source "$aic: $table, $where" | tail -n +2
}

mkdir -p "$to"
a2a=alltoall.start_us,alltoall.ramp,alltoall.link_eff,alltoall.near
ring=ring.start_us,ring.ramp,ring.link_eff
d=deepep_dispatch c=deepep_combine
normal=$d.start_us,$d.fill_us,$d.link_eff,$d.sm_gbps,$d.visit_us
combine=$c.start_us,$c.fill_us,$c.first_gbps,$c.link_eff,$c.sm_gbps,$c.copy_us,$c.token_gbps
for system in h100 a100; do
    fit $system-x8 nccl "system=${system}_sxm" alltoall $a2a 15
    fit $system-x8 nccl "system=${system}_sxm" all_gather $ring 20
done
fit h100-x8 deepep-normal nodes=1 deepep_dispatch $normal 4
fit h100-x8 deepep-normal nodes=1 deepep_combine $combine 4
l=ll_dispatch
fit h100-x8 deepep-ll nodes=1 $l $l.start_us,$l.expert_us,$l.first_gbps,$l.link_eff,$l.sm_gbps 4
l=ll_combine
fit h100-x8 deepep-ll nodes=1 $l $l.start_us,$l.expert_us,$l.first_gbps,$l.link_eff 4
# Over what the shipped single host has: the network's own numbers, and of DeepEP's normal kernels
# the rate of an SM, whose warps also pass on rows of other hosts. One shape: sizes are left out.
t=h100-x16-ib
fit $t deepep-normal nodes=2 $d $d.start_us,$d.inter_eff,$d.sm_gbps 4
fit $t deepep-normal nodes=2 $c $c.start_us,$c.inter_eff,$c.sm_gbps 4
fit $t deepep-ll nodes=2 ll_dispatch inter_us,ll_dispatch.inter_eff 4
fit $t deepep-ll nodes=2 ll_combine ll_combine.inter_eff 4
for k in one two; do
    l=${k}sided_dispatch
    case $k in one) w=kernel=NVLinkOneSided ;; two) w=kernel=NVLinkTwoSided ;; esac
    fit gb200-x72 trtllm-alltoall $w $l $l.start_us,$l.rank_us,$l.local_gbps 4
    l=${k}sided_combine
    case $k in one) bound=link_eff ;; two) bound=local_gbps ;; esac
    fit gb200-x72 trtllm-alltoall $w $l $l.start_us,$l.rank_us,$l.$bound 4
done
