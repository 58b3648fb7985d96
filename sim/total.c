/* From a list of kernels to totals, and how far off they may be. */
#include "sim/gpus/held.h"
#include "sim/passes.h"
#include "sim/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_times(const moe_kernel *k, moe_pass_cost *sum) {
    sum->us += k->cost.us;
    sum->floor_us += k->cost.floor_us;
    sum->least_us += k->least_us;
}

/* What no kernel of the passes accounts for. A backward pass that is queued while the forward pass
 * runs does not wait for the host. */
static void add_up(const moe_int_list *l, int pass, moe_prediction *p) {
    const double forward = pass & MOE_PASS_FWD ? l->r.fixed_us : 0;
    const double backward = pass & MOE_PASS_BWD && !l->host_first ? l->r.fixed_us : 0;
    double now = 0, done = 0, padded = 0, clocks = 0;
    moe_pass_cost *total = &p->pass[MOE_PASS_TOTAL];
    p->overhead_us = forward + backward;
    for (size_t i = 0; i < p->n_kernels; i++)
        now += p->kernels[i].cost.us;
    const double work = now + p->overhead_us;
    now = 0;
    for (size_t i = 0; i < p->n_kernels; i++) {
        moe_kernel *k = &p->kernels[i];
        const double mhz = l->r.clock / moe_int_throttle(&l->r, work, &l->times[i], k);
        clocks += mhz * k->cost.us;
        k->start_us = now;
        now += k->cost.us;
        moe_pass_cost *sum = &p->pass[k->backward ? MOE_PASS_BACKWARD : MOE_PASS_FORWARD];
        add_times(k, sum);
        add_times(k, total);
        sum->flops += k->again ? 0 : k->cost.flops;
        done += k->cost.flops;
        padded += k->padded_flops;
    }
    p->pass[MOE_PASS_FORWARD].us += forward;
    p->pass[MOE_PASS_BACKWARD].us += backward;
    total->us += p->overhead_us;
    total->flops = p->pass[MOE_PASS_FORWARD].flops + p->pass[MOE_PASS_BACKWARD].flops;
    p->clock_mhz = now > 0 ? clocks / now : 0;
    p->padding = padded > 0 ? fmax(0, 1 - done / padded) : 0;
}

static void set_interval(const moe_gpu *gpu, moe_int_system system, const moe_workload *w,
                         moe_prediction *p) {
    const double us = p->pass[MOE_PASS_TOTAL].us;
    const bool large = w->layer ? w->tokens >= MOE_INT_LARGE_TOKENS : us >= MOE_INT_LARGE_US;
    const moe_int_size size = large ? MOE_INT_LARGE : MOE_INT_SMALL;
    const moe_int_spread s = moe_int_spread_of(gpu, system, w->storage, size);
    p->low_us = us * s.low;
    p->high_us = us * s.high;
    p->storage = w->storage;
    p->held_to = moe_int_held_to(gpu, system, w->layer, w->storage, size);
}

moe_status moe_int_list_total(const moe_gpu *gpu, moe_int_system system, moe_int_list *l,
                              const moe_workload *w, const moe_log *log, moe_prediction **ret) {
    const int pass = w->pass ? w->pass : MOE_PASS_BOTH;
    const double param_bytes = w->layer ? moe_int_passes_params(l, pass) : 0;
    moe_prediction *p = l->out_of_memory ? NULL : calloc(1, sizeof *p);
    if (!p) {
        free(l->kernels);
        return moe_fail(log, MOE_E_NOMEM, "prediction: out of memory");
    }
    p->kernels = l->kernels;
    p->n_kernels = l->count;
    add_up(l, pass, p);
    set_interval(gpu, system, w, p);
    p->peak_bytes = l->peak;
    p->cached_bytes = l->cached;
    p->param_bytes = param_bytes;
    memcpy(p->tensors, l->tensors, sizeof p->tensors);
    p->n_tensors = l->n_tensors;
    p->peak_at = l->peak_at;
    *ret = p;
    return MOE_OK;
}

bool moe_prediction_at_peak(const moe_prediction *p, size_t i) {
    return i <= p->peak_at && (int64_t)p->peak_at < p->tensors[i].until;
}

void moe_prediction_destroy(moe_prediction **prediction) {
    if (!prediction || !*prediction)
        return;
    free((*prediction)->kernels);
    free(*prediction);
    *prediction = NULL;
}
