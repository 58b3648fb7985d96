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
static void sum_depths(const moe_int_gemm *g, double tiles_per_group, double split,
                       moe_int_sums *s) {
    double steps[MOE_INT_BATCHES_MAX] = {0}, experts[MOE_INT_BATCHES_MAX] = {0}, deepest = 0;
    for (int64_t i = 0; i < g->groups; i++)
        /* counts has an entry for each group. NOLINTNEXTLINE(clang-analyzer-core.*) */
        deepest = fmax(deepest, ceil_div((double)g->counts[i], MOE_INT_KSTEP * split));
    const double unit = ceil_div(deepest + 1, MOE_INT_BATCHES_MAX);
    for (int64_t i = 0; i < g->groups; i++) {
        const double deep = ceil_div((double)g->counts[i], MOE_INT_KSTEP * split);
        const int at = (int)(deep / unit);
        steps[at] += deep;
        experts[at]++;
        s->flops += 2 * g->m * g->n * (double)g->counts[i];
    }
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

/* Row tiles of `groups` groups of m rows each, the first of which is row `start` of all. */
static void add_groups(const moe_int_gemm *g, int64_t tile_m, double groups, int64_t start,
                       double m, moe_int_sums *s) {
    const double tiles = (double)moe_int_gemm_row_tiles(g, tile_m, start, (int64_t)ceil(m));
    s->tiles_m += groups * tiles;
    s->full += groups * floor(m / (double)tile_m);
    s->alone += tiles == 1 ? groups : 0;
    s->rows += groups * m;
}

/* Full tiles load more than those that end a group; where tiles run on over ends all are alike. */
static void add_fills(const moe_int_gemm *g, moe_int_tile t, double tiles_n, double steps,
                      moe_int_sums *s) {
    const double full = g->packed ? 0 : s->full, rest = s->tiles_m - full;
    if (full > 0)
        add_batch(s, steps, full * tiles_n * t.split, t.m);
    if (rest > 0)
        add_batch(s, steps, rest * tiles_n * t.split, (s->rows - full * t.m) / rest);
}

void moe_int_tiles_sum(const moe_int_gemm *g, moe_int_tile t, moe_int_sums *s) {
    const double tiles_n = ceil_div(g->n, t.n);
    int64_t start = 0;
    s->tiles_m = s->full = s->alone = s->rows = s->flops = s->steps = 0;
    s->batches = 0;
    if (g->counts && !g->depth) {
        for (int64_t i = 0; i < g->groups; i++) {
            add_groups(g, t.m, 1, start, (double)g->counts[i], s);
            start += g->counts[i];
        }
    } else {
        add_groups(g, t.m, (double)g->groups, 0, g->m, s);
    }
    if (!g->depth) {
        add_fills(g, t, tiles_n, ceil_div(ceil_div(g->k, MOE_INT_KSTEP), t.split), s);
        s->flops = 2 * s->rows * g->n * g->k;
    }
    s->tiles = s->tiles_m * tiles_n * t.split;
    s->alone = s->tiles_m > 0 && !g->depth && g->cluster <= 1 ? s->alone / s->tiles_m : 0;
    s->rows = s->tiles_m > 0 ? s->rows / s->tiles_m : 0;
    if (g->depth)
        sum_depths(g, s->tiles / (double)g->groups, t.split, s);
    for (int i = 0; i < s->batches; i++)
        s->steps += s->batch[i].cost * s->batch[i].count;
}
