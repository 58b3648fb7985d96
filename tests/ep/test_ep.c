/* Layouts from plans, and bits: a layer over any number of ranks is the layer on one device. */
#include "capture.h"
#include "moeref/ep.h"
#include "over_ranks.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static moe_problem *problem_of(const char *line) {
    moe_case c;
    moe_problem *problem = NULL;
    capture seen;
    moe_log log = capture_log(&seen);
    cr_assert_eq(moe_case_parse(line, &log, &c), MOE_OK, "%s: %s", line, seen.text);
    cr_assert_eq(moe_problem_from_case(&c, &log, &problem), MOE_OK, "%s: %s", line, seen.text);
    moe_case_destroy(&c);
    return problem;
}

static moe_ep_params params_of(const moe_problem *p, const char *fault, double limit_s) {
    return (moe_ep_params){.ranks = moe_split_ranks(&p->split),
                           .combine = p->split.combine,
                           .wire = p->split.wire,
                           .skew = p->split.skew,
                           .tokens = p->split.tokens,
                           .tp = p->split.tp,
                           .replicas = p->split.replicas,
                           .n_replicas = p->split.n_replicas,
                           .padding = p->split.padding,
                           .pad = p->split.pad,
                           .limit_s = limit_s,
                           .fault = fault};
}

static moe_backend *open_backend(const char *spec, moe_backends **all) {
    moe_backend *backend = NULL;
    cr_assert_eq(moe_backends_load(NULL, NULL, all), MOE_OK);
    moe_open_params open = {.threads = 1};
    return moe_backend_open(*all, spec, &open, NULL, &backend) ? NULL : backend;
}

moe_check_result *check_over_ranks(const char *spec, const char *line, const char *fault,
                                   double limit_s) {
    moe_backends *all = NULL;
    moe_backend *backend = open_backend(spec, &all);
    moe_check_result *result = NULL;
    if (backend) {
        moe_problem *problem = problem_of(line);
        const moe_ep_params ep = params_of(problem, fault, limit_s);
        const moe_check_params params = {.threads = 1};
        cr_assert_eq(moe_check_ranks(&backend, 1, &ep, problem, &params, NULL, &result), MOE_OK,
                     "%s", line);
        moe_problem_destroy(&problem);
        moe_backend_close(&backend);
    }
    moe_backends_destroy(&all);
    return result;
}

static void assert_exact(const char *spec, const char *line) {
    moe_check_result *r = check_over_ranks(spec, line, NULL, 0);
    if (!r)
        return; /* the backend is not built */
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s on %s: %s", line, spec, r->why);
    cr_expect_eq(r->over_ranks.differ, 0, "%s on %s: %lld elements", line, spec,
                 (long long)r->over_ranks.differ);
    cr_expect_gt(r->over_ranks.same, 0);
    cr_expect_eq(r->over_ranks.repeats, 1);
    moe_check_result_destroy(&r);
}

Test(ep, a_name_says_how_rows_are_summed_and_padded) {
    static const char *const due[] = {
        "reference over 3 ranks, pairs, threads",
        "reference over 3 ranks, ranks, threads, padding owner",
        "reference over 3 ranks, pairs, threads, padding wire",
        "reference over 3 ranks, pairs, threads, padding capacity",
    };
    moe_backends *all = NULL;
    moe_backend *backend = open_backend("reference", &all), *over = NULL;
    for (int32_t padding = 0; padding < MOE_EP_PADDING_COUNT; padding++) {
        const moe_ep_params params = {.ranks = 3,
                                      .combine =
                                          padding == MOE_EP_PAD_OWNER ? MOE_EP_RANKS : MOE_EP_PAIRS,
                                      .wire = MOE_EP_WIRE_OWN,
                                      .padding = padding};
        cr_assert_eq(moe_ep_open(&backend, 1, &params, NULL, &over), MOE_OK);
        cr_expect_str_eq(moe_backend_name(over), due[padding]);
        moe_backend_close(&over);
    }
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* ---- layouts ---- */

Test(ep, a_layout_is_what_the_plans_say) {
    /* Three experts over two ranks: rank 0 owns expert 0, rank 1 experts 1 and 2. */
    static const int32_t token[2][4] = {{0, 0, 1, 1}, {0}}, expert[2][4] = {{0, 1, 1, 2}, {2}};
    moe_plan *plans[2];
    cr_assert_eq(moe_plan_create(2, 4, 4, token[0], expert[0], NULL, NULL, &plans[0]), MOE_OK);
    cr_assert_eq(moe_plan_create(1, 4, 1, token[1], expert[1], NULL, NULL, &plans[1]), MOE_OK);
    for (int32_t combine = 0; combine < MOE_EP_COMBINE_COUNT; combine++) {
        const bool dedup = combine == MOE_EP_RANKS;
        const moe_ep_wire wire = {10, MOE_BF16, MOE_F32, MOE_F32};
        moe_ep_layout l;
        cr_assert_eq(moe_ep_layout_make((const moe_plan *const *)plans, 2, 3, combine, &l), MOE_OK);
        cr_expect_eq(l.pairs[0], 1);
        cr_expect_eq(l.pairs[1], 3);
        cr_expect_eq(l.copies[1], dedup ? 2 : 3);
        cr_expect_eq(l.pairs[2], 0);
        cr_expect_eq(l.pairs[3], 1);
        cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_DISPATCH, 0, 1), l.copies[1] * 20);
        cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_COMBINE, 1, 0), l.copies[1] * 40);
        cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_WEIGHTS, 0, 1), 3 * (dedup ? 8 : 4));
        cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_COUNTS, 1, 0), dedup ? 16 : 8);
        cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_WEIGHT_GRADIENTS, 1, 0), 12);
        moe_ep_layout_destroy(&l);
    }
    moe_plan_destroy(&plans[0]);
    moe_plan_destroy(&plans[1]);
}

/* Counts 1, 0, 3 and 0, 2, 1 of ranks 0 and 1 for expert 0 of rank 0 and 1, 2 of rank 1. */
Test(ep, a_padded_layout_has_rows_of_nobody) {
    static const int32_t token[2][4] = {{0, 0, 1, 2}, {0, 1, 1}};
    static const int32_t expert[2][4] = {{0, 2, 2, 2}, {1, 1, 2}};
    static const struct {
        int32_t combine, padding;
        int64_t rows, copies[4];
    } due[] = {
        {MOE_EP_PAIRS, MOE_EP_PAD_NONE, 2, {1, 3, 0, 3}},
        {MOE_EP_PAIRS, MOE_EP_PAD_OWNER, 2, {1, 3, 0, 3}},
        {MOE_EP_PAIRS, MOE_EP_PAD_WIRE, 2, {2, 4, 0, 4}},
        {MOE_EP_PAIRS, MOE_EP_PAD_CAPACITY, 3, {3, 6, 3, 6}},
        {MOE_EP_RANKS, MOE_EP_PAD_WIRE, 4, {4, 4, 0, 4}},
    };
    const moe_ep_wire wire = {10, MOE_BF16, MOE_F32, MOE_F32, 0};
    moe_plan *plans[2];
    cr_assert_eq(moe_plan_create(3, 3, 4, token[0], expert[0], NULL, NULL, &plans[0]), MOE_OK);
    cr_assert_eq(moe_plan_create(2, 3, 3, token[1], expert[1], NULL, NULL, &plans[1]), MOE_OK);
    for (size_t i = 0; i < sizeof due / sizeof *due; i++) {
        moe_ep_layout l;
        cr_assert_eq(moe_ep_layout_make((const moe_plan *const *)plans, 2, 3, due[i].combine, &l),
                     MOE_OK);
        moe_ep_layout_pad(&l, due[i].padding, due[i].rows);
        for (int k = 0; k < 4; k++) {
            cr_expect_eq(l.copies[k], due[i].copies[k], "%zu: %d", i, k);
            cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_DISPATCH, k / 2, k % 2),
                         due[i].copies[k] * 20);
            cr_expect_eq(moe_ep_layout_bytes(&l, &wire, MOE_EP_COMBINE, k % 2, k / 2),
                         due[i].copies[k] * 40);
        }
        cr_expect_eq(l.pairs[1], 3);
        moe_ep_layout_destroy(&l);
    }
    moe_plan_destroy(&plans[0]);
    moe_plan_destroy(&plans[1]);
}

Test(ep, every_expert_has_one_owner) {
    for (int64_t experts = 1; experts < 12; experts++)
        for (int32_t ranks = 1; ranks < 16; ranks++) {
            cr_expect_eq(moe_ep_first_expert(experts, ranks, 0), 0);
            cr_expect_eq(moe_ep_first_expert(experts, ranks, ranks), experts);
            for (int32_t r = 0; r < ranks; r++)
                cr_expect_leq(moe_ep_first_expert(experts, ranks, r),
                              moe_ep_first_expert(experts, ranks, r + 1));
        }
}

/* ---- bits ---- */

Test(ep, any_number_of_ranks_has_one_ranks_bits) {
    static const char *const lines[] = {
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=1 ep=1",
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=1 ep=2",
        "T=40 d=24 n=16 E=5 K=2 dtype=fp32 bias=1 on=input router_bias=1 seed=2 ep=3",
        "T=33 d=16 n=12 E=7 K=2 dtype=fp32 shared=8 shared_gate=1 zero=2 seed=3 ep=5",
        "T=48 d=16 n=8 E=6 K=2 dtype=fp32 select=expert_choice seed=4 ep=8",
        "T=70 d=8 n=8 E=16 K=2 dtype=fp32 seed=5 ep=64",
        "T=24 d=300 n=8 E=6 K=3 renorm=1 seed=13 ep=3 wire=e4m3 tokens=10+0+14",
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=16 ep=3 replicas=2+3",
        "T=30 d=16 n=8 E=5 K=2 dtype=fp32 bias=1 zero=1 shared=8 seed=17 ep=4 replicas=4+1+2+3+4",
        /* rows of nobody, at owners and on the wire */
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 bias=1 renorm=1 seed=21 ep=3 padding=owner pad=8",
        "T=20 d=16 n=8 E=4 K=2 dtype=fp32 on=input seed=22 ep=3 tokens=9+0+11 padding=wire pad=4",
        "T=20 d=16 n=8 E=4 K=2 seed=23 ep=3 wire=e4m3 padding=wire pad=3 replicas=2",
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 select=capacity capacity=4 capacity_group=8 seed=24 ep=3 "
        "padding=capacity",
        "T=12 d=16 n=8 E=4 K=1 dtype=fp32 route=hot:3 seed=25 ep=4 padding=owner pad=5",
        /* a capacity of all tokens, of each rank's, and of groups that lie across ranks */
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 select=capacity capacity=7 renorm=1 seed=20 ep=3",
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 select=capacity capacity=3 capacity_group=8 seed=20 ep=3",
        "T=24 d=16 n=8 E=6 K=3 dtype=fp32 select=capacity capacity=3 capacity_group=8 seed=20 ep=4 "
        "tokens=8+0+11+5",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_exact("reference", lines[i]);
    assert_exact("reference:fp32", lines[2]);
    assert_exact("openblas:invariant", lines[2]);
    assert_exact("openblas:invariant", lines[3]);
    /* with 16-bit products, where the CPU has them */
    assert_exact("openblas:invariant", "T=24 d=16 n=8 E=6 K=3 renorm=1 seed=1 ep=3");
}

Test(ep, edges) {
    static const char *const lines[] = {
        /* without tokens; everything to one rank, so that others receive nothing */
        "T=20 d=16 n=8 E=4 K=2 dtype=fp32 seed=6 ep=3 tokens=9+0+11",
        "T=12 d=16 n=8 E=4 K=1 dtype=fp32 route=hot:3 seed=7 ep=4",
        /* more ranks than experts or tokens; more experts per token than a rank has */
        "T=5 d=16 n=8 E=3 K=3 dtype=fp32 seed=8 ep=7",
        "T=20 d=16 n=8 E=6 K=5 dtype=fp32 seed=9 ep=4 skew=1.5",
        /* tokens without experts */
        "T=20 d=16 n=8 E=4 K=2 dtype=fp32 route=uniform masked=6 drop=5 seed=10 ep=3",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_exact("reference", lines[i]);
}

/* Sums of a rank's experts on the wire, or of parts of an expert: one more rounding, no more. */
Test(ep, sums_of_ranks_are_right_by_their_recipe) {
    static const char *const lines[][2] = {
        {"reference", "T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=1 ep=3 combine=ranks"},
        {"reference:bf16", "T=40 d=32 n=16 E=8 K=4 seed=11 ep=3 combine=ranks"},
        {"reference:fp32",
         "T=40 d=32 n=16 E=8 K=4 dtype=fp32 seed=11 ep=4 combine=ranks wire=bf16"},
        {"reference:fp32",
         "T=24 d=160 n=8 E=6 K=3 dtype=fp32 seed=14 ep=3 combine=ranks wire=e4m3"},
        {"reference:fp32", "T=24 d=16 n=7 E=6 K=3 dtype=fp32 bias=1 glu=interleaved seed=18 "
                           "ep=2 tp=3 combine=ranks wire=e4m3 replicas=2"},
        {"reference", "T=24 d=16 n=8 E=6 K=3 dtype=fp32 bias=1 on=input seed=19 ep=2 tp=2"},
        {"reference:bf16", "T=40 d=32 n=16 E=8 K=4 seed=26 ep=3 combine=ranks padding=wire pad=8"},
        {"reference:bf16", "T=40 d=32 n=16 E=8 K=4 seed=27 ep=2 tp=2 combine=ranks padding=owner "
                           "pad=16 replicas=2"},
        {"reference:bf16", "T=40 d=32 n=16 E=8 K=4 shared=8 seed=20 ep=2 tp=2 replicas=2+2"},
        {"reference:bf16", "T=24 d=160 n=8 E=6 K=3 inject=nan@3 seed=15 ep=3 wire=e4m3"},
        /* rows of pairs that are rounded on their way */
        {"reference", "T=24 d=16 n=8 E=6 K=3 renorm=1 seed=1 ep=3 wire=bf16"},
        {"reference:fp32", "T=24 d=16 n=8 E=6 K=3 dtype=fp32 seed=1 ep=3 wire=fp16"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_check_result *r = check_over_ranks(lines[i][0], lines[i][1], NULL, 0);
        cr_assert(r);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s: %s", lines[i][1], r->why);
        cr_expect_gt(r->over_ranks.rows, 0);
        moe_check_result_destroy(&r);
    }
}

/* A backend over ranks has the bits of the backend alone, not only those of one rank. */
static void assert_own_bits(const char *spec, const char *line) {
    static const moe_tensor_id ids[] = {MOE_T_O, MOE_T_DX, MOE_T_DS, MOE_T_DW1, MOE_T_DW_R};
    moe_problem *p = problem_of(line);
    const moe_ep_params ep = params_of(p, NULL, 0);
    const moe_use use = {p->T, p->dtype, p->pass, 0};
    const moe_input input = {.tokens = p->T, .X = p->in.t[MOE_T_X], .dO = p->in.t[MOE_T_DO]};
    const int64_t pairs = p->T * p->layer.K;
    moe_support says = {.arithmetic = MOE_F64};
    moe_backends *all = NULL;
    moe_backend *backend[2] = {open_backend(spec, &all)};
    moe_layer *layer[2] = {NULL};
    if (backend[0]) {
        cr_assert_eq(moe_backend_supports(backend[0], &p->layer, &use, &says), MOE_OK);
        cr_assert_eq(moe_ep_open(backend, 1, &ep, NULL, &backend[1]), MOE_OK);
    }
    for (int i = 0; backend[0] && i < 2; i++) {
        cr_assert_eq(moe_layer_prepare(backend[i], &p->layer, &use, &p->in, &layer[i]), MOE_OK);
        cr_assert_eq(moe_layer_set_input(layer[i], &input), MOE_OK);
        cr_assert_eq(moe_layer_forward(layer[i]), MOE_OK);
        cr_assert_eq(moe_layer_backward(layer[i]), MOE_OK);
    }
    for (size_t i = 0; backend[0] && i < sizeof ids / sizeof *ids; i++) {
        moe_tensor shape = {0}, got[2];
        moe_tensor_shape(&p->layer, ids[i], p->T, pairs, pairs, &shape);
        for (int b = 0; b < 2; b++) {
            cr_assert_eq(
                moe_tensor_alloc((moe_dtype)says.arithmetic, shape.ndim, shape.shape, &got[b]),
                MOE_OK);
            cr_assert_eq(moe_layer_fetch(layer[b], ids[i], &got[b]), MOE_OK);
        }
        cr_expect_eq(memcmp(got[0].data, got[1].data, (size_t)moe_tensor_bytes(&got[0])), 0,
                     "%s of %s on %s", moe_tensor_name(ids[i]), spec, line);
        moe_tensor_destroy(&got[0]);
        moe_tensor_destroy(&got[1]);
    }
    for (int i = 1; i >= 0; i--) {
        moe_layer_destroy(&layer[i]);
        moe_backend_close(&backend[i]);
    }
    moe_backends_destroy(&all);
    moe_problem_destroy(&p);
}

Test(ep, a_backends_own_bits) {
    assert_own_bits("reference", "T=30 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=12 ep=4");
    assert_own_bits("openblas:invariant", "T=30 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=12 ep=4");
    assert_own_bits("reference:bf16", "T=30 d=16 n=8 E=6 K=3 renorm=1 seed=12 ep=4");
    /* whose rows of Y are in fp32 beside results in bf16 */
    assert_own_bits("openblas:invariant", "T=30 d=16 n=8 E=6 K=3 seed=12 ep=4 wire=fp32");
}
