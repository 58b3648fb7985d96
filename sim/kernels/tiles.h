/* Internal: the tiles that the groups of a GEMM are cut into. */
#ifndef MOE_SIM_TILES_H
#define MOE_SIM_TILES_H

#include "sim/kernels/gemm.h"
#include "sim/kernels/schedule.h"

#define MOE_INT_KSTEP       64.0
#define MOE_INT_BATCHES_MAX 64 /* levels of depth that are told apart */

/* What the rows of all groups are cut into by tiles of so many rows. */
typedef struct moe_int_rows {
    double tiles;  /* row tiles */
    double full;   /* of these, with all rows filled */
    double padded; /* row tiles where each group's fill clusters */
    double filled; /* rows */
} moe_int_rows;

/* What the groups add up to for one tile shape. */
typedef struct moe_int_sums {
    double tiles_m; /* row tiles of all groups */
    double tiles;   /* output tiles, split-K slices counted */
    double padded;  /* row tiles that clusters along them take for each */
    double rows;    /* filled rows of a row tile, on average */
    double flops;   /* model FLOPs */
    double steps;   /* k-steps of all tiles */
    moe_int_batch
        batch[MOE_INT_BATCHES_MAX];   /* k-steps of a tile, number of tiles; deepest first */
    double fill[MOE_INT_BATCHES_MAX]; /* filled rows of a batch's tiles, on average */
    int batches;
} moe_int_sums;

/* cluster: CTAs. O(groups). */
void moe_int_tiles_rows(const moe_int_gemm *g, int64_t tile_m, int64_t cluster, moe_int_rows *ret);

/* rows: those of tiles of t.m rows. O(1); O(groups) where g->depth. */
void moe_int_tiles_sum(const moe_int_gemm *g, moe_int_tile t, const moe_int_rows *rows,
                       moe_int_sums *ret);

#endif
