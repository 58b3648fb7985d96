/* Counts, pairs and rows between ranks. What is sent is written straight into memory of the rank
 * that needs it; a warp moves a row, 16 bytes a thread. */
#include "exchange.h"

#include "chunks.h"
#include "signals.cuh"

#include <cub/block/block_scan.cuh>
#include <cudaTypedefs.h>
#include <stdint.h>

namespace {

constexpr int MOST_EXPERTS = 1024;
constexpr int THREADS = 1024;
constexpr int IN_FLIGHT = 8; /* loads of a thread before it stores */

__global__ void tell_kernel(const __grid_constant__ Exchange x) {
    const int count = x.E + 1;
    if (threadIdx.x == 0)
        *x.s.broken = 0;
    for (int i = (int)threadIdx.x; i < count * x.s.ranks; i += (int)blockDim.x)
        x.peer[i / count].counts[x.s.rank * count + i % count] = x.offsets[i % count];
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x < 32)
        signal_all(x.s, PHASE_COUNTS, x.pass);
}

/* Of one expert: all pairs, and those of ranks before this one. */
__device__ int count_pairs(const Exchange &x, int e, int *ret_before) {
    const int *counts = x.peer[x.s.rank].counts;
    int sum = 0;
    for (int q = 0; q < x.s.ranks; q++) {
        const int *of = counts + q * (x.E + 1) + e;
        if (q == x.s.rank)
            *ret_before = sum;
        sum += __ldcg(of + 1) - __ldcg(of);
    }
    return sum;
}

/* A thread for each expert. The running sum of all pairs is the plan that one device would have:
 * an owner's rows are a slice of it, sorted by expert, source rank and token. */
__global__ void __launch_bounds__(MOST_EXPERTS) place_kernel(const __grid_constant__ Exchange x) {
    typedef cub::BlockScan<int, MOST_EXPERTS> Scan;
    __shared__ typename Scan::TempStorage room;
    __shared__ int start[MOST_EXPERTS + 1];
    const int e = (int)threadIdx.x;
    if (e < 32)
        wait_all(x.s, PHASE_COUNTS, x.pass);
    __syncthreads();
    int before = 0, first, sum;
    const int mine = e < x.E && !is_broken(x.s) ? count_pairs(x, e, &before) : 0;
    Scan(room).ExclusiveSum(mine, first, sum);
    if (e < x.E)
        start[e] = first;
    if (e == 0)
        start[x.E] = sum;
    __syncthreads();
    const int own0 = ep_first_expert(x.E, x.s.ranks, x.s.rank);
    const bool fits = start[own0 + x.own.E] - start[own0] <= x.own.cap;
    if (!fits && e == 0)
        *x.s.broken = 1;
    for (int i = e; i < x.s.ranks * (x.E + 1); i += MOST_EXPERTS)
        x.table[i] = fits && !is_broken(x.s) ? __ldcg(x.peer[x.s.rank].counts + i) : 0;
    for (int i = e; i <= x.own.E; i += MOST_EXPERTS)
        x.own.offsets[i] = fits ? start[own0 + i] - start[own0] : 0;
    if (e < x.E) {
        const int owner0 = ep_first_expert(x.E, x.s.ranks, ep_owner(x.E, x.s.ranks, e));
        x.shift[e] = start[e] - start[owner0] + before - x.offsets[e];
    }
}

/* The expert of a pair: the last one whose rows begin at or before it. */
__device__ __forceinline__ int expert_of(const Exchange &x, int pair) {
    int low = 0, high = x.E;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (__ldg(x.offsets + middle) <= pair)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Everything about a pair but its row. */
__device__ void send_pair(const Exchange &x, int pair) {
    const int e = expert_of(x, pair), q = ep_owner(x.E, x.s.ranks, e);
    const int first = ep_first_expert(x.E, x.s.ranks, q);
    const int own = ep_first_expert(x.E, x.s.ranks, q + 1) - first;
    const int row = pair + x.shift[e];
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

/* The ranks that own an expert of a token, a bit each; first_pair[q] is the first pair of rank q's
 * experts. */
__device__ unsigned ranks_of(const Exchange &x, int t, const int *first_pair) {
    unsigned ranks = 0;
    const int end = x.token_offsets[t + 1];
    for (int i = x.token_offsets[t] + ((int)threadIdx.x & 31); i < end; i += 32) {
        const int pair = x.pair_of_token[i];
        int q = 0;
        while (q < x.s.ranks && pair >= first_pair[q + 1])
            q++;
        if (pair >= 0 && q < x.s.ranks)
            ranks |= 1u << q;
    }
    return __reduce_or_sync(~0u, ranks);
}

/* A warp's row to some places; a bit in `ranks` each, `at` bytes behind their `base`. */
template <class Base>
__device__ __forceinline__ void copy_row(const char *from, int bytes, unsigned ranks,
                                         const Base &base) {
    for (int c = ((int)threadIdx.x & 31) * 16; c < bytes; c += 512 * IN_FLIGHT) {
        uint4 v[IN_FLIGHT];
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; i++)
            if (c + 512 * i < bytes)
                v[i] = __ldcg(reinterpret_cast<const uint4 *>(from + c + 512 * i));
        for (unsigned left = ranks; left; left &= left - 1) {
            char *to = base(__ffs((int)left) - 1) + c;
#pragma unroll
            for (int i = 0; i < IN_FLIGHT; i++)
                if (c + 512 * i < bytes)
                    __stcg(reinterpret_cast<uint4 *>(to + 512 * i), v[i]);
        }
    }
}

__device__ __forceinline__ int warp_of_grid() {
    return (int)((blockIdx.x * blockDim.x + threadIdx.x) >> 5);
}

__device__ __forceinline__ int warps_of_grid() {
    return (int)(gridDim.x * blockDim.x >> 5);
}

__global__ void __launch_bounds__(THREADS, 1)
    send_pairs_kernel(const __grid_constant__ Exchange x) {
    const int pairs = is_broken(x.s) ? 0 : x.offsets[x.E], threads = (int)(gridDim.x * blockDim.x);
    for (int p = (int)(blockIdx.x * blockDim.x + threadIdx.x); p < pairs; p += threads)
        send_pair(x, p);
}

__global__ void __launch_bounds__(THREADS, 1)
    send_rows_kernel(const __grid_constant__ Exchange x, bool backward) {
    __shared__ int first_pair[RANKS_MOST + 1];
    if (threadIdx.x <= x.s.ranks)
        first_pair[threadIdx.x] = x.offsets[ep_first_expert(x.E, x.s.ranks, (int)threadIdx.x)];
    __syncthreads();
    const int bytes = 2 * x.d, tokens = is_broken(x.s) ? 0 : x.tokens;
    const char *mine = backward ? x.peer[x.s.rank].dout : x.peer[x.s.rank].x;
    for (int t = warp_of_grid(); t < tokens; t += warps_of_grid()) {
        const int64_t at = (int64_t)(x.s.rank * x.room + t) * bytes;
        const unsigned others = ranks_of(x, t, first_pair) & ~(1u << x.s.rank);
        copy_row(mine + at, bytes, others,
                 [&](int q) { return (backward ? x.peer[q].dout : x.peer[q].x) + at; });
    }
}

__global__ void __launch_bounds__(THREADS, 1) take_ds_kernel(const __grid_constant__ Exchange x) {
    const int pairs = is_broken(x.s) ? 0 : x.offsets[x.E], threads = (int)(gridDim.x * blockDim.x);
    for (int p = (int)(blockIdx.x * blockDim.x + threadIdx.x); p < pairs; p += threads)
        x.ds[p] = __ldcg(x.peer[ep_owner(x.E, x.s.ranks, expert_of(x, p))].ds + x.row[p]);
}

/* Not linked, as in tensor_maps.cu. */
PFN_cuStreamBatchMemOp_v11070 find_batch_write() {
    return reinterpret_cast<PFN_cuStreamBatchMemOp_v11070>(
        driver_function("cuStreamBatchMemOp", 11070));
}

__global__ void wait_kernel(const __grid_constant__ Exchange x, int first, int last) {
    for (int phase = first; phase <= last; phase++)
        wait_all(x.s, (Phase)phase, x.pass);
}

} // namespace

cudaError_t exchange_tell(const Exchange *x, cudaStream_t stream) {
    tell_kernel<<<1, 256, 0, stream>>>(*x);
    return cudaGetLastError();
}

cudaError_t exchange_place(const Exchange *x, cudaStream_t stream) {
    place_kernel<<<1, MOST_EXPERTS, 0, stream>>>(*x);
    return cudaGetLastError();
}

cudaError_t exchange_send_pairs(const Exchange *x, int blocks, cudaStream_t stream) {
    send_pairs_kernel<<<(unsigned)blocks, THREADS, 0, stream>>>(*x);
    return cudaGetLastError();
}

cudaError_t exchange_send_rows(const Exchange *x, bool backward, int blocks, cudaStream_t stream) {
    send_rows_kernel<<<(unsigned)blocks, THREADS, 0, stream>>>(*x, backward);
    return cudaGetLastError();
}

cudaError_t exchange_take_ds(const Exchange *x, int blocks, cudaStream_t stream) {
    take_ds_kernel<<<(unsigned)blocks, THREADS, 0, stream>>>(*x);
    return cudaGetLastError();
}

cudaError_t exchange_signal(const Exchange *x, Phase phase, cudaStream_t stream) {
    static const PFN_cuStreamBatchMemOp_v11070 write = find_batch_write();
    CUstreamBatchMemOpParams flag[RANKS_MOST] = {};
    if (!write)
        return cudaErrorSymbolNotFound;
    for (int q = 0; q < x->s.ranks; q++) {
        flag[q].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
        flag[q].writeValue.address =
            reinterpret_cast<CUdeviceptr>(x->s.flag[q] + phase * x->s.ranks + x->s.rank);
        flag[q].writeValue.value = x->pass;
    }
    // The runtime's numbers of errors are the driver's.
    return static_cast<cudaError_t>(write(stream, (unsigned)x->s.ranks, flag, 0));
}

cudaError_t exchange_wait(const Exchange *x, Phase first, Phase last, cudaStream_t stream) {
    wait_kernel<<<1, 32, 0, stream>>>(*x, first, last);
    return cudaGetLastError();
}
