/* FlashMoE (FlashDMoE): one kernel, whose blocks take tiles of products and rows to send as they
 * come; only routed rows travel, and each (source, expert) is padded to tiles at the receiver. One
 * block schedules, the others multiply tiles of either product, whatever expert they are of: what
 * they take is their number, and what nothing hides at the end are the results of the last round.
 */
#include "sim/devices/devices.h"
#include "sim/kernels/rates.h"

#include <math.h>

#define TILE_M    128.0 /* rows */
#define TILE_N    64.0
#define PARTS     128.0 /* of all results, at most: rounds beyond are sent together */
#define SCHEDULER 1.0

/* Row tiles of all sources. Its own runs drop what is above a capacity, the mean; here every pair
 * is multiplied. */
static double row_tiles(const moe_int_devices *x) {
    double tiles = 0;
    for (int64_t e = 0; e < x->layer->E; e++)
        if (x->owner[e] == x->group)
            tiles += x->ranks * ceil((double)x->counts[e] / x->ranks / TILE_M);
    return tiles;
}

/* Experts' products on a GPU. */
typedef struct work {
    double us, rounds; /* of tiles */
} work;

/* Rounds of tiles columns wide whose sums have `depth` terms. */
static void add_product(const moe_int_rates *r, double eff, double rows, double columns,
                        double depth, work *ret) {
    const double rounds = ceil(rows * ceil(columns / TILE_N) / (r->sms - SCHEDULER));
    ret->rounds += rounds;
    ret->us += rounds * 2 * TILE_M * TILE_N * depth / (r->tensor_peak * eff) / r->clock;
}

/* Both products; and no faster than weights come from memory. */
static work products(const moe_int_devices *x, double eff) {
    const double d = x->d, n = ceil((double)x->layer->n / x->tp);
    const double h = (double)moe_h_width(x->layer, (int64_t)n), rows = row_tiles(x);
    const double weights = (double)moe_int_devices_experts(x, x->group) * d * (h + n) * x->element;
    moe_int_rates r;
    work w = {0};
    moe_int_rates_of(x->gpu, MOE_INT_SYS_CUBLAS, x->state, &r);
    add_product(&r, eff, rows, h, d, &w);
    add_product(&r, eff, rows, d, n, &w);
    w.us = fmax(w.us, weights / r.hbm);
    return w;
}

/* Tiles of a source's rows, and results that go home as they come. */
static void add_source(moe_int_devices *x, int rows, const work *w, int parts, double link,
                       double bytes) {
    for (int p = 0; p < parts; p++) {
        const int tiles = moe_int_tl_add(&x->t, "tiles of a rank", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                         w->us / x->ep / parts, 0, rows, MOE_INT_NO_TASK);
        if (link > 0)
            moe_int_tl_add(&x->t, "O of a rank", MOE_INT_TL_OUT, MOE_INT_TL_COUNT, link / parts,
                           bytes / parts, tiles, MOE_INT_NO_TASK);
    }
}

static void run(moe_int_devices *x) {
    const moe_int_carrier c = MOE_INT_CARRIER_FLASHMOE;
    const double *p = x->node->c[c];
    const moe_int_load load = moe_int_devices_rows(x, 1, x->d * x->element);
    const work w = products(x, p[MOE_INT_CP_GEMM_EFF] > 0 ? p[MOE_INT_CP_GEMM_EFF] : 1);
    const int sources = (int)x->ep;
    const int parts = (int)fmax(1, floor(fmin(w.rounds, PARTS) / sources));
    const double link =
        sources > 1 ? moe_int_transfer_link_us(x->node, c, &load) / (sources - 1) : 0;
    const double bytes = sources > 1 ? (load.near + load.far) / (sources - 1) : 0;
    /* Packets and flags of every rank are set up and waited for. */
    const double start = p[MOE_INT_CP_START_US] + x->ep * p[MOE_INT_CP_RANK_US];
    const int launch = moe_int_tl_add(&x->t, "launch", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, start, 0,
                                      MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    for (int s = 0; s < sources; s++) {
        int rows = launch;
        x->t.chunk = s;
        if (s > 0)
            rows = moe_int_tl_add(&x->t, "X of a rank", MOE_INT_TL_IN, MOE_INT_TL_COUNT, link,
                                  bytes, launch, MOE_INT_NO_TASK);
        add_source(x, rows, &w, parts, s > 0 ? link : 0, bytes);
    }
}

const moe_int_devices_method moe_int_devices_flashmoe = {
    .brief = "FlashMoE: one kernel, tiles as rows come",
    .run = run,
    .forward_only = true,
    .whole = true};
