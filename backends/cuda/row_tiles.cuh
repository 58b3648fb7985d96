/* The list of row tiles that the grouped products walk. */
#ifndef MOE_CUDA_ROW_TILES_CUH
#define MOE_CUDA_ROW_TILES_CUH

#include "kernels.h"

#include <cub/block/block_scan.cuh>

constexpr int MOST_BINS = 1024; /* most experts, those that are the identity included */

__device__ __forceinline__ int row_tiles(int rows) {
    return (rows + BUFFER_TILE_ROWS - 1) / BUFFER_TILE_ROWS;
}

/* x[0 .. count-1] in shared memory becomes its running sum, each sum without its own number, and
 * x[count] the sum of all. */
template <int THREADS> __device__ void scan_shared(int *x, int count) {
    constexpr int PER_THREAD = MOST_BINS / THREADS;
    typedef cub::BlockScan<int, THREADS> Scan;
    __shared__ typename Scan::TempStorage room;
    int mine[PER_THREAD], sum;
    const int first = (int)threadIdx.x * PER_THREAD;
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++)
        mine[i] = first + i < count ? x[first + i] : 0;
    Scan(room).ExclusiveSum(mine, mine, sum);
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++)
        if (first + i < count)
            x[first + i] = mine[i];
    if (threadIdx.x == 0)
        x[count] = sum;
    __syncthreads();
}

/* Some of one expert's tiles, side by side in the list from `first` on, by a block: `count` of them
 * in all, without tiles gap0 ... gap0 + gap - 1 of the expert. They are cut in groups of equal
 * height but for one, at most TILE_GROUP. */
__device__ __forceinline__ void list_tiles_of(RowTile *list, int expert, int row0, int rows,
                                              int first, int count, int gap0 = 0, int gap = 0) {
    constexpr int TILE_GROUP = 12;
    const int groups = (count + TILE_GROUP - 1) / TILE_GROUP;
    const int height = groups ? (count + groups - 1) / groups : 0;
    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x) {
        const int m = i < gap0 ? i : i + gap, start = i / height * height;
        list[first + i] = {expert, m, row0, rows, first + start, min(height, count - start),
                           {0, 0}};
    }
}

#endif
