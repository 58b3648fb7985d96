#include "check/subject/repeats.h"

#include <math.h>
#include <string.h>

bool moe_int_run_compare(moe_int_run *run, const moe_int_guarded *fresh) {
    bool same = true;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_int_guarded *a = &run->first[id], *b = &fresh[id];
        if (b->tensor.data &&
            (a->size != b->size || memcmp(a->tensor.data, b->tensor.data, a->size)))
            same = run->repeats[id] = false;
    }
    return same;
}

/* Sum of squared differences; a number in one run alone is infinitely far away. */
static double distance(const moe_tensor *a, const moe_tensor *b) {
    double sum = 0;
    for (int64_t i = 0, count = moe_tensor_count(a); i < count; i++) {
        double x = moe_load(a->data, a->dtype, (size_t)i);
        double y = moe_load(b->data, b->dtype, (size_t)i);
        double d = x == y || (isnan(x) && isnan(y)) ? 0 : x - y;
        sum += isnan(d) ? INFINITY : d * d;
    }
    return sum;
}

void moe_int_run_keep(moe_int_run *run, moe_int_guarded *fresh) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_int_guarded *first = &run->first[id];
        moe_int_guarded *later = &run->later[id], former = *later;
        bool choice = first->block && later->block && !run->support.deterministic;
        if (run->support.deterministic && run->repeats[id])
            continue; /* the first run's bits once more: gigabytes of them, for large layers */
        if (!fresh[id].block || (choice && distance(&first->tensor, &fresh[id].tensor) <
                                               distance(&first->tensor, &later->tensor)))
            continue;
        *later = fresh[id];
        fresh[id] = former;
    }
}
