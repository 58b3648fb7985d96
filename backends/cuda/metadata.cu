/* From every token's choices to rows sorted by expert, stable in token order: count per chunk of
 * tokens, scan, place. No floating point and no order-dependent atomics: the same plan every time.
 */
#include "kernels.h"

#include <stdint.h>

namespace {

constexpr int CHUNK = 256, WARPS = 8, BINS = 1024; /* a block's tokens and warps; most experts */
constexpr int TILE_GROUP = 12;

/* Choices that lie ready. */
struct Chosen {
    const int *expert;
    __device__ int operator()(int64_t i) const {
        return expert[i];
    }
};

/* Choices that a caller gave, made ready in passing. */
template <class T> struct Given {
    SlotArgs s;
    int bins, K;
    int64_t count;
    __device__ int operator()(int64_t i) const {
        const int64_t e = s.wide_index ? static_cast<const int64_t *>(s.index)[i]
                                       : (int64_t) static_cast<const int *>(s.index)[i];
        const bool exists = e >= 0 && e < bins;
        s.expert_weight[i] = !exists ? 0.f
                             : s.f32_weight
                                 ? static_cast<const float *>(s.weight)[i]
                                 : Element<T>::load(static_cast<const T *>(s.weight) + i);
        s.expert[i] = exists ? (int)e : -1;
        if (i % K == 0)
            s.token_offsets[i / K] = (int)i;
        if (i == count - 1)
            s.token_offsets[count / K] = (int)count;
        return s.expert[i];
    }
};

template <class Source>
__global__ void count_kernel(Source expert_of, int tokens, int K, int bins, int *counts) {
    __shared__ int count[BINS];
    for (int e = (int)threadIdx.x; e < bins; e += (int)blockDim.x)
        count[e] = 0;
    __syncthreads();
    int64_t first = (int64_t)blockIdx.x * CHUNK * K,
            last = min(first + CHUNK * K, (int64_t)tokens * K);
    for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x) {
        const int e = expert_of(i);
        if (e >= 0)
            atomicAdd(&count[e], 1);
    }
    __syncthreads();
    for (int e = (int)threadIdx.x; e < bins; e += (int)blockDim.x)
        counts[(int64_t)blockIdx.x * bins + e] = count[e];
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

template <class Source>
static cudaError_t sort_from(const Source &source, const SortArgs *args, const RowGroups *rows,
                             cudaStream_t stream) {
    const unsigned chunks = (unsigned)sort_chunks(args->tokens);
    count_kernel<<<chunks, 256, 0, stream>>>(source, args->tokens, args->K, rows->bins,
                                             args->counts);
    scan_kernel<<<1, BINS, 0, stream>>>(*args, *rows, (int)chunks);
    place_kernel<<<chunks, 32 * WARPS, sizeof(int) * WARPS * rows->bins, stream>>>(*args, *rows);
    return cudaGetLastError();
}

cudaError_t sort_by_expert(const SortArgs *args, const RowGroups *rows, cudaStream_t stream) {
    return sort_from(Chosen{args->expert}, args, rows, stream);
}

cudaError_t sort_slots(int dtype, const SlotArgs *slots, const SortArgs *args,
                       const RowGroups *rows, cudaStream_t stream) {
    const int64_t count = (int64_t)args->tokens * args->K;
    return dtype == MOE_BF16
               ? sort_from(Given<__nv_bfloat16>{*slots, rows->bins, args->K, count}, args, rows,
                           stream)
               : sort_from(Given<__half>{*slots, rows->bins, args->K, count}, args, rows, stream);
}

cudaError_t list_tiles(const RowGroups *rows, cudaStream_t stream) {
    count_tiles_kernel<<<1, BINS, 0, stream>>>(*rows);
    list_tiles_kernel<<<(unsigned)rows->E, 128, 0, stream>>>(*rows);
    return cudaGetLastError();
}
