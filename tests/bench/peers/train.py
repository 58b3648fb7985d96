"""Training steps of a Transformers model whose experts run on moeref, beside its own ways.

    python3 tests/bench/peers/train.py --layers 4 --tokens 8192 --out train.json

The model has Qwen3-30B-A3B's layers (d=2048, n=768, E=128, K=8) in bf16 with random weights, one
copy for all: `experts_implementation` is switched between steps, which take turns. A step is
forward, loss, backward and AdamW. `layer` is the experts alone, forward and backward. Tokens a
second are medians of --steps; memory is torch's peak beside what the model, its gradients and the
optimizer hold.
"""
import argparse
import json
import time

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

import moeref.transformers
from measure import clock_and_power, median_and_spread


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="moeref,grouped_mm,eager")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--small", action="store_true", help="a tenth of everything, for a CPU")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--out", help="JSON file to write")
    return parser.parse_args()


def make_model(args):
    torch.manual_seed(1)
    d, n, E, K = (64, 32, 8, 2) if args.small else (2048, 768, 128, 8)
    config = Qwen3MoeConfig(
        vocab_size=args.vocabulary, hidden_size=d, intermediate_size=3 * d,
        moe_intermediate_size=n, num_experts=E, num_experts_per_tok=K, norm_topk_prob=True,
        num_hidden_layers=args.layers, num_attention_heads=4 if args.small else 32,
        num_key_value_heads=4, head_dim=16 if args.small else 128,
        max_position_embeddings=args.tokens, use_cache=False)
    dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
    with torch.device(args.device):
        torch.set_default_dtype(dtype)
        model = Qwen3MoeForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return model.train()


def use(model, way):
    for module in model.modules():
        if getattr(module, "config", None) is not None:
            module.config._experts_implementation = way


def wait(args):
    if args.device == "cuda":
        torch.cuda.synchronize()


def peak(args, run):
    """Seconds of a run, and the bytes that it needed beside what there was."""
    wait(args)
    before = 0
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    run()
    wait(args)
    seconds = time.perf_counter() - start
    return seconds, (torch.cuda.max_memory_allocated() - before if args.device == "cuda" else 0)


def turns(args, model, runs):
    """{way: figures} of runs[way], which take turns; the first two rounds warm up."""
    samples = {way: [] for way in runs}
    for step in range(2 + args.steps):
        for way, run in runs.items():
            use(model, way)
            figures = peak(args, run)
            if step >= 2:
                samples[way].append(figures)
    result = {}
    for way, rows in samples.items():
        seconds, spread = median_and_spread([row[0] for row in rows])
        result[way] = {
            "tokens_per_s": round(args.tokens / seconds),
            "ms": round(1e3 * seconds, 3),
            "spread": round(spread, 4),
            "peak_bytes": max(row[1] for row in rows)}
    return result


def whole_model(args, model, ways):
    tokens = torch.randint(args.vocabulary, (1, args.tokens), device=args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=args.device == "cuda")
    losses = {}
    for way in ways:  # of the same weights, before any step
        use(model, way)
        with torch.no_grad():
            losses[way] = model(input_ids=tokens, labels=tokens).loss.item()

    def step():
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    result = turns(args, model, {way: step for way in ways})
    for way in ways:
        result[way]["first_loss"] = losses[way]
    return result


def whole_layer(args, model, ways):
    experts = model.model.layers[0].mlp.experts
    config = model.config
    shape = (args.tokens, config.hidden_size)
    x = torch.randn(shape, device=args.device, dtype=model.dtype, requires_grad=True)
    d_out = torch.randn_like(x)
    scores = torch.rand(args.tokens, config.num_experts, device=args.device)
    weights, index = scores.softmax(-1).topk(config.num_experts_per_tok, -1)
    weights = weights.to(model.dtype).requires_grad_()

    def step():
        out = experts(x, index, weights)
        torch.autograd.grad(out, (x, weights, *experts.parameters()), d_out)

    return turns(args, model, {way: step for way in ways})


def main():
    args = parse()
    moeref.transformers.register()
    ways, model = args.ways.split(","), make_model(args)
    report = {**{k: v for k, v in vars(args).items() if k != "out"},
              "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
              "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
              "parameters": sum(p.numel() for p in model.parameters())}
    report["layer"] = whole_layer(args, model, ways)
    report["model"] = whole_model(args, model, ways)
    if args.device == "cuda":
        report.update(clock_and_power())
    for what in ("layer", "model"):
        for way, r in report[what].items():
            print(f"{what:6s} {way:11s} {r['tokens_per_s']:>10d} tokens/s  {r['ms']:9.2f} ms "
                  f"+-{100 * r['spread']:.1f}%  {r['peak_bytes'] / 2**30:7.2f} GiB"
                  + (f"  loss {r['first_loss']:.4f}" if "first_loss" in r else ""))
    if args.out:
        with open(args.out, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
