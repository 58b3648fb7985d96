/* Rows, dS and flags between ranks. What is sent is written straight into memory of the rank
 * that needs it; a warp moves a row, 16 bytes a thread. */
#include "exchange.h"

#include "chunks.h"
#include "signals.cuh"

#include <cudaTypedefs.h>
#include <stdint.h>

namespace {

constexpr int THREADS = 1024;
constexpr int IN_FLIGHT = 8; /* loads of a thread before it stores */

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
        x.ds[p] =
            __ldcg(x.peer[ep_owner(x.E, x.s.ranks, ep_expert_of(x.offsets, x.E, p))].ds + x.row[p]);
}

/* Not linked, as in tensor_maps.cu. */
PFN_cuStreamBatchMemOp_v11070 find_batch_write() {
    return reinterpret_cast<PFN_cuStreamBatchMemOp_v11070>(
        driver_function("cuStreamBatchMemOp", 11070));
}

__device__ void wait_phases(const Exchange &x, Phase first, Phase last) {
    for (int phase = first; phase <= last; phase++)
        wait_all(x.s, (Phase)phase, x.pass);
}

__global__ void signal_kernel(const __grid_constant__ Exchange x, Phase first, Phase last) {
    for (int phase = first; phase <= last; phase++)
        signal_all(x.s, (Phase)phase, x.pass);
}

__global__ void meet_kernel(const __grid_constant__ Exchange x, Phase phase, Phase last) {
    signal_all(x.s, phase, x.pass);
    wait_phases(x, phase, last);
}

__global__ void wait_kernel(const __grid_constant__ Exchange x, Phase first, Phase last) {
    wait_phases(x, first, last);
}

} // namespace

cudaError_t exchange_send_rows(const Exchange *x, bool backward, int blocks, const Stream &stream) {
    return launch(stream, {(unsigned)blocks, THREADS}, send_rows_kernel, *x, backward);
}

cudaError_t exchange_take_ds(const Exchange *x, int blocks, const Stream &stream) {
    return launch(stream, {(unsigned)blocks, THREADS}, take_ds_kernel, *x);
}

cudaError_t exchange_signal(const Exchange *x, Phase first, Phase last, const Stream &stream) {
    return launch(stream, {1, 32}, signal_kernel, *x, first, last);
}

cudaError_t exchange_meet(const Exchange *x, Phase phase, Phase last, const Stream &stream) {
    return launch(stream, {1, 32}, meet_kernel, *x, phase, last);
}

cudaError_t exchange_write(const Exchange *x, Phase phase, cudaStream_t stream) {
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

cudaError_t exchange_wait(const Exchange *x, Phase first, Phase last, const Stream &stream) {
    return launch(stream, {1, 32}, wait_kernel, *x, first, last);
}
