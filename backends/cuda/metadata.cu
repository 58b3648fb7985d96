/* From every token's choices to rows sorted by expert, stable in token order, in one launch: a
 * block counts its chunk of tokens, waits for all blocks' counts, and places its rows. No floating
 * point and no order-dependent atomics: the same plan every time. */
#include "row_tiles.cuh"

#include <algorithm>
#include <cooperative_groups.h>
#include <stdint.h>

namespace {

constexpr int WARPS = 8, THREADS = 32 * WARPS;

static_assert(BUFFER_CHUNK_STEP % WARPS == 0, "a chunk's tokens are shared by warps");

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

/* From the experts' running sums of rows to those of tiles, and to the list of tiles, of which each
 * block makes a part. row0 [E + 1] and tile0 [E + 1] lie in shared memory. */
__device__ void make_tiles(const RowGroups &rows, const int *row0, int *tile0) {
    for (int e = (int)threadIdx.x; e < rows.E; e += THREADS)
        tile0[e] = row_tiles(row0[e + 1] - row0[e]);
    __syncthreads();
    scan_shared<THREADS>(tile0, rows.E);
    for (int e = (int)threadIdx.x; blockIdx.x == 0 && e <= rows.E; e += THREADS)
        rows.tile_offsets[e] = tile0[e];
    for (int e = (int)blockIdx.x; e < rows.E; e += (int)gridDim.x)
        list_tiles_of(rows.tiles, e, row0[e], row0[e + 1] - row0[e], tile0[e],
                      tile0[e + 1] - tile0[e]);
}

/* What a block keeps in shared memory while it sorts. */
struct Room {
    int *row0;   /* [bins + 1] the experts' first rows */
    int *tile0;  /* [bins + 1] their first tiles */
    int *before; /* [bins] rows of earlier chunks */
    int *warps;  /* [WARPS][bins] */
    __device__ Room(int *shared, int bins)
        : row0(shared), tile0(row0 + bins + 1), before(tile0 + bins + 1), warps(before + bins) {
        for (int i = (int)threadIdx.x; i < ints(bins); i += THREADS)
            shared[i] = 0;
        __syncthreads();
    }
    __host__ __device__ static int ints(int bins) {
        return (3 + WARPS) * bins + 2;
    }
};

/* The slots of [T][K] that a warp sorts. */
struct Segment {
    int64_t first, last;
    __device__ Segment(const SortArgs &g) {
        const int64_t slots = (int64_t)g.chunk / WARPS * g.K, end = (int64_t)g.tokens * g.K;
        first = min(((int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5)) * slots, end);
        last = min(first + slots, end);
    }
};

/* How often each expert is chosen: of the warps, how often by earlier warps; of the block, in all.
 */
template <class Source>
__device__ void count_chunk(const Source &expert_of, const SortArgs &g, int bins,
                            const Segment &segment, const Room &room) {
    int *mine = room.warps + (threadIdx.x >> 5) * bins;
    for (int64_t i = segment.first + (threadIdx.x & 31); i < segment.last; i += 32) {
        const int e = expert_of(i);
        if (e >= 0)
            atomicAdd(&mine[e], 1);
    }
    __syncthreads();
    for (int e = (int)threadIdx.x; e < bins; e += THREADS) {
        int sum = 0;
        for (int w = 0; w < WARPS; w++) {
            const int here = room.warps[w * bins + e];
            room.warps[w * bins + e] = sum;
            sum += here;
        }
        g.counts[(int64_t)blockIdx.x * bins + e] = sum;
    }
}

/* From all blocks' counts to the experts' first rows, and this chunk's first rows in each. */
__device__ void sum_chunks(const SortArgs &g, const RowGroups &rows, const Room &room) {
    const int bins = rows.bins, count = (int)gridDim.x * bins, earlier = (int)blockIdx.x * bins;
#pragma unroll 8
    for (int i = (int)threadIdx.x; i < count; i += THREADS) {
        const int here = __ldcg(g.counts + i), e = i % bins;
        atomicAdd(&room.row0[e], here);
        if (i < earlier)
            atomicAdd(&room.before[e], here);
    }
    __syncthreads();
    scan_shared<THREADS>(room.row0, bins);
    for (int e = (int)threadIdx.x; blockIdx.x == 0 && e <= bins; e += THREADS)
        rows.offsets[e] = room.row0[e];
    for (int i = (int)threadIdx.x; i < WARPS * bins; i += THREADS)
        room.warps[i] += room.row0[i % bins] + room.before[i % bins];
    __syncthreads();
}

/* A slot's row: the next of its expert's rows in this segment, plus the equal choices before it, 32
 * slots at a time. */
__device__ void place(const SortArgs &g, const RowGroups &rows, const Segment &segment, int *next) {
    const int lane = (int)threadIdx.x & 31;
    for (int64_t i = segment.first + lane; i - lane < segment.last; i += 32) {
        const int e = i < segment.last ? g.expert[i] : -1;
        const uint32_t same = __match_any_sync(~0u, e);
        const int before = __popc(same & ((1u << lane) - 1));
        const int row = e < 0 ? -1 : next[e] + before;
        __syncwarp();
        if (e >= 0 && before == 0)
            next[e] += __popc(same);
        __syncwarp();
        if (e >= 0) {
            rows.token[row] = (int)(i / g.K);
            rows.weight[row] = g.weight[i];
        }
        if (i < segment.last)
            g.pair[i] = row;
    }
}

template <class Source>
__global__ void __launch_bounds__(THREADS)
    sort_kernel(Source expert_of, SortArgs g, RowGroups rows) {
    extern __shared__ int shared[];
    const Room room(shared, rows.bins);
    const Segment segment(g);
    count_chunk(expert_of, g, rows.bins, segment, room);
    if (gridDim.x > 1)
        cooperative_groups::this_grid().sync();
    else
        __syncthreads();
    sum_chunks(g, rows, room);
    place(g, rows, segment, room.warps + (threadIdx.x >> 5) * rows.bins);
    make_tiles(rows, room.row0, room.tile0);
}

__global__ void __launch_bounds__(THREADS) list_tiles_kernel(RowGroups rows) {
    __shared__ int row0[MOST_BINS + 1], tile0[MOST_BINS + 1];
    for (int e = (int)threadIdx.x; e <= rows.E; e += THREADS)
        row0[e] = rows.offsets[e];
    __syncthreads();
    make_tiles(rows, row0, tile0);
}

/* All blocks run at once, one a multiprocessor at most: they wait for each other. */
template <class Source>
cudaError_t sort_from(const Source &source, const SortArgs *args, const RowGroups *rows,
                      const Stream &stream) {
    const unsigned blocks = (unsigned)((args->tokens + args->chunk - 1) / args->chunk);
    const size_t shared = sizeof(int) * (size_t)Room::ints(rows->bins);
    return launch(stream, {blocks, THREADS, shared, blocks > 1}, sort_kernel<Source>, source, *args,
                  *rows);
}

} // namespace

cudaError_t sort_by_expert(const SortArgs *args, const RowGroups *rows, const Stream &stream) {
    return sort_from(Chosen{args->expert}, args, rows, stream);
}

cudaError_t sort_slots(int dtype, const SlotArgs *slots, const SortArgs *args,
                       const RowGroups *rows, const Stream &stream) {
    const int64_t count = (int64_t)args->tokens * args->K;
    return dtype == MOE_BF16
               ? sort_from(Given<__nv_bfloat16>{*slots, rows->bins, args->K, count}, args, rows,
                           stream)
               : sort_from(Given<__half>{*slots, rows->bins, args->K, count}, args, rows, stream);
}

cudaError_t list_tiles(const RowGroups *rows, const Stream &stream) {
    return launch(stream, {(unsigned)rows->E, THREADS}, list_tiles_kernel, *rows);
}
