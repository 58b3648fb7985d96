/* The operations of a tape: value and gradient of each kind. */
#include "block/tape/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef moe_int_step_args args;

/* ---- two values element by element ---- */

/* Element of b that stands beside element i of a. */
static int64_t beside(const args *k, int64_t i) {
    const int64_t row = k->b->rows == 1 ? 0 : i / k->a->columns;
    return row * k->b->columns + (k->b->columns == 1 ? 0 : i % k->a->columns);
}

static moe_status add_forward(const args *k, double *y) {
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++)
        y[i] = k->a->x[i] + k->b->x[beside(k, i)];
    return MOE_OK;
}

static moe_status add_backward(const args *k) {
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++) {
        k->da[i] += k->s->g[i];
        k->db[beside(k, i)] += k->s->g[i];
    }
    return MOE_OK;
}

static moe_status mul_forward(const args *k, double *y) {
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++)
        y[i] = k->a->x[i] * k->b->x[beside(k, i)];
    return MOE_OK;
}

static moe_status mul_backward(const args *k) {
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++) {
        k->da[i] += k->s->g[i] * k->b->x[beside(k, i)];
        k->db[beside(k, i)] += k->s->g[i] * k->a->x[i];
    }
    return MOE_OK;
}

/* ---- one element to another: y, and its slope ---- */

static double pointwise(moe_int_step_kind kind, double x, double number, double *slope) {
    double y;
    switch ((int)kind) {
    case MOE_INT_STEP_TANH:
        y = tanh(x);
        *slope = 1 - y * y;
        return y;
    case MOE_INT_STEP_SIGMOID:
        y = 1 / (1 + exp(-x));
        *slope = y * (1 - y);
        return y;
    case MOE_INT_STEP_EXP:
        y = exp(fmin(x, number));
        *slope = x <= number ? y : 0;
        return y;
    case MOE_INT_STEP_RELU:
        *slope = x > 0;
        return x > 0 ? x : 0;
    case MOE_INT_STEP_GELU:
        y = 0.5 * (1 + erf(x * M_SQRT1_2));
        *slope = y + x * exp(-0.5 * x * x) * M_SQRT1_2 * 0.5 * M_2_SQRTPI;
        return x * y;
    case MOE_INT_STEP_INVERSE:
        *slope = -1 / (x * x);
        return 1 / x;
    case MOE_INT_STEP_TIMES:
        *slope = number;
        return number * x;
    default: /* MOE_INT_STEP_PLUS */
        *slope = 1;
        return number + x;
    }
}

static moe_status point_forward(const args *k, double *y) {
    double slope;
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++)
        y[i] = pointwise(k->s->kind, k->a->x[i], k->s->number, &slope);
    return MOE_OK;
}

static moe_status point_backward(const args *k) {
    double slope;
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++) {
        pointwise(k->s->kind, k->a->x[i], k->s->number, &slope);
        k->da[i] += slope * k->s->g[i];
    }
    return MOE_OK;
}

/* ---- rows ---- */

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static moe_status rms_forward(const args *k, double *y) {
    const int64_t n = k->a->columns;
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++) {
        const double *x = k->a->x + i / n * n;
        y[i] = k->a->x[i] / sqrt(dot(x, x, n) / (double)n + k->s->number);
    }
    return MOE_OK;
}

/* With y = x q: dx = q (dy - y <dy, y> / n). */
static moe_status rms_backward(const args *k) {
    const int64_t n = k->a->columns;
    for (int64_t r = 0; r < k->a->rows; r++) {
        const double *x = k->a->x + r * n, *y = k->s->x + r * n, *g = k->s->g + r * n;
        const double q = 1 / sqrt(dot(x, x, n) / (double)n + k->s->number), gy = dot(g, y, n);
        for (int64_t i = 0; i < n; i++)
            k->da[r * n + i] += q * (g[i] - y[i] * gy / (double)n);
    }
    return MOE_OK;
}

static moe_status softmax_forward(const args *k, double *y) {
    for (int64_t r = 0; r < k->a->rows; r++) {
        const double *x = k->a->x + r * k->a->columns;
        const int64_t n = k->s->count && r + 1 < k->a->columns ? r + 1 : k->a->columns;
        double top = x[0], sum = 0, *to = y + r * k->a->columns;
        for (int64_t i = 1; i < n; i++)
            top = fmax(top, x[i]);
        for (int64_t i = 0; i < n; i++)
            sum += to[i] = exp(x[i] - top);
        for (int64_t i = 0; i < n; i++)
            to[i] /= sum;
    }
    return MOE_OK;
}

static moe_status softmax_backward(const args *k) {
    const int64_t n = k->a->columns;
    for (int64_t r = 0; r < k->a->rows; r++) {
        const double *y = k->s->x + r * n, *g = k->s->g + r * n, gy = dot(g, y, n);
        for (int64_t i = 0; i < n; i++)
            k->da[r * n + i] += y[i] * (g[i] - gy);
    }
    return MOE_OK;
}

/* ---- elements moved or summed: element i of the value is, or adds, element `from` of a ---- */

static int64_t from(const args *k, int64_t i) {
    const int64_t columns = k->s->columns, r = i / columns, c = i % columns;
    switch ((int)k->s->kind) {
    case MOE_INT_STEP_COLUMNS:
        return r * k->a->columns + k->s->first + c;
    default: /* MOE_INT_STEP_TILE */
        return i % moe_int_step_count(k->a);
    }
}

static moe_status move_forward(const args *k, double *y) {
    for (int64_t i = 0; i < moe_int_step_count(k->s); i++)
        y[i] = k->a->x[from(k, i)];
    return MOE_OK;
}

static moe_status move_backward(const args *k) {
    for (int64_t i = 0; i < moe_int_step_count(k->s); i++)
        k->da[from(k, i)] += k->s->g[i];
    return MOE_OK;
}

static moe_status sum_forward(const args *k, double *y) {
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++)
        y[i / k->a->columns] += k->a->x[i];
    return MOE_OK;
}

static moe_status sum_backward(const args *k) {
    for (int64_t i = 0; i < moe_int_step_count(k->a); i++)
        k->da[i] += k->s->g[i / k->a->columns];
    return MOE_OK;
}

/* ---- pairs ---- */

/* Adds to `to` [T][columns], or takes from `from`, in the order of the plan's pairs. */
static void scatter(const moe_plan *plan, const double *pairs, int64_t columns, double *to) {
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            to[plan->token[r] * columns + e] += pairs[r];
}

static void gather(const moe_plan *plan, const double *dense, int64_t columns, double *pairs) {
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            pairs[r] = dense[plan->token[r] * columns + e];
}

static moe_status through_pairs(const moe_int_step *s, const double *dense, double *to) {
    double *pairs = malloc((size_t)(s->plan->n_pairs + 1) * sizeof *pairs);
    if (!pairs)
        return MOE_E_NOMEM;
    gather(s->plan, dense, s->columns, pairs);
    scatter(s->plan, pairs, s->columns, to);
    free(pairs);
    return MOE_OK;
}

static moe_status keep_forward(const args *k, double *y) {
    return through_pairs(k->s, k->a->x, y);
}

static moe_status keep_backward(const args *k) {
    return through_pairs(k->s, k->s->g, k->da);
}

static moe_status route_forward(const args *k, double *y) {
    moe_plan *plan = NULL;
    moe_status status = moe_plan_copy(k->s->plan, &plan);
    if (!status)
        status = moe_route_weigh(&k->s->desc, k->a->x, plan);
    if (!status)
        scatter(plan, plan->weight, k->s->columns, y);
    moe_plan_destroy(&plan);
    return status;
}

static moe_status route_backward(const args *k) {
    double *dw = malloc((size_t)(k->s->plan->n_pairs + 1) * sizeof *dw);
    double *dz = malloc((size_t)(moe_int_step_count(k->a) + 1) * sizeof *dz);
    moe_status status = dw && dz ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        gather(k->s->plan, k->s->g, k->s->columns, dw);
        status = moe_route_backward(&k->s->desc, k->a->x, k->s->plan, dw, dz);
    }
    for (int64_t i = 0; !status && i < moe_int_step_count(k->a); i++)
        k->da[i] += dz[i];
    free(dw);
    free(dz);
    return status;
}

typedef struct kind {
    moe_status (*forward)(const args *k, double *y);
    moe_status (*backward)(const args *k);
} kind;

#define POINT                                                                                      \
    { point_forward, point_backward }
#define MOVE                                                                                       \
    { move_forward, move_backward }
static const kind kinds[MOE_INT_STEP_COUNT] = {
    [MOE_INT_STEP_LINEAR] = {moe_int_linear_forward, moe_int_linear_backward},
    [MOE_INT_STEP_MIX] = {moe_int_mix_forward, moe_int_mix_backward},
    [MOE_INT_STEP_ADD] = {add_forward, add_backward},
    [MOE_INT_STEP_MUL] = {mul_forward, mul_backward},
    [MOE_INT_STEP_TANH] = POINT,
    [MOE_INT_STEP_SIGMOID] = POINT,
    [MOE_INT_STEP_EXP] = POINT,
    [MOE_INT_STEP_RELU] = POINT,
    [MOE_INT_STEP_GELU] = POINT,
    [MOE_INT_STEP_INVERSE] = POINT,
    [MOE_INT_STEP_TIMES] = POINT,
    [MOE_INT_STEP_PLUS] = POINT,
    [MOE_INT_STEP_RMS] = {rms_forward, rms_backward},
    [MOE_INT_STEP_SOFTMAX] = {softmax_forward, softmax_backward},
    [MOE_INT_STEP_SUM] = {sum_forward, sum_backward},
    [MOE_INT_STEP_COLUMNS] = MOVE,
    [MOE_INT_STEP_TILE] = MOVE,
    [MOE_INT_STEP_KEEP] = {keep_forward, keep_backward},
    [MOE_INT_STEP_ROUTE] = {route_forward, route_backward},
};

moe_status moe_int_step_forward(moe_int_tape *t, moe_int_step *s) {
    const args k = {.s = s, .a = &t->step[s->a], .b = &t->step[s->b]};
    if (s->kind == MOE_INT_STEP_EXPERTS)
        return moe_int_tape_experts(t, s, false);
    return s->kind == MOE_INT_STEP_GIVEN ? MOE_OK : kinds[s->kind].forward(&k, s->x);
}

moe_status moe_int_step_backward(moe_int_tape *t, moe_int_step *s) {
    const args k = {.s = s,
                    .a = &t->step[s->a],
                    .b = &t->step[s->b],
                    .da = t->step[s->a].g,
                    .db = t->step[s->b].g};
    if (s->kind == MOE_INT_STEP_EXPERTS)
        return moe_int_tape_experts(t, s, true);
    return s->kind == MOE_INT_STEP_GIVEN ? MOE_OK : kinds[s->kind].backward(&k);
}
