"""Of what other people's kernels made, the records that golden/bits holds, each with the arithmetic
that it must have as the last part of its name: choose.py FOLDER OUT.safetensors, FOLDER of
tests/device/others.sh."""
import json
import pathlib
import struct
import sys

CHOSEN = {
    "products": {
        r"bf16_16x32x16384/cublas,F32": "sm_90+split=12+block=64",
        r"bf16_64x64x4096/cublas,BF16": "sm_90+split=3+block=64",
        r"fp16_64x64x4096/cublas,F32": "sm_90+split=3+block=64",
        r"bf16_64x64x2080/lt66,split8,scheme2": "sm_90+split=8+block=64",
        r"fp16_64x64x2080/lt66,split5,scheme1": "sm_90+split=5+block=64",
    },
    "others": {
        r"bf16_128x128x1024/scattermoe,group_bwd_W": "sm_90",
        r"fp16_128x128x1024/scattermoe,scatter2scatter": "sm_90",
        r"e4m3_128x128x1024/triton,tile16.16.64,acc": "sm_90.mma",
        r"e5m2_128x128x1024/triton,tile16.16.64,acc": "sm_90.mma",
        r"e5m2_128x128x1024/triton,tile128.128.32,acc": "sm_90",
        r"e4m3_128x128x1024/triton,tile128.128.128,acc,imprecise64": "sm_90+promote=64",
        r"e4m3_256x128x4096/triton,tile128.128.32,add": "sm_90+promote=32",
        r"e4m3_256x128x4096/scaled_mm,torch,exact,float32": "sm_90+promote=128",
        r"e4m3_256x128x4096/scaled_mm_blocks,torch,bfloat16": "sm_90+promote=128",
        r"e4m3_256x128x4096/scaled_grouped_mm,torch,fast": "sm_90",
    },
}


def tensors(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    for name, t in json.loads(raw[8:8 + size], object_pairs_hook=list):
        t = dict(t)
        if "data_offsets" in t:
            first, end = t["data_offsets"]
            yield name, t, raw[8 + size + first:8 + size + end]


def main():
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    made_by = (folder / "device.txt").read_text().split("\n")[0]
    header, data = {"__metadata__": {"made_by": made_by}}, b""
    for file, chosen in CHOSEN.items():
        found = list(tensors(folder / f"{file}.safetensors"))
        for prefix, arithmetic in chosen.items():
            name, t, raw = next(x for x in found if x[0].startswith(prefix) and len(x[2]))
            header[f"{name}/{arithmetic}"] = {"dtype": t["dtype"], "shape": t["shape"],
                                             "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write_bytes(struct.pack("<Q", len(text)) + text + data)


main()
