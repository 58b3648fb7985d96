/* The full oracle beside the sampled one. */
#ifndef MOE_TESTS_BOTH_ORACLES_H
#define MOE_TESTS_BOTH_ORACLES_H

#include "check/truth/truth.h"
#include "check/verdict/result.h"
#include "drawn.h"
#include "layer/traits.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct both {
    moe_problem *problem;
    moe_check_result *result;
    moe_int_routing routing;
    moe_int_truth full, sampled;
} both;

static inline both open_both_at(const char *line, moe_int_rounding r) {
    both b = {.problem = drawn(line)};
    moe_check_params params = {.sample_above_flops = -1, .threads = 2, .no_explanation = true};
    cr_assert_eq(moe_int_result_create(b.problem, "test", "--backend test", NULL, &b.result),
                 MOE_OK);
    cr_assert_eq(moe_int_routing_settle(b.problem, NULL, MOE_INT_TOLD,
                                        &(moe_int_reading){r.arithmetic, 0}, 2, NULL, b.result,
                                        &b.routing),
                 MOE_OK);
    cr_assert_eq(
        moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, NULL, b.result, &b.full),
        MOE_OK);
    cr_expect_str_eq(b.result->sampled, "");
    params.sample_above_flops = 1;
    cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, NULL, b.result,
                                    &b.sampled),
                 MOE_OK);
    cr_expect(b.sampled.sampled && !b.full.sampled);
    return b;
}

static inline both open_both(const char *line, moe_dtype arithmetic) {
    return open_both_at(line, moe_int_rounding_of(arithmetic));
}

static inline void close_both(both *b) {
    moe_int_truth_destroy(&b->full);
    moe_int_truth_destroy(&b->sampled);
    moe_int_routing_destroy(&b->routing);
    moe_check_result_destroy(&b->result);
    moe_problem_destroy(&b->problem);
}

static inline double element(const moe_tensor *t, int64_t i) {
    return moe_load(t->data, t->dtype, (size_t)i);
}

/* Relative difference of two tensors, by norm; NaN against NaN is equal. */
static inline double difference(const moe_tensor *a, const moe_tensor *b) {
    double error = 0, norm = 0;
    for (int64_t i = 0, count = moe_tensor_count(a); i < count; i++) {
        double x = element(a, i), y = element(b, i);
        if (isnan(x) && isnan(y))
            continue;
        error += (x - y) * (x - y);
        norm += y * y;
    }
    return error == 0 ? 0 : sqrt(error / norm);
}

/* What is not compared needs no variance. */
static inline void blank(moe_tensor *t, const moe_tensor *want) {
    for (int64_t i = 0, count = moe_tensor_count(want); i < count; i++)
        if (isnan(element(want, i)))
            moe_store(t->data, t->dtype, (size_t)i, NAN);
}

/* Values are the same sums of up to 70 terms in float64, variances also hold secants over steps of
 * 1e-6 and more (errors/unit.c), which turn a last bit of h, 1e-16, into 1e-10. Largest seen: 4e-16
 * and 1.3e-11. */
static inline void expect_same(both *b, moe_tensor_id id, const char *line) {
    moe_int_part *part = &b->sampled.part[id];
    moe_tensor full;
    cr_assert_gt(part->layout.groups, 0, "%s: %s is not sampled", line, moe_tensor_name(id));
    cr_assert_eq(moe_int_part_gather(&b->full.oracle->out.t[id], part, &full), MOE_OK);
    if (id ==
        MOE_T_DW1) /* a sampled unit near a kink is left out, the full oracle has both sides */
        blank(&full, &part->want);
    double off = difference(&part->want, &full);
    cr_expect(off < 1e-14, "%s: %s differs by %g", line, moe_tensor_name(id), off);
    moe_tensor_destroy(&full);
    if (!part->variance.data)
        return;
    cr_assert_eq(moe_int_part_gather(&b->full.variance.t[id], part, &full), MOE_OK);
    blank(&full, &part->want);
    blank(&part->variance, &part->want);
    off = difference(&part->variance, &full);
    cr_expect(off < 1e-9, "%s: the variance of %s differs by %g", line, moe_tensor_name(id), off);
    moe_tensor_destroy(&full);
}

#endif
