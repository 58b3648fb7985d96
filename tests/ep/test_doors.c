/* Files of ranks that are no results: whose, and which tensor, is said. */
#include "spoilt.h"

#define IN_PARTS "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=2 tp=2 tokens=20+0+24+20"
#define LINE     "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20"

/* Rank `rank` writes these alone. */
static void rewrite(const judged *k, int32_t rank, const moe_named_tensor *t, size_t n) {
    char path[256];
    snprintf(path, sizeof path, "%s/rank%d.safetensors", k->folder, (int)rank);
    cr_assert_eq(moe_safetensors_write(path, t, n, NULL, 0, NULL), MOE_OK);
}

/* What a judge says of rank 2's file with this O and dW_r, no data: without; ids may be NULL. */
static void judge_rank_2(judged *k, moe_tensor O, moe_tensor dW_r, const moe_tensor *ids) {
    moe_named_tensor t[3];
    size_t n = 0;
    if (O.data)
        t[n++] = (moe_named_tensor){"O", O};
    if (dW_r.data)
        t[n++] = (moe_named_tensor){"dW_r", dW_r};
    if (ids)
        t[n++] = (moe_named_tensor){"topk_index", *ids};
    rewrite(k, 2, t, n);
}

static moe_tensor part(const judged *k, moe_tensor_id id, int64_t first, int64_t end) {
    return rows(&k->f.ref->out.t[id], first, end);
}

/* Of three tensors: O and dW_r of all ranks, the ids of none. */
static void write_plain(const judged *k) {
    for (int32_t r = 0; r < k->f.R; r++) {
        const moe_named_tensor t[] = {{"O", part(k, MOE_T_O, k->first[r], k->first[r + 1])},
                                      {"dW_r", k->f.ref->out.t[MOE_T_DW_R]}};
        rewrite(k, r, t, 2);
    }
}

static void expect_why(const judged *k, const char *tensor, const char *due) {
    const char *why = "";
    for (size_t i = 0; i < k->result->n_tensors; i++)
        if (strcmp(k->result->tensor[i].name, tensor) == 0)
            why = k->result->tensor[i].why;
    cr_expect_eq(k->result->verdict, MOE_VERDICT_FAIL, "%s", due);
    cr_expect(strstr(why, due), "%s: \"%s\", not \"%s\"", tensor, due, why);
}

/* Right rows that three ranks have by `O` and `dX`, [4] their first tokens; due NULL: a pass. */
static void expect_rows(const char *line, const int64_t *O, const int64_t *dX, const char *tensor,
                        const char *due) {
    judged k;
    judged_make(line, &k);
    for (int32_t r = 0; r < 3; r++) {
        const moe_named_tensor t[] = {{"O", part(&k, MOE_T_O, O[r], O[r + 1])},
                                      {"dX", part(&k, MOE_T_DX, dX[r], dX[r + 1])}};
        const bool none = O[r] == O[r + 1]; /* a rank without tokens may leave them out */
        rewrite(&k, r, t + none, none ? 1 : 2);
    }
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    if (due)
        expect_why(&k, tensor, due);
    cr_expect(due || k.result->verdict == MOE_VERDICT_PASS, "%s", k.result->why);
    judged_destroy(&k);
}

Test(ep_doors, a_rank_has_the_tokens_that_the_case_gives_it) {
    const char *bare = "T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3";
    const char *even = "T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3 ep=3";
    const char *stated = "T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3 ep=3 tokens=9+0+11";
    const int64_t as_stated[] = {0, 9, 9, 20}, one_less[] = {0, 8, 9, 20},
                  on_one[] = {0, 20, 20, 20};
    expect_rows(stated, as_stated, as_stated, NULL, NULL);
    expect_rows(stated, one_less, one_less, "O", "rank 0's O is [8, 16] of fp64, for 9 tokens");
    expect_rows(stated, as_stated, one_less, "dX", "rank 0's dX is [8, 16] of fp64, for 9 tokens");
    expect_rows(stated, as_stated, on_one, "dX", "rank 0's dX is [20, 16] of fp64, for 9 tokens");
    /* cases that say nothing of tokens */
    expect_rows(even, as_stated, as_stated, NULL, NULL);
    expect_rows(bare, one_less, one_less, NULL, NULL);
    expect_rows(bare, as_stated, one_less, "dX", "rank 0's dX is [8, 16] of fp64, for 9 tokens");
    expect_rows(bare, as_stated, on_one, NULL, NULL);
}

Test(ep_doors, ranks_with_rows_too_few_or_none_are_named) {
    judged k;
    judged_make(LINE, &k);
    const moe_tensor dW_r = k.f.ref->out.t[MOE_T_DW_R];
    write_plain(&k);
    judge_rank_2(&k, part(&k, MOE_T_O, k.first[2], k.first[3] - 1), dW_r, NULL);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    expect_why(&k, "O", "rank 2's O is [23, 48] of fp64, for 24 tokens");
    cr_expect(strstr(k.result->why, "rank 2's O"), "%s", k.result->why);
    moe_check_result_destroy(&k.result);
    judge_rank_2(&k, (moe_tensor){0}, (moe_tensor){0}, NULL);
    rewrite(&k, 2, &(moe_named_tensor){"dX", part(&k, MOE_T_DX, 0, 0)}, 1);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    expect_why(&k, "O", "rank 2's O is not there, for 24 tokens");
    expect_why(&k, "dW_r", "rank 2's is not there, rank 0's is [12, 48] of fp64");
    judged_destroy(&k);
}

Test(ep_doors, a_rank_with_another_width_or_type_is_named_with_its_file) {
    judged k;
    judged_make(LINE, &k);
    moe_tensor dW_r = k.f.ref->out.t[MOE_T_DW_R], O = part(&k, MOE_T_O, k.first[2], k.first[3]);
    write_plain(&k);
    O.shape[0] *= 2;
    O.shape[1] /= 2;
    judge_rank_2(&k, O, dW_r, NULL);
    cr_expect_eq(judge(&k), MOE_E_INVALID);
    cr_expect(strstr(k.seen.text, "rank2.safetensors: rank 2's O is [48, 24] of fp64, but rank 0's "
                                  "is [20, 48] of fp64"),
              "%s", k.seen.text);
    O.dtype = MOE_F32;
    O.shape[1] *= 2;
    judge_rank_2(&k, O, dW_r, NULL);
    cr_expect_eq(judge(&k), MOE_E_INVALID);
    cr_expect(strstr(k.seen.text, "rank 2's O is [48, 48] of fp32, but"), "%s", k.seen.text);
    dW_r.dtype = MOE_F32;
    judge_rank_2(&k, part(&k, MOE_T_O, k.first[2], k.first[3]), dW_r, NULL);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    expect_why(&k, "dW_r", "rank 2's is [12, 48] of fp32, rank 0's is [12, 48] of fp64");
    judged_destroy(&k);
}

Test(ep_doors, a_file_of_a_rank_that_the_case_has_not_is_a_warning) {
    judged k;
    char path[256];
    judged_make(LINE, &k);
    write_plain(&k);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    cr_expect_eq(k.result->verdict, MOE_VERDICT_PASS);
    cr_expect_null(strstr(k.seen.text, "rank4"), "%s", k.seen.text);
    moe_check_result_destroy(&k.result);
    rewrite(&k, 4, &(moe_named_tensor){"dW_r", k.f.ref->out.t[MOE_T_DW_R]}, 1);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    cr_expect_eq(k.result->verdict, MOE_VERDICT_PASS);
    cr_expect(strstr(k.seen.text, "rank4.safetensors is not judged: the case has 4 ranks"), "%s",
              k.seen.text);
    snprintf(path, sizeof path, "%s/rank4.safetensors", k.folder);
    cr_expect_eq(remove(path), 0);
    judged_destroy(&k);
}

Test(ep_doors, a_file_that_is_cut_off_or_missing_is_named) {
    char path[256];
    judged k;
    judged_make(LINE, &k);
    write_all(&k);
    snprintf(path, sizeof path, "%s/rank2.safetensors", k.folder);
    cr_assert_eq(truncate(path, 3000), 0);
    cr_expect_neq(judge(&k), MOE_OK);
    cr_expect(strstr(k.seen.text, "rank2.safetensors: tensor \"") &&
                  strstr(k.seen.text, "truncated"),
              "%s", k.seen.text);
    cr_assert_eq(unlink(path), 0);
    cr_expect_neq(judge(&k), MOE_OK);
    cr_expect(strstr(k.seen.text, "rank2.safetensors: cannot open"), "%s", k.seen.text);
    judged_destroy(&k);
}

/* All ranks' ids; what a rank writes is that of rank of[rank]. */
static void write_ids(const judged *k, const int32_t *of, int32_t spoilt) {
    const moe_plan *plan = k->f.ref->plan;
    for (int32_t r = 0; r < k->f.R; r++) {
        const int32_t q = of[r];
        int64_t ids[64][4], count[64] = {0};
        for (int64_t p = 0; p < plan->n_pairs; p++)
            ids[plan->token[p]][count[plan->token[p]]++] = expert_of(&k->f, p);
        if (r == spoilt)
            ids[k->first[q] + 3][0] = 12;
        const moe_tensor all = {.data = ids, .dtype = MOE_I64, .ndim = 2, .shape = {64, 4}};
        const moe_named_tensor t[] = {{"topk_index", rows(&all, k->first[q], k->first[q + 1])},
                                      {"O", part(k, MOE_T_O, k->first[q], k->first[q + 1])}};
        rewrite(k, r, t, 2);
    }
}

static void expect_swapped(judged *k) {
    static const int32_t swapped[] = {2, 1, 0, 3};
    write_ids(k, swapped, -1);
    cr_assert_eq(judge(k), MOE_OK, "%s", k->seen.text);
    cr_expect(strstr(k->result->explanation.text, "rank 0's file has the tokens of rank 2"), "%s",
              k->result->explanation.text);
}

Test(ep_doors, files_of_other_ranks_and_ids_out_of_range_are_named) {
    static const int32_t own[] = {0, 1, 2, 3}, twice[] = {0, 1, 2, 0};
    judged k;
    judged_make(LINE, &k);
    expect_swapped(&k);
    moe_check_result_destroy(&k.result);
    write_ids(&k, twice, -1);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    expect_why(&k, "O", "rank 3's is rank 0's, bit for bit");
    moe_check_result_destroy(&k.result);
    write_ids(&k, own, 2);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    expect_why(&k, "topk_index", "12 is no expert of the case; worst: token 3 of rank 2");
    judged_destroy(&k);
}

Test(ep_doors, files_of_other_ranks_are_named_where_experts_lie_in_parts) {
    judged k;
    judged_make(IN_PARTS, &k);
    expect_swapped(&k);
    judged_destroy(&k);
}

/* dW2 of TP part `rank % 2`, all values of it 1 but one. */
static void write_part(const judged *k, int32_t rank, moe_dtype type, double one) {
    static double all[6 * 48 * 4];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i] = rank + 1;
    all[7] = one;
    const moe_tensor shape = {.data = all, .dtype = MOE_F64, .ndim = 3, .shape = {6, 48, 4}};
    moe_tensor t;
    cr_assert_eq(moe_tensor_cast(&shape, type, &t), MOE_OK);
    rewrite(k, rank, &(moe_named_tensor){"dW2", t}, 1);
    moe_tensor_destroy(&t);
}

Test(ep_doors, parts_of_another_type_or_without_numbers_are_named) {
    judged k;
    judged_make(IN_PARTS, &k);
    for (int32_t r = 0; r < 4; r++)
        write_part(&k, r, MOE_F32, r == 2 ? NAN : 1);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    expect_why(&k, "dW2", "; rank 2's is not finite");
    write_part(&k, 3, MOE_F16, 1);
    moe_check_result_destroy(&k.result);
    cr_expect_eq(judge(&k), MOE_E_INVALID);
    cr_expect(strstr(k.seen.text, "rank3.safetensors: rank 3's dW2 is [6, 48, 4] of fp16, but rank "
                                  "0's is [6, 48, 4] of fp32"),
              "%s", k.seen.text);
    judged_destroy(&k);
}
