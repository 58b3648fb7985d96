/* What serving systems do inside a tensor-parallel group, with or without expert parallelism
 * (vLLM's and SGLang's fused MoE): all ranks have all tokens, compute their own experts, or their
 * own part of each expert's width, for them, and add up. */
#include "sim/devices/devices.h"

static void run(moe_int_devices *x) {
    const moe_int_local l = moe_int_devices_all(x, 1);
    const double bytes = x->T * x->d * x->element;
    const int last = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                    moe_int_local_us(&l), 0, MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    if (x->ranks > 1)
        moe_int_devices_send(x, moe_int_pass_name(x, "all-reduce O", "all-reduce dX"), x->hosts > 1,
                             moe_int_collective_us(x->node, MOE_INT_ALL_REDUCE, x->ranks, bytes),
                             2 * bytes * (x->ranks - 1) / x->ranks, last);
}

const moe_int_devices_method moe_int_devices_allreduce = {
    .brief = "all GPUs have the same T tokens: own experts or widths, then an all-reduce",
    .run = run,
    .replicated = true};
