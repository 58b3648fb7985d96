/* Tiles of the last wave of a persistent kernel, which is not whole: they are not made, or its CTAs
 * store there what they had of the wave before. */
#include "check/explain/bank.h"
#include "check/explain/reread.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

/* Tiles of a stage, and those that are of the last wave. */
typedef struct waves {
    int64_t high, wide;   /* rows and columns of a tile */
    int64_t down, across; /* tiles */
    bool by_expert;       /* an expert's first row begins a tile */
    bool columns_first;   /* tile numbers go down the rows first */
    int64_t *first;       /* [down+1] rows */
    int64_t *tile;        /* [pairs] the row's tile, down */
    int64_t from;         /* number of the first tile of the last wave */
    int64_t back;         /* it has the tile so many before; 0: zeros */
} waves;

static bool tiles_make(const moe_int_reread *k, int64_t high, int64_t wide, bool by_expert,
                       waves *ret) {
    const int64_t E = by_expert ? k->l->p->e->problem->layer.E : 1;
    *ret = (waves){.high = high, .wide = wide, .by_expert = by_expert};
    ret->across = (k->width + wide - 1) / wide;
    ret->first = malloc((size_t)(k->pairs + E + 1) * sizeof *ret->first);
    ret->tile = malloc((size_t)(k->pairs + 1) * sizeof *ret->tile);
    for (int64_t e = 0; ret->first && ret->tile && e < E; e++) {
        const int64_t begin = by_expert ? k->plan->offsets[e] : 0;
        const int64_t end = by_expert ? k->plan->offsets[e + 1] : k->pairs;
        for (int64_t r = begin; r < end; r++) {
            if ((r - begin) % high == 0)
                ret->first[ret->down++] = r;
            ret->tile[r] = ret->down - 1;
        }
    }
    if (ret->first)
        ret->first[ret->down] = k->pairs;
    return ret->first && ret->tile;
}

static void tiles_free(waves *w) {
    free(w->first);
    free(w->tile);
}

static int64_t number_of(const waves *w, int64_t down, int64_t across) {
    return w->columns_first ? across * w->down + down : down * w->across + across;
}

static bool read_tiles(const moe_int_reread *k, const void *how, int64_t pair, double *ret) {
    const waves *w = how;
    const int64_t down = w->tile[pair], place = pair - w->first[down];
    bool other = false;
    for (int64_t i = 0; i < k->n_need; i++) {
        const int64_t c = k->need[i], number = number_of(w, down, c / w->wide);
        ret[i] = 0;
        if (number < w->from) {
            ret[i] = moe_int_reread_at(k, pair * k->width + c);
            continue;
        }
        other = true;
        const int64_t was = number - w->back;
        const int64_t row = w->first[w->columns_first ? was % w->down : was / w->across] + place;
        const int64_t column =
            (w->columns_first ? was / w->down : was % w->across) * w->wide + c % w->wide;
        if (w->back && row < k->pairs && column < k->width)
            ret[i] = moe_int_reread_at(k, row * k->width + column);
    }
    return other;
}

static void say(const moe_int_reread *k, const waves *w, moe_int_finding *f) {
    const int64_t all = w->down * w->across;
    moe_int_finding_say(f, ": tiles of %lld x %lld of %s%s, numbered %s, from %lld of %lld on ",
                        (long long)w->high, (long long)w->wide, moe_tensor_name(k->stage),
                        w->by_expert ? " for each expert" : "",
                        w->columns_first ? "down the rows first" : "along the columns first",
                        (long long)w->from, (long long)all);
    if (w->back)
        moe_int_finding_say(f, "have what the tile %lld before has", (long long)w->back);
    else
        moe_int_finding_say(f, "are zero");
    moe_int_finding_param(f, "from", (double)w->from);
    moe_int_finding_param(f, "wave", (double)w->back);
}

/* Of so many steps at most. */
static const double most_steps = 1e9;

typedef struct search {
    const moe_int_reread *k;
    moe_int_finding *f;
    double most, steps;
} search;

/* Rows that are zero, or those of another place, need no tiles to be told. */
static bool is_of_whole_rows(const waves *w) {
    return !w->columns_first && w->from % w->across == 0 && w->back % w->across == 0;
}

/* Waves of any number of tiles that leave a last one which is not whole. */
static bool try_waves(search *s, waves *w) {
    const moe_int_reread *k = s->k;
    const int64_t all = w->down * w->across;
    const int64_t pairs_of_row = k->first[k->rows] / (k->rows > 0 ? k->rows : 1) + 1;
    const double each = (double)(k->n_need + k->columns * k->units) * (double)pairs_of_row;
    for (int stale = 1; stale >= 0; stale--)
        for (int64_t grid = 1; grid < all && s->steps < most_steps; grid++) {
            w->from = stale ? all / grid * grid : grid;
            w->back = stale ? grid : 0;
            if (w->from == all || is_of_whole_rows(w))
                continue;
            s->steps += each;
            const double left = moe_int_reread_left(k, read_tiles, w, s->most);
            if (!(left <= s->most)) /* the truth at a clamp's edge is NaN */
                continue;
            moe_int_local_residuals(k->l->p, left, k->d2, s->f);
            say(k, w, s->f);
            return true;
        }
    return false;
}

static bool find_waves(const moe_int_local *l, moe_tensor_id stage, moe_int_finding *f) {
    static const int64_t sizes[] = {128, 64, 256, 32, 16};
    enum { SIZES = sizeof sizes / sizeof *sizes, TILES = SIZES * SIZES };
    moe_int_reread k;
    bool found = false;
    const bool made = moe_int_reread_make(l, stage, &k);
    search s = {.k = &k, .f = f, .most = made ? moe_int_local_limit(l->p->e, l->p->id, k.d2) : 0};
    for (int i = 0; made && !found && i < 4 * TILES; i++) { /* those of all rows first */
        waves w = {0};
        const int64_t high = sizes[i / 2 % TILES / SIZES], wide = sizes[i / 2 % SIZES];
        const bool tiled = wide < 2 * k.width && tiles_make(&k, high, wide, i >= 2 * TILES, &w);
        w.columns_first = i % 2 == 1;
        found = tiled && try_waves(&s, &w);
        tiles_free(&w);
    }
    moe_int_reread_destroy(&k);
    return found;
}

bool moe_int_local_last_wave(const moe_int_local *l, moe_int_finding *f) {
    const moe_tensor_id id = l->p->id;
    if (id == MOE_T_O || id == MOE_T_Y)
        return (id == MOE_T_O && find_waves(l, MOE_T_Y, f)) || find_waves(l, MOE_T_A, f);
    return (id == MOE_T_DX && find_waves(l, MOE_T_DXP, f)) ||
           ((id == MOE_T_DX || id == MOE_T_DXP) && find_waves(l, MOE_T_DH, f));
}
