/* O, dX and dW_r against what the subject itself put into them. A correctly rounded sum of known
 * terms lies within half a spacing of that sum; what fp32 adds to this is bounded. A kernel that
 * adds in 16 bits is outside for a third of the elements, one that adds in fp32 for none. */
#include "check/precision.h"
#include "check/verdict/result.h"
#include "core/elements.h"
#include "route/route.h"

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

/* One token's row of O or dX: `plain` adds w*y, `stored` adds what storing w*y leaves, `noise` is
 * what fp32 may add. */
typedef struct row {
    double *plain, *stored, *noise; /* [d] */
} row;

/* A sum over a token's experts. */
typedef struct expert_sum {
    const moe_problem *problem;
    const moe_int_reading *reading;
    const moe_plan *plan;
    const moe_tensor *weight, *part; /* [all pairs], NULL: 1; [pairs][d] */
    const double *dz, *W_r, *reach;  /* dX: [T][R], [R][d], [T] error of a dz; or NULL */
} expert_sum;

static void add_terms(const expert_sum *k, int64_t t, double *y, row *sum) {
    const int64_t d = k->problem->layer.d, first = k->plan->token_offsets[t];
    const int64_t end = k->plan->token_offsets[t + 1];
    const double u = (double)(end - first + 2) * moe_dtype_roundoff(MOE_F32);
    const moe_tensor *w_t = k->weight;
    memset(sum->plain, 0, 3 * (size_t)d * sizeof *sum->plain);
    for (int64_t i = first; i < end; i++) {
        int64_t p = k->plan->pair_of_token[i];
        double w = w_t ? moe_load(w_t->data, w_t->dtype, (size_t)p) : 1;
        moe_int_load(k->part, p * d, d, y);
        for (int64_t c = 0; c < d; c++) {
            sum->plain[c] += w * y[c];
            sum->stored[c] += moe_round_to((float)(w * y[c]), k->reading->arithmetic);
            sum->noise[c] += u * fabs(w * y[c]);
        }
    }
}

/* What passes back through the router, dz W_r. Devices make it of operands that are split into two
 * of 8 bits each: 2^-16. */
static void add_router(const expert_sum *k, int64_t t, row *sum) {
    const int64_t d = k->problem->layer.d, R = k->plan->n_experts;
    for (int64_t e = 0; k->dz && e < R; e++) {
        const double dz = k->dz[t * R + e], *w = k->W_r + e * d;
        for (int64_t c = 0; c < d; c++) {
            sum->plain[c] += dz * w[c];
            sum->stored[c] += dz * w[c];
            sum->noise[c] += (0x1p-16 * fabs(dz) + k->reach[t]) * fabs(w[c]);
        }
    }
}

/* Token t's elements of `got` beside the two ways to add; room [4][d]. */
static void tally_row(const expert_sum *k, const moe_tensor *got, int64_t t, double *room,
                      tally ret[2]) {
    const int64_t d = k->problem->layer.d;
    const moe_dtype type = k->reading->arithmetic;
    row sum = {room, room + d, room + 2 * d};
    add_terms(k, t, room + 3 * d, &sum);
    add_router(k, t, &sum);
    for (int64_t i = 0; i < d; i++) {
        const double value = moe_load(got->data, got->dtype, (size_t)(t * d + i));
        count(&ret[0], value, sum.plain[i], sum.noise[i], type);
        count(&ret[1], value, sum.stored[i], sum.noise[i], type);
    }
}

static void add_tally(const tally *from, tally *to) {
    to->n += from->n;
    to->outside += from->outside;
    to->d2 += from->d2;
    to->r2 += from->r2;
}

/* Of all tokens, added up in their order whoever counted them. MOE_E_NOMEM. */
static moe_status tally_rows(const expert_sum *k, const moe_tensor *got, tally *plain,
                             tally *stored) {
    enum { MANY = 1 << 20 }; /* elements: worth a team of threads */
    const int64_t T = k->problem->T, d = k->problem->layer.d;
    tally(*each)[2] = calloc((size_t)T + 1, sizeof *each);
    bool failed = !each;
#pragma omp parallel reduction(|| : failed) if (T * d >= MANY)
    {
        double *room = each ? malloc(4 * (size_t)d * sizeof *room) : NULL;
        failed = failed || !room;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < T; t++)
            if (room)
                tally_row(k, got, t, room, each[t]);
        free(room);
    }
    *plain = *stored = (tally){0};
    for (int64_t t = 0; !failed && t < T; t++) {
        add_tally(&each[t][0], plain);
        add_tally(&each[t][1], stored);
    }
    free(each);
    return failed ? MOE_E_NOMEM : MOE_OK;
}

/* Is `got` [T][d] that sum, rounded once? Fails v if not. */
static moe_status judge_sum(const expert_sum *k, const char *terms, const moe_tensor *got,
                            moe_tensor_verdict *v) {
    tally plain, stored;
    if (tally_rows(k, got, &plain, &stored))
        return MOE_E_NOMEM;
    bool may_store = k->weight && (k->reading->points & MOE_POINT_SY) != 0;
    if (fits(&plain) || (may_store && fits(&stored)))
        return MOE_OK;
    moe_int_entry_fail(v,
                       "not its own %s added in fp32: NMSE %.1e, %.0f%% of elements are no "
                       "rounding of the sum; looks added in bf16 or fp16",
                       terms, plain.d2 / plain.r2, 100 * (double)plain.outside / (double)plain.n);
    return MOE_OK;
}

moe_status moe_int_judge_combine(const moe_problem *problem, const moe_int_reading *reading,
                                 const moe_plan *plan, const moe_tensor *weight,
                                 const moe_tensor *Y, const moe_tensor *O, moe_tensor_verdict *v) {
    const bool on_input = problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    const expert_sum k = {.problem = problem,
                          .reading = reading,
                          .plan = plan,
                          .weight = on_input ? NULL : weight,
                          .part = Y};
    return judge_sum(&k, "w*Y", O, v);
}

/* dz from the subject's own dS, and how far one in fp32 may lie from it: the score's slopes cancel
 * among a token's gradients. */
static moe_status logits_gradients(const moe_problem *problem, const moe_plan *plan,
                                   const moe_int_routing *routing, const moe_tensor *weight,
                                   const moe_tensor *dS, double *dz, double *reach) {
    double *own = moe_int_doubles(dS, 0, plan->n_pairs);
    if (!own)
        return MOE_E_NOMEM;
    moe_status status = moe_route_backward(&problem->layer, routing->logits, plan, own, dz);
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        reach[t] = 0;
        for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
            int64_t p = plan->pair_of_token[i];
            double w = moe_load(weight->data, weight->dtype, (size_t)p);
            reach[t] += 64 * moe_dtype_roundoff(MOE_F32) * fabs(w * own[p]);
        }
    }
    free(own);
    return status;
}

moe_status moe_int_judge_dX(const moe_problem *problem, const moe_int_reading *reading,
                            const moe_plan *plan, const moe_int_routing *routing,
                            const moe_tensors *got, const moe_tensor *dXp, moe_tensor_verdict *v) {
    const int64_t T = problem->T, R = plan->n_experts, d = problem->layer.d;
    const bool on_input = problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    const moe_tensor *weight = &got->t[MOE_T_S];
    expert_sum k = {.problem = problem,
                    .reading = reading,
                    .plan = plan,
                    .weight = on_input ? weight : NULL,
                    .part = dXp};
    double *room = NULL, *W_r = NULL;
    moe_status status = MOE_OK;
    if (!problem->plan) {
        room = malloc((size_t)(T * R + T) * sizeof *room);
        W_r = moe_int_doubles(&problem->in.t[MOE_T_W_R], 0, R * d);
        k.dz = room;
        k.reach = room ? room + T * R : NULL;
        k.W_r = W_r;
        status = room && W_r ? logits_gradients(problem, plan, routing, weight, &got->t[MOE_T_DS],
                                                room, room + T * R)
                             : MOE_E_NOMEM;
    }
    if (!status)
        status = judge_sum(&k, on_input ? "w*dX~" : "dX~", &got->t[MOE_T_DX], v);
    free(room);
    free(W_r);
    return status;
}

/* An operand of a 16-bit product, or the last of several that a wider number is split into, lies
 * on a grid of its type's smallest numbers: what that adds to the variance of sum_t dz_t x_t, for
 * each column of X [d]; the caller frees it. Only fp16's are in reach. */
static double *grid_variance(const moe_problem *problem, moe_dtype arithmetic) {
    const int64_t d = problem->layer.d;
    const double half = 0x1p-25;
    double *ret = calloc((size_t)d, sizeof *ret);
    if (!ret || arithmetic != MOE_F16)
        return ret;
    double *x = moe_int_doubles(&problem->in.t[MOE_T_X], 0, problem->T * d);
    for (int64_t i = 0; x && i < problem->T * d; i++)
        ret[i % d] += half * half / 3 * x[i] * x[i];
    if (!x) {
        free(ret);
        return NULL;
    }
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
