/* Which of a system's tile shapes is the fastest. */
#include "sim/kernels/trial.h"

#include <math.h>

#define MIN_SPLIT_STEPS 4 /* shorter slices of K spend their time in fill and fix-up */

static bool is_pow2(int n) {
    return (n & (n - 1)) == 0;
}

static bool fits(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t) {
    const double deep = g->counts && g->depth ? INFINITY : g->k;
    if (r->tile_pow2 && !(is_pow2(t.m) && is_pow2(t.n)))
        return false;
    return t.m * (double)t.n <= r->tile_max &&
           (t.split == 1 || deep >= MOE_INT_KSTEP * t.split * MIN_SPLIT_STEPS);
}

/* Shapes of as many rows stand together in the systems' lists. */
typedef struct moe_int_search {
    const moe_int_rates *r;
    const moe_int_gemm *g;
    int tile_m; /* that `rows` is of; 0: of none yet */
    moe_int_rows rows;
    moe_int_trial trials[2], *now, *best;
    bool found;
} moe_int_search;

/* ret: the waves of tiles. */
static double try_tile(moe_int_search *s, moe_int_tile t) {
    if (t.m != s->tile_m)
        moe_int_tiles_rows(s->g, t.m, moe_int_cluster(s->r, s->g), &s->rows);
    s->tile_m = t.m;
    const bool ended = moe_int_gemm_try(s->r, s->g, t, &s->rows, s->best->us, s->now);
    /* Told of every trial, ended or not. NOLINTNEXTLINE(clang-analyzer-core.*) */
    const double waves = s->now->s.tiles / s->r->sms;
    if (ended && s->now->us < s->best->us) {
        moe_int_trial *const slower = s->best;
        s->best = s->now;
        s->now = slower;
        s->found = true;
    }
    return waves;
}

bool moe_int_gemm_best(const moe_int_rates *r, const moe_int_gemm *g, const moe_int_tile *tiles,
                       int count, int max_split, double below_us, moe_kernel *ret,
                       moe_int_times *ret_times) {
    static const int16_t splits[] = {1, 2, 3, 4, 6, 8, 12, 16};
    bool fitted = false;
    /* Field by field: an initialiser would clear both trials as well, 3.5 KB for each GEMM, and a
     * prediction takes 2 % longer (30 November 2026, two cores, predict --batch, 20 000 layers). */
    moe_int_search search;
    search.r = r, search.g = g, search.tile_m = 0, search.found = false;
    search.now = &search.trials[0], search.best = &search.trials[1];
    search.best->us = below_us;
    for (int i = 0; i < count; i++) {
        for (size_t s = 0; s < sizeof splits / sizeof *splits && splits[s] <= max_split; s++) {
            const moe_int_tile t = {tiles[i].m, tiles[i].n, splits[s]};
            if (!fits(r, g, t))
                continue;
            fitted = true;
            if (try_tile(&search, t) > 2.5 * splits[s])
                break; /* enough tiles: splitting K further only adds partial sums */
        }
    }
    /* A system compiled for one shape runs it, also where the GPU's own libraries would not. */
    if (!fitted)
        try_tile(&search, (moe_int_tile){tiles[0].m, tiles[0].n, 1});
    if (search.found) {
        moe_int_gemm_told(r, g, search.best, ret);
        *ret_times = search.best->times;
    }
    return search.found;
}
