/* From every token's choices to rows sorted by expert, stable in token order: count per chunk of
 * tokens, scan, place. No floating point and no order-dependent atomics: the same plan every time.
 */
#include "kernels.h"

#include <stdint.h>

namespace {

constexpr int CHUNK = 256, BINS = 1024; /* tokens of a block; most experts */

__global__ void count_kernel(SortArgs g, int bins) {
    __shared__ int count[BINS];
    for (int e = (int)threadIdx.x; e < bins; e += (int)blockDim.x)
        count[e] = 0;
    __syncthreads();
    int64_t first = (int64_t)blockIdx.x * CHUNK * g.K,
            last = min(first + CHUNK * g.K, (int64_t)g.tokens * g.K);
    for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x)
        atomicAdd(&count[g.expert[i]], 1);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < bins; e += (int)blockDim.x)
        g.counts[(int64_t)blockIdx.x * bins + e] = count[e];
}

/* Inclusive scan over a block of BINS threads. */
__device__ int block_scan(int x, int *shared) {
    const int i = (int)threadIdx.x;
    shared[i] = x;
    __syncthreads();
    for (int step = 1; step < BINS; step *= 2) {
        int add = i >= step ? shared[i - step] : 0;
        __syncthreads();
        shared[i] += add;
        __syncthreads();
    }
    int sum = shared[i];
    __syncthreads();
    return sum;
}

/* counts[chunk][e] becomes the first row of that chunk's tokens in expert e. */
__global__ void scan_kernel(SortArgs g, RowGroups rows, int chunks) {
    __shared__ int shared[BINS];
    const int e = (int)threadIdx.x;
    int total = 0;
    if (e < rows.bins)
        for (int c = 0; c < chunks; c++)
            total += g.counts[(int64_t)c * rows.bins + e];
    int end = block_scan(total, shared), next = end - total;
    if (e < rows.bins) {
        rows.offsets[e + 1] = end;
        for (int c = 0; c < chunks; c++) {
            int here = g.counts[(int64_t)c * rows.bins + e];
            g.counts[(int64_t)c * rows.bins + e] = next;
            next += here;
        }
    }
    int tiles = block_scan(e < rows.E ? (total + 127) / 128 : 0, shared);
    if (e < rows.E)
        rows.tile_offsets[e + 1] = tiles;
    if (e == 0)
        rows.offsets[0] = rows.tile_offsets[0] = 0;
}

/* Thread e walks its chunk's choices in token order and places those of expert e. */
__global__ void place_kernel(SortArgs g, RowGroups rows) {
    extern __shared__ int choice[];
    int64_t first = (int64_t)blockIdx.x * CHUNK * g.K;
    int count = (int)min((int64_t)CHUNK * g.K, (int64_t)g.tokens * g.K - first);
    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x)
        choice[i] = g.expert[first + i];
    __syncthreads();
    for (int e = (int)threadIdx.x; e < rows.bins; e += (int)blockDim.x) {
        int row = g.counts[(int64_t)blockIdx.x * rows.bins + e];
        for (int i = 0; i < count; i++) {
            if (choice[i] != e)
                continue;
            rows.token[row] = (int)((first + i) / g.K);
            rows.weight[row] = g.weight[first + i];
            g.pair[first + i] = row++;
        }
    }
}

__global__ void count_tiles_kernel(RowGroups rows) {
    __shared__ int shared[BINS];
    const int e = (int)threadIdx.x;
    int count = e < rows.E ? rows.offsets[e + 1] - rows.offsets[e] : 0;
    int tiles = block_scan((count + 127) / 128, shared);
    if (e < rows.E)
        rows.tile_offsets[e + 1] = tiles;
    if (e == 0)
        rows.tile_offsets[0] = 0;
}

} // namespace

int sort_chunks(int tokens) {
    return (tokens + CHUNK - 1) / CHUNK;
}

cudaError_t sort_by_expert(const SortArgs *args, const RowGroups *rows, cudaStream_t stream) {
    const unsigned chunks = (unsigned)sort_chunks(args->tokens);
    const int bytes = CHUNK * args->K * (int)sizeof(int);
    cudaError_t err =
        cudaFuncSetAttribute(place_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (err != cudaSuccess)
        return err;
    count_kernel<<<chunks, 256, 0, stream>>>(*args, rows->bins);
    scan_kernel<<<1, BINS, 0, stream>>>(*args, *rows, (int)chunks);
    place_kernel<<<chunks, 256, bytes, stream>>>(*args, *rows);
    return cudaGetLastError();
}

cudaError_t count_tiles(const RowGroups *rows, cudaStream_t stream) {
    count_tiles_kernel<<<1, BINS, 0, stream>>>(*rows);
    return cudaGetLastError();
}
