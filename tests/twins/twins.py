#!/usr/bin/env python3
"""Every family against a twin of it in numpy: twins.py MOEREF FOLDER. Checkpoints alone:
MOEREF_TWINS="32 16 8 3 24 40 bfloat16" twins.py --draw FOLDER SEED (sizes.py).

A random checkpoint and case of each family, of odd small sizes, is computed by blocks.py and
parts.py, which were written from the models' own code and share nothing with the C; gradients come
from tape.py. `moeref check --hf` must agree to 1e-20, on every output and gradient, with the
checkpoint as its only source. A family of `moeref list` without a twin fails.
"""

import json
import pathlib
import struct
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("NumPy is not installed (Debian: python3-numpy)")
    sys.exit(77)

from blocks import BLOCKS
from families import FAMILIES, NEAR_CAP, REPORTS, TRANSPOSED
from parts import experts, route, shared_expert
from sizes import D, E, N, T, TYPE, rounded
from tape import V, tanh

LIMIT = 1e-20
TYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "uint16": "BF16"}


def upper_half(t):
    """bf16 numbers as 16 bits each."""
    return (t.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    blobs = []
    for name, t in tensors.items():
        t = np.ascontiguousarray(t)
        if TYPE == "bfloat16" and t.dtype == float and not name.startswith("expected"):
            t = upper_half(t)
        header[name] = {"dtype": TYPES[str(t.dtype)], "shape": list(t.shape),
                        "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
        blobs.append(t.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def make_params(f, rng):
    c, names = f["c"], f["names"]
    gated, latent = c.get("gated", True), c.get("latent", D)
    n, count = (1, 16) if f["block"] == "product_keys" else (N, E)
    rows = {"product_keys": 2 * 4, "inkling": count + 2}.get(f["block"],
                                                             count + c.get("zero_experts", 0))
    classes = count + 1 if f["block"] == "zaya" else rows if f["block"] != "inkling" else count
    hw = 2 * n if gated else n

    def draw(*shape):
        return V(rounded(rng.standard_normal(shape) / shape[-1]**0.5))

    p = {"router": draw(rows, D), "W1": draw(count, hw, latent), "W2": draw(count, latent, n)}
    if f["bias"]:
        p["b_select"] = V(rounded(0.2 * rng.standard_normal(classes)))
    if "br" in names:
        p["br"] = draw(rows)
    if "b1" in names:
        p["b1"], p["b2"] = draw(count, hw), draw(count, latent)
    if c.get("shared"):
        width = c["shared"] * (2 if c.get("shared_gated", gated) else 1)
        p["W1s"], p["W2s"] = draw(width, D), draw(D, c["shared"])
    if "Wgs" in names:
        p["Wgs"] = draw(1, D)
    return p


def limit_capacity(w, capacity):
    mask = (w.data != 0) * 1.0
    return w * (mask * (np.cumsum(mask, 0) <= capacity))


def plain(x, p, c):
    z = x @ p["router"].T
    if "br" in p:
        z = z + p["br"]
    w = route(z, c, p["b_select"].data if "b_select" in p else None)
    if "capacity" in c:
        w = limit_capacity(w, c["capacity"])
    out = experts(x, w, p, c)
    if c.get("shared"):
        out = out + shared_expert(x, p, c)
    if c.get("average"):
        out = out * 0.5
    if "cap" in c:
        z = tanh(z / c["cap"]) * c["cap"]
    return out, z, w, {}


def store(name, f, p, what):
    """Tensors of the checkpoint's cut, from `what` of every value: its data or its gradient."""
    out, names, n = {}, f["names"], p["W2"].data.shape[2]
    for k, v in p.items():
        t, spelled = what(v), names.get(k, k)
        if k in TRANSPOSED.get(name, ()):
            t = t.swapaxes(1, 2)
        if k == "b_select":
            spelled = f["bias"]
        if k == "W1" and "gate" in names:
            out[names["gate"]] = t[:, :n].reshape(-1, t.shape[2])
            out[names["up"]] = t[:, n:].reshape(-1, t.shape[2])
        elif k == "W2" and "gate" in names:
            out[spelled] = t.reshape(-1, t.shape[2])
        elif k in ("W1", "W2") and f["block"] == "product_keys":
            out[spelled] = t.reshape(len(t), -1)
        elif k == "W1s" and k not in names:
            half = len(t) // 2 if f["c"].get("shared_gated", f["c"].get("gated", True)) else 0
            if half:
                out[names["gate_s"]] = t[:half]
            out[names["up_s"]] = t[half:]
        elif "%d" in spelled:
            out.update({spelled % e: t[e] for e in range(len(t))})
        else:
            out[spelled] = t
    return out


def set_key(config, path, value):
    *outer, last = path.split(".")
    for key in outer:
        config = config.setdefault(key, {})
    config[last] = value


def config_of(name, f):
    config = {"model_type": name.split()[0], "dtype": TYPE, "num_hidden_layers": 1,
              **{k: v for k, v in f["config"].items() if v is not None}}
    sizes = {"d": D, "n": N, "E": 16 if f["block"] == "product_keys" else E, "K": f["c"]["K"]}
    for k, path in f["keys"].items():
        if path and (path not in config):
            set_key(config, path, sizes[k])
    return config


def prefix_of(f, key):
    layer = "model.layers.0."
    if key.startswith("^"):
        return layer + key[1:]
    return layer + (f["module"] + "." if f["module"] else "") + key


def router_outputs(name, f, z, w, extra):
    """As the module returns them."""
    how = REPORTS.get(name, 1.0)
    outs = [z.data.astype(np.float32) if name == NEAR_CAP else z.data]
    if how == "dense":
        return [w.data, z.data]
    if how is None:
        return outs
    k = f["c"]["K"]
    index = np.argsort(w.data == 0, -1, kind="stable")[:, :k]
    # Cohere's block halves what its router hands out.
    outs += [np.take_along_axis(w.data, index, -1) * how, index.astype(np.int64)]
    if "sinks" in extra:
        outs.append(extra["sinks"])
    if "state" in extra:
        outs.append(extra["state"][None])
    return outs


def make(name, f, folder, rng):
    p = make_params(f, rng)
    x = V(rounded(rng.standard_normal((T, D))))
    g = rounded(rng.standard_normal((T, D)))
    run = BLOCKS[f["block"]] if f["block"] else None
    out, z, w, extra = run(x, p, f["c"], rng) if run else plain(x, p, f["c"])
    forward_only = name == "nllb-moe"
    out.backward(g)
    weights = {prefix_of(f, k): v for k, v in store(name, f, p, lambda v: v.data).items()}
    case = {"hidden_states": x.data, "expected.output": out.data}
    if "table" in extra:
        weights[prefix_of(f, "gate.tid2eid")] = extra["table"].astype(np.int64)
        case["input_ids"] = extra["ids"].astype(np.int64)
    for i, t in enumerate(router_outputs(name, f, z, w, extra)):
        case[f"expected.router_out{i}"] = t
    if not forward_only:
        case.update({"grad_output": g, "expected.grad.hidden_states": x.grad})
        grads = store(name, f, {k: v for k, v in p.items() if k != "b_select"}, lambda v: v.grad)
        if "zero_experts" in f["c"]:  # in memory the zero experts have matrices, too
            w1 = grads["experts.gate_up_proj"]
            grads["experts.gate_up_proj"] = np.concatenate([w1, 0 * w1[:f["c"]["zero_experts"]]])
        case.update({"expected.grad." + k.lstrip("^"): v for k, v in grads.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(name, f)))
    write_safetensors(folder / "model.safetensors", weights)
    write_safetensors(folder / "case.safetensors", case)


def judge(case, name):
    golden = [t for t in case["tensors"] if t["truth"] == "golden"]
    wrong = [f"{t['name']} {t['nmse']:.1e}" for t in golden if not t["nmse"] < LIMIT]
    seen = {t["name"].replace("block ", "") for t in golden if t["name"] != "topk_index"}
    missing = {"O"} - seen if name == NEAR_CAP else {"O", "router_logits"} - seen
    if name != "nllb-moe":
        missing |= {"dX", "dW1", "dW2"} - seen
        if not any(k == "dW_r" or k.startswith("dw_router") for k in seen):
            missing.add("dW_r")
    if case["verdict"] != "pass" or wrong or missing:
        return f"{name}: {case['verdict']} {case['why']} {' '.join(wrong)} missing {missing or ''}"
    return None


def draw(out, seed):
    """A checkpoint of every family; their folders by name."""
    rng = np.random.default_rng(seed)
    folders = {name: pathlib.Path(out) / name.replace(" ", "_") for name in FAMILIES}
    for name, folder in folders.items():
        make(name, FAMILIES[name], folder, rng)
    return folders


def main(moeref, out):
    listed = json.loads(subprocess.run([moeref, "list", "--output", "json"], check=True,
                                       capture_output=True, text=True).stdout)
    known = [f["name"] if isinstance(f, dict) else f for f in listed["families"]]
    faults = [f"{name}: no twin" for name in known
              if name not in {n.split()[0] for n in FAMILIES}]
    folders = draw(out, 20261129)
    command = [moeref, "check", "--backend", "reference", "--no-isolation", "--no-explanation",
               "--threads", "1", "--output", "json"]
    for folder in folders.values():
        command += ["--hf", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if not ran.stdout:
        sys.exit(ran.stderr)
    report = json.loads(ran.stdout)
    cases = {c["case"]: c for c in report["cases"]}
    for name, folder in folders.items():
        case = cases.get(f"hf:{folder}")
        fault = judge(case, name) if case else f"{name}: not judged; {ran.stderr.strip()}"
        if fault:
            faults.append(fault)
    print("\n".join(faults) or f"{len(folders)} families and variants agree with their twins")
    return 1 if faults else 0


if __name__ == "__main__":
    if sys.argv[1] == "--draw":  # --draw FOLDER SEED: nothing but checkpoints
        draw(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(*sys.argv[1:]))
