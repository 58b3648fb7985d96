#include "sim/kernels/tiles.h"

#include <math.h>

static double ceil_div(double a, double b) {
    return ceil(a / b);
}

static void add_batch(moe_int_sums *s, double steps, double tiles, double fill) {
    s->fill[s->batches] = fill;
    s->batch[s->batches++] = (moe_int_batch){steps, tiles};
}

/* Experts of equal depth are one batch. Where a plan has depths of more than MOE_INT_BATCHES_MAX
 * levels, neighbours are merged and take their mean. */
static void sum_depths(const moe_int_gemm *g, double tiles_per_group, int split, moe_int_sums *s) {
    double steps[MOE_INT_BATCHES_MAX] = {0}, experts[MOE_INT_BATCHES_MAX] = {0};
    const int64_t step = (int64_t)MOE_INT_KSTEP * split;
    int64_t deepest = 0, sum = 0;
    for (int64_t i = 0; i < g->groups; i++) {
        /* counts has an entry for each group. NOLINTNEXTLINE(clang-analyzer-core.*) */
        deepest = g->counts[i] > deepest ? g->counts[i] : deepest;
        sum += g->counts[i];
    }
    const int64_t levels = (deepest + step - 1) / step + 1;
    const int64_t unit = (levels + MOE_INT_BATCHES_MAX - 1) / MOE_INT_BATCHES_MAX;
    for (int64_t i = 0; i < g->groups; i++) {
        const int64_t deep = (g->counts[i] + step - 1) / step, at = unit == 1 ? deep : deep / unit;
        steps[at] += (double)deep;
        experts[at]++;
    }
    s->flops = 2 * g->m * g->n * (double)sum;
    for (int i = MOE_INT_BATCHES_MAX - 1; i >= 0; i--) {
        if (experts[i] > 0)
            add_batch(s, steps[i] / experts[i], experts[i] * tiles_per_group, s->rows);
    }
}

int64_t moe_int_gemm_row_tiles(const moe_int_gemm *g, int64_t tile_m, int64_t start, int64_t m) {
    const int64_t cluster = g->cluster > 1 ? g->cluster : 1, rows = tile_m * cluster;
    if (g->packed && m > 0)
        return (start + m - 1) / tile_m - start / tile_m + 1;
    return (m + rows - 1) / rows * cluster;
}

/* Experts of balanced tokens have as many rows as the one before them, and as many tiles; where
 * tiles run on over ends each begins elsewhere in a tile. */
static void add_counted(const moe_int_gemm *g, int64_t tile_m, int64_t cluster, moe_int_rows *ret) {
    int64_t start = 0, last = -1, tiles = 0, full = 0, padded = 0;
    int64_t sum = 0, sum_full = 0, sum_padded = 0;
    for (int64_t i = 0; i < g->groups; i++) {
        const int64_t m = g->counts[i];
        if (m != last || g->packed) {
            tiles = moe_int_gemm_row_tiles(g, tile_m, start, m);
            full = m / tile_m;
            padded = (tiles + cluster - 1) / cluster * cluster;
            last = m;
        }
        sum += tiles;
        sum_full += full;
        sum_padded += padded;
        start += m;
    }
    *ret = (moe_int_rows){(double)sum, (double)sum_full, (double)sum_padded, (double)start};
}

void moe_int_tiles_rows(const moe_int_gemm *g, int64_t tile_m, int64_t cluster, moe_int_rows *ret) {
    if (g->counts && !g->depth) {
        add_counted(g, tile_m, cluster, ret);
        return;
    }
    const double groups = (double)g->groups;
    const int64_t tiles = moe_int_gemm_row_tiles(g, tile_m, 0, (int64_t)ceil(g->m));
    /* Equal groups are a library's, which has clusters for what there is of tiles but one. */
    *ret = (moe_int_rows){.tiles = groups * (double)tiles,
                          .full = groups * floor(g->m / (double)tile_m),
                          .padded = groups * (double)(tiles == 1 && !g->depth ? cluster : tiles),
                          .filled = groups * g->m};
}

/* Full tiles load more than those that end a group; where tiles run on over ends all are alike. */
static void add_fills(const moe_int_gemm *g, moe_int_tile t, const moe_int_rows *rows,
                      double tiles_n, double steps, moe_int_sums *s) {
    const double full = g->packed ? 0 : rows->full, rest = rows->tiles - full;
    if (full > 0)
        add_batch(s, steps, full * tiles_n * t.split, t.m);
    if (rest > 0)
        add_batch(s, steps, rest * tiles_n * t.split, (rows->filled - full * t.m) / rest);
}

void moe_int_tiles_sum(const moe_int_gemm *g, moe_int_tile t, const moe_int_rows *rows,
                       moe_int_sums *ret) {
    const double tiles_n = ceil_div(g->n, t.n);
    const bool any = rows->tiles > 0;
    ret->batches = 0;
    ret->flops = ret->steps = 0;
    ret->tiles_m = rows->tiles;
    ret->tiles = rows->tiles * tiles_n * t.split;
    ret->padded = any ? rows->padded / rows->tiles : 1;
    ret->rows = any ? rows->filled / rows->tiles : 0;
    if (g->depth) {
        sum_depths(g, ret->tiles / (double)g->groups, t.split, ret);
    } else {
        add_fills(g, t, rows, tiles_n, ceil_div(ceil_div(g->k, MOE_INT_KSTEP), t.split), ret);
        ret->flops = 2 * rows->filled * g->n * g->k;
    }
    for (int i = 0; i < ret->batches; i++)
        ret->steps += ret->batch[i].cost * ret->batch[i].count;
}
