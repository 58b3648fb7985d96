/* Changes of the weights that change no layer: what compression of experts builds on. */
#include "moeref/rng.h"
#include "props.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { T = 29, D = 8, N = 6, E = 5, W1 = 2 * N * D, W2 = D * N };

#define LINE "T=29 d=8 n=6 E=5 K=2 dtype=fp64 renorm=1 seed=11"

static const int turned[N] = {3, 0, 5, 1, 4, 2};

static double *data_of(moe_problem *p, moe_tensor_id id) {
    return p->in.t[id].data;
}

/* dst's hidden unit j is src's unit order[j]: rows of gate and up, columns of W2. */
static void reorder(const double *w1, const double *w2, const int *order, double *to1,
                    double *to2) {
    for (int j = 0; j < N; j++) {
        memcpy(to1 + j * D, w1 + order[j] * D, sizeof(double) * D);
        memcpy(to1 + (N + j) * D, w1 + (N + order[j]) * D, sizeof(double) * D);
        for (int i = 0; i < D; i++)
            to2[i * N + j] = w2[i * N + order[j]];
    }
}

static double distance(const moe_reference_result *a, const moe_reference_result *b,
                       moe_tensor_id id) {
    return props_nmse(props_values(a, id), props_values(b, id), moe_tensor_count(&b->out.t[id]));
}

/* (W1, W2) -> (P W1, W2 P^T): O and dX stay, the expert's gradients are reordered as its weights
 * (M-SMoE, arXiv 2310.01334, aligns experts so before it merges them). */
Test(transforms, hidden_units_can_be_reordered) {
    moe_problem *p = props_problem(LINE);
    moe_reference_result *before = props_run(p, MOE_F64, 1);
    double to1[W1], to2[W2];
    double *w1 = data_of(p, MOE_T_W1) + 2 * W1, *w2 = data_of(p, MOE_T_W2) + 2 * W2;
    reorder(w1, w2, turned, to1, to2);
    memcpy(w1, to1, sizeof to1);
    memcpy(w2, to2, sizeof to2);
    moe_reference_result *after = props_run(p, MOE_F64, 1);
    cr_assert_gt(before->plan->offsets[3], before->plan->offsets[2], "expert 2 is idle");
    cr_expect_lt(distance(after, before, MOE_T_O), 1e-29);
    cr_expect_lt(distance(after, before, MOE_T_DX), 1e-28);
    reorder(props_values(before, MOE_T_DW1) + 2 * W1, props_values(before, MOE_T_DW2) + 2 * W2,
            turned, to1, to2);
    cr_expect_lt(props_nmse(props_values(after, MOE_T_DW1) + 2 * W1, to1, W1), 1e-28);
    cr_expect_lt(props_nmse(props_values(after, MOE_T_DW2) + 2 * W2, to2, W2), 1e-28);
    moe_reference_result_destroy(&before);
    moe_reference_result_destroy(&after);
    moe_problem_destroy(&p);
}

/* Experts `a` and `b` become their mean, weighted by usage; b's units are taken in `order`. */
static void merge(moe_problem *p, int a, int b, const int *order) {
    double to1[W1], to2[W2];
    double *w1 = data_of(p, MOE_T_W1), *w2 = data_of(p, MOE_T_W2);
    reorder(w1 + b * W1, w2 + b * W2, order, to1, to2);
    for (int i = 0; i < W1; i++)
        w1[a * W1 + i] = w1[b * W1 + i] = 0.3 * w1[a * W1 + i] + 0.7 * to1[i];
    for (int i = 0; i < W2; i++)
        w2[a * W2 + i] = w2[b * W2 + i] = 0.3 * w2[a * W2 + i] + 0.7 * to2[i];
}

/* Two experts that differ in the order of their units alone: merged after alignment they are what
 * they were; merged as they lie they are another layer. */
Test(transforms, equal_experts_merge_after_alignment) {
    static const int as_they_lie[N] = {0, 1, 2, 3, 4, 5};
    int back[N];
    for (int j = 0; j < N; j++)
        back[turned[j]] = j;
    for (int aligned = 0; aligned < 2; aligned++) {
        moe_problem *p = props_problem(LINE);
        double *w1 = data_of(p, MOE_T_W1), *w2 = data_of(p, MOE_T_W2);
        reorder(w1 + W1, w2 + W2, turned, w1 + 3 * W1, w2 + 3 * W2);
        moe_reference_result *before = props_run(p, MOE_F64, 1);
        merge(p, 1, 3, aligned ? back : as_they_lie);
        moe_reference_result *after = props_run(p, MOE_F64, 1);
        const double moved = distance(after, before, MOE_T_O);
        cr_expect(aligned ? moved < 1e-29 : moved > 1e-2, "aligned %d: O moves by %g", aligned,
                  moved);
        moe_reference_result_destroy(&before);
        moe_reference_result_destroy(&after);
        moe_problem_destroy(&p);
    }
}

static void scale_columns(double *w, int64_t rows, const double *s) {
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < D; i++)
            w[r * D + i] *= s[i];
}

/* X / s, W_r s, W1 s. */
static void smooth(moe_problem *p, const double *s) {
    double inverse[D];
    for (int i = 0; i < D; i++)
        inverse[i] = 1 / s[i];
    scale_columns(data_of(p, MOE_T_X), T, inverse);
    scale_columns(data_of(p, MOE_T_W_R), E, s);
    scale_columns(data_of(p, MOE_T_W1), E * 2 * N, s);
}

/* One smoothing vector for the router and all experts (EAQuant): s moves between
 * activations and weights, and with powers of two not a bit of logits, O or gradients changes. */
Test(transforms, smoothing_folds_exactly) {
    const double two[D] = {2, 0.5, 1, 8, 0.25, 4, 0.125, 1}, any[D] = {3, .7, 1.1, 9, .3, 5, .1, 1};
    moe_problem *p = props_problem(LINE), *by_two = props_problem(LINE);
    moe_problem *by_any = props_problem(LINE);
    smooth(by_two, two);
    smooth(by_any, any);
    moe_reference_result *a = props_run(p, MOE_F64, 1), *b = props_run(by_two, MOE_F64, 1),
                         *c = props_run(by_any, MOE_F64, 1);
    const moe_tensor_id same[] = {MOE_T_LOGITS, MOE_T_S, MOE_T_H, MOE_T_O, MOE_T_DS, MOE_T_DW2};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        cr_expect_eq(distance(b, a, same[i]), 0, "%s", moe_tensor_name(same[i]));
        cr_expect_lt(distance(c, a, same[i]), 1e-28, "%s", moe_tensor_name(same[i]));
    }
    scale_columns(a->out.t[MOE_T_DX].data, T,
                  two); /* dX of x / s is s dX, dW1 of s W1 is dW1 / s */
    scale_columns(b->out.t[MOE_T_DW1].data, E * 2 * N, two);
    scale_columns(b->out.t[MOE_T_DW_R].data, E, two);
    cr_expect_eq(distance(b, a, MOE_T_DX), 0);
    cr_expect_eq(distance(b, a, MOE_T_DW1), 0);
    cr_expect_eq(distance(b, a, MOE_T_DW_R), 0);
    moe_reference_result_destroy(&a);
    moe_reference_result_destroy(&b);
    moe_reference_result_destroy(&c);
    moe_problem_destroy(&p);
    moe_problem_destroy(&by_two);
    moe_problem_destroy(&by_any);
}

/* Expert e as scale and shift of one network: gamma_e * F(x) + beta_e. */
static void modulate(moe_problem *p, const double *gamma, const double *beta) {
    double *w1 = data_of(p, MOE_T_W1), *w2 = data_of(p, MOE_T_W2);
    memset(data_of(p, MOE_T_B1), 0, sizeof(double) * E * 2 * N);
    memcpy(data_of(p, MOE_T_B2), beta, sizeof(double) * E * D);
    for (int e = E - 1; e >= 0; e--) {
        memcpy(w1 + e * W1, w1, sizeof(double) * W1);
        for (int i = 0; i < D; i++)
            for (int j = 0; j < N; j++)
                w2[e * W2 + i * N + j] = gamma[e * D + i] * w2[i * N + j];
    }
}

/* F(x): the network that all experts modulate. */
static void network(const double *x, const double *w1, const double *w2, double *ret) {
    memset(ret, 0, sizeof(double) * D);
    for (int j = 0; j < N; j++) {
        double gate = 0, up = 0;
        for (int i = 0; i < D; i++) {
            gate += x[i] * w1[j * D + i];
            up += x[i] * w1[(N + j) * D + i];
        }
        for (int i = 0; i < D; i++)
            ret[i] += gate / (1 + exp(-gate)) * up * w2[i * N + j];
    }
}

static int64_t expert_of(const moe_plan *plan, int64_t pair) {
    int64_t e = 0;
    while (plan->offsets[e + 1] <= pair)
        e++;
    return e;
}

/* Token t of the collapsed layer: o = (sum g gamma) * f + sum g beta, d_gamma += g dO * f. */
static void collapsed(const moe_plan *plan, int64_t t, const double *gamma, const double *beta,
                      const double *f, const double *dO, double *o, double *d_gamma) {
    double scale[D] = {0}, shift[D] = {0};
    for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
        const int64_t pair = plan->pair_of_token[k], e = expert_of(plan, pair);
        for (int i = 0; i < D; i++) {
            scale[i] += plan->weight[pair] * gamma[e * D + i];
            shift[i] += plan->weight[pair] * beta[e * D + i];
            d_gamma[e * D + i] += plan->weight[pair] * dO[i] * f[i];
        }
    }
    for (int i = 0; i < D; i++)
        o[i] = scale[i] * f[i] + shift[i];
}

/* Experts that modulate one network (MoFME) are one network with summed scales and shifts, and the
 * gradient of gamma is that of W2 through it. */
Test(transforms, modulated_experts_collapse_to_one_network) {
    moe_problem *p = props_problem(LINE " bias=1");
    double gamma[E * D], beta[E * D], w2[W2], f[D], o[T * D], d_gamma[E * D] = {0}, got[E * D];
    moe_rng_fill(gamma, MOE_F64, 0, E * D, MOE_FILL_NORMAL, 1, 5, 1);
    moe_rng_fill(beta, MOE_F64, 0, E * D, MOE_FILL_NORMAL, 1, 5, 2);
    memcpy(w2, data_of(p, MOE_T_W2), sizeof w2);
    modulate(p, gamma, beta);
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    for (int64_t t = 0; t < T; t++) {
        network(data_of(p, MOE_T_X) + t * D, data_of(p, MOE_T_W1), w2, f);
        collapsed(r->plan, t, gamma, beta, f, data_of(p, MOE_T_DO) + t * D, o + t * D, d_gamma);
    }
    for (int64_t row = 0; row < E * D; row++) {
        got[row] = 0;
        for (int j = 0; j < N; j++)
            got[row] += props_values(r, MOE_T_DW2)[row * N + j] * w2[row % D * N + j];
    }
    cr_expect_lt(props_nmse(props_values(r, MOE_T_O), o, T * D), 1e-28);
    cr_expect_lt(props_nmse(got, d_gamma, E * D), 1e-27);
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&p);
}
