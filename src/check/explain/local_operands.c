/* A product that is made of another tensor than its own: its operand's rows are those of one that
 * has as many columns, or half of its matrix stands for both halves. */
#include "check/explain/bank.h"
#include "check/explain/product.h"
#include "check/explain/vectors.h"

/* Which of a matrix's halves, of gate and up, is taken for both. */
typedef enum halves { BOTH, GATES, UPS, HALVES } halves;

static const char *const half_words[HALVES] = {"", "the gate's half of ", "the up's half of "};

/* Of w [outs][depth] the half, along the terms or along the outs, whichever has both. */
static bool take_half(const moe_int_product_view *v, halves which, double *w) {
    const moe_layer_desc *desc = &v->e->problem->layer;
    const int64_t n = desc->n, hw = 2 * n;
    const bool terms = v->id == MOE_T_DXP, outs = v->id == MOE_T_H;
    if (which == BOTH)
        return true;
    if (!moe_act_is_gated(desc->act) || !(terms || outs))
        return false;
    for (int64_t j = 0; j < n; j++) {
        const int64_t from = moe_h_column(desc->glu_layout, n, hw, j, which == UPS);
        const int64_t to = moe_h_column(desc->glu_layout, n, hw, j, which == GATES);
        for (int64_t i = 0; terms && i < v->outs; i++)
            w[i * v->depth + to] = w[i * v->depth + from];
        for (int64_t k = 0; outs && k < v->depth; k++)
            w[to * v->depth + k] = w[from * v->depth + k];
    }
    return true;
}

/* Trial n is one of a vector, its weight and a half. */
static moe_int_vector vector_of(int n) {
    return (moe_int_vector)(n / (2 * HALVES));
}

static bool is_weighted(int n) {
    return n % 2;
}

static halves half_of(int n) {
    return (halves)(n / 2 % HALVES);
}

static bool exists(const moe_int_product_view *v, int n) {
    return moe_int_vector_exists(v->e, vector_of(n), v->depth) &&
           (v->experts > 0 || (moe_int_vector_of_token(vector_of(n)) && !is_weighted(n)));
}

static bool halve(const moe_int_product_view *v, int n, double *w) {
    return take_half(v, half_of(n), w);
}

static void take_vector(const moe_int_product_view *v, int n, int64_t i, double *x) {
    moe_int_vector_load(v->e, vector_of(n), v->pair[i], v->experts == 0, x);
    for (int64_t k = 0; is_weighted(n) && k < v->depth; k++)
        x[k] *= v->e->routing->plan->weight[v->pair[i]];
}

static void say_operand(const moe_int_product_view *v, int n, moe_int_finding *f) {
    moe_int_finding_say(f, ": it is %s%s by %s%s, should be %s", moe_int_vector_words[vector_of(n)],
                        is_weighted(n) ? " times the combine weight" : "", half_words[half_of(n)],
                        v->matrix, v->equation);
}

bool moe_int_local_operand_tensor(const moe_int_local *l, moe_int_finding *f) {
    static const moe_int_product_trials trials = {.count = MOE_INT_VECTOR_COUNT * 2 * HALVES,
                                                  .exists = exists,
                                                  .matrix = halve,
                                                  .source = take_vector,
                                                  .say = say_operand};
    return moe_int_product_try(l, &trials, f);
}
