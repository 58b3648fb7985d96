/* O and dW_r against what the subject itself put into them. A correctly rounded sum of known terms
 * lies within half a spacing of that sum; what fp32 adds to this is bounded. A kernel that adds in
 * 16 bits is outside for a third of the elements, one that adds in fp32 for none. */
#include "check/precision.h"
#include "check/verdict/result.h"
#include "core/elements.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Share of elements that may lie outside: a backend may hold a value that it hands out rounded in
 * some rare branch; wrong kernels have some 30 %. */
#define OUTSIDE_MAX 0.02
/* Deviations of fp32 noise around a sum of T terms, as the gates of fp32 have it. */
#define DEVIATIONS 25

bool moe_int_promised_fp32(moe_tensor_id id, const moe_int_reading *reading) {
    uint32_t point = id == MOE_T_LOGITS ? MOE_POINT_LOGITS
                     : id == MOE_T_S    ? MOE_POINT_S
                     : id == MOE_T_DS   ? MOE_POINT_DS
                                        : 0;
    return point && moe_int_is_low(reading->arithmetic) && !(reading->points & point);
}

/* Half the spacing of `dtype` at v, with a little room for the step at powers of two. */
static double half_spacing(double v, moe_dtype dtype) {
    int exponent;
    double least = dtype == MOE_F16 ? 0x1p-14 : FLT_MIN;
    frexp(fmax(fabs(v), least), &exponent);
    return ldexp(moe_dtype_roundoff(dtype), exponent - 1);
}

static bool is_outside(double got, double sum, double noise, moe_dtype dtype) {
    double size = fmax(fabs(got), fabs(sum));
    return !(fabs(got - sum) <= 1.0001 * half_spacing(size, dtype) + noise);
}

/* Counts of one way to add. */
typedef struct tally {
    int64_t n, outside;
    double d2, r2;
} tally;

static void count(tally *k, double got, double sum, double noise, moe_dtype dtype) {
    if (!isfinite(got) || !isfinite(sum))
        return;
    k->n++;
    k->outside += is_outside(got, sum, noise, dtype);
    k->d2 += (got - sum) * (got - sum);
    k->r2 += sum * sum;
}

static bool fits(const tally *k) {
    return k->outside <= 2 || (double)k->outside <= OUTSIDE_MAX * (double)k->n;
}

/* One token's row of O: `plain` adds w*Y, `stored` adds what storing w*Y leaves. */
typedef struct row {
    double *plain, *stored, *size; /* [d] */
} row;

static void add_terms(const moe_int_reading *reading, const moe_plan *plan, int64_t t,
                      const moe_tensor *weight, const moe_tensor *Y, bool on_input, int64_t d,
                      double *y, row *sum) {
    memset(sum->plain, 0, 3 * (size_t)d * sizeof *sum->plain);
    for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
        int64_t p = plan->pair_of_token[k];
        double w = on_input ? 1 : moe_load(weight->data, weight->dtype, (size_t)p);
        moe_int_load(Y, p * d, d, y);
        for (int64_t i = 0; i < d; i++) {
            sum->plain[i] += w * y[i];
            sum->stored[i] += moe_round_to((float)(w * y[i]), reading->arithmetic);
            sum->size[i] += fabs(w * y[i]);
        }
    }
}

moe_status moe_int_judge_combine(const moe_problem *problem, const moe_int_reading *reading,
                                 const moe_plan *plan, const moe_tensor *weight,
                                 const moe_tensor *Y, const moe_tensor *O, moe_tensor_verdict *v) {
    const int64_t d = problem->layer.d;
    const bool on_input = problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    double *block = malloc(4 * (size_t)d * sizeof *block), *y = block ? block + 3 * d : NULL;
    row sum = {block, block ? block + d : NULL, block ? block + 2 * d : NULL};
    tally plain = {0}, stored = {0};
    if (!block)
        return MOE_E_NOMEM;
    for (int64_t t = 0; t < problem->T; t++) {
        int64_t terms = plan->token_offsets[t + 1] - plan->token_offsets[t];
        double u = (double)(terms + 2) * moe_dtype_roundoff(MOE_F32);
        add_terms(reading, plan, t, weight, Y, on_input, d, y, &sum);
        for (int64_t i = 0; i < d; i++) {
            double got = moe_load(O->data, O->dtype, (size_t)(t * d + i));
            count(&plain, got, sum.plain[i], u * sum.size[i], reading->arithmetic);
            count(&stored, got, sum.stored[i], u * sum.size[i], reading->arithmetic);
        }
    }
    free(block);
    bool may_store = (reading->points & MOE_POINT_SY) != 0;
    if (fits(&plain) || (may_store && fits(&stored)))
        return MOE_OK;
    moe_int_entry_fail(v,
                       "not its own w*Y added in fp32: NMSE %.1e, %.0f%% of elements are no "
                       "rounding of the sum; looks added in %s",
                       plain.d2 / plain.r2, 100 * (double)plain.outside / (double)plain.n,
                       moe_dtype_name(reading->arithmetic));
    return MOE_OK;
}

/* An operand of a 16-bit product, or the last of several that a wider number is split into, lies
 * on a grid of its type's smallest numbers: what that adds to the variance of sum_t dz_t x_t, for
 * each column of X [d]; the caller frees it. Only fp16's are in reach. */
static double *grid_variance(const moe_problem *problem, moe_dtype arithmetic) {
    const int64_t d = problem->layer.d;
    const double half = arithmetic == MOE_F16 ? 0x1p-25 : 0;
    double *x = moe_int_doubles(&problem->in.t[MOE_T_X], 0, problem->T * d);
    double *ret = x ? calloc((size_t)d, sizeof *ret) : NULL;
    for (int64_t i = 0; ret && i < problem->T * d; i++)
        ret[i % d] += half * half / 3 * x[i] * x[i];
    free(x);
    return ret;
}

moe_status moe_int_judge_dlogits(const moe_problem *problem, const moe_int_reading *reading,
                                 const moe_int_routing *routing, const moe_tensor *dS,
                                 const moe_tensor *dW_r, moe_tensor_verdict *v) {
    const moe_int_rounding fp32 = moe_int_rounding_of(MOE_F32);
    moe_int_truth *own = calloc(1, sizeof *own);
    moe_tensor got = {0};
    tally k = {0};
    moe_status status = own ? moe_int_sample_router(problem, routing, dS, &fp32, own) : MOE_E_NOMEM;
    moe_int_part *part = own ? &own->part[MOE_T_DW_R] : NULL;
    double *grid = grid_variance(problem, reading->arithmetic);
    if (!status)
        status = grid ? moe_int_part_gather(dW_r, part, &got) : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < moe_tensor_count(&got); i++) {
        double sum = ((const double *)part->want.data)[i];
        double variance = fp32.u2 * ((const double *)part->variance.data)[i];
        variance += grid[i % problem->layer.d];
        count(&k, moe_load(got.data, got.dtype, (size_t)i), sum, DEVIATIONS * sqrt(variance),
              reading->arithmetic);
    }
    if (!status && !fits(&k))
        moe_int_entry_fail(v,
                           "not its own dlogits*x added in fp32: NMSE %.1e, %.0f%% of elements "
                           "are no rounding of the sum; dlogits look rounded to %s",
                           k.d2 / k.r2, 100 * (double)k.outside / (double)k.n,
                           moe_dtype_name(reading->arithmetic));
    free(grid);
    moe_tensor_destroy(&got);
    moe_int_part_destroy(part ? part : &(moe_int_part){0});
    if (own)
        moe_int_part_destroy(&own->part[MOE_T_DB_R]);
    free(own);
    return status;
}
