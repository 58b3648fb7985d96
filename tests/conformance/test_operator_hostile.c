/* Calls of an operator that are wrong in one way each: a status, a sentence that names what is
 * wrong, and nothing written. */
#include "../unit/drawn.h"
#include "operator_call.h"
#include "run_moeref.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

typedef struct scene {
    capture seen;
    moe_log log;
    moe_backends *all;
    moe_backend *backend;
    moe_problem *problem;
    operator_call c;
} scene;

static void begin(scene *s) {
    memset(s, 0, sizeof *s);
    s->log = capture_log(&s->seen);
    cr_assert_eq(moe_backends_load("", &s->log, &s->all), MOE_OK);
    cr_assert_eq(moe_backend_open(s->all, "reference:fp32", NULL, &s->log, &s->backend), MOE_OK);
    s->problem = drawn("T=6 d=8 n=4 E=3 K=2 dtype=fp32 route=uniform seed=2");
    cr_assert_eq(operator_call_open(&s->c, s->backend, s->problem, MOE_F32), MOE_OK);
    cr_assert_eq(operator_call_weights(&s->c, &s->problem->in), MOE_OK);
    cr_assert_eq(operator_call_input(&s->c, s->problem), MOE_OK);
}

static void end(scene *s) {
    operator_call_close(&s->c);
    moe_problem_destroy(&s->problem);
    moe_backend_close(&s->backend);
    moe_backends_destroy(&s->all);
}

typedef void (*spoil)(moe_call *call);

/* Each spoils one thing of a call that is right without it. */
static void no_X(moe_call *c) {
    c->t[MOE_T_X].data = NULL;
}
static void no_index(moe_call *c) {
    c->index.data = NULL;
}
static void no_S(moe_call *c) {
    c->t[MOE_T_S].data = NULL;
}
static void no_weight(moe_call *c) {
    c->t[MOE_T_W2].data = NULL;
}
static void wrong_place(moe_call *c) {
    c->t[MOE_T_W1].place = MOE_PLACE_CUDA;
}
static void unknown_place(moe_call *c) {
    c->t[MOE_T_W1].place = 77;
}
static void wrong_device(moe_call *c) {
    c->index.device_index = 1;
}
static void wrong_shape(moe_call *c) {
    c->t[MOE_T_X].shape[1]++;
}
static void wild_dimensions(moe_call *c) {
    c->t[MOE_T_X].ndim = 1000;
}
static void wrong_stride(moe_call *c) {
    c->t[MOE_T_X].stride[0] += 3;
}
static void broadcast(moe_call *c) {
    c->t[MOE_T_O].stride[0] = 0;
}
static void wrong_dtype(moe_call *c) {
    c->t[MOE_T_W1].dtype = MOE_BF16;
}
static void no_dtype(moe_call *c) {
    c->t[MOE_T_O].dtype = -5;
}
static void float_index(moe_call *c) {
    c->index.dtype = MOE_F32;
}
static void no_tokens(moe_call *c) {
    c->tokens = 0;
}
static void many_tokens(moe_call *c) {
    c->tokens = INT64_MAX / 2;
}
static void no_columns(moe_call *c) {
    c->columns = 0;
}
static void many_columns(moe_call *c) {
    c->columns = INT64_MAX;
}
static void wild_beta(moe_call *c) {
    c->beta = 2;
}
static void output_is_input(moe_call *c) {
    c->t[MOE_T_O].data = c->t[MOE_T_X].data;
}
static void partly_over_weights(moe_call *c) {
    c->t[MOE_T_O].data = (float *)c->t[MOE_T_W1].data + 40;
}
static void expert_twice(moe_call *c) {
    int32_t *index = c->index.data;
    index[0] = index[1] = 1;
}

typedef struct trap {
    spoil spoil;
    const char *words;
} trap;

static const trap traps[] = {
    {no_X, "X is missing"},
    {no_index, "index is missing"},
    {no_S, "topk_weight is missing"},
    {no_weight, "W2 is missing"},
    {wrong_place, "W1 is memory of CUDA device 0, this operator works on host 0"},
    {unknown_place, "W1 lies in place 77"},
    {wrong_device, "index is memory of host 1"},
    {wrong_shape, "X has shape [6, 9], this call needs [6, 8]"},
    {wild_dimensions, "X has 1000 dimensions"},
    {wrong_stride, "X is not dense"},
    {broadcast, "O is not dense"},
    {wrong_dtype, "W1 is bf16"},
    {no_dtype, "O is no dtype"},
    {float_index, "index is fp32, not i32 or i64"},
    {no_tokens, "T = 0 is outside"},
    {many_tokens, "T = 4611686018427387903 is outside"},
    {no_columns, "0 columns of index for 3 experts"},
    {many_columns, "columns of index for 3 experts"},
    {wild_beta, "beta is 2"},
    {output_is_input, "X and O overlap"},
    {partly_over_weights, "W1 and O overlap"},
    {expert_twice, "twice"},
};

Test(operator_hostile, each_wrong_call_is_refused_with_a_sentence) {
    for (size_t i = 0; i < sizeof traps / sizeof *traps; i++) {
        scene s;
        begin(&s);
        moe_call call = s.c.call;
        traps[i].spoil(&call);
        cr_expect_eq(moe_operator_forward(s.c.op, &call), MOE_E_INVALID, "%s: %s", traps[i].words,
                     s.seen.text);
        cr_expect_eq(s.seen.messages, 1, "%d sentences: %s", s.seen.messages, traps[i].words);
        cr_expect(strstr(s.seen.text, traps[i].words), "'%s' lacks '%s'", s.seen.text,
                  traps[i].words);
        end(&s);
    }
}

Test(operator_hostile, calls_own_log_gets_the_sentence) {
    scene s;
    capture mine;
    begin(&s);
    moe_log log = capture_log(&mine);
    moe_call call = s.c.call;
    call.log = &log;
    call.beta = -1;
    cr_expect_eq(moe_operator_backward(s.c.op, &call), MOE_E_INVALID);
    cr_expect_eq(mine.messages, 1);
    cr_expect_eq(s.seen.messages, 0);
    end(&s);
}

/* The openblas backend has memory to be too small and misaligned. */
Test(operator_hostile, memory_must_suffice) {
    scene s;
    memset(&s, 0, sizeof s);
    s.log = capture_log(&s.seen);
    cr_assert_eq(moe_backends_load(NULL, &s.log, &s.all), MOE_OK);
    if (moe_backend_open(s.all, "openblas", NULL, &s.log, &s.backend)) {
        moe_backends_destroy(&s.all);
        cr_skip("no OpenBLAS here");
    }
    s.problem = drawn("T=6 d=8 n=4 E=3 K=2 dtype=fp32 route=uniform seed=2");
    cr_assert_eq(operator_call_open(&s.c, s.backend, s.problem, MOE_F32), MOE_OK);
    cr_assert_eq(operator_call_weights(&s.c, &s.problem->in), MOE_OK);
    cr_assert_eq(operator_call_input(&s.c, s.problem), MOE_OK);
    s.seen.messages = 0;
    moe_call small = s.c.call, none = s.c.call, odd = s.c.call, over = s.c.call;
    small.workspace_bytes = 10;
    none.cached = NULL;
    odd.workspace = (char *)odd.workspace + 1;
    over.cached = (char *)over.workspace + 4;
    const struct {
        const moe_call *call;
        const char *words;
    } all[] = {{&small, "workspace has 10 bytes, this call needs"},
               {&none, "cached has 0 bytes"},
               {&odd, "workspace is not aligned to 4 bytes"},
               {&over, "cached and workspace overlap"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cr_expect_eq(moe_operator_forward(s.c.op, all[i].call), MOE_E_INVALID, "%s", all[i].words);
        cr_expect(strstr(s.seen.text, all[i].words), "'%s' lacks '%s'", s.seen.text, all[i].words);
    }
    cr_expect_eq(moe_operator_forward(s.c.op, &s.c.call), MOE_OK, "%s", s.seen.text);
    end(&s);
}

Test(operator_hostile, backward_of_inference) {
    scene s;
    begin(&s);
    moe_operator *op = NULL;
    moe_operator_use use = s.c.use;
    use.pass = MOE_PASS_FWD;
    cr_assert_eq(moe_operator_open(s.backend, &s.c.desc, &use, &op), MOE_OK);
    cr_expect_eq(moe_operator_backward(op, &s.c.call), MOE_E_INVALID);
    cr_expect(strstr(s.seen.text, "inference"), "%s", s.seen.text);
    moe_operator_close(&op);
    use.pass = MOE_PASS_BWD;
    cr_expect_eq(moe_operator_open(s.backend, &s.c.desc, &use, &op), MOE_E_INVALID);
    use.pass = MOE_PASS_BOTH;
    use.routed = 9;
    cr_expect_eq(moe_operator_open(s.backend, &s.c.desc, &use, &op), MOE_E_INVALID);
    cr_expect_null(op);
    end(&s);
}

/* Indices outside the experts, of either width, are empty slots. */
Test(operator_hostile, sentinels_are_empty_slots) {
    scene s;
    begin(&s);
    int64_t wide[6 * 3];
    const int32_t *index = s.c.call.index.data;
    moe_tensor before = {0}, after = {0};
    cr_assert_eq(moe_operator_forward(s.c.op, &s.c.call), MOE_OK, "%s", s.seen.text);
    cr_assert_eq(operator_call_fetch(&s.c, MOE_T_O, &before), MOE_OK);
    const int64_t sentinels[] = {-1, 3, INT64_MAX, INT64_MIN, (int64_t)1 << 32};
    cr_assert_eq(s.c.call.columns, 3);
    for (int i = 0; i < 18; i++)
        wide[i] = index[i] < 0 ? sentinels[i % 5] : index[i];
    moe_call call = s.c.call;
    call.index.data = wide;
    call.index.dtype = MOE_I64;
    cr_assert_eq(moe_operator_forward(s.c.op, &call), MOE_OK, "%s", s.seen.text);
    cr_assert_eq(operator_call_fetch(&s.c, MOE_T_O, &after), MOE_OK);
    cr_expect_eq(memcmp(before.data, after.data, (size_t)moe_tensor_bytes(&before)), 0);
    moe_tensor_destroy(&before);
    moe_tensor_destroy(&after);
    end(&s);
}

/* ---- what the judge sees of an operator that is wrong ---- */

static void expect_verdict_on(const char *line, const char *fault, int exit_code,
                              const char *words) {
    char command[512];
    snprintf(command, sizeof command,
             "check --backend %s/tests/conformance/operator_faulty.so:bound.%s "
             "--case '%s route=uniform seed=3'",
             getenv("MOEREF_BUILD_ROOT"), fault, line);
    outcome *o = moeref("%s", command);
    cr_expect_eq(o->code, exit_code, "%s: %s", fault, o->text);
    cr_expect(strstr(o->text, words), "%s: '%s' lacks '%s'", fault, o->text, words);
    free(o);
}

static void expect_verdict(const char *fault, int exit_code, const char *words) {
    expect_verdict_on("T=9 d=8 n=4 E=3 K=2 dtype=fp32", fault, exit_code, words);
}

/* Of 66 MiB of W1, and 68 of dW1 in fp32: what is copied, filled and hashed by many threads. */
Test(operator_hostile, judge_sees_the_ends_of_large_memory) {
    const char *weights = "T=3 d=1024 n=512 E=33 K=2 dtype=bf16 pass=fwd";
    expect_verdict_on(weights, "none", 0, "1 passed");
    expect_verdict_on(weights, "weight", 1, "changed its input W1");
    expect_verdict_on("T=3 d=1024 n=512 E=17 K=2 dtype=bf16", "short", 1,
                      "1 of 17825792 elements were not written");
}

Test(operator_hostile, judge_sees_memory_inputs_and_values) {
    expect_verdict("none", 0, "1 passed");
    expect_verdict("after", 1, "wrote after the memory of O");
    expect_verdict("before", 1, "wrote before the memory of O");
    expect_verdict("input", 1, "changed its input X");
    expect_verdict("index", 1, "changed its input index");
    expect_verdict("lazy", 1, "O");
    expect_verdict("twice", 1, "dW2");
}
