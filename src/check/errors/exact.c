#include "check/errors/exact.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

#define SUM_DIGITS 0x1p24 /* kernels add in float32, or better */

/* A set of numbers: the largest magnitude, and a power of two that divides all of them. Of zeros
 * alone: 0 and infinity. */
typedef struct grid {
    double max, unit;
} grid;

static const grid nothing = {0, INFINITY};

/* Largest power of two that divides v, which is finite and not 0. */
static double unit_of(double v) {
    int exponent;
    uint64_t digits = (uint64_t)ldexp(frexp(fabs(v), &exponent), 53);
    return ldexp(1, exponent - 53 + __builtin_ctzll(digits));
}

static void add_value(grid *g, double v) {
    if (v == 0)
        return;
    g->max = fmax(g->max, fabs(v));
    g->unit = isfinite(v) ? fmin(g->unit, unit_of(v)) : 0;
}

/* Too many digits to be summed at all? */
static bool too_fine(grid g) {
    return !(g.max <= SUM_DIGITS * g.unit);
}

/* Of a tensor; NULL or absent: of no number. Stops where the grid is too fine already. */
static grid grid_of(const moe_tensor *t) {
    enum { CHUNK = 256 };
    double v[CHUNK];
    grid g = nothing;
    int64_t count = t->data ? moe_tensor_count(t) : 0;
    for (int64_t at = 0; at < count && !too_fine(g); at += CHUNK) {
        int64_t n = count - at < CHUNK ? count - at : CHUNK;
        moe_int_load(t, at, n, v);
        for (int64_t i = 0; i < n; i++)
            add_value(&g, v[i]);
    }
    return g;
}

static grid product(grid a, grid b) {
    return (grid){a.max * b.max, a.unit * b.unit};
}

static grid either(grid a, grid b) {
    return (grid){fmax(a.max, b.max), fmin(a.unit, b.unit)};
}

/* Is a sum of `terms` of a and one of b exact in any order, with so many digits (a power of two)?
 */
static bool adds_up(double terms, grid a, grid b, double digits) {
    return terms * a.max + b.max <= digits * fmin(a.unit, b.unit);
}

/* Can `dtype` hold every value? */
static bool holds(const moe_tensor *t, moe_dtype dtype) {
    uint64_t room;
    int64_t count = t->data ? moe_tensor_count(t) : 0;
    for (int64_t i = 0; i < count; i++) {
        double v = moe_load(t->data, t->dtype, (size_t)i);
        moe_store(&room, dtype, 0, v);
        if (moe_load(&room, dtype, 0) != v)
            return false;
    }
    return true;
}

static grid weights_of(const moe_plan *plan) {
    moe_tensor t = {.data = plan->weight, .dtype = MOE_F64, .ndim = 1, .shape = {plan->n_pairs}};
    return grid_of(&t);
}

static bool on_input(const moe_layer_desc *desc) {
    return desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
}

bool moe_int_exact_h(const moe_layer_desc *desc, const moe_tensors *in,
                     const moe_reference_result *oracle) {
    const double terms = (double)desc->d;
    if (desc->n_shared) /* its H is none of the oracle's results */
        return false;
    grid x = grid_of(&in->t[MOE_T_X]);
    if (on_input(desc))
        x = product(x, weights_of(oracle->plan));
    if (!adds_up(terms, x, nothing, SUM_DIGITS))
        return false;
    return adds_up(terms, product(x, grid_of(&in->t[MOE_T_W1])), grid_of(&in->t[MOE_T_B1]),
                   SUM_DIGITS);
}

static double most(const int64_t *offsets, int64_t bins) {
    int64_t rows = 0;
    for (int64_t i = 0; i < bins; i++)
        if (offsets[i + 1] - offsets[i] > rows)
            rows = offsets[i + 1] - offsets[i];
    return (double)rows;
}

/* Y and O. */
static bool exact_forward(const moe_layer_desc *desc, const moe_tensors *in,
                          const moe_reference_result *oracle) {
    const moe_plan *plan = oracle->plan;
    const moe_tensor *out = oracle->out.t;
    const double experts = most(plan->token_offsets, plan->n_tokens);
    grid weight = weights_of(plan), y = grid_of(&out[MOE_T_Y]), x = grid_of(&in->t[MOE_T_X]);
    grid summand = on_input(desc) ? y : product(weight, y);
    if (desc->n_zero)
        summand = either(summand, product(weight, x));
    return adds_up((double)desc->n, product(grid_of(&out[MOE_T_A]), grid_of(&in->t[MOE_T_W2])),
                   grid_of(&in->t[MOE_T_B2]), SUM_DIGITS) &&
           adds_up(experts, summand, nothing, SUM_DIGITS);
}

/* dS, dA (which is stored, but none of the oracle's results), dX~ and dX, dW1, dW2. */
static bool exact_backward(const moe_layer_desc *desc, const moe_tensors *in,
                           const moe_reference_result *oracle, moe_dtype arithmetic) {
    const moe_plan *plan = oracle->plan;
    const moe_tensor *out = oracle->out.t;
    const double d = (double)desc->d, hw = (double)moe_h_width(desc, desc->n);
    const double rows = most(plan->offsets, desc->E);
    const double experts = most(plan->token_offsets, plan->n_tokens);
    grid weight = either(weights_of(plan), (grid){1, 1}), x = grid_of(&in->t[MOE_T_X]);
    grid dO = grid_of(&in->t[MOE_T_DO]), dH = grid_of(&out[MOE_T_DH]);
    grid sdO = product(weight, dO), sx = product(weight, x);
    return adds_up(d, product(sdO, grid_of(&in->t[MOE_T_W2])), nothing,
                   1 / moe_dtype_roundoff(arithmetic)) &&
           adds_up(d, product(dO, either(grid_of(&out[MOE_T_Y]), x)), nothing, SUM_DIGITS) &&
           adds_up(hw, product(dH, grid_of(&in->t[MOE_T_W1])), nothing, SUM_DIGITS) &&
           adds_up(experts, either(product(weight, grid_of(&out[MOE_T_DXP])), sdO), nothing,
                   SUM_DIGITS) &&
           adds_up(rows, product(dH, sx), nothing, SUM_DIGITS) &&
           adds_up(rows, product(sdO, grid_of(&out[MOE_T_A])), nothing, SUM_DIGITS);
}

bool moe_int_exact_layer(const moe_layer_desc *desc, const moe_tensors *in,
                         const moe_reference_result *oracle, moe_dtype arithmetic) {
    if (oracle->out.t[MOE_T_LOGITS].data || !moe_int_exact_h(desc, in, oracle))
        return false; /* a router's weights come from exp */
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (!holds(&oracle->out.t[id], arithmetic))
            return false;
    return exact_forward(desc, in, oracle) &&
           (!in->t[MOE_T_DO].data || exact_backward(desc, in, oracle, arithmetic));
}
