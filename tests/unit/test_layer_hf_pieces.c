/* Layers piece by piece: together the pieces are the layer. */
#include "hf_folder.h"
#include "moeref/reference.h"

#include <math.h>

typedef struct whole {
    moe_problem *problem;
    moe_hf_piece *piece;
    size_t count;
    char dir[PATH_BYTES];
} whole;

/* With room for `bytes`, the layer's pieces. */
static whole open_whole(const char *family, int64_t bytes) {
    whole w = {.count = 0};
    snprintf(w.dir, sizeof w.dir, "%s/golden/hf/%s", getenv("MOEREF_SOURCE_ROOT"), family);
    cr_assert_eq(moe_problem_from_hf(w.dir, -1, 0, NULL, &w.problem), MOE_OK, "%s", w.dir);
    cr_assert_eq(moe_hf_pieces(w.dir, -1, 0, bytes, NULL, &w.piece, &w.count), MOE_OK);
    return w;
}

static void close_whole(whole *w) {
    moe_problem_destroy(&w->problem);
    free(w->piece);
}

static moe_problem *load(const whole *w, const moe_hf_piece *piece) {
    moe_problem *p = NULL;
    cr_assert_eq(moe_problem_from_hf_piece(w->dir, -1, 0, piece, NULL, &p), MOE_OK, "%s", w->dir);
    return p;
}

static moe_reference_result *run(const moe_problem *p) {
    const moe_reference_params params = {.tokens = p->T,
                                         .precision = MOE_F64,
                                         .plan = p->plan,
                                         .plan_given = p->plan != NULL,
                                         .seed = p->seed};
    moe_reference_result *r = NULL;
    cr_assert_eq(moe_reference_run(&p->layer, &p->in, &params, NULL, &r), MOE_OK);
    return r;
}

/* `part` is slice `first` on of the whole tensor, experts coming first. */
static void expect_slice(const moe_problem *all, const moe_problem *part, moe_tensor_id id,
                         int64_t first) {
    const moe_tensor *a = &all->in.t[id], *b = &part->in.t[id];
    if (!a->data) {
        cr_expect_null(b->data);
        return;
    }
    const int64_t slice = moe_tensor_bytes(a) / a->shape[0];
    cr_assert_eq(moe_tensor_bytes(b), slice * part->layer.E, "%s", moe_tensor_name(id));
    cr_expect_eq(
        memcmp(b->data, (const char *)a->data + first * slice, (size_t)moe_tensor_bytes(b)), 0,
        "%s of %s", moe_tensor_name(id), part->name);
}

static void add_values(const moe_tensor *t, double *sum) {
    for (int64_t i = 0; i < moe_tensor_count(t); i++)
        sum[i] += ((const double *)t->data)[i];
}

static double distance(const moe_tensor *t, const double *sum) {
    double off = 0, size = 0;
    for (int64_t i = 0; i < moe_tensor_count(t); i++) {
        const double v = ((const double *)t->data)[i];
        off += (v - sum[i]) * (v - sum[i]);
        size += v * v;
    }
    return off / size;
}

/* The experts' pieces have its weights, once each, and their outputs add up to its output. */
static void expect_experts(const char *family, bool sums) {
    whole w = open_whole(family, 1);
    moe_reference_result *r = run(w.problem);
    const moe_tensor *O = &r->out.t[MOE_T_O];
    double *sum = calloc((size_t)moe_tensor_count(O), sizeof *sum);
    int64_t next = 0;
    cr_assert_eq(w.count, (size_t)w.problem->layer.E + 1, "one expert at a time where none fits");
    for (size_t i = 1; i < w.count; i++) {
        moe_problem *p = load(&w, &w.piece[i]);
        cr_expect_eq(w.piece[i].first, next);
        next += w.piece[i].count;
        expect_slice(w.problem, p, MOE_T_W1, w.piece[i].first);
        expect_slice(w.problem, p, MOE_T_W2, w.piece[i].first);
        expect_slice(w.problem, p, MOE_T_B1, w.piece[i].first);
        expect_slice(w.problem, p, MOE_T_B2, w.piece[i].first);
        moe_reference_result *part = run(p);
        add_values(&part->out.t[MOE_T_O], sum);
        moe_reference_result_destroy(&part);
        moe_problem_destroy(&p);
    }
    cr_expect_eq(next, w.problem->layer.E);
    if (sums)
        cr_expect_lt(distance(O, sum), 1e-25, "%s: NMSE %g", family, distance(O, sum));
    free(sum);
    moe_reference_result_destroy(&r);
    close_whole(&w);
}

Test(layer_hf_pieces, a_tensor_for_each_expert) {
    expect_experts("mixtral", true);
}

Test(layer_hf_pieces, transposed_in_one_tensor_with_biases) {
    expect_experts("gpt_oss", true);
}

Test(layer_hf_pieces, beside_a_shared_expert) {
    expect_experts("deepseek_v3", false);
}

/* Every expert with its first units, and the router's choice as it was. */
static void expect_router(const char *family) {
    whole w = open_whole(family, 1);
    moe_problem *p = load(&w, &w.piece[0]);
    const moe_layer_desc *a = &w.problem->layer, *b = &p->layer;
    const moe_tensor *t = w.problem->in.t, *u = p->in.t;
    const int64_t wide = moe_h_width(a, a->n), hw = moe_h_width(b, b->n);
    cr_assert_eq(b->n, MOE_HF_ROUTER_UNITS);
    cr_assert_eq(b->E, a->E);
    for (int64_t e = 0; e < a->E; e++)
        for (int64_t j = 0; j < b->n; j++)
            for (int64_t i = 0; i < a->d; i++) {
                for (int up = 0; up < 2; up++)
                    cr_assert_eq(
                        moe_load(u[MOE_T_W1].data, u[MOE_T_W1].dtype,
                                 (size_t)((e * hw + moe_h_column(b->glu_layout, b->n, hw, j, up)) *
                                              b->d +
                                          i)),
                        moe_load(
                            t[MOE_T_W1].data, t[MOE_T_W1].dtype,
                            (size_t)((e * wide + moe_h_column(a->glu_layout, a->n, wide, j, up)) *
                                         a->d +
                                     i)));
                cr_assert_eq(moe_load(u[MOE_T_W2].data, u[MOE_T_W2].dtype,
                                      (size_t)((e * b->d + i) * b->n + j)),
                             moe_load(t[MOE_T_W2].data, t[MOE_T_W2].dtype,
                                      (size_t)((e * a->d + i) * a->n + j)));
            }
    moe_reference_result *r = run(w.problem), *cut = run(p);
    cr_expect_eq(
        memcmp(r->plan->token, cut->plan->token, (size_t)r->plan->n_pairs * sizeof *r->plan->token),
        0);
    cr_expect_eq(memcmp(r->plan->weight, cut->plan->weight,
                        (size_t)r->plan->n_pairs * sizeof *r->plan->weight),
                 0);
    moe_reference_result_destroy(&r);
    moe_reference_result_destroy(&cut);
    moe_problem_destroy(&p);
    close_whole(&w);
}

Test(layer_hf_pieces, the_router_has_every_expert) {
    expect_router("mixtral");
    expect_router("gpt_oss");
    expect_router("deepseek_v3");
}

Test(layer_hf_pieces, none_where_there_is_room) {
    whole w = open_whole("mixtral", INT64_MAX);
    cr_expect_eq(w.count, (size_t)0);
    close_whole(&w);
}

Test(layer_hf_pieces, experts_that_the_layer_does_not_have) {
    capture seen;
    moe_log log = capture_log(&seen);
    whole w = open_whole("mixtral", INT64_MAX);
    moe_problem *p = NULL;
    const moe_hf_piece beyond = {.first = 6, .count = 3};
    cr_expect_eq(moe_problem_from_hf_piece(w.dir, -1, 0, &beyond, &log, &p), MOE_E_INVALID);
    cr_expect(strstr(seen.text, "the layer has experts 0-7"), "%s", seen.text);
    close_whole(&w);
}
