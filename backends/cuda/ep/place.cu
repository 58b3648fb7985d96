/* From the ranks' counts to everybody's rows: the running sum of all ranks' pairs is the plan that
 * one device would have, sorted by expert, source rank and token; an owner's rows are a slice. */
#include "../row_tiles.cuh"
#include "chunks.h"
#include "exchange.h"
#include "signals.cuh"

namespace {

constexpr int THREADS = MOST_BINS; /* a thread for each expert */

__global__ void counts_kernel(const __grid_constant__ Exchange x) {
    const int count = x.E + 1;
    if (threadIdx.x == 0)
        *x.s.broken = 0;
    for (int i = (int)threadIdx.x; i < count * x.s.ranks; i += (int)blockDim.x)
        x.peer[i / count].counts[x.s.rank * count + i % count] = x.offsets[i % count];
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x >= 32)
        return;
    signal_all(x.s, PHASE_COUNTS, x.pass);
    wait_all(x.s, PHASE_COUNTS, x.pass);
}

/* Pairs of one expert: of all ranks, of those before this one, and its own. */
struct Pairs {
    int all, before, own;
};

__device__ Pairs count_pairs(const Exchange &x, int e) {
    const int *counts = x.peer[x.s.rank].counts;
    Pairs p = {0, 0, 0};
    for (int q = 0; q < x.s.ranks; q++) {
        const int *of = counts + q * (x.E + 1) + e, count = __ldcg(of + 1) - __ldcg(of);
        if (q == x.s.rank) {
            p.before = p.all;
            p.own = count;
        }
        p.all += count;
    }
    return p;
}

/* Of an expert's tiles those whose rows are all of this rank's tokens: index first ... end - 1. */
struct OwnTiles {
    int first, end;
    __device__ explicit OwnTiles(const Pairs &p)
        : first(row_tiles(p.before)),
          end(p.before + p.own == p.all ? row_tiles(p.all)
                                        : (p.before + p.own) / BUFFER_TILE_ROWS) {
        end = max(first, end);
    }
};

/* What a block works out for itself, in shared memory; arrays of own experts from index 0 on. */
struct Plan {
    int *start;  /* [E + 1] the experts' first rows in the plan of one device */
    int *offset; /* [E + 1] in this rank's plan */
    int *shift;  /* [E] from a pair of this rank to its row at the expert's owner */
    int *tile0;  /* [own + 1] where own experts' tiles begin in the list, early ones left out */
    int *early0; /* [own + 1] where their early tiles begin: those of own tokens alone */
    int *gap0;   /* [own] the first of these in the expert */
    __device__ Plan(int *shared, int E)
        : start(shared), offset(start + E + 1), shift(offset + E + 1), tile0(shift + E),
          early0(tile0 + E + 1), gap0(early0 + E + 1) {
    }
    __host__ __device__ static int ints(int E) {
        return 6 * E + 4;
    }
};

/* Everything about the plan; false: there is no room for what this rank's experts got. */
__device__ bool make_plan(const Exchange &x, const Plan &plan) {
    const int e = (int)threadIdx.x, own0 = ep_first_expert(x.E, x.s.ranks, x.s.rank);
    const int own = ep_first_expert(x.E, x.s.ranks, x.s.rank + 1) - own0, i = e - own0;
    const Pairs p = e < x.E && !is_broken(x.s) ? count_pairs(x, e) : Pairs{0, 0, 0};
    if (e < x.E)
        plan.start[e] = p.all;
    for (int k = e; k <= x.E; k += THREADS)
        plan.offset[k] = x.offsets[k];
    if (i >= 0 && i < own) {
        const OwnTiles early(p);
        plan.gap0[i] = early.first;
        plan.early0[i] = i < x.early_experts ? early.end - early.first : 0;
        plan.tile0[i] = row_tiles(p.all) - plan.early0[i];
    }
    __syncthreads();
    scan_shared<THREADS>(plan.start, x.E);
    scan_shared<THREADS>(plan.early0, own);
    scan_shared<THREADS>(plan.tile0, own);
    if (e < x.E) {
        const int owner0 = ep_first_expert(x.E, x.s.ranks, ep_owner(x.E, x.s.ranks, e));
        plan.shift[e] = plan.start[e] - plan.start[owner0] + p.before - plan.offset[e];
    }
    __syncthreads();
    return plan.start[own0 + own] - plan.start[own0] <= x.own.cap;
}

/* What kernels and the host read of it. Of experts with early tiles tile_offsets says nothing but
 * where the first begins. */
__device__ void publish(const Exchange &x, const Plan &plan, bool fits) {
    const int own0 = ep_first_expert(x.E, x.s.ranks, x.s.rank), early = plan.early0[x.own.E];
    if (!fits && threadIdx.x == 0)
        *x.s.broken = 1;
    for (int i = (int)threadIdx.x; i < x.s.ranks * (x.E + 1); i += THREADS)
        x.table[i] = fits && !is_broken(x.s) ? __ldcg(x.peer[x.s.rank].counts + i) : 0;
    for (int i = (int)threadIdx.x; i <= x.own.E; i += THREADS) {
        x.own.offsets[i] = fits ? plan.start[own0 + i] - plan.start[own0] : 0;
        x.own.tile_offsets[i] = fits && i > 0 ? early + plan.tile0[i] : 0;
    }
    if (threadIdx.x == 0)
        *x.early_tiles = fits ? early : 0;
}

/* First all early tiles, then all others, expert by expert. */
__device__ void list_own_tiles(const Exchange &x, const Plan &plan) {
    const int *start = plan.start + ep_first_expert(x.E, x.s.ranks, x.s.rank);
    for (int i = (int)blockIdx.x; i < x.own.E; i += (int)gridDim.x) {
        const int row0 = start[i] - start[0], rows = start[i + 1] - start[i], gap0 = plan.gap0[i];
        const int early = plan.early0[i + 1] - plan.early0[i];
        list_tiles_of(x.own.tiles, i, row0, rows, plan.early0[i], early, 0, gap0);
        list_tiles_of(x.own.tiles, i, row0, rows, plan.early0[x.own.E] + plan.tile0[i],
                      plan.tile0[i + 1] - plan.tile0[i], gap0, early);
    }
}

/* Everything about a pair but its row. */
__device__ void send_pair(const Exchange &x, const Plan &plan, int pair) {
    const int e = ep_expert_of(plan.offset, x.E, pair), q = ep_owner(x.E, x.s.ranks, e);
    const int first = ep_first_expert(x.E, x.s.ranks, q);
    const int own = ep_first_expert(x.E, x.s.ranks, q + 1) - first;
    const int row = pair + plan.shift[e];
    const PeerMemory &to = x.peer[q];
    const int64_t bytes = (int64_t)x.d * 2;
    const bool away = q != x.s.rank;
    const char *here = x.staging + pair * bytes, *there = to.y + row * bytes;
    to.token[row] = x.s.rank * x.room + x.token[pair];
    to.weight[row] = x.weight[pair];
    x.row[pair] = row;
    x.back_at[pair] = away && x.chunks > 1 ? here : there;
    x.made_at[pair] = away && ep_is_staged(own, x.chunks, e - first) ? here : there;
}

/* The last block signals, and waits for everybody's. */
__device__ void meet(const Exchange &x) {
    __syncthreads();
    if (threadIdx.x >= 32)
        return;
    __threadfence_system();
    const int done = threadIdx.x == 0 ? atomicAdd(x.blocks_done, 1) : 0;
    if (__shfl_sync(~0u, done, 0) != (int)gridDim.x - 1)
        return;
    if (threadIdx.x == 0)
        *x.blocks_done = 0;
    signal_all(x.s, PHASE_PAIRS, x.pass);
    wait_all(x.s, PHASE_PAIRS, x.pass);
}

__global__ void __launch_bounds__(THREADS, 1) place_kernel(const __grid_constant__ Exchange x) {
    extern __shared__ int shared[];
    const Plan plan(shared, x.E);
    const bool fits = make_plan(x, plan);
    if (blockIdx.x == 0)
        publish(x, plan, fits);
    if (fits && !is_broken(x.s)) {
        list_own_tiles(x, plan);
        const int pairs = plan.offset[x.E], threads = (int)gridDim.x * THREADS;
        for (int p = (int)(blockIdx.x * THREADS + threadIdx.x); p < pairs; p += threads)
            send_pair(x, plan, p);
    }
    meet(x);
}

} // namespace

cudaError_t exchange_counts(const Exchange *x, const Stream &stream) {
    return launch(stream, {1, 256}, counts_kernel, *x);
}

cudaError_t exchange_place(const Exchange *x, int blocks, const Stream &stream) {
    const size_t shared = sizeof(int) * (size_t)Plan::ints(x->E);
    return launch(stream, {(unsigned)blocks, THREADS, shared}, place_kernel, *x);
}
