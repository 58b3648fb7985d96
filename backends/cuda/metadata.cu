/* From every token's choices to rows sorted by expert, stable in token order: count per chunk of
 * tokens, scan, place. No floating point and no order-dependent atomics: the same plan every time.
 */
#include "kernels.h"

#include <stdint.h>

namespace {

constexpr int CHUNK = 256, WARPS = 8, BINS = 1024; /* a block's tokens and warps; most experts */
constexpr int TILE_GROUP = 12;

__global__ void count_kernel(SortArgs g, int bins) {
    __shared__ int count[BINS];
    for (int e = (int)threadIdx.x; e < bins; e += (int)blockDim.x)
        count[e] = 0;
    __syncthreads();
    int64_t first = (int64_t)blockIdx.x * CHUNK * g.K,
            last = min(first + CHUNK * g.K, (int64_t)g.tokens * g.K);
    for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x)
        if (g.expert[i] >= 0)
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
#pragma unroll 16
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

/* A block writes the list entries of experts blockIdx.x, blockIdx.x + gridDim.x ... A group is of
 * one expert, at most TILE_GROUP high, and all groups of an expert are equally high but for one. */
__device__ void list_tiles_of_block(const RowGroups &rows) {
    for (int e = (int)blockIdx.x; e < rows.E; e += (int)gridDim.x) {
        const int first = rows.tile_offsets[e], tiles = rows.tile_offsets[e + 1] - first;
        const int groups = (tiles + TILE_GROUP - 1) / TILE_GROUP;
        const int height = groups ? (tiles + groups - 1) / groups : 0;
        const int row0 = rows.offsets[e], count = rows.offsets[e + 1] - row0;
        for (int m = (int)threadIdx.x; m < tiles; m += (int)blockDim.x) {
            const int start = m / height * height;
            rows.tiles[first + m] = {
                e, m, row0, count, first + start, min(height, tiles - start), {0, 0}};
        }
    }
}

/* Each warp places a segment of its chunk's choices, 32 at a time. A choice's row: where its
 * expert's rows of this segment start, plus the equal choices before it. */
__global__ void place_kernel(SortArgs g, RowGroups rows) {
    extern __shared__ int shared[]; /* [WARPS][bins] */
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    const int token0 = (int)blockIdx.x * CHUNK, segment = CHUNK / WARPS * g.K;
    const int first = warp * segment;
    const int last = min(first + segment, min(CHUNK, g.tokens - token0) * g.K);
    const int *expert = g.expert + (int64_t)token0 * g.K;
    int *next = shared + warp * rows.bins;
    for (int i = (int)threadIdx.x; i < WARPS * rows.bins; i += (int)blockDim.x)
        shared[i] = 0;
    __syncthreads();
    for (int i = first + lane; i < last; i += 32)
        if (expert[i] >= 0)
            atomicAdd(&next[expert[i]], 1);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < rows.bins; e += (int)blockDim.x) {
        int row = g.counts[(int64_t)blockIdx.x * rows.bins + e];
        for (int *count = shared + e; count < shared + WARPS * rows.bins; count += rows.bins) {
            const int here = *count;
            *count = row;
            row += here;
        }
    }
    __syncthreads();
    for (int i = first + lane; i - lane < last; i += 32) {
        const int e = i < last ? expert[i] : -1;
        const uint32_t same = __match_any_sync(~0u, e);
        const int before = __popc(same & ((1u << lane) - 1));
        const int row = e < 0 ? 0 : next[e] + before;
        __syncwarp();
        if (e >= 0 && before == 0)
            next[e] += __popc(same);
        __syncwarp();
        const int64_t choice = (int64_t)token0 * g.K + i;
        if (e >= 0) {
            rows.token[row] = token0 + i / g.K;
            rows.weight[row] = g.weight[choice];
        }
        if (i < last)
            g.pair[choice] = e < 0 ? -1 : row;
    }
    list_tiles_of_block(rows);
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

__global__ void list_tiles_kernel(RowGroups rows) {
    list_tiles_of_block(rows);
}

} // namespace

int sort_chunks(int tokens) {
    return (tokens + CHUNK - 1) / CHUNK;
}

cudaError_t sort_by_expert(const SortArgs *args, const RowGroups *rows, cudaStream_t stream) {
    const unsigned chunks = (unsigned)sort_chunks(args->tokens);
    count_kernel<<<chunks, 256, 0, stream>>>(*args, rows->bins);
    scan_kernel<<<1, BINS, 0, stream>>>(*args, *rows, (int)chunks);
    place_kernel<<<chunks, 32 * WARPS, sizeof(int) * WARPS * rows->bins, stream>>>(*args, *rows);
    return cudaGetLastError();
}

cudaError_t list_tiles(const RowGroups *rows, cudaStream_t stream) {
    count_tiles_kernel<<<1, BINS, 0, stream>>>(*rows);
    list_tiles_kernel<<<(unsigned)rows->E, 128, 0, stream>>>(*rows);
    return cudaGetLastError();
}
