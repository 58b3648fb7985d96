/* The front end: what it refuses, with which words, and that a refusal changes nothing. */
#include "backend_run.h"

static const char small[] = "T=6 d=5 n=3 E=4 K=2 dtype=fp32 seed=1";
static const char given[] = "T=6 d=5 n=3 E=4 K=2 dtype=fp32 route=uniform seed=1";

static void open_reference(backend_run *r) {
    cr_assert_eq(run_open(r, "", "reference", 1), MOE_OK);
}

/* The last call failed with `want` and one sentence that holds `part`. */
static void expect_failed(backend_run *r, moe_status status, moe_status want, const char *part) {
    cr_expect_eq(status, want, "%s, expected %s (%s)", moe_status_str(status), moe_status_str(want),
                 part);
    cr_expect_eq(r->seen.messages, 1, "%d messages (%s)", r->seen.messages, part);
    cr_expect(strstr(r->seen.text, part), "'%s' lacks '%s'", r->seen.text, part);
    r->seen.messages = 0;
}

/* ---- prepare ---- */

static void expect_unprepared(backend_run *r, const char *part) {
    moe_layer *layer = (moe_layer *)r;
    moe_status status =
        moe_layer_prepare(r->backend, &r->problem->layer, &r->use, &r->problem->in, &layer);
    expect_failed(r, status, MOE_E_INVALID, part);
    cr_expect_eq(layer, (moe_layer *)r, "the out-parameter was touched");
}

Test(front, prepare_refuses_use_out_of_range) {
    backend_run r;
    open_reference(&r);
    run_draw_case(&r, small);
    const moe_use good = r.use;
    r.use.tokens = 0;
    expect_unprepared(&r, "T = 0");
    r.use = good;
    r.use.dtype = MOE_I32;
    expect_unprepared(&r, "dtype");
    r.use.dtype = 77;
    expect_unprepared(&r, "dtype");
    r.use = good;
    r.use.pass = 0;
    expect_unprepared(&r, "pass");
    r.use.pass = 4;
    expect_unprepared(&r, "pass");
    r.use = good;
    r.use.plan_given = 2;
    expect_unprepared(&r, "plan_given");
    r.use = good;
    r.problem->layer.K = 5;
    expect_unprepared(&r, "K = 5");
    r.problem->layer.K = 2;
    run_close(&r);
}

Test(front, prepare_refuses_parameters_that_contradict_the_description) {
    backend_run r;
    open_reference(&r);
    run_draw_case(&r, small);
    moe_tensor *W1 = &r.problem->in.t[MOE_T_W1], *W_r = &r.problem->in.t[MOE_T_W_R];
    moe_tensor *b1 = &r.problem->in.t[MOE_T_B1], good = *W1;
    W1->data = NULL;
    expect_unprepared(&r, "W1 is missing");
    *W1 = good;
    W1->dtype = MOE_BF16;
    expect_unprepared(&r, "W1 is bf16");
    *W1 = good;
    W1->dtype = (moe_dtype)99;
    expect_unprepared(&r, "W1 is ?");
    *W1 = good;
    W1->shape[1]++;
    expect_unprepared(&r, "W1 has shape");
    *W1 = good;
    W1->ndim = 2;
    expect_unprepared(&r, "W1 has shape");
    W1->ndim = 1000;
    expect_unprepared(&r, "W1 has 1000 dimensions");
    *W1 = good;
    *b1 = good;
    expect_unprepared(&r, "b1 is present");
    *b1 = (moe_tensor){0};
    good = *W_r;
    W_r->data = NULL;
    expect_unprepared(&r, "W_r is missing");
    *W_r = good;
    run_close(&r);
}

Test(front, router_parameters_are_not_needed_with_a_given_plan) {
    backend_run r;
    open_reference(&r);
    run_prepare(&r, given);
    cr_expect_eq(r.seen.messages, 0);
    run_close(&r);
}

/* ---- set_input ---- */

static void expect_no_input(backend_run *r, const moe_input *input, const char *part) {
    expect_failed(r, moe_layer_set_input(r->layer, input), MOE_E_INVALID, part);
}

Test(front, input_must_fit_what_was_prepared) {
    backend_run r;
    open_reference(&r);
    run_prepare(&r, small);
    moe_problem *other = drawn(given);
    moe_input in = r.input;
    in.tokens = 5;
    expect_no_input(&r, &in, "5 tokens");
    in = r.input;
    in.X.data = NULL;
    expect_no_input(&r, &in, "X is missing");
    in = r.input;
    in.X.shape[0] = 7;
    expect_no_input(&r, &in, "X has shape");
    in = r.input;
    in.dO.data = NULL;
    expect_no_input(&r, &in, "dO is missing");
    in = r.input;
    in.dO.dtype = MOE_F64;
    expect_no_input(&r, &in, "dO is fp64");
    in = r.input;
    in.plan = other->plan;
    expect_no_input(&r, &in, "brings a routing plan");
    moe_problem_destroy(&other);
    run_close(&r);
}

Test(front, given_plan_must_be_consistent) {
    backend_run r;
    open_reference(&r);
    run_prepare(&r, given);
    moe_input in = r.input;
    in.plan = NULL;
    expect_no_input(&r, &in, "the input has none");
    moe_plan broken = *r.input.plan;
    in.plan = &broken;
    broken.n_tokens = 7;
    expect_no_input(&r, &in, "7 tokens");
    broken = *r.input.plan;
    broken.n_experts = 3;
    expect_no_input(&r, &in, "3 experts");
    broken = *r.input.plan;
    broken.token[0] = 6;
    moe_status status = moe_layer_set_input(r.layer, &in);
    cr_expect_eq(status, MOE_E_INVALID, "a token out of range was let through");
    run_close(&r);
}

Test(front, forward_only_needs_no_gradient) {
    backend_run r;
    open_reference(&r);
    run_prepare(&r, "T=6 d=5 n=3 E=4 K=2 dtype=fp32 pass=fwd");
    r.input.dO.data = NULL;
    run_step(&r, &r.input);
    expect_failed(&r, moe_layer_backward(r.layer), MOE_E_INVALID, "forward pass only");
    run_close(&r);
}

/* ---- the order of calls ---- */

Test(front, order_of_calls) {
    backend_run r;
    const moe_plan *plan;
    open_reference(&r);
    run_prepare(&r, small);
    expect_failed(&r, moe_layer_forward(r.layer), MOE_E_INVALID, "before any input");
    expect_failed(&r, moe_layer_backward(r.layer), MOE_E_INVALID, "before a forward");
    expect_failed(&r, moe_layer_routing(r.layer, &plan), MOE_E_INVALID, "before a forward");
    cr_assert_eq(moe_layer_set_input(r.layer, &r.input), MOE_OK);
    expect_failed(&r, moe_layer_backward(r.layer), MOE_E_INVALID, "before a forward");
    run_step(&r, &r.input);
    cr_expect_eq(moe_layer_backward(r.layer), MOE_OK, "backward may be repeated");
    cr_assert_eq(moe_layer_set_input(r.layer, &r.input), MOE_OK);
    expect_failed(&r, moe_layer_backward(r.layer), MOE_E_INVALID, "before a forward");
    run_close(&r);
}

/* ---- fetch ---- */

static void expect_unfetched(backend_run *r, int id, moe_tensor dst, const char *part) {
    expect_failed(r, moe_layer_fetch(r->layer, (moe_tensor_id)id, &dst), MOE_E_INVALID, part);
}

Test(front, fetch_wants_the_tensor_s_own_shape_and_pass) {
    backend_run r;
    open_reference(&r);
    run_prepare(&r, small);
    float memory[64];
    moe_tensor O = {.data = memory, .dtype = MOE_F32, .ndim = 2, .shape = {6, 5}};
    expect_unfetched(&r, MOE_T_O, O, "O before the pass");
    cr_assert_eq(moe_layer_set_input(r.layer, &r.input), MOE_OK);
    cr_assert_eq(moe_layer_forward(r.layer), MOE_OK);
    cr_expect_eq(moe_layer_fetch(r.layer, MOE_T_O, &O), MOE_OK);
    expect_unfetched(&r, MOE_T_DX, O, "dX before the pass");
    expect_unfetched(&r, MOE_T_DXP, O, "dXp before the pass");
    expect_unfetched(&r, MOE_T_X, O, "X is an input");
    expect_unfetched(&r, MOE_T_W1, O, "W1 is an input");
    expect_unfetched(&r, MOE_T_DB1, O, "no db1");
    expect_unfetched(&r, MOE_T_COUNT, O, "does not exist");
    expect_unfetched(&r, -1, O, "does not exist");
    moe_tensor wrong = O;
    wrong.shape[0] = 5;
    expect_unfetched(&r, MOE_T_O, wrong, "shape [6, 5], not [5, 5]");
    wrong.ndim = 9;
    expect_unfetched(&r, MOE_T_O, wrong, "O has shape [6, 5]");
    wrong = O;
    wrong.dtype = MOE_I32;
    expect_unfetched(&r, MOE_T_O, wrong, "floating");
    wrong.dtype = (moe_dtype)99;
    expect_unfetched(&r, MOE_T_O, wrong, "floating");
    wrong = O;
    wrong.data = NULL;
    expect_unfetched(&r, MOE_T_O, wrong, "without data");
    run_close(&r);
}

Test(front, fetch_converts_to_any_floating_type) {
    static const moe_dtype types[] = {MOE_F64, MOE_F32, MOE_F16, MOE_BF16};
    backend_run r;
    open_reference(&r);
    run_prepare(&r, small);
    run_step(&r, &r.input);
    moe_tensor exact = run_fetch(&r, MOE_T_DW1, MOE_F64);
    for (int i = 0; i < 4; i++) {
        moe_tensor t = run_fetch(&r, MOE_T_DW1, types[i]);
        for (int64_t j = 0; j < moe_tensor_count(&t); j++)
            cr_assert_eq(moe_load(t.data, types[i], (size_t)j),
                         moe_round_to(moe_load(exact.data, MOE_F64, (size_t)j), types[i]));
        moe_tensor_destroy(&t);
    }
    moe_tensor_destroy(&exact);
    run_close(&r);
}

/* ---- the built-in reference behind the front end ---- */

static void expect_same_bits(backend_run *r, const moe_reference_result *want, moe_dtype dtype) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor *w = &want->out.t[id];
        if (!w->data)
            continue;
        moe_tensor g = run_fetch(r, (moe_tensor_id)id, dtype);
        cr_expect_eq(memcmp(g.data, w->data, (size_t)moe_tensor_bytes(w)), 0, "%s differs",
                     moe_tensor_name((moe_tensor_id)id));
        moe_tensor_destroy(&g);
    }
}

Test(front, reference_hands_out_every_tensor_of_the_run) {
    backend_run r;
    open_reference(&r);
    run_prepare(&r, "T=9 d=5 n=3 E=4 K=2 dtype=fp32 bias=1 shared=4 shared_gate=1 router_bias=1");
    run_step(&r, &r.input);
    moe_reference_result *want = run_oracle(r.problem, &r.input, MOE_PASS_BOTH);
    expect_same_bits(&r, want, MOE_F64);
    moe_reference_result_destroy(&want);
    run_close(&r);
}

Test(front, reference_variants_have_their_arithmetic) {
    static const struct {
        const char *spec;
        moe_dtype arithmetic;
    } rows[] = {{"reference", MOE_F64},
                {"reference:fp64", MOE_F64},
                {"reference:fp32", MOE_F32},
                {"reference:bf16", MOE_BF16},
                {"reference:fp16", MOE_F16}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        backend_run r;
        moe_support support;
        cr_assert_eq(run_open(&r, "", rows[i].spec, 1), MOE_OK);
        run_prepare(&r, small);
        cr_assert_eq(moe_backend_supports(r.backend, &r.problem->layer, &r.use, &support), MOE_OK);
        cr_expect_eq(support.arithmetic, (int32_t)rows[i].arithmetic);
        run_step(&r, &r.input);
        moe_tensor O = run_fetch(&r, MOE_T_O, MOE_F64);
        const double *o = O.data;
        int exact = 1;
        for (int64_t j = 0; j < moe_tensor_count(&O); j++)
            exact &= moe_round_to(o[j], rows[i].arithmetic) == o[j];
        cr_expect(exact, "%s: O is not rounded to its arithmetic", rows[i].spec);
        moe_tensor_destroy(&O);
        run_close(&r);
    }
}

Test(front, slots_that_a_plugin_leaves_out) {
    backend_run r;
    moe_roofline roofline = {.gemm_flops = -1};
    moe_memory memory = {.peak = -1};
    open_reference(&r);
    run_prepare(&r, small);
    cr_expect_eq(moe_backend_roofline(r.backend, &roofline), MOE_E_UNSUPPORTED);
    cr_expect_eq(moe_layer_memory(r.layer, &memory), MOE_E_UNSUPPORTED);
    cr_expect_eq(r.seen.messages, 0, "%s", r.seen.text);
    cr_expect_eq(roofline.gemm_flops, -1);
    cr_expect_eq(memory.peak, -1);
    cr_expect_eq(moe_layer_timings(r.layer, NULL, 0), 0);
    run_close(&r);
    moe_layer_destroy(NULL);
    moe_backend_close(NULL);
}
