/* The openblas plug-in against the float64 oracle: every option of a layer, awkward sizes, and what
 * a fast backend gets wrong first: stale buffers, thread counts, written inputs. */
#include "openblas_run.h"

/* fp32's gate. Its origin: float sums of such lengths measured 1e-14 .. 3e-12 against float64. */
static const double limit = 1e-11;

static void expect_oracle(backend_run *r, const char *line) {
    moe_reference_result *want = run_oracle(r->problem, &r->input, r->use.pass);
    const moe_plan *plan = NULL;
    cr_assert_eq(moe_layer_routing(r->layer, &plan), MOE_OK);
    cr_assert_eq(plan->n_pairs, want->plan->n_pairs, "%s", line);
    cr_assert_eq(memcmp(plan->token, want->plan->token, (size_t)plan->n_pairs * 4), 0, "%s", line);
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!want->out.t[id].data)
            continue;
        moe_tensor got = run_fetch(r, (moe_tensor_id)id, MOE_F64);
        double nmse = run_nmse(&got, &want->out.t[id]);
        cr_expect(nmse <= limit, "%s: %s has NMSE %.3g", line, moe_tensor_name((moe_tensor_id)id),
                  nmse);
        moe_tensor_destroy(&got);
    }
    moe_reference_result_destroy(&want);
}

static void expect_right(backend_run *r, const char *line) {
    run_prepare(r, line);
    run_step(r, &r->input);
    expect_oracle(r, line);
    run_close_case(r);
}

Test(openblas, activations_layouts_biases_and_weights) {
    static const char *const act[] = {"swiglu", "geglu", "reglu", "swiglu_clamp",
                                      "relu2",  "relu",  "gelu",  "silu"};
    backend_run r;
    char line[256];
    open_or_skip(&r, 2);
    for (int a = 0; a < 8; a++)
        for (int variant = 0; variant < 8; variant++) {
            snprintf(line, sizeof line,
                     "T=37 d=65 n=33 E=5 K=2 dtype=fp32 act=%s glu=%s bias=%d on=%s x_scale=%d "
                     "shared=31 shared_gate=%d router_bias=1 renorm=1 seed=3",
                     act[a], variant & 1 ? "interleaved" : "concat", variant >> 1 & 1,
                     variant & 4 ? "input" : "output", a == 3 ? 4 : 1, variant & 1);
            expect_right(&r, line);
        }
    run_close(&r);
}

Test(openblas, sizes_off_the_tile) {
    static const int64_t T[] = {1, 2, 127, 129}, width[][2] = {{127, 129}, {128, 127}, {1, 1}};
    static const int64_t experts[][2] = {{1, 1}, {4, 4}, {9, 3}};
    backend_run r;
    char line[128];
    open_or_skip(&r, 2);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++) {
                snprintf(line, sizeof line, "T=%d d=%d n=%d E=%d K=%d dtype=fp32 seed=1", (int)T[i],
                         (int)width[j][0], (int)width[j][1], (int)experts[k][0],
                         (int)experts[k][1]);
                expect_right(&r, line);
            }
    run_close(&r);
}

Test(openblas, routers_plans_and_types) {
    static const char *const rest[] = {
        "select=expert_choice",
        "select=capacity capacity=5",
        "select=token_rounding tile=16",
        "select=token_rounding tile=16 rounding=sr",
        "select=group_topk groups=4 topk_groups=2 score=sigmoid select_bias=1 renorm=1 scale=2.5",
        "score=softmax_topk",
        "score=sigmoid",
        "score=sparsemixer",
        "zero=4 select_bias=1 scale=6",
        "zero=4 on=input",
        "r_scale=0",
        "r_scale=1000",
        "x_scale=1000",
        "x_scale=1e-6",
        "data=outlier",
        "data=zero",
        "pass=fwd",
        "inject=nan@5",
        "inject=inf@5",
        "route=uniform",
        "route=zipf:1.2",
        "route=hot:3 bias=1",
        "route=balanced",
    };
    static const char *const dtype[] = {"fp32", "bf16", "fp16", "fp64"};
    backend_run r;
    char line[256];
    open_spec_or_skip(&r, "openblas:fp32", 2);
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        /* Logits in the thousands turn the rounding of float64 inputs to fp32 into an error of S.
         */
        int huge = strstr(rest[i], "scale=1000") != NULL;
        snprintf(line, sizeof line, "T=128 d=96 n=48 E=8 K=2 seed=9 dtype=%s %s",
                 huge ? "fp32" : dtype[i % 4], rest[i]);
        expect_right(&r, line);
    }
    expect_right(&r, "T=128 d=96 n=48 E=8 K=1 dtype=fp32 bias=1 route=counts:0+0+100+3+7+0+9+9");
    run_close(&r);
}

/* More rows than one GEMM takes, more than one weight gradient adds at once, columns cut too. */
Test(openblas, large_experts_on_any_number_of_threads) {
    backend_run r;
    for (int threads = 1; threads <= 5; threads += 4) {
        open_or_skip(&r, threads);
        expect_right(&r, "T=2100 d=40 n=24 E=2 K=1 dtype=fp32 route=counts:2090+10 bias=1");
        expect_right(&r, "T=516 d=520 n=130 E=1 K=1 dtype=fp32 bias=1 shared=70 shared_gate=1");
        run_close(&r);
    }
}

static void expect_same_bits(backend_run *a, backend_run *b, const char *when) {
    for (int i = 0; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        moe_tensor_role role = moe_tensor_role_of(id);
        if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM ||
            !moe_tensor_exists(&a->problem->layer, id, a->use.plan_given))
            continue;
        moe_tensor x = run_fetch(a, id, MOE_F64), y = run_fetch(b, id, MOE_F64);
        cr_assert(moe_tensor_same_shape(&x, &y), "%s: %s", when, moe_tensor_name(id));
        cr_expect_eq(memcmp(x.data, y.data, (size_t)moe_tensor_bytes(&x)), 0, "%s: %s differs",
                     when, moe_tensor_name(id));
        moe_tensor_destroy(&x);
        moe_tensor_destroy(&y);
    }
}

/* One layer that sees larger, smaller and empty plans in turn must give what a fresh one gives. */
Test(openblas, a_used_layer_equals_a_fresh_one) {
    static const char *const lines[] = {
        "T=60 d=33 n=20 E=4 K=1 dtype=fp32 bias=1 shared=9 route=counts:10+0+40+10 seed=4",
        "T=60 d=33 n=20 E=4 K=3 dtype=fp32 bias=1 shared=9 route=uniform seed=4",
        "T=60 d=33 n=20 E=4 K=1 dtype=fp32 bias=1 shared=9 route=counts:0+0+0+60 seed=4",
        "T=60 d=33 n=20 E=4 K=2 dtype=fp32 bias=1 shared=9 route=hot:1 seed=4",
    };
    backend_run used, fresh;
    open_or_skip(&used, 2);
    run_prepare(&used, lines[0]);
    for (int i = 0; i < 4; i++) {
        open_or_skip(&fresh, 2);
        run_prepare(&fresh, lines[i]);
        run_step(&fresh, &fresh.input);
        run_step(&used, &fresh.input);
        expect_same_bits(&used, &fresh, lines[i]);
        run_step(&used, &fresh.input);
        expect_same_bits(&used, &fresh, "repeated");
        run_close(&fresh);
    }
    run_close(&used);
}

Test(openblas, inputs_stay_and_starved_experts_get_zero) {
    static const char line[] =
        "T=40 d=24 n=16 E=3 K=1 dtype=fp32 bias=1 route=counts:30+0+10 seed=5";
    backend_run r;
    open_or_skip(&r, 2);
    run_prepare(&r, line);
    run_step(&r, &r.input);
    moe_problem *again = drawn(line);
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor *t = &again->in.t[id];
        if (t->data)
            cr_expect_eq(memcmp(t->data, r.problem->in.t[id].data, (size_t)moe_tensor_bytes(t)), 0,
                         "%s was written", moe_tensor_name((moe_tensor_id)id));
    }
    static const moe_tensor_id gradients[] = {MOE_T_DW1, MOE_T_DB1, MOE_T_DW2, MOE_T_DB2};
    for (int i = 0; i < 4; i++) {
        moe_tensor g = run_fetch(&r, gradients[i], MOE_F64);
        int64_t size = moe_tensor_count(&g) / 3;
        for (int64_t j = 0; j < size; j++)
            cr_assert_eq(((double *)g.data)[size + j], 0, "%s", moe_tensor_name(gradients[i]));
        moe_tensor_destroy(&g);
    }
    moe_problem_destroy(&again);
    run_close(&r);
}
