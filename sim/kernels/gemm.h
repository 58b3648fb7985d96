/* Internal: the time of a dense or grouped GEMM, from tiles.
 *
 * A group is one expert: C_g[m_g][n] = A_g[m_g][k] B_g[k][n], or, for weight gradients, C_g[m][n] =
 * A_g[k_g][m]^T B_g[k_g][n]. */
#ifndef MOE_SIM_GEMM_H
#define MOE_SIM_GEMM_H

#include "sim/kernels/rates.h"

#include <stdint.h>

typedef struct moe_int_gemm {
    const int64_t *counts; /* [groups] m_g or k_g; NULL: equal groups of m, n, k */
    int64_t groups;
    bool depth;      /* counts are k_g */
    int32_t cluster; /* CTAs of a fixed cluster, along the rows: they take as many row tiles as one,
                        full or not; 1: no clusters; 0: whatever multicast saves most */
    bool narrow;    /* tiles of fewer rows than wgmma and tcgen05 have are multiplied by mma.sync */
    bool packed;    /* row tiles run on over the ends of groups; one that straddles an end is
                       multiplied for each of its groups */
    double m, n, k; /* the one that counts give is ignored */
    double element; /* bytes of an operand's element */
    double read;    /* bytes read from memory: operands once each, and what the epilogue reads */
    double again;   /* bytes of operands read from memory a second time and more */
    double write;   /* bytes written */
    double epilogue; /* bytes that the epilogue moves for each accumulator */
    double load;     /* factor on the operand loads: above 1 for gathered rows */
    double region;   /* bytes that rows are gathered from all over; 0: rows are not gathered */
    double tensor;   /* share of the tensor rate that its main loop gets; 0: all of it */
    double hidden;   /* share of the epilogue behind the next tile's main loop (ping-pong) */
} moe_int_gemm;

/* CTAs that load together. */
static inline int64_t moe_int_cluster(const moe_int_rates *r, const moe_int_gemm *g) {
    return g->cluster > 0 ? g->cluster : (int64_t)r->cluster;
}

/* Row tiles of a group of m rows, the first of which is row `start` of all groups. */
int64_t moe_int_gemm_row_tiles(const moe_int_gemm *g, int64_t tile_m, int64_t start, int64_t m);

/* A shape that a kernel is compiled for; split-K where the system has it. */
typedef struct moe_int_tile {
    int16_t m, n;
    int16_t split;
} moe_int_tile;

/* What a GEMM's time is made of, us: the SMs' tiles and memory, while all SMs are busy and after.
 */
typedef struct moe_int_times {
    double full, memory_full;
    double tail, memory_tail;
    double rest; /* launch, fix-up */
    double
        bound; /* share of a k-step's time that the SM itself needs; below 1 where L2 is slower */
} moe_int_times;

/* Evaluates one tile shape. Fills every field of *ret but names, pass and start. */
void moe_int_gemm_tile(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile tile,
                       moe_kernel *ret, moe_int_times *ret_times);

/* The fastest of `count` shapes that fit the GPU; each may also split K up to max_split ways.
 * false, and nothing filled: none takes less than below_us (INFINITY: any will do). */
bool moe_int_gemm_best(const moe_int_rates *r, const moe_int_gemm *g, const moe_int_tile *tiles,
                       int count, int max_split, double below_us, moe_kernel *ret,
                       moe_int_times *ret_times);

/* Sets the floor of a kernel that computes `flops` and moves `bytes`, each once, and what even a
 * kernel that finds L2 full of its operands, and leaves it full of results, cannot beat. */
void moe_int_floor(const moe_int_rates *r, double flops, double bytes, moe_kernel *kernel);

/* Slows a GEMM's tiles down as the power limit does after `work_us` of continuous work: the clock
 * of the SMs falls, memory keeps its own. Returns by how much it falls, at least 1. */
double moe_int_throttle(const moe_int_rates *r, double work_us, const moe_int_times *times,
                        moe_kernel *kernel);

/* A kernel of `read` and `write` bytes, bound by memory or by its own instructions: no more than
 * `rate` of its `elements` a clock and SM. rate 0: by memory alone. */
void moe_int_stream(const moe_int_rates *r, double read, double write, double elements, double rate,
                    moe_kernel *ret);

/* The same where each warp waits for a round of loads before it asks for the next: its rounds take
 * `rounds_us` in all, and do not overlap perfectly with memory's work. */
void moe_int_stream_rounds(const moe_int_rates *r, double read, double write, double rounds_us,
                           moe_kernel *ret);

/* Clocks of one k-step of 64, and of the rest of a tile, for the timeline. */
typedef struct moe_int_step {
    double tensor, smem, l2; /* clocks of a k-step in each unit */
    double step;             /* the slowest */
    double epilogue;         /* clocks, all of it */
    double l2_step_bytes, smem_step_bytes;
} moe_int_step;

typedef struct moe_int_fill {
    double rows;   /* that are filled, of a tile, on average */
    double padded; /* row tiles that clusters along them take for each; 0: 1 */
    double miss;   /* share of the loaded bytes that L2 lacks */
} moe_int_fill;

void moe_int_gemm_step(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile tile,
                       moe_int_fill fill, moe_int_step *ret);

#endif
