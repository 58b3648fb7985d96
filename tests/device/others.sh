#!/bin/sh
# others.sh BUILD OUT: which arithmetic other people's kernels have. OUT gets records of products
# for moeref-explain, and cuBLAS's golden. By hand, on a device.
set -u
device=$1/tests/device
explain=$1/tests/bits/moeref-explain
out=$2
here=$(dirname "$0")
mkdir -p "$out"
{
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    date -u
} >"$out/device.txt" 2>&1
python3 "$here/other_kernels.py" "$explain" "$out/others.safetensors" \
    >"$out/others.txt" 2>&1 &
"$device/moeref-tensorcore-check" >"$out/tensorcore.txt" 2>&1
echo "tensorcore: $(tail -n 1 "$out/tensorcore.txt")"
"$device/moeref-products" "$out/cublas.safetensors" "$out/products.safetensors" \
    >"$out/products.txt" 2>&1
echo "products: $(tail -n 1 "$out/products.txt")"
wait
echo "others: $(tail -n 1 "$out/others.txt")"
echo "then, anywhere: moeref-explain on each of $out/*.safetensors"
