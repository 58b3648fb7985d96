/* FlashMoE (FlashDMoE): one kernel, whose blocks take tiles of products and rows to send as they
 * come; only routed rows travel, and each (source, expert) is padded to tiles at the receiver. */
#include "sim/devices/devices.h"

#include <math.h>

#define TILE 128 /* rows */

/* Rows multiplied against rows that are: half a tile more for each source and expert. */
static double padding(const moe_int_devices *x) {
    const double experts = (double)moe_int_devices_experts(x, x->group);
    const double rows = moe_int_devices_pairs(x, x->group) / (experts * x->ranks);
    return rows > 0 ? (rows + TILE / 2.0) / rows : 1;
}

static void run(moe_int_devices *x) {
    const moe_int_carrier c = MOE_INT_CARRIER_FLASHMOE;
    const double *p = x->node->c[c];
    const moe_int_local l = moe_int_devices_all(x, 1);
    const moe_int_load load = moe_int_devices_rows(x, 1, x->d * x->element);
    const double eff = p[MOE_INT_CP_GEMM_EFF] > 0 ? p[MOE_INT_CP_GEMM_EFF] : 1;
    const double product = (l.first + l.second) * padding(x) / eff;
    /* SMs put the rows into others' memory themselves, going and coming. */
    double sms = 132;
    moe_gpu_get(x->gpu, "sms", &sms);
    const double put = p[MOE_INT_CP_SM_GBPS] > 0
                           ? 2 * (load.near + load.far) / (p[MOE_INT_CP_SM_GBPS] * 1e3 * sms)
                           : 0;
    const double link = moe_int_transfer_link_us(x->node, c, &load);
    const int sources = (int)x->ep;
    const int launch = moe_int_tl_add(&x->t, "launch", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                      p[MOE_INT_CP_START_US], 0, MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    for (int s = 0; s < sources; s++) {
        int rows = launch;
        x->t.chunk = s;
        if (s > 0)
            rows = moe_int_tl_add(&x->t, "X of a rank", MOE_INT_TL_IN, MOE_INT_TL_COUNT,
                                  link / (sources - 1), load.near / (sources - 1), launch,
                                  MOE_INT_NO_TASK);
        const int tiles = moe_int_tl_add(&x->t, "tiles of a rank", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                         (product + put) / sources, 0, rows, MOE_INT_NO_TASK);
        if (s > 0)
            moe_int_tl_add(&x->t, "O of a rank", MOE_INT_TL_OUT, MOE_INT_TL_COUNT,
                           link / (sources - 1), load.near / (sources - 1), tiles, MOE_INT_NO_TASK);
    }
}

const moe_int_devices_method moe_int_devices_flashmoe = {
    .brief = "FlashMoE: one kernel, tiles as rows come", .run = run, .forward_only = true};
