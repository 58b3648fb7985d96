/* Facts that hold for any right MoE layer, checked without a second implementation of it. */
#include "props.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void swap_rows(double *w, int64_t row, int64_t a, int64_t b) {
    for (int64_t i = 0; i < row; i++) {
        double kept = w[a * row + i];
        w[a * row + i] = w[b * row + i];
        w[b * row + i] = kept;
    }
}

/* Renaming experts renames the plan and the weight gradients, and changes nothing else. */
Test(identities, experts_can_be_permuted) {
    moe_problem *p = props_problem("T=33 d=8 n=6 E=5 K=2 dtype=fp64 renorm=1 seed=4");
    moe_reference_result *a = props_run(p, MOE_F64, 1);
    int64_t w1 = 2 * 6 * 8, w2 = 8 * 6;
    swap_rows(p->in.t[MOE_T_W1].data, w1, 1, 4);
    swap_rows(p->in.t[MOE_T_W2].data, w2, 1, 4);
    swap_rows(p->in.t[MOE_T_W_R].data, 8, 1, 4);
    moe_reference_result *b = props_run(p, MOE_F64, 1);
    int64_t count = p->T * p->layer.d;
    cr_expect_lt(props_nmse(props_values(b, MOE_T_O), props_values(a, MOE_T_O), count), 1e-30);
    cr_expect_lt(props_nmse(props_values(b, MOE_T_DX), props_values(a, MOE_T_DX), count), 1e-29);
    cr_expect_lt(
        props_nmse(props_values(b, MOE_T_DW1) + 4 * w1, props_values(a, MOE_T_DW1) + w1, w1),
        1e-29);
    cr_expect_eq(b->plan->offsets[2] - b->plan->offsets[1],
                 a->plan->offsets[5] - a->plan->offsets[4]);
    moe_reference_result_destroy(&a);
    moe_reference_result_destroy(&b);
    moe_problem_destroy(&p);
}

/* One SwiGLU network of width n over all tokens, written out. */
static void dense_ffn(const double *x, const double *w1, const double *w2, int64_t T, int64_t d,
                      int64_t n, double *o) {
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < d; i++)
            o[t * d + i] = 0;
        for (int64_t j = 0; j < n; j++) {
            double gate = 0, up = 0;
            for (int64_t i = 0; i < d; i++) {
                gate += x[t * d + i] * w1[j * d + i];
                up += x[t * d + i] * w1[(n + j) * d + i];
            }
            double a = gate / (1 + exp(-gate)) * up;
            for (int64_t i = 0; i < d; i++)
                o[t * d + i] += a * w2[i * n + j];
        }
    }
}

Test(identities, one_expert_is_a_dense_network) {
    moe_problem *p = props_problem("T=17 d=8 n=6 E=1 K=1 dtype=fp64 seed=5");
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    double o[17 * 8];
    dense_ffn(p->in.t[MOE_T_X].data, p->in.t[MOE_T_W1].data, p->in.t[MOE_T_W2].data, 17, 8, 6, o);
    cr_expect_lt(props_nmse(props_values(r, MOE_T_O), o, 17 * 8), 1e-28);
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&p);
}

/* E experts that hold the slices of one network's hidden units, all active with weight 1. */
Test(identities, slices_of_a_dense_network) {
    enum { T = 11, d = 8, n = 3, E = 4, N = E * n };
    moe_problem *p = props_problem("T=11 d=8 n=3 E=4 K=4 dtype=fp64 route=uniform seed=6");
    const double *w1 = p->in.t[MOE_T_W1].data, *w2 = p->in.t[MOE_T_W2].data;
    double wide1[2 * N * d], wide2[d * N], o[T * d];
    for (int e = 0; e < E; e++) {
        for (int j = 0; j < n; j++) {
            memcpy(wide1 + (e * n + j) * d, w1 + (e * 2 * n + j) * d, sizeof(double) * d);
            memcpy(wide1 + (N + e * n + j) * d, w1 + (e * 2 * n + n + j) * d, sizeof(double) * d);
            for (int i = 0; i < d; i++)
                wide2[i * N + e * n + j] = w2[(e * d + i) * n + j];
        }
    }
    for (int64_t i = 0; i < p->plan->n_pairs; i++)
        p->plan->weight[i] = 1;
    dense_ffn(p->in.t[MOE_T_X].data, wide1, wide2, T, d, N, o);
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    cr_expect_lt(props_nmse(props_values(r, MOE_T_O), o, T * d), 1e-28);
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&p);
}

Test(identities, output_is_linear_in_the_weights) {
    moe_problem *p = props_problem("T=21 d=8 n=6 E=5 K=3 dtype=fp64 bias=1 route=zipf:1.1 seed=7");
    moe_reference_result *one = props_run(p, MOE_F64, 1);
    for (int64_t i = 0; i < p->plan->n_pairs; i++)
        p->plan->weight[i] *= -3;
    moe_reference_result *three = props_run(p, MOE_F64, 1);
    int64_t count = p->T * p->layer.d;
    double *scaled = malloc((size_t)count * sizeof *scaled);
    for (int64_t i = 0; i < count; i++)
        scaled[i] = -3 * props_values(one, MOE_T_O)[i];
    cr_expect_lt(props_nmse(props_values(three, MOE_T_O), scaled, count), 1e-29);
    free(scaled);
    moe_reference_result_destroy(&one);
    moe_reference_result_destroy(&three);
    moe_problem_destroy(&p);
}

/* The memory-efficient dS = <dO W2, A> (+ <dO, b2>) equals the conventional dS = <dO, Y>. */
Test(identities, both_paths_to_the_weight_gradient_agree) {
    moe_problem *p = props_problem("T=40 d=24 n=16 E=6 K=3 dtype=fp64 bias=1 renorm=1 seed=8");
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    const double *y = props_values(r, MOE_T_Y), *g = p->in.t[MOE_T_DO].data;
    double *ds = calloc((size_t)r->plan->n_pairs, sizeof *ds);
    for (int64_t i = 0; i < r->plan->n_pairs; i++)
        for (int64_t c = 0; c < 24; c++)
            ds[i] += g[r->plan->token[i] * 24 + c] * y[i * 24 + c];
    cr_expect_lt(props_nmse(props_values(r, MOE_T_DS), ds, r->plan->n_pairs), 1e-24);
    free(ds);
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&p);
}

/* Interleaving the rows of W1 changes the layout of H and nothing else. */
Test(identities, layouts_agree) {
    enum { d = 8, n = 6, E = 3 };
    moe_problem *a = props_problem("T=13 d=8 n=6 E=3 K=2 dtype=fp64 seed=9");
    moe_problem *b = props_problem("T=13 d=8 n=6 E=3 K=2 dtype=fp64 glu=interleaved seed=9");
    const double *from = a->in.t[MOE_T_W1].data;
    double *to = b->in.t[MOE_T_W1].data;
    for (int e = 0; e < E; e++)
        for (int j = 0; j < 2 * n; j++)
            memcpy(to + (e * 2 * n + (j < n ? 2 * j : 2 * (j - n) + 1)) * d,
                   from + (e * 2 * n + j) * d, sizeof(double) * d);
    moe_reference_result *x = props_run(a, MOE_F64, 1), *y = props_run(b, MOE_F64, 1);
    cr_expect_eq(props_nmse(props_values(x, MOE_T_O), props_values(y, MOE_T_O), 13 * d), 0);
    cr_expect_lt(props_nmse(props_values(x, MOE_T_DX), props_values(y, MOE_T_DX), 13 * d), 1e-29);
    moe_reference_result_destroy(&x);
    moe_reference_result_destroy(&y);
    moe_problem_destroy(&a);
    moe_problem_destroy(&b);
}

/* Threads share out rows, never sums: the same bits whatever their number. */
Test(identities, results_do_not_depend_on_threads) {
    moe_problem *p = props_problem("T=129 d=64 n=48 E=4 K=2 dtype=fp32 shared=32 renorm=1 seed=10");
    moe_reference_result *one = props_run(p, MOE_F64, 1), *three = props_run(p, MOE_F64, 3);
    int compared = 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!one->out.t[id].data)
            continue;
        cr_expect_arr_eq(one->out.t[id].data, three->out.t[id].data,
                         (size_t)moe_tensor_bytes(&one->out.t[id]), "%s differs",
                         moe_tensor_name((moe_tensor_id)id));
        compared++;
    }
    cr_assert_geq(compared, 15);
    moe_reference_result_destroy(&one);
    moe_reference_result_destroy(&three);
    moe_problem_destroy(&p);
}

/* NMSE of O in a lower precision: not zero, and under the noise of that precision. */
static void expect_noise(const moe_problem *p, const moe_reference_result *exact, moe_dtype type,
                         double low, double high) {
    int64_t count = p->T * p->layer.d;
    moe_reference_result *r = props_run(p, type, 1);
    double *o = malloc((size_t)count * sizeof *o);
    moe_convert(o, MOE_F64, r->out.t[MOE_T_O].data, MOE_F32, (size_t)count);
    double nmse = props_nmse(o, props_values(exact, MOE_T_O), count);
    cr_expect(nmse > low && nmse < high, "%s: NMSE %.2e outside %.0e..%.0e", moe_dtype_name(type),
              nmse, low, high);
    free(o);
    moe_reference_result_destroy(&r);
}

Test(identities, lower_precisions_have_their_own_noise) {
    moe_problem *p = props_problem("T=64 d=96 n=64 E=4 K=2 dtype=bf16 renorm=1 seed=11");
    moe_reference_result *exact = props_run(p, MOE_F64, 1);
    expect_noise(p, exact, MOE_F32, 1e-15, 1e-12);
    expect_noise(p, exact, MOE_F16, 5e-8, 6e-7);
    expect_noise(p, exact, MOE_BF16, 3e-6, 4e-5);
    moe_reference_result_destroy(&exact);
    moe_problem_destroy(&p);
}
