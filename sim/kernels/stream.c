/* Kernels without tensor cores: memory, or what their own warps take. */
#include "sim/kernels/gemm.h"

#include <math.h>
#include <string.h>

/* `us` of work, of which memory takes `memory` and the kernel's warps `own`. */
static void tell(const moe_int_rates *r, double bytes, double memory, double own, double us,
                 moe_kernel *ret) {
    const double fixed = r->kernel_us + r->gap_us;
    memset(ret, 0, sizeof *ret);
    ret->cost.us = fixed + us;
    ret->cost.hbm_bytes = ret->cost.l2_bytes = bytes;
    moe_int_floor(r, 0, bytes, ret);
    ret->split = 1;
    strcpy(ret->cost.bound_by, fmax(memory, own) <= fixed ? "latency"
                               : own > memory             ? "issue"
                                                          : "hbm");
}

void moe_int_stream(const moe_int_rates *r, double read, double write, double elements, double rate,
                    moe_kernel *ret) {
    const double bytes = read + write, memory = bytes / r->stream;
    const double issue = rate > 0 ? elements / (rate * r->sms * r->clock) : 0;
    tell(r, bytes, memory, issue, fmax(memory, issue), ret);
}

void moe_int_stream_rounds(const moe_int_rates *r, double read, double write, double rounds_us,
                           moe_kernel *ret) {
    const double bytes = read + write, memory = bytes / r->stream;
    tell(r, bytes, memory, rounds_us, moe_int_join(memory, rounds_us, r->overlap_p), ret);
}
