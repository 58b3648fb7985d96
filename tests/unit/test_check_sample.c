/* The sampled oracle computes what the full one does, for every kind of layer, and looks where it
 * should. */
#include "both_oracles.h"

Test(check_sample, same_as_the_full_oracle) {
    static const char *const lines[] = {
        "T=70 d=24 n=16 E=5 K=2 renorm=1 seed=1",
        "T=70 d=24 n=16 E=5 K=2 glu=interleaved bias=1 route=zipf:1.2 seed=2",
        "T=70 d=24 n=16 E=5 K=2 act=gelu bias=1 score=sigmoid seed=3",
        "T=70 d=24 n=16 E=5 K=2 on=input score=sigmoid bias=1 seed=4",
        "T=70 d=24 n=16 E=5 K=2 shared=12 shared_gate=1 act=geglu seed=5",
        "T=70 d=24 n=16 E=5 K=2 shared=12 act=relu2 zero=2 seed=6",
        "T=70 d=24 n=16 E=5 K=2 act=swiglu_clamp limit=1 route=counts:0+70+1+30+39 seed=7",
        "T=70 d=24 n=16 E=5 K=2 select=token_rounding tile=16 renorm=1 seed=8",
        "T=70 d=24 n=16 E=5 K=2 score=sparsemixer act=reglu seed=9",
    };
    for (size_t i = 0; i < 2 * sizeof lines / sizeof *lines; i++) {
        both b = open_both(lines[i / 2], i % 2 ? MOE_BF16 : MOE_F32);
        for (int id = MOE_T_LOGITS; id < MOE_T_COUNT; id++) {
            bool whole = id == MOE_T_DW_R || id == MOE_T_DB_R || id == MOE_T_DW_GATE_SHARED;
            if (b.full.oracle->out.t[id].data && !whole)
                expect_same(&b, (moe_tensor_id)id, lines[i / 2]);
        }
        close_both(&b);
    }
}

/* A recipe that stores logits and weights in 16 bits: of the weights' errors, too. */
Test(check_sample, stored_logits) {
    const char *line = "T=70 d=24 n=16 E=5 K=2 renorm=1 seed=10";
    const uint32_t points = moe_recipe_find("transformers")->points;
    cr_assert(points & MOE_POINT_LOGITS);
    both b = open_both_at(line, moe_int_rounding_at(MOE_BF16, points));
    expect_same(&b, MOE_T_DW1, line);
    expect_same(&b, MOE_T_DW2, line);
    close_both(&b);
}

static bool holds(const int64_t *list, int64_t n, int64_t value) {
    for (int64_t i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* The sample has the first and the last token, the ends of the smallest and the largest expert, an
 * empty expert, no token twice; it is the same again for the same seed, another for another. */
Test(check_sample, who_is_looked_at) {
    const char *line = "T=400 d=8 n=8 E=12 K=2 route=counts:0+400+3+40+40+40+40+40+40+40+40+77 "
                       "seed=%d";
    char text[128];
    int64_t first[32];
    for (int seed = 21; seed < 23; seed++) {
        snprintf(text, sizeof text, line, seed);
        both b = open_both(text, MOE_F32);
        const int64_t *tokens = b.sampled.tokens, n = b.sampled.n_tokens;
        const moe_plan *plan = b.routing.plan;
        cr_assert_eq(n, 32);
        cr_expect(holds(tokens, n, 0) && holds(tokens, n, 399));
        for (int64_t e = 1; e <= 2; e++) {
            cr_expect(holds(tokens, n, plan->token[plan->offsets[e]]));
            cr_expect(holds(tokens, n, plan->token[plan->offsets[e + 1] - 1]));
        }
        for (int64_t i = 1; i < n; i++)
            cr_expect_lt(tokens[i - 1], tokens[i]);
        int64_t experts[8], count = moe_int_sample_experts(b.problem, plan, 8, experts);
        cr_expect_eq(count, 8);
        cr_expect(holds(experts, 8, 0) && holds(experts, 8, 1) && holds(experts, 8, 2) &&
                  holds(experts, 8, 11));
        cr_expect(strstr(b.result->sampled, "32 of 400 tokens"), "%s", b.result->sampled);
        cr_expect(strstr(b.result->sampled, "hidden units in 8 experts"), "%s", b.result->sampled);
        if (seed == 21)
            memcpy(first, tokens, sizeof first);
        else
            cr_expect_neq(memcmp(first, tokens, sizeof first), 0);
        close_both(&b);
    }
    snprintf(text, sizeof text, line, 21);
    both b = open_both(text, MOE_F32);
    cr_expect_eq(memcmp(first, b.sampled.tokens, sizeof first), 0);
    close_both(&b);
}

/* Fewer tokens than a sample has, one expert, forward only: still right. */
Test(check_sample, small_layers) {
    both b = open_both("T=3 d=8 n=2 E=1 K=1 seed=31", MOE_F32);
    cr_expect_eq(b.sampled.n_tokens, 3);
    expect_same(&b, MOE_T_O, "small");
    expect_same(&b, MOE_T_DW2, "small");
    close_both(&b);
    b = open_both("T=50 d=8 n=8 E=3 K=1 pass=fwd seed=32", MOE_F32);
    expect_same(&b, MOE_T_O, "forward");
    cr_expect_eq(b.sampled.part[MOE_T_DW2].layout.groups, 0);
    cr_expect_str_eq(b.result->sampled, "32 of 50 tokens");
    close_both(&b);
}

/* Inputs that are no numbers make outputs that are none: a sampled check does not ask for more. */
Test(check_sample, inputs_that_are_no_numbers) {
    moe_problem *problem = drawn("T=70 d=24 n=16 E=5 K=2 inject=nan@17 seed=1");
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    moe_check_params params = {.sample_above_flops = 1, .threads = 1, .no_explanation = true};
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, "reference", NULL, NULL, &backend), MOE_OK);
    cr_assert_eq(moe_check_backend(backend, problem, &params, NULL, &result), MOE_OK);
    cr_expect_str_neq(result->sampled, "");
    cr_expect_eq(result->verdict, MOE_VERDICT_PASS, "%s", result->why);
    moe_check_result_destroy(&result);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    moe_problem_destroy(&problem);
}

/* Units of an expert, told from where its columns of dW2 begin: the first, the last and up to two
 * more, none of them twice; all where there are no more than two. */
Test(check_sample, units) {
    for (int n = 1; n <= 16; n = n < 3 ? n + 1 : n * 2) {
        char line[80];
        snprintf(line, sizeof line, "T=40 d=8 n=%d E=5 K=2 shared=%d seed=%d", n, n, n);
        both b = open_both(line, MOE_F32);
        for (int shared = 0; shared < 2; shared++) {
            const moe_int_part *part = &b.sampled.part[shared ? MOE_T_DW2_SHARED : MOE_T_DW2];
            int seen[5][16] = {{0}}, all = 0;
            for (int64_t g = 0; g < part->layout.groups; g++) {
                const int64_t e = part->base[g] / (8 * n), j = part->base[g] % (8 * n);
                cr_assert(e < 5 && j < n, "%s: unit %d of expert %d", line, (int)j, (int)e);
                cr_expect_eq(seen[e][j]++, 0, "%s: unit %d of expert %d again", line, (int)j,
                             (int)e);
                all++;
            }
            for (int e = 0; e < (shared ? 1 : 5); e++)
                cr_expect(seen[e][0] && seen[e][n - 1], "%s: an end of expert %d", line, e);
            cr_expect(all <= (shared ? 1 : 5) * (n < 4 ? n : 4), "%s: %d units", line, all);
        }
        close_both(&b);
    }
}

/* A further reading's truth: with the first one's oracle, or, where an error model marked kinks in
 * that, with its own. Either way the same, element by element. */
Test(check_sample, oracle_of_another_reading) {
    for (int act = 0; act < MOE_ACT_COUNT; act++) {
        char line[160];
        snprintf(line, sizeof line, "T=96 d=32 n=16 E=4 K=2 act=%s limit=1 seed=6",
                 moe_int_acts[act].name);
        both b = open_both(line, MOE_BF16);
        const moe_int_rounding r = moe_int_rounding_of(MOE_F32);
        const moe_check_params params = {.sample_above_flops = -1, .threads = 1};
        moe_int_truth fresh, further;
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, NULL,
                                        b.result, &fresh),
                     MOE_OK);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, &b.full, NULL, NULL,
                                        b.result, &further),
                     MOE_OK);
        const moe_tensor *want = fresh.oracle->out.t, *got = further.oracle->out.t;
        for (int id = 0; id < MOE_T_COUNT; id++)
            cr_expect(!want[id].data || memcmp(want[id].data, got[id].data,
                                               (size_t)moe_tensor_bytes(&want[id])) == 0,
                      "%s: %s", line, moe_tensor_name((moe_tensor_id)id));
        if (act == MOE_ACT_SWIGLU)
            cr_expect(further.borrowed);
        moe_int_truth_destroy(&fresh);
        moe_int_truth_destroy(&further);
        close_both(&b);
    }
}

/* The same of a sample, of another rounding, whose errors are its own, and of the same one. */
Test(check_sample, sample_of_another_reading) {
    static const char *const lines[] = {"T=96 d=32 n=16 E=4 K=2 shared=8 seed=7",
                                        "T=96 d=32 n=16 E=4 K=2 act=relu seed=7"};
    for (int i = 0; i < 4; i++) {
        both b = open_both(lines[i % 2], MOE_BF16);
        const bool same_rounding = i < 2, kinks = i % 2 == 1;
        const moe_int_rounding r = moe_int_rounding_of(same_rounding ? MOE_BF16 : MOE_F32);
        const moe_check_params params = {.sample_above_flops = 1, .threads = 1};
        moe_int_truth known, fresh, further;
        const moe_int_rounding first = moe_int_rounding_of(MOE_BF16);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &first, &params, NULL, NULL, NULL,
                                        b.result, &known),
                     MOE_OK);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, NULL,
                                        b.result, &fresh),
                     MOE_OK);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, &known, NULL, NULL,
                                        b.result, &further),
                     MOE_OK);
        for (int id = 0; id < MOE_T_COUNT; id++) {
            const moe_tensor *want[] = {&fresh.part[id].want, &fresh.part[id].variance};
            const moe_tensor *got[] = {&further.part[id].want, &further.part[id].variance};
            for (int k = 0; k < 2; k++)
                cr_expect(!want[k]->data || memcmp(want[k]->data, got[k]->data,
                                                   (size_t)moe_tensor_bytes(want[k])) == 0,
                          "%s: %s", lines[i % 2], moe_tensor_name((moe_tensor_id)id));
        }
        cr_expect_eq(further.borrowed, !kinks);
        cr_expect_eq(further.borrowed_errors, !kinks && same_rounding);
        moe_int_truth_destroy(&fresh);
        moe_int_truth_destroy(&further);
        moe_int_truth_destroy(&known);
        close_both(&b);
    }
}

/* Verdict on O alone, of a sample; `t` holds it in fp32. */
static moe_verdict judge_O(const moe_problem *problem, const moe_tensor *t) {
    const moe_named_tensor one = {"O", *t};
    const moe_check_params params = {.sample_above_flops = 1, .threads = 1, .no_explanation = true};
    moe_safetensors *given = NULL;
    moe_check_result *r = NULL;
    cr_assert_eq(moe_safetensors_of(&one, 1, "mine", NULL, &given), MOE_OK);
    cr_assert_eq(moe_check_tensors(given, "mine", problem, -1, &params, NULL, &r), MOE_OK);
    cr_expect_neq(r->sampled[0], '\0');
    const moe_verdict verdict = r->verdict;
    moe_check_result_destroy(&r);
    moe_safetensors_close(&given);
    return verdict;
}

/* One token in 3000, in no expert's first or last row: the chance to draw it is 1 %. It joins the
 * sample where its row is the smallest, or the largest. */
Test(check_sample, odd_tokens_join) {
    enum { TOKENS = 3000, D = 16 };
    static const struct {
        int token;
        float factor;
    } rows[] = {{1234, 0}, {567, 2000}, {2468, 1e-3F}};
    both b = open_both("T=3000 d=16 n=8 E=4 K=2 dtype=fp32 renorm=1 seed=31", MOE_F32);
    moe_tensor O;
    cr_assert_eq(moe_tensor_cast(&b.full.oracle->out.t[MOE_T_O], MOE_F32, &O), MOE_OK);
    cr_expect_eq(judge_O(b.problem, &O), MOE_VERDICT_PASS);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float *row = (float *)O.data + (ptrdiff_t)rows[i].token * D, before[D];
        int64_t odd[MOE_INT_ODD], n_odd;
        const moe_tensors seen = {.t[MOE_T_O] = O};
        cr_expect_not(holds(b.sampled.tokens, b.sampled.n_tokens, rows[i].token));
        memcpy(before, row, sizeof before);
        for (int k = 0; k < D; k++)
            row[k] *= rows[i].factor;
        cr_expect_eq(moe_int_odd_tokens(b.routing.plan, &seen, odd, &n_odd), MOE_OK);
        cr_expect_eq(n_odd, MOE_INT_ODD / 2);
        cr_expect(holds(odd, MOE_INT_ODD / 2, rows[i].token), "token %d", rows[i].token);
        cr_expect_eq(judge_O(b.problem, &O), MOE_VERDICT_FAIL, "token %d", rows[i].token);
        memcpy(row, before, sizeof before);
    }
    moe_tensor_destroy(&O);
    close_both(&b);
}
