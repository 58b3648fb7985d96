/* Choices of experts in the files of ranks. */
#include "spoilt.h"

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

/* ---- a capacity of each rank ---- */

static bool is_among_best(const double *z, int64_t E, int64_t e, int64_t most) {
    int64_t better = 0;
    for (int64_t i = 0; i < E; i++)
        better += z[i] > z[e] || (z[i] == z[e] && i < e);
    return better < most;
}

/* O of no value, and ids of experts that keep the first `capacity` tokens of each rank. */
static void write_ranks_choice(const judged *k, int64_t capacity) {
    const moe_layer_desc *desc = &k->problem->layer;
    const int64_t E = desc->E, d = desc->d, room = k->problem->T * desc->K;
    const double *z = of(&k->f, MOE_T_LOGITS);
    for (int32_t r = 0; r < k->f.R; r++) {
        int64_t kept[16] = {0}, rows = k->first[r + 1] - k->first[r];
        int32_t *ids = malloc((size_t)(room + 1) * sizeof *ids), *next = ids;
        float *O = calloc((size_t)(rows * d) + 1, sizeof *O);
        for (int64_t t = k->first[r]; t < k->first[r + 1]; t++)
            for (int64_t e = 0; e < E; e++)
                if (is_among_best(z + t * E, E, e, desc->K))
                    *next++ = kept[e]++ < capacity ? (int32_t)e : -1;
        const moe_named_tensor t[] = {
            {"O", {.data = O, .dtype = MOE_F32, .ndim = 2, .shape = {rows, d}}},
            {"topk_index", {.data = ids, .dtype = MOE_I32, .ndim = 2, .shape = {rows, desc->K}}}};
        char path[256];
        snprintf(path, sizeof path, "%s/rank%d.safetensors", k->folder, (int)r);
        cr_assert_eq(moe_safetensors_write(path, t, 2, NULL, 0, NULL), MOE_OK);
        free(ids);
        free(O);
    }
}

static void expect_capacity(int64_t capacity, const char *due) {
    judged k;
    judged_make("T=64 d=48 n=8 E=8 K=2 dtype=fp32 renorm=1 seed=3 select=capacity capacity=12 ep=4 "
                "tokens=20+0+24+20",
                &k);
    write_ranks_choice(&k, capacity);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    cr_expect_eq(k.result->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(k.result->explanation.text, due), "\"%s\", not \"%s\"", due,
              k.result->explanation.text);
    judged_destroy(&k);
}

/* Where no rank reaches it, a capacity of each is none: so it is said. */
Test(ep_choice, a_capacity_that_each_rank_counts_for_itself_is_named) {
    expect_capacity(12, "never, as with a capacity inside each rank, which no rank reaches");
    expect_capacity(3, "3 of each rank's tokens, a capacity inside each rank");
}
