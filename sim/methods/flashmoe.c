/* FlashMoE (FlashDMoE): one kernel, whose blocks take tiles of products and rows to send as they
 * come; only routed rows travel, and each (source, expert) is padded to tiles at the receiver. */
#include "sim/devices/devices.h"

#include <math.h>

#define TILE 128 /* rows */

/* Rows multiplied against rows that are: those of a source and expert fill whole tiles. Its
 * capacity, the mean, is one, and what is above is dropped: even routing wastes nothing there. */
static double padding(const moe_int_devices *x) {
    double real = 0, padded = 0;
    for (int64_t e = 0; e < x->layer->E; e++) {
        if (x->owner[e] != x->group)
            continue;
        const double rows = (double)x->counts[e] / x->ranks;
        real += rows;
        padded += ceil(rows / TILE) * TILE;
    }
    return real > 0 ? padded / real : 1;
}

static void run(moe_int_devices *x) {
    const moe_int_carrier c = MOE_INT_CARRIER_FLASHMOE;
    const double *p = x->node->c[c];
    const moe_int_local l = moe_int_devices_all(x, 1);
    const moe_int_load load = moe_int_devices_rows(x, 1, x->d * x->element);
    const double eff = p[MOE_INT_CP_GEMM_EFF] > 0 ? p[MOE_INT_CP_GEMM_EFF] : 1;
    const double product = (l.first + l.second) * padding(x) / eff;
    const double link = moe_int_transfer_link_us(x->node, c, &load);
    const int sources = (int)x->ep;
    /* Packets and flags of every rank are set up and waited for. */
    const double start = p[MOE_INT_CP_START_US] + x->ep * p[MOE_INT_CP_RANK_US];
    const int launch = moe_int_tl_add(&x->t, "launch", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, start, 0,
                                      MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    for (int s = 0; s < sources; s++) {
        int rows = launch;
        x->t.chunk = s;
        if (s > 0)
            rows = moe_int_tl_add(&x->t, "X of a rank", MOE_INT_TL_IN, MOE_INT_TL_COUNT,
                                  link / (sources - 1), load.near / (sources - 1), launch,
                                  MOE_INT_NO_TASK);
        const int tiles = moe_int_tl_add(&x->t, "tiles of a rank", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                         product / sources, 0, rows, MOE_INT_NO_TASK);
        if (s > 0)
            moe_int_tl_add(&x->t, "O of a rank", MOE_INT_TL_OUT, MOE_INT_TL_COUNT,
                           link / (sources - 1), load.near / (sources - 1), tiles, MOE_INT_NO_TASK);
    }
}

const moe_int_devices_method moe_int_devices_flashmoe = {
    .brief = "FlashMoE: one kernel, tiles as rows come", .run = run, .forward_only = true};
