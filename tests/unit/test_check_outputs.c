/* Files that any program wrote, judged. */
#include "drawn.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUTED_T = 12, ROUTED_K = 2 };
#define ROUTED "T=12 d=16 n=8 E=5 K=2 dtype=fp32 renorm=1 seed=3"
#define GIVEN  "T=12 d=16 n=8 E=5 K=2 dtype=fp32 route=zipf:1 seed=4"

/* A problem, its right results in `arithmetic`, and the list of tensors to write. */
typedef struct file {
    moe_problem *problem;
    moe_reference_result *right;
    moe_tensors cast;
    int32_t index[ROUTED_T * ROUTED_K];
    float weight[ROUTED_T * ROUTED_K], dS[ROUTED_T * ROUTED_K];
    moe_named_tensor list[40];
    size_t count;
    char path[256];
} file;

static file *open_file(const char *line, moe_dtype arithmetic, moe_dtype stored) {
    file *f = calloc(1, sizeof *f);
    cr_assert(f);
    f->problem = drawn(line);
    moe_reference_params params = {.tokens = f->problem->T,
                                   .precision = (int32_t)arithmetic,
                                   .plan = f->problem->plan,
                                   .plan_given = f->problem->plan != NULL};
    cr_assert_eq(f->problem->masked ? moe_reference_problem(f->problem, 1, NULL, &f->right)
                                    : moe_reference_run(&f->problem->layer, &f->problem->in,
                                                        &params, NULL, &f->right),
                 MOE_OK);
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (f->right->out.t[id].data)
            cr_assert_eq(moe_tensor_cast(&f->right->out.t[id], stored, &f->cast.t[id]), MOE_OK);
    scratch_enter();
    strcpy(f->path, "outputs.safetensors");
    return f;
}

static void add(file *f, moe_tensor_id id) {
    f->list[f->count++] = (moe_named_tensor){moe_tensor_name(id), f->cast.t[id]};
}

/* topk_index, topk_weight and dS by slot, each token's experts in descending order of index. */
static void add_routing(file *f) {
    const moe_plan *plan = f->right->plan;
    for (int64_t t = 0; t < ROUTED_T; t++)
        for (int64_t k = 0; k < ROUTED_K; k++) {
            f->index[t * ROUTED_K + k] = -1;
            if (k >= plan->token_offsets[t + 1] - plan->token_offsets[t])
                continue;
            int64_t row = plan->pair_of_token[plan->token_offsets[t + 1] - 1 - k], e = 0;
            while (plan->offsets[e + 1] <= row)
                e++;
            f->index[t * ROUTED_K + k] = (int32_t)e;
            f->weight[t * ROUTED_K + k] = (float)plan->weight[row];
            f->dS[t * ROUTED_K + k] =
                (float)moe_load(f->cast.t[MOE_T_DS].data, f->cast.t[MOE_T_DS].dtype, (size_t)row);
        }
    f->list[f->count++] =
        (moe_named_tensor){"topk_index", {f->index, MOE_I32, 2, {ROUTED_T, ROUTED_K}}};
    f->list[f->count++] =
        (moe_named_tensor){"topk_weight", {f->weight, MOE_F32, 2, {ROUTED_T, ROUTED_K}}};
    f->list[f->count++] = (moe_named_tensor){"dS", {f->dS, MOE_F32, 2, {ROUTED_T, ROUTED_K}}};
}

static moe_status judge(file *f, int32_t arithmetic, moe_check_result **ret) {
    cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
    return moe_check_outputs(f->path, f->problem, arithmetic, NULL, NULL, ret);
}

static void close_file(file *f) {
    moe_problem_destroy(&f->problem);
    moe_reference_result_destroy(&f->right);
    moe_tensors_destroy(&f->cast);
    scratch_leave();
    free(f);
}

static const moe_tensor_verdict *entry(const moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0)
            return &r->tensor[i];
    cr_assert_fail("no entry for %s", name);
    return NULL;
}

/* bf16 results under their own gates; what is not in the file is skipped, and says so. */
Test(check_outputs, bf16_file) {
    file *f = open_file(ROUTED, MOE_BF16, MOE_BF16);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add(f, MOE_T_DX);
    add(f, MOE_T_DW1);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(entry(r, "dX")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "dW2")->verdict, MOE_VERDICT_SKIP);
    cr_expect(strstr(entry(r, "dW2")->why, "not in the file"));
    cr_expect(strstr(r->reproduce, "--outputs"), "%s", r->reproduce);
    moe_check_result_destroy(&r);
    cr_assert_eq(judge(f, MOE_F32, &r), MOE_OK); /* bf16 is not fp32 */
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "fp32 gate"), "%s", r->why);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Without a gate nothing can fail, so nothing may pass. */
Test(check_outputs, arithmetic_without_gates) {
    static const moe_dtype types[] = {MOE_I64, MOE_I32, MOE_U8, MOE_DTYPE_COUNT};
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(judge(f, types[i], &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", moe_dtype_name(types[i]));
        cr_expect(strstr(r->why, "O: there is no gate for results in "), "%s", r->why);
        cr_expect(strstr(r->why, moe_dtype_name(types[i])), "%s", r->why);
        moe_check_result_destroy(&r);
    }
    close_file(f);
}

/* Where a golden value was lost the oracle's counts: an error there is none the less one. */
Test(check_outputs, lost_golden_values) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    moe_tensor *golden = &f->problem->expected.t[MOE_T_O];
    cr_assert_eq(moe_tensor_cast(&f->cast.t[MOE_T_O], MOE_F32, golden), MOE_OK);
    ((float *)golden->data)[5] = NAN;
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(entry(r, "O")->truth, "golden");
    moe_check_result_destroy(&r);
    ((float *)f->cast.t[MOE_T_O].data)[5] += 1;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(entry(r, "O")->truth, "oracle");
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Slots in any order; per-slot vectors follow topk_index. */
Test(check_outputs, routing_by_slots) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add(f, MOE_T_H);
    add_routing(f);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(entry(r, "topk_index")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "topk_weight")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "H")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    f->dS[7] *= 1.01f;
    f->weight[3] *= 1.01f;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(entry(r, "topk_weight")->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->first_wrong_stage, "topk_weight");
    moe_check_result_destroy(&r);
    close_file(f);
}

Test(check_outputs, wrong_experts) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    int32_t e = 0;
    while (e == f->index[10] || e == f->index[11])
        e++;
    f->index[10] = e;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "topk_index: 1 tokens chose wrong experts; token 5:"), "%s", r->why);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* f's file is refused with one sentence that holds the file's name and `words`. */
static void expect_refused(file *f, moe_status status, const char *words) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_check_result *r = NULL;
    cr_expect_eq(moe_check_outputs(f->path, f->problem, -1, NULL, &log, &r), status, "%s", words);
    cr_expect_null(r, "%s", words);
    cr_expect_eq(seen.messages, 1, "%s: %d messages", words, seen.messages);
    cr_expect(strstr(seen.text, f->path), "'%s' lacks '%s'", seen.text, f->path);
    cr_expect(strstr(seen.text, words), "'%s' lacks '%s'", seen.text, words);
}

/* One tensor of that name, dtype and shape, all zero. */
static void expect_tensor_refused(file *f, const char *name, moe_dtype dtype, int64_t rows,
                                  int64_t columns, moe_status status, const char *words) {
    int64_t shape[] = {rows, columns};
    moe_tensor t;
    cr_assert_eq(moe_tensor_alloc(dtype, columns ? 2 : 1, shape, &t), MOE_OK);
    f->list[0] = (moe_named_tensor){name, t};
    cr_assert_eq(moe_safetensors_write(f->path, f->list, 1, NULL, 0, NULL), MOE_OK);
    expect_refused(f, status, words);
    moe_tensor_destroy(&t);
}

/* Files that cannot be judged are refused with a sentence that names what is wrong. */
Test(check_outputs, bad_files) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    expect_tensor_refused(f, "output", MOE_F32, 12, 16, MOE_E_NOTFOUND,
                          "none of the tensors that can be judged (O, dX");
    expect_tensor_refused(f, "H", MOE_F32, 3, 16, MOE_E_INVALID,
                          "H has shape [3, 16], the case needs [24, 16]");
    remove(f->path);
    expect_refused(f, MOE_E_IO, "No such file");
    close_file(f);
}

/* Results of another shape, and of integers, are wrong, and no reason to judge nothing. */
Test(check_outputs, other_shapes) {
    static const struct {
        const char *name;
        moe_dtype dtype;
        int64_t rows, columns;
        const char *why;
    } kinds[] = {{"O", MOE_F32, 3, 0, "O: has shape [3], the case needs [12, 16]"},
                 {"O", MOE_F32, 16, 12, "O: has shape [16, 12], the case needs [12, 16]"},
                 {"dX", MOE_F32, 11, 16, "dX: has shape [11, 16], the case needs [12, 16]"},
                 {"O", MOE_I32, 12, 16, "O: is of integers (i32)"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        file *f = open_file(ROUTED, MOE_F32, MOE_F32);
        moe_check_result *r = NULL;
        moe_tensor t;
        int64_t shape[] = {kinds[i].rows, kinds[i].columns};
        cr_assert_eq(moe_tensor_alloc(kinds[i].dtype, kinds[i].columns ? 2 : 1, shape, &t), MOE_OK);
        const moe_tensor_id id = kinds[i].name[0] == 'O' ? MOE_T_O : MOE_T_DX;
        add(f, id);
        f->list[0].tensor = t;
        add(f, MOE_T_DW1);
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", kinds[i].why);
        cr_expect_str_eq(r->why, kinds[i].why);
        cr_expect_str_eq(r->first_wrong_stage, kinds[i].name);
        cr_expect_eq(entry(r, "dW1")->verdict, MOE_VERDICT_PASS);
        moe_check_result_destroy(&r);
        moe_tensor_destroy(&t);
        close_file(f);
    }
}

/* A type that safetensors has and moeref does not read. */
static void write_int16(const file *f, const char *name) {
    char header[128], data[12 * 16 * 2] = "";
    uint64_t size = (uint64_t)snprintf(
        header, sizeof header,
        "{\"%s\":{\"dtype\":\"I16\",\"shape\":[12,16],\"data_offsets\":[0,%zu]}}", name,
        sizeof data);
    FILE *out = fopen(f->path, "wb");
    cr_assert(out);
    fwrite(&size, sizeof size, 1, out);
    fwrite(header, (size_t)size, 1, out);
    fwrite(data, sizeof data, 1, out);
    fclose(out);
}

/* The file's topk_index fails, for that reason. */
static const moe_tensor_verdict *expect_bad_ids(file *f, const char *words,
                                                moe_check_result **ret) {
    cr_assert_eq(moe_check_outputs(f->path, f->problem, -1, NULL, NULL, ret), MOE_OK, "%s", words);
    moe_check_result *r = *ret;
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s: %s", words, r->why);
    cr_expect_eq(strncmp(r->why, "topk_index: ", 12), 0, "%s", r->why);
    cr_expect(strstr(r->why, words), "'%s' lacks '%s'", r->why, words);
    cr_expect_str_eq(r->first_wrong_stage, "topk_index");
    return entry(r, "topk_index");
}

Test(check_outputs, unreadable_types) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    write_int16(f, "dX");
    expect_refused(f, MOE_E_UNSUPPORTED, "dX has an element type");
    write_int16(f, "topk_index");
    expect_bad_ids(f, "has an element type that cannot be read", &r);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* A topk_index of another type or shape is wrong, whatever is right beside it. */
Test(check_outputs, no_slots) {
    static const struct {
        moe_dtype dtype;
        int64_t rows, columns;
        const char *words;
    } kinds[] = {{MOE_F32, 12, 2, "holds fp32, not integers"},
                 {MOE_I32, 12, 0, "has shape [12], the case needs [12, K]"},
                 {MOE_I64, 11, 2, "has shape [11, 2], the case needs [12, K]"}};
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int64_t shape[] = {kinds[i].rows, kinds[i].columns};
        moe_tensor t;
        cr_assert_eq(moe_tensor_alloc(kinds[i].dtype, kinds[i].columns ? 2 : 1, shape, &t), MOE_OK);
        f->list[1].tensor = t;
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        expect_bad_ids(f, kinds[i].words, &r);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
        moe_check_result_destroy(&r);
        moe_tensor_destroy(&t);
    }
    close_file(f);
}

/* Experts that the case does not have, one of them twice, slots that may not be empty: which token,
 * which slot and what stands there is said, and what needs no ids is judged. */
Test(check_outputs, impossible_experts) {
    static const struct {
        int32_t fifth, sixth, slot;
        const char *words;
    } slots[] = {
        {0, 77, 1, "token 2, slot 1: 77 is no expert of the case"},
        {5, 0, 0, "token 2, slot 0: 5 is no expert of the case"},
        {INT32_MAX, 0, 0, "token 2, slot 0: 2147483647 is no expert of the case"},
        {3, 3, 1, "token 2, slot 1: 3 stands in an earlier slot too"},
        {3, -1, 1, "token 2, slot 1: -1 leaves a slot empty, but the token has an expert for it"},
        {-2, 3, 0, "token 2, slot 0: -2 is no expert; empty slots are -1"},
        {-7, 9, 0, "2 bad ids, the first: token 2, slot 0: -7 is"},
    };
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        f->index[4] = slots[i].fifth;
        f->index[5] = slots[i].sixth;
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        const moe_tensor_verdict *v = expect_bad_ids(f, slots[i].words, &r);
        cr_expect_eq(v->worst_ndim, 2);
        cr_expect(v->worst_index[0] == 2 && v->worst_index[1] == slots[i].slot);
        cr_expect_eq(v->got, slots[i].slot ? slots[i].sixth : slots[i].fifth);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
        cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_SKIP);
        cr_expect(strstr(entry(r, "dS")->why, "slots"), "%s", entry(r, "dS")->why);
        moe_check_result_destroy(&r);
    }
    close_file(f);
}

/* Ids may come with a given plan too: they are its own, or wrong. */
Test(check_outputs, ids_of_a_given_plan) {
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(entry(r, "topk_index")->truth, "given");
    cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    int32_t e = 0;
    while (e == f->index[10] || e == f->index[11])
        e++;
    f->index[10] = e;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect(strstr(r->why, "topk_index: 1 tokens chose wrong experts; token 5: has"), "%s",
              r->why);
    cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    f->index[10] = 77;
    cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
    expect_bad_ids(f, "token 5, slot 0: 77 is no expert", &r);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Tokens without experts, by a given plan and by a mask of the router's: their slots are -1, their
 * O and dX are the shared expert's alone; a token that has experts all the same is wrong. */
Test(check_outputs, masked_tokens) {
    static const char *const lines[] = {GIVEN " masked=4 drop=3", ROUTED " masked=4",
                                        ROUTED " masked=4 shared=8", ROUTED " masked=12"};
    for (int i = 0; i < 4; i++) {
        file *f = open_file(lines[i], MOE_F32, MOE_F32);
        moe_check_result *r = NULL;
        int64_t t = 0;
        add(f, MOE_T_O);
        add(f, MOE_T_DX);
        add(f, MOE_T_DW1);
        add_routing(f);
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(r->verdict, i == 3 ? MOE_VERDICT_MISTRUSTED : MOE_VERDICT_PASS, "%s: %s",
                     lines[i], r->why);
        moe_check_result_destroy(&r);
        while (f->index[2 * t] >= 0 || f->index[2 * t + 1] >= 0)
            t++;
        f->index[2 * t] = 3;
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        char words[64];
        snprintf(words, sizeof words, "token %lld: has 3 too many", (long long)t);
        cr_expect(r->verdict == MOE_VERDICT_FAIL && strstr(r->why, words), "%s: '%s' lacks '%s'",
                  lines[i], r->why, words);
        moe_check_result_destroy(&r);
        f->index[2 * t] = -1;
        ((float *)f->cast.t[MOE_T_O].data)[t * 16 + 5] += 0.5f;
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_FAIL, "%s: %s", lines[i], r->why);
        moe_check_result_destroy(&r);
        close_file(f);
    }
}

/* Gradients in the file of a case that has none: not judged, and nothing else suffers. */
Test(check_outputs, forward_only_case) {
    static const moe_tensor_id gradients[] = {MOE_T_DX, MOE_T_DW1, MOE_T_DS, MOE_T_DH, MOE_T_DXP};
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_problem *both = f->problem;
    moe_check_result *r = NULL;
    f->problem = drawn(ROUTED " pass=fwd");
    for (int i = 0; i < 5; i++)
        add(f, gradients[i]);
    cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
    expect_refused(f, MOE_E_NOTFOUND, "none of the tensors that can be judged");
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_eq(r->n_tensors, 1);
    cr_expect_str_eq(r->tensor[0].name, "O");
    moe_check_result_destroy(&r);
    moe_problem_destroy(&both);
    close_file(f);
}

/* With a given plan the pairs' order is known; a NaN fails. */
Test(check_outputs, given_plan) {
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    static const moe_tensor_id all[] = {MOE_T_H,  MOE_T_A,   MOE_T_Y,  MOE_T_O,   MOE_T_DS,
                                        MOE_T_DH, MOE_T_DXP, MOE_T_DX, MOE_T_DW1, MOE_T_DW2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        add(f, all[i]);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    moe_check_result_destroy(&r);
    ((float *)f->cast.t[MOE_T_DXP].data)[9] = NAN;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->first_wrong_stage, "dXp");
    moe_check_result_destroy(&r);
    close_file(f);
}
