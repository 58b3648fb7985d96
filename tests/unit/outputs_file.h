/* A file of outputs that a test writes, and its judgement. */
#ifndef MOE_TEST_OUTPUTS_FILE_H
#define MOE_TEST_OUTPUTS_FILE_H

#include "drawn.h"
#include "entry.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "scratch.h"

#include <criterion/criterion.h>
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

static inline file *open_file(const char *line, moe_dtype arithmetic, moe_dtype stored) {
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

static inline void add(file *f, moe_tensor_id id) {
    f->list[f->count++] = (moe_named_tensor){moe_tensor_name(id), f->cast.t[id]};
}

/* topk_index, topk_weight and dS by slot, each token's experts in descending order of index. */
static inline void add_routing(file *f) {
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

static inline moe_status judge(file *f, int32_t arithmetic, moe_check_result **ret) {
    cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
    return moe_check_outputs(f->path, f->problem, arithmetic, NULL, NULL, ret);
}

static inline void close_file(file *f) {
    moe_problem_destroy(&f->problem);
    moe_reference_result_destroy(&f->right);
    moe_tensors_destroy(&f->cast);
    scratch_leave();
    free(f);
}

/* f's file is refused with one sentence that holds the file's name and `words`. */
static inline void expect_refused(file *f, moe_status status, const char *words) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_check_result *r = NULL;
    cr_expect_eq(moe_check_outputs(f->path, f->problem, -1, NULL, &log, &r), status, "%s", words);
    cr_expect_null(r, "%s", words);
    cr_expect_eq(seen.messages, 1, "%s: %d messages", words, seen.messages);
    cr_expect(strstr(seen.text, f->path), "'%s' lacks '%s'", seen.text, f->path);
    cr_expect(strstr(seen.text, words), "'%s' lacks '%s'", seen.text, words);
}

#endif
