"""The experts' kernels of moeref over ranks with torch's all_to_all_single around them, as a layer
is written by hand: rows of pairs are gathered at home, sent, multiplied by their owner, sent back
and summed at home.

    torchrun --nproc-per-node 2 tests/bench/peers/ranks.py --case 8192,2048,768,128,8

The plan is drawn uniformly and known to all before the clock runs: no counts are exchanged.
Medians in us over the slowest rank. `exchange` is one all_to_all_single of the layer's rows alone.
"""
import argparse
import json
import os

import torch
import torch.distributed as dist

import moeref.torch


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="8192,2048,768,128,8", help="T,d,n,E,K; T of each rank")
    parser.add_argument("--repeat", type=int, default=15)
    return parser.parse_args()


def choose(T, E, K, rank):
    generator = torch.Generator(device="cuda").manual_seed(1 + rank)
    return torch.rand(T, E, device="cuda", generator=generator).topk(K, dim=1).indices


class Exchange(torch.autograd.Function):
    """Rows to other ranks; gradients go back the same way."""

    @staticmethod
    def forward(ctx, rows, sent, due):
        ctx.sent, ctx.due = sent, due
        out = rows.new_empty(sum(due), rows.shape[1])
        dist.all_to_all_single(out, rows.contiguous(), due, sent)
        return out

    @staticmethod
    def backward(ctx, d_out):
        d_rows = d_out.new_empty(sum(ctx.sent), d_out.shape[1])
        dist.all_to_all_single(d_rows, d_out.contiguous(), ctx.sent, ctx.due)
        return d_rows, None, None


class Layer:
    def __init__(self, sizes, rank, ranks):
        T, d, n, E, K = sizes
        own = E // ranks
        make = dict(device="cuda", dtype=torch.bfloat16)
        self.K = K
        self.x = torch.randn(T, d, **make).requires_grad_()
        self.w1 = (torch.randn(own, 2 * n, d, **make) * d ** -0.5).requires_grad_()
        self.w2 = (torch.randn(own, d, n, **make) * n ** -0.5).requires_grad_()
        choice = [choose(T, E, K, q) for q in range(ranks)]
        expert = choice[rank].flatten()
        self.order = expert.argsort(stable=True)
        self.token = self.order // K
        self.weight = torch.full((T * K, 1), 1 / K, **make)
        self.sent = torch.bincount(expert // own, minlength=ranks).tolist()
        mine = [c.flatten().sort().values for c in choice]
        mine = [e[(e // own) == rank] - rank * own for e in mine]
        self.due = [len(e) for e in mine]
        self.index = torch.cat(mine)[:, None].int()
        self.ones = torch.ones(len(self.index), 1, device="cuda")

    def run(self, backward):
        rows = Exchange.apply(self.x[self.token], self.sent, self.due)
        made = moeref.torch.experts(rows, self.index, self.ones, self.w1, self.w2)
        home = Exchange.apply(made, self.due, self.sent)
        out = torch.zeros_like(self.x).index_add(0, self.token, home * self.weight)
        if backward:
            torch.autograd.grad(out, (self.x, self.w1, self.w2), self.x.detach())

    def exchange(self):
        rows = self.x.detach().new_empty(sum(self.sent), self.x.shape[1])
        out = rows.new_empty(sum(self.due), rows.shape[1])
        return lambda: dist.all_to_all_single(out, rows, self.due, self.sent)


def timed(run, repeat):
    """Median of the slowest rank's times, which start together."""
    samples = []
    for i in range(3 + repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        dist.barrier()
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        us = torch.tensor([1e3 * begin.elapsed_time(end)], device="cuda")
        dist.all_reduce(us, op=dist.ReduceOp.MAX)
        if i >= 3:
            samples.append(us.item())
    return sorted(samples)[repeat // 2]


def main():
    args = parse()
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    layer = Layer([int(x) for x in args.case.split(",")], rank, ranks)
    with torch.no_grad():
        forward = timed(lambda: layer.run(False), args.repeat)
    both = timed(lambda: layer.run(True), args.repeat)
    exchange = timed(layer.exchange(), args.repeat)
    if rank == 0:
        remote = 2 * layer.x.shape[1] * max(sum(layer.sent) - layer.sent[0],
                                            sum(layer.due) - layer.due[0])
        print(json.dumps({"case": args.case, "ranks": ranks, "forward": round(forward, 1),
                          "both": round(both, 1), "exchange": round(exchange, 1),
                          "exchange_gbps": round(1e-3 * remote / exchange, 1)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
