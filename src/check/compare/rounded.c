/* Values of 16 bits where fp32 was promised. One fp32 value in 2^16 is a bf16 value, one in 2^13 an
 * fp16 value: a few that all are say that they were rounded, unless the truth is such numbers. */
#include "check/compare/compare.h"
#include "check/verdict/result.h"
#include "core/elements.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FEWEST = 4 };

static bool is_of(double v, moe_dtype dtype) {
    return moe_round_to(v, dtype) == v;
}

/* Are all of got's elements of that type, and those of the truth not? */
static bool all_of(const moe_tensor *got, const moe_tensor *want, moe_dtype dtype,
                   int64_t *ret_told) {
    int64_t told = 0, count = moe_tensor_count(got);
    bool nonzero = false; /* 0 is of every type */
    for (int64_t i = 0; i < count; i++) {
        double v = moe_load(got->data, got->dtype, (size_t)i);
        double should = moe_load(want->data, want->dtype, (size_t)i);
        if (!isfinite(v) || !isfinite(should))
            continue;
        if (!is_of(v, dtype))
            return false;
        nonzero |= v != 0;
        told += !is_of((float)should, dtype);
    }
    *ret_told = told;
    return nonzero && told >= FEWEST;
}

void moe_int_judge_type(const moe_int_comparison *c, moe_tensor_verdict *v) {
    static const moe_dtype types[] = {MOE_BF16, MOE_F16};
    bool fp32 = c->promised_fp32 || c->arithmetic == MOE_F32;
    bool failed = v->verdict == MOE_VERDICT_FAIL && v->bad_elements == 0;
    for (size_t i = 0; fp32 && (c->promised_fp32 || failed) && i < 2; i++) {
        int64_t told;
        const char *type = moe_dtype_name(types[i]);
        if (!all_of(c->got, c->want, types[i], &told))
            continue;
        if (failed) {
            size_t used = strlen(v->why);
            snprintf(v->why + used, sizeof v->why - used, "; looks rounded to %s", type);
        } else {
            moe_int_entry_fail(v,
                               "looks rounded to %s: all of %lld values are %s, fp32 is promised",
                               type, (long long)told, type);
        }
        return;
    }
}
