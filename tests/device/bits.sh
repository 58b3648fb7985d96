#!/bin/sh
# bits.sh BUILD OUT: everything about bits that needs a device, from a build tree with CUDA. OUT gets
# the logs, and the files that golden/bits holds. A failure does not stop what follows.
set -u
build=$1
out=$2
here=$(dirname "$0")
moeref=$build/src/cli/moeref
device=$build/tests/device
explain=$build/tests/bits/moeref-explain
failed=""
mkdir -p "$out/golden" "$out/logs"

# step NAME COMMAND...: its output in a log, a line here.
step() {
    name=$1
    shift
    if "$@" >"$out/logs/$name.txt" 2>&1; then
        echo "ok      $name: $(tail -n 1 "$out/logs/$name.txt")"
    else
        echo "FAILED  $name: $(tail -n 1 "$out/logs/$name.txt")"
        failed="$failed $name"
    fi
}

{
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    date -u
} >"$out/logs/device.txt" 2>&1

step activations "$device/moeref-activation-check"
while IFS='|' read -r name backend line; do
    step "golden_$name" "$device/moeref-store-bits" "$backend" "$out/golden/$name.safetensors" \
        "$line"
done <"$here/../../golden/bits/cases.txt"
if [ -x "$device/moeref-products" ]; then
    step products "$device/moeref-products" "$out/golden/cublas.safetensors" \
        "$out/products.safetensors"
    step cublas "$explain" --as sm_90 "$out/golden/cublas.safetensors"
fi

declared=sm_90+gates_first+fused+weighs_sums+act=4
cases=$here/../conformance/tiles.txt
for backend in cuda cuda:portable; do
    plain=$(echo "$backend" | tr : _)
    step "tiles_$plain" "$moeref" check --backend "$backend" --bits $declared --cases "$cases"
    for dtype in bf16 fp16; do
        step "cancel_${plain}_$dtype" "$moeref" check --backend "$backend" --bits $declared \
            --case "T=448 d=320 n=384 E=2 K=1 route=uniform data=cancel dtype=$dtype seed=7"
        step "find_${plain}_$dtype" "$moeref" check --backend "$backend" --bits find \
            --case "T=448 d=320 n=384 E=2 K=1 route=uniform data=cancel dtype=$dtype seed=7"
    done
done
for size in "d=768 n=512" "d=2048 n=1024" "d=4096 n=1536" "d=7168 n=2048"; do
    step "real_$(echo "$size" | tr ' =' '__')" "$moeref" check --backend cuda --bits $declared \
        --case "T=64 $size E=4 K=2 route=uniform data=cancel seed=7"
done
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    step torch python3 "$here/torch_products.py" "$moeref" "$out"
else
    echo "skipped torch: it is not there"
fi
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]
