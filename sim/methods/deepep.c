/* DeepEP's kernels around grouped GEMMs: a row goes once to each rank that has one of the token's
 * experts, and over the network once to each such host, in FP8, and comes back summed, in bf16;
 * decoding (few tokens) uses the low-latency kernels, with a row for each expert. */
#include "sim/devices/devices.h"

#define LOW_LATENCY_TOKENS 128 /* DeepEP's buffers for them are made for so many */
#define LL_HEADER          16  /* bytes before a row */
#define GPU_SMS            132

static void transfers(moe_int_devices *x, moe_int_load *dispatch, moe_int_load *combine, bool few) {
    const double fp8 = x->d + 4 * x->d / 128, wide = x->d * 2;
    if (!few) {
        *dispatch = moe_int_devices_forwarded(x, 1, x->backward ? wide : fp8);
        *combine = moe_int_devices_forwarded(x, 1, wide);
        return;
    }
    *dispatch = moe_int_devices_rows(x, 1, fp8 + LL_HEADER);
    *combine = moe_int_devices_rows(x, 1, wide);
    dispatch->sms = combine->sms = moe_int_low_latency_sms(x->E, GPU_SMS);
}

static void run(moe_int_devices *x) {
    const bool few = x->T <= LOW_LATENCY_TOKENS && !x->backward;
    const moe_int_local l = moe_int_devices_all(x, 1);
    moe_int_load dispatch, combine;
    transfers(x, &dispatch, &combine, few);
    int last = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                    few ? MOE_INT_CARRIER_LL_DISPATCH : MOE_INT_CARRIER_DISPATCH,
                                    &dispatch, MOE_INT_NO_TASK);
    last = moe_int_devices_gather(x, &dispatch, last);
    last = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                          l.first + l.second + (few ? 0 : l.sum), 0, last, MOE_INT_NO_TASK);
    last = moe_int_devices_scatter(x, &combine, last);
    moe_int_devices_move(x, moe_int_pass_name(x, "combine Y", "combine dX~"),
                         few ? MOE_INT_CARRIER_LL_COMBINE : MOE_INT_CARRIER_COMBINE, &combine,
                         last);
    if (l.rest > 0) /* beside the combine */
        moe_int_tl_add(&x->t, "dW", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, l.rest, 0, MOE_INT_NO_TASK,
                       MOE_INT_NO_TASK);
}

const moe_int_devices_method moe_int_devices_deepep = {
    .brief = "DeepEP's dispatch and combine around grouped GEMMs; low latency up to 128 tokens",
    .run = run};
