"""Families under other settings than their goldens': variants.py MOEREF [NAME...]

Needs what make.py needs. Each setting that a family's block may read (switches, numbers of shared
experts, K, groups, scale, score, activation) is changed, one at a time, the block is made with
Transformers' own code as make.py does, and `moeref check --hf` must pass on the reference or refuse
the configuration in a sentence. Prints a line for each change that does neither, and how many there
were of each kind; exit code 1 if any. All families take about an hour of one core.
"""
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from make import make
from settings import PER_FAMILY, has
from transformers import CONFIG_MAPPING

SWITCH = re.compile(r"router|expert|topk|score|norm|bias|gate|shared|moe|scal|capacity")
# Switches of what lies outside of the block, or that change nothing in it.
OUTSIDE = re.compile(r"attention|qkv|attn|qk_norm|conv|mamba|rope|vision|embed|head|mtp|output_|"
                     r"router_aux|jitter|gradient|layerdrop|linear|_experts_impl")
OTHER = {
    ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"): (0, 1),
    ("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"): (0,),
    ("routed_scaling_factor", "route_scale", "router_scaling_factor", "moe_routed_scaling_factor",
     "moe_router_scaling_factor"): (1.0,),
    ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"): (1, 2),
    ("topk_method",): ("greedy", "group_limited_greedy", "noaux_tc"),
    ("scoring_func", "score_function", "expert_selection_fn", "moe_router_activation_func"):
        ("softmax", "sigmoid", "sqrtsoftplus"),
    ("hidden_act", "hidden_activation", "mlp_hidden_act"):
        ("silu", "gelu", "gelu_pytorch_tanh", "relu", "relu2"),
    ("moe_router_logit_softcapping",): (0.0, 30.0),
    ("swiglu_limit",): (0.0, 0.5, 10.0),
}


def changes(name):
    """One dict of settings for each change."""
    known = CONFIG_MAPPING[PER_FAMILY.get(name, {}).get("model_type", name)]()
    for key, value in sorted(vars(known).items()):
        if isinstance(value, bool) and SWITCH.search(key) and not OUTSIDE.search(key):
            yield {key: False}
            yield {key: True}
    for keys, values in OTHER.items():
        for key in keys:
            yield from ({key: v} for v in values if has(known, key))
    if has(known, "n_group"):
        yield {"n_group": 1, "topk_group": 1}


def judge(moeref, name, change, out):
    """passed, refused, not made, or what is wrong."""
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), \
                contextlib.redirect_stderr(nowhere):
            make(name, out, change)
    except Exception:  # Transformers refuses the setting, or its code cannot run with it
        return "not made"
    done = subprocess.run([moeref, "check", "--backend", "reference", "--no-explanation", "--hf",
                           str(pathlib.Path(out) / name)], capture_output=True, text=True)
    if done.returncode == 0:
        return "passed"
    if done.returncode == 3 and "error" in done.stderr:
        return "refused"
    return " | ".join((done.stdout + done.stderr).splitlines()[:2])


def main(moeref, names):
    count = {"passed": 0, "refused": 0, "not made": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as out:
        for name in names:
            for change in changes(name):
                what = judge(moeref, name, change, out)
                count[what if what in count else "wrong"] += 1
                if what not in count:
                    print(f"{name} {change}: {what}", flush=True)
    print(", ".join(f"{n} {kind}" for kind, n in count.items()))
    return count["wrong"] > 0


def families():
    page = pathlib.Path(__file__).with_name("FAMILIES.md").read_text()
    return re.findall(r"^\| (\w[\w-]*) \| (?:held)? *\|", page, re.M)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:] or families()))
