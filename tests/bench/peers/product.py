"""One product of bf16 of the CPU backend beside oneDNN's, which torch's `linear` calls.

    python3 tests/bench/peers/product.py --lib build/tests/bench/moeref-bench-product.so

y = x W^T on one thread. Ours takes x in fp32, rounds it, which is in its time, and returns y in
fp32; oneDNN's x and y are bf16. They take turns, each turn as many products as take some ten
milliseconds. Printed are oneDNN's median rate and our rate over it, turn by turn, in CPU time: the
median, the least and the largest; above 1 is faster. With --cold every product of a turn has
another W, of more than 256 MB in all, so that weights come from memory; otherwise W stays in the
caches that hold it.
"""
import argparse
import ctypes
import time

import torch

from measure import median

TURN_SECONDS = 0.01
COLD_BYTES = 1 << 28
LIMIT = 3e-6  # relative error in the Frobenius norm; sums of fp32 of such lengths make some 1e-7


class Ours:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.moe_bench_product_words.restype = ctypes.c_int64

    def prepare(self, x, w):
        """A function that multiplies by one of the matrices w [count][cols][depth]."""
        rows, cols, depth = ctypes.c_int64(len(x)), *map(ctypes.c_int64, w.shape[1:])
        words = torch.empty(self.lib.moe_bench_product_words(rows, depth))
        self.y = torch.empty(len(x), w.shape[1])
        data = [ctypes.c_void_p(t.data_ptr()) for t in (x, words, self.y)]
        at = [ctypes.c_void_p(one.data_ptr()) for one in w]

        def run(i):
            if not self.lib.moe_bench_product(rows, cols, depth, data[0], at[i], *data[1:]):
                raise SystemExit("no AVX512_BF16 in this processor or compiler")
        run.operands = x, words  # which it has the addresses of
        return run

    def check(self, x, w):
        want = x.bfloat16().double() @ w.double().T
        error = float((self.y.double() - want).norm() / want.norm())
        if not error <= LIMIT:
            raise SystemExit(f"wrong: {len(x)} rows, relative error {error:.1e}")


def turn(run, calls, matrices):
    start = time.process_time()
    for i in range(calls):
        run(i % matrices)
    return (time.process_time() - start) / calls


def measure(ours, rows, cols, depth, args):
    """Seconds of ours and of oneDNN's, turn by turn."""
    count = 1 + COLD_BYTES // (2 * cols * depth) if args.cold else 1
    w = (torch.randn(cols, depth) / depth ** 0.5).bfloat16().expand(count, -1, -1).contiguous()
    x = torch.randn(rows, depth)
    narrow = x.bfloat16()
    candidates = (ours.prepare(x, w), lambda i: torch.nn.functional.linear(narrow, w[i]))
    candidates[0](count - 1)
    ours.check(x, w[-1])
    once = turn(candidates[1], 3, count)
    calls = count if args.cold else 1 + int(TURN_SECONDS / once)
    return [[turn(run, calls, count) for run in candidates] for _ in range(args.turns)]


def report(shape, rows, seconds):
    cols, depth = shape
    rate = 2e-9 * rows * cols * depth / median([theirs for _, theirs in seconds])
    ratios = [theirs / ours for ours, theirs in seconds]
    print(f"W {cols} x {depth}, {rows} rows: oneDNN {rate:.0f} GFLOP/s, ours {median(ratios):.2f} "
          f"of it ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return median(ratios)


def parse():
    parser = argparse.ArgumentParser(prog="product.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True, help="moeref-bench-product.so of a build")
    parser.add_argument("--rows", default="1,2,3,4,5,6,7,8,12,16,24,64,128,256,1024")
    parser.add_argument("--weights", default="2048x2048,2048x1024,1536x2048,2048x768",
                        help="COLSxDEPTH of W, the depth even, one after the other")
    parser.add_argument("--turns", type=int, default=13)
    parser.add_argument("--cold", action="store_true", help="weights from memory")
    return parser.parse_args()


def main():
    args = parse()
    torch.set_num_threads(1)
    ours = Ours(args.lib)
    shapes = [tuple(map(int, one.split("x"))) for one in args.weights.split(",")]
    with torch.no_grad():
        for rows in map(int, args.rows.split(",")):
            medians = [report(s, rows, measure(ours, rows, *s, args)) for s in shapes]
            print(f"{rows} rows: {min(medians):.2f} to {max(medians):.2f}", flush=True)


if __name__ == "__main__":
    main()
