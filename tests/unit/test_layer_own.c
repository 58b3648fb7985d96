/* Problems from a user's own tensors. */
#include "drawn.h"
#include "moeref/safetensors.h"
#include "scratch.h"

#include <stdlib.h>
#include <string.h>

#define LINE   "T=6 d=8 n=4 E=3 K=2 dtype=fp32 bias=1 shared=4 seed=3"
#define ROUTED "T=6 d=8 n=4 E=3 K=2 dtype=fp32 route=zipf:1 seed=4"
#define PATH   "it's own.safetensors"
#define QUOTED "'it'\\''s own.safetensors'" /* as a shell reads it */

/* The tensors of a drawn problem, as a list that a test changes and writes. */
typedef struct own {
    moe_problem *drawn;
    moe_tensor turned;
    moe_named_tensor list[MOE_T_COUNT + 3];
    size_t count;
} own;

static own *own_open(const char *line) {
    own *o = calloc(1, sizeof *o);
    cr_assert(o);
    o->drawn = drawn(line);
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (o->drawn->in.t[id].data)
            o->list[o->count++] = (moe_named_tensor){moe_tensor_name(id), o->drawn->in.t[id]};
    scratch_enter();
    return o;
}

static moe_tensor *named(own *o, const char *name) {
    for (size_t i = 0; i < o->count; i++)
        if (strcmp(o->list[i].name, name) == 0)
            return &o->list[i].tensor;
    cr_assert_fail("no %s in the list", name);
    return NULL;
}

static void leave_out(own *o, const char *name) {
    *named(o, name) = o->list[o->count - 1].tensor;
    for (size_t i = 0; i < o->count; i++)
        if (strcmp(o->list[i].name, name) == 0)
            o->list[i].name = o->list[o->count - 1].name;
    o->count--;
}

static void write_own(const own *o, const char *line) {
    const char *const metadata[][2] = {{"case", line ? line : ""}};
    cr_assert_eq(moe_safetensors_write(PATH, o->list, o->count, metadata, line ? 1 : 0, NULL),
                 MOE_OK);
}

static moe_problem *read_back(const own *o, const char *line) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_own(o, NULL);
    cr_assert_eq(moe_problem_from_file(PATH, line, &log, &p), MOE_OK, "%s", seen.text);
    return p;
}

static void expect_refused(const own *o, const char *line, moe_status want, const char *words) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_own(o, NULL);
    cr_expect_eq(moe_problem_from_file(PATH, line, &log, &p), want, "%s", words);
    cr_expect(strstr(seen.text, words), "'%s' has no '%s'", seen.text, words);
    cr_expect_null(p);
}

static void expect_same(const moe_tensor *a, const moe_tensor *b, const char *name) {
    cr_assert(moe_tensor_same_shape(a, b), "%s", name);
    cr_assert_eq(a->dtype, b->dtype, "%s", name);
    cr_expect_eq(memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)), 0, "%s", name);
}

static void own_close(own *o) {
    moe_problem_destroy(&o->drawn);
    moe_tensor_destroy(&o->turned);
    scratch_leave();
    free(o);
}

/* What is written is what is read, whatever the case would have drawn. */
Test(layer_own, every_tensor) {
    own *o = own_open(LINE);
    moe_problem *p = read_back(o, "T=6 d=8 n=4 E=3 K=2 dtype=fp32 bias=1 shared=4 seed=99");
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (o->drawn->in.t[id].data)
            expect_same(&o->drawn->in.t[id], &p->in.t[id], moe_tensor_name(id));
    cr_expect_null(p->plan);
    cr_expect(strstr(p->reproduce, "--inputs " QUOTED " --case \"T=6"), "%s", p->reproduce);
    moe_problem_destroy(&p);
    own_close(o);
}

/* [E][in][out] is turned round. */
Test(layer_own, transposed_weights) {
    own *o = own_open(LINE);
    moe_tensor *w = named(o, "W2");
    int64_t shape[] = {3, 4, 8};
    cr_assert_eq(moe_tensor_alloc(MOE_F32, 3, shape, &o->turned), MOE_OK);
    for (int64_t e = 0; e < 3; e++)
        for (int64_t i = 0; i < 8; i++)
            for (int64_t j = 0; j < 4; j++)
                ((float *)o->turned.data)[(e * 4 + j) * 8 + i] =
                    ((const float *)w->data)[(e * 8 + i) * 4 + j];
    *w = o->turned;
    moe_problem *p = read_back(o, LINE);
    expect_same(&o->drawn->in.t[MOE_T_W2], &p->in.t[MOE_T_W2], "W2");
    /* W1 is square, 2n = d: nothing tells, so it is taken as the table says */
    expect_same(&o->drawn->in.t[MOE_T_W1], &p->in.t[MOE_T_W1], "W1");
    moe_problem_destroy(&p);
    own_close(o);
}

/* Mixed types are widened, never rounded; what is absent is drawn and said. */
Test(layer_own, types_and_absent_tensors) {
    own *o = own_open(LINE);
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    cr_assert_eq(moe_tensor_cast(named(o, "X"), MOE_F64, &o->turned), MOE_OK);
    *named(o, "X") = o->turned;
    leave_out(o, "W2");
    write_own(o, LINE);
    cr_assert_eq(moe_problem_from_file(PATH, NULL, &log, &p), MOE_OK, "%s", seen.text);
    cr_expect_eq(p->dtype, MOE_F64);
    cr_expect_eq(p->in.t[MOE_T_W1].dtype, MOE_F64);
    cr_expect(strstr(seen.text, "has no W2: drawn"), "%s", seen.text);
    for (int64_t i = 0; i < moe_tensor_count(&p->in.t[MOE_T_W2]); i++)
        cr_assert_eq(moe_load(p->in.t[MOE_T_W2].data, MOE_F64, (size_t)i),
                     moe_load(o->drawn->in.t[MOE_T_W2].data, MOE_F32, (size_t)i));
    moe_problem_destroy(&p);
    own_close(o);
}

/* Ids with an empty slot make the plan; without W_r they do so in a case that routes, too. */
Test(layer_own, ids_and_plans) {
    static int32_t index[6][2] = {{0, 1}, {2, -1}, {-1, -1}, {1, 0}, {2, 0}, {1, 2}};
    static float weight[6][2] = {{1, 2}, {3, 0}, {0, 0}, {4, 5}, {6, 7}, {8, 9}};
    own *o = own_open(LINE);
    leave_out(o, "W_r");
    o->list[o->count++] = (moe_named_tensor){"topk_index", {index, MOE_I32, 2, {6, 2}}};
    o->list[o->count++] = (moe_named_tensor){"topk_weight", {weight, MOE_F32, 2, {6, 2}}};
    moe_problem *p = read_back(o, LINE);
    cr_assert(p->plan);
    cr_expect_eq(p->plan->n_pairs, 9);
    cr_expect_eq(p->plan->token_offsets[3] - p->plan->token_offsets[1], 1);
    cr_expect_eq(p->plan->weight[0], 1); /* expert 0: tokens 0, 3, 4 */
    cr_expect_eq(p->plan->weight[1], 5);
    cr_expect_eq(p->plan->weight[2], 7);
    cr_expect_null(p->in.t[MOE_T_W_R].data);
    moe_tensor slots; /* in the order of the file */
    cr_assert_eq(moe_problem_slots(p, 2, &slots), MOE_OK);
    for (size_t i = 0; i < 12; i++)
        cr_expect_eq(moe_load(slots.data, slots.dtype, i), index[i / 2][i % 2]);
    moe_tensor_destroy(&slots);
    moe_problem_destroy(&p);
    index[3][0] = 3;
    expect_refused(o, LINE, MOE_E_INVALID, "its plan cannot be used");
    index[3][0] = 0;
    expect_refused(o, LINE, MOE_E_INVALID, "its plan cannot be used"); /* expert 0 twice */
    index[3][0] = -2;
    expect_refused(o, LINE, MOE_E_INVALID, "its plan cannot be used");
    index[3][0] = 1;
    o->list[o->count - 1].tensor.shape[1] = 1;
    expect_refused(o, LINE, MOE_E_FORMAT, "topk_weight has shape [6, 1], the plan has [6, 2]");
    o->count--;
    expect_refused(o, LINE, MOE_E_FORMAT, "no floating topk_weight");
    own_close(o);
}

/* A plan beside a router of which the case makes use is not taken silently for nothing. */
Test(layer_own, plan_beside_a_router) {
    static int32_t index[6][1] = {{0}, {1}, {2}, {0}, {1}, {2}};
    static float weight[6][1] = {{1}, {2}, {3}, {4}, {5}, {6}};
    own *o = own_open(LINE);
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    o->list[o->count++] = (moe_named_tensor){"topk_index", {index, MOE_I32, 2, {6, 1}}};
    o->list[o->count++] = (moe_named_tensor){"topk_weight", {weight, MOE_F32, 2, {6, 1}}};
    write_own(o, LINE);
    cr_assert_eq(moe_problem_from_file(PATH, NULL, &log, &p), MOE_OK, "%s", seen.text);
    cr_expect_null(p->plan);
    cr_expect(strstr(seen.text, "its plan is not read, W_r chooses experts"), "%s", seen.text);
    moe_problem_destroy(&p);
    p = read_back(o, LINE " route=uniform");
    cr_assert(p->plan);
    cr_expect_eq(p->plan->n_pairs, 6);
    cr_expect_eq(p->plan->weight[1], 4); /* expert 0: tokens 0 and 3 */
    moe_problem_destroy(&p);
    own_close(o);
}

/* The form that golden --export writes. */
Test(layer_own, exported_plan) {
    own *o = own_open(ROUTED);
    moe_plan *plan = o->drawn->plan;
    o->list[o->count++] = (moe_named_tensor){"plan_offsets", {plan->offsets, MOE_I64, 1, {4}}};
    o->list[o->count++] =
        (moe_named_tensor){"plan_token", {plan->token, MOE_I32, 1, {plan->n_pairs}}};
    o->list[o->count++] =
        (moe_named_tensor){"topk_weight", {plan->weight, MOE_F64, 1, {plan->n_pairs}}};
    moe_problem *p = read_back(o, "T=6 d=8 n=4 E=3 K=2 dtype=fp32 route=hot:0 seed=5");
    cr_assert_eq(p->plan->n_pairs, plan->n_pairs);
    cr_expect_eq(memcmp(p->plan->token, plan->token, (size_t)plan->n_pairs * 4), 0);
    cr_expect_eq(memcmp(p->plan->weight, plan->weight, (size_t)plan->n_pairs * 8), 0);
    moe_problem_destroy(&p);
    moe_tensor index; /* beside it, and of the same pairs */
    cr_assert_eq(moe_plan_slots(plan, 2, &index), MOE_OK);
    o->list[o->count++] = (moe_named_tensor){"topk_index", index};
    p = read_back(o, ROUTED);
    cr_expect_eq(memcmp(p->slots.data, index.data, 12 * sizeof(int64_t)), 0);
    moe_problem_destroy(&p);
    int64_t *ids = index.data;
    ids[3] = ids[2]; /* one pair twice, another not */
    expect_refused(o, ROUTED, MOE_E_FORMAT, "topk_index has other pairs than plan_token");
    o->count--;
    moe_tensor_destroy(&index);
    plan->offsets[1] += 1000;
    expect_refused(o, ROUTED, MOE_E_FORMAT, "must be 4 integers that ascend from 0");
    plan->offsets[1] -= 1000;
    plan->token[0] = 6;
    expect_refused(o, ROUTED, MOE_E_INVALID, "its plan cannot be used");
    own_close(o);
}

Test(layer_own, refused) {
    static int32_t numbers[3 * 8];
    own *o = own_open(LINE);
    expect_refused(o, "T=7 d=8 n=4 E=3 K=2 dtype=fp32 bias=1 shared=4", MOE_E_INVALID,
                   "X has shape [6, 8], the case needs [7, 8]");
    expect_refused(o, NULL, MOE_E_NOTFOUND, "does not say what layer");
    expect_refused(o, "T=7 d=8", MOE_E_INVALID, "needs");
    *named(o, "W_r") = (moe_tensor){numbers, MOE_I32, 2, {3, 8}};
    expect_refused(o, LINE, MOE_E_FORMAT, "W_r is not of a floating type");
    write_own(o, "hf:somewhere");
    moe_problem *p = NULL;
    capture seen;
    moe_log log = capture_log(&seen);
    cr_expect_eq(moe_problem_from_file(PATH, NULL, &log, &p), MOE_E_INVALID);
    cr_expect(strstr(seen.text, "is no case line"), "%s", seen.text);
    own_close(o);
}

/* A name that no layer has is told, or a misspelt b1 would seem to have been read; results and what
 * an exported case holds besides are not. */
Test(layer_own, unknown_names_are_told) {
    static const char *const names[] = {"O", "masked", "b_1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        own *o = own_open(LINE);
        capture seen;
        moe_log log = capture_log(&seen);
        moe_problem *p = NULL;
        o->list[o->count++] = (moe_named_tensor){names[i], *named(o, "X")};
        write_own(o, NULL);
        cr_assert_eq(moe_problem_from_file(PATH, LINE, &log, &p), MOE_OK, "%s", seen.text);
        cr_expect_eq(seen.messages, i == 2, "%s: %s", names[i], seen.text);
        cr_expect(i < 2 || strstr(seen.text, "no layer has a \"b_1\": it is not read"), "%s",
                  seen.text);
        moe_problem_destroy(&p);
        own_close(o);
    }
}
