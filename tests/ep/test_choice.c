/* Choices of experts in the files of three ranks. */
#include "moeref/check.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { RANKS = 3, T = 20, D = 16, K = 2 };
static const int64_t tokens[RANKS] = {9, 0, 11};

/* Each token's experts are first[rank] and the next one. */
static void write_choice(const char *folder, const int32_t *first) {
    static float O[T * D];
    static int32_t ids[T * K];
    char path[256];
    for (int r = 0; r < RANKS; r++) {
        for (int64_t i = 0; i < tokens[r] * K; i++)
            ids[i] = first[r] + (int32_t)(i % K);
        const moe_named_tensor t[] = {
            {"O", {.data = O, .dtype = MOE_F32, .ndim = 2, .shape = {tokens[r], D}}},
            {"topk_index", {.data = ids, .dtype = MOE_I32, .ndim = 2, .shape = {tokens[r], K}}}};
        snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, r);
        cr_assert_eq(moe_safetensors_write(path, t, 2, NULL, 0, NULL), MOE_OK);
    }
}

static void expect(const int32_t *first, const char *named) {
    char folder[TEMPORARY_BYTES], path[256];
    moe_case c;
    moe_problem *problem = NULL;
    moe_check_result *r = NULL;
    temporary_folder(folder);
    write_choice(folder, first);
    cr_assert_eq(
        moe_case_parse("T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3 ep=3 tokens=9+0+11", NULL, &c),
        MOE_OK);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    snprintf(path, sizeof path, "%s/rank%%d.safetensors", folder);
    cr_assert_eq(moe_check_rank_outputs(path, problem, -1, NULL, NULL, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->explanation.text, named), "\"%s\", not \"%s\"", named, r->explanation.text);
    moe_check_result_destroy(&r);
    temporary_remove(folder);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
}

/* Rank 0 has experts 0 and 1, rank 2 has 4 and 5. */
Test(ep_choice, ranks_that_know_their_own_experts_alone_are_named) {
    expect((const int32_t[RANKS]){0, 0, 4}, "among the experts of their own rank alone");
    expect((const int32_t[RANKS]){0, 0, 0}, "experts are numbered as on their ranks");
}
