/* Where an error is: in words, and as a map. Tensors of ones with planted faults. */
#include "check/compare/compare.h"
#include "check/compare/sets.h"
#include "check/verdict/result.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* What a case plants: elements of the tensor for which it is true are wrong. */
typedef bool (*fault_fn)(const moe_plan *plan, const int64_t *i);

/* T tokens with two of E experts each: token t has t % E, its first by weight, and (t + 1) % E. */
static moe_plan *pairs_plan(int64_t T, int64_t E) {
    int32_t token[1024], expert[1024];
    double weight[1024];
    moe_plan *plan = NULL;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t k = 0; k < 2; k++) {
            token[2 * t + k] = (int32_t)t;
            expert[2 * t + k] = (int32_t)((t + k) % E);
            weight[2 * t + k] = k ? 0.25 : 0.75;
        }
    }
    cr_assert_eq(moe_plan_create(T, E, 2 * T, token, expert, weight, NULL, &plan), MOE_OK);
    return plan;
}

/* Judges ones with a fault; the result, which the caller destroys, has the verdict and its maps. */
static moe_check_result *judge(moe_tensor_id id, const moe_plan *plan, int32_t ndim,
                               const int64_t *shape, fault_fn fault, int64_t tile) {
    moe_problem problem = {.name = (char *)"ones"};
    moe_check_result *r = NULL;
    moe_layer_desc desc;
    moe_tensor got, want;
    moe_layer_desc_init(&desc);
    desc.d = desc.n = shape[ndim - 1];
    desc.E = plan->n_experts;
    cr_assert_eq(moe_int_result_create(&problem, "test", "", NULL, &r), MOE_OK);
    cr_assert_eq(moe_tensor_alloc(MOE_F64, ndim, shape, &got), MOE_OK);
    cr_assert_eq(moe_tensor_alloc(MOE_F64, ndim, shape, &want), MOE_OK);
    for (int64_t i = 0; i < moe_tensor_count(&got); i++) {
        int64_t at[MOE_MAX_DIMS];
        moe_int_unravel(&got, i, at);
        ((double *)want.data)[i] = 1;
        ((double *)got.data)[i] = fault(plan, at) ? 2 : 1;
    }
    const moe_int_comparison c = {.id = id,
                                  .arithmetic = MOE_F32,
                                  .desc = &desc,
                                  .got = &got,
                                  .want = &want,
                                  .plan = plan,
                                  .truth = "oracle",
                                  .tile = tile,
                                  .maps = r};
    moe_int_compare(&c, moe_int_result_entry(r, moe_tensor_name(id)));
    moe_tensor_destroy(&got);
    moe_tensor_destroy(&want);
    return r;
}

static int64_t expert_of(const moe_plan *plan, int64_t r) {
    int64_t e = 0;
    while (plan->offsets[e + 1] <= r)
        e++;
    return e;
}

static bool everywhere(const moe_plan *plan, const int64_t *i) {
    return plan != NULL && i != NULL;
}

static bool token_3(const moe_plan *plan, const int64_t *i) {
    return plan && i[0] == 3;
}

static bool tokens_of_expert_2(const moe_plan *plan, const int64_t *i) {
    int64_t E = plan->n_experts;
    return i[0] % E == 2 || (i[0] + 1) % E == 2;
}

static bool tokens_of_experts_2_and_5(const moe_plan *plan, const int64_t *i) {
    int64_t E = plan->n_experts;
    return tokens_of_expert_2(plan, i) || i[0] % E == 5 || (i[0] + 1) % E == 5;
}

static bool second_tile(const moe_plan *plan, const int64_t *i) {
    return plan && i[0] >= 64 && i[0] < 128;
}

static bool columns_of_16(const moe_plan *plan, const int64_t *i) {
    return plan && i[1] % 16 >= 4 && i[1] % 16 < 6;
}

static bool rows_of_expert_1(const moe_plan *plan, const int64_t *i) {
    return i[0] >= plan->offsets[1] + 16 && i[0] < plan->offsets[1] + 32;
}

static bool tails(const moe_plan *plan, const int64_t *i) {
    int64_t e = expert_of(plan, i[0]), rows = plan->offsets[e + 1] - plan->offsets[e];
    return e != 0 && i[0] - plan->offsets[e] >= rows / 16 * 16;
}

static bool first_rows(const moe_plan *plan, const int64_t *i) {
    return i[0] == plan->offsets[expert_of(plan, i[0])];
}

static bool second_slot(const moe_plan *plan, const int64_t *i) {
    return plan->weight[i[0]] < 0.5;
}

static bool block_of_expert_3(const moe_plan *plan, const int64_t *i) {
    return plan && i[0] == 3 && i[1] >= 8 && i[2] < 4;
}

static bool corner(const moe_plan *plan, const int64_t *i) {
    return plan && i[0] < 8 && i[1] >= 24;
}

typedef struct where_case {
    moe_tensor_id id;
    int32_t ndim;
    int64_t shape[3];
    fault_fn fault;
    int64_t tile;
    const char *words;
} where_case;

/* 160 tokens on 8 experts: 40 rows each. */
static const where_case cases[] = {
    {MOE_T_O, 2, {160, 8}, everywhere, 0, "all 160 tokens"},
    {MOE_T_O, 2, {160, 8}, token_3, 0, "token 3 (of 160), which is routed to expert 3"},
    {MOE_T_O,
     2,
     {160, 8},
     tokens_of_expert_2,
     0,
     "tokens 1..2 of every 8 (40 of 160), exactly the ones routed to expert 2"},
    {MOE_T_O,
     2,
     {160, 8},
     tokens_of_experts_2_and_5,
     0,
     "tokens 1..157 (80 of 160), exactly the ones routed to experts {2, 5} (2 of 8)"},
    {MOE_T_O, 2, {160, 8}, second_tile, 0, "tokens 64..127 (64 of 160; tile 1 of 64 tokens)"},
    {MOE_T_O, 2, {160, 64}, columns_of_16, 0, "all 160 tokens; columns 4..5 of every 16 (8 of 64)"},
    {MOE_T_Y,
     2,
     {320, 8},
     rows_of_expert_1,
     0,
     "pair rows 56..71 (16 of 320): rows 16..31 (16 of 40; tile 1 of 16 rows) of expert 1"},
    {MOE_T_Y,
     2,
     {320, 8},
     tails,
     16,
     "pair rows 72..319 (56 of 320): the rows past the last whole tile of 16 of "
     "experts 1..7 (7 of 8)"},
    {MOE_T_Y,
     2,
     {320, 8},
     first_rows,
     0,
     "pair rows 0..280 (8 of 320): the first row of all 8 experts"},
    {MOE_T_Y,
     2,
     {320, 8},
     second_slot,
     0,
     "pair rows 1..318 (160 of 320): rows of all 8 experts, exactly K slot 1 (of 2) by weight"},
    {MOE_T_DW1,
     3,
     {8, 12, 6},
     block_of_expert_3,
     0,
     "expert 3 (of 8); rows 8..11 (4 of 12); columns 0..3 (4 of 6)"},
    {MOE_T_DW1_SHARED, 2, {12, 32}, corner, 0, "rows 0..7 (8 of 12); columns 24..31 (8 of 32)"},
};

Test(check_where, words) {
    moe_plan *plan = pairs_plan(160, 8);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const where_case *k = &cases[i];
        moe_check_result *r = judge(k->id, plan, k->ndim, k->shape, k->fault, k->tile);
        cr_expect_eq(r->tensor[0].verdict, MOE_VERDICT_FAIL);
        cr_expect_str_eq(r->tensor[0].where, k->words, "%zu: %s", i, r->tensor[0].where);
        moe_check_result_destroy(&r);
    }
    moe_plan_destroy(&plan);
}

/* Every period-th of a set, from `first` on: few are listed. */
Test(check_where, every_so_many) {
    static const struct {
        int64_t count, period, first, wide;
        const char *words;
    } of[] = {{8, 4, 2, 1, "experts {2, 6} (2 of 8)"},
              {64, 16, 4, 1, "expert 4 of every 16 (4 of 64)"},
              {64, 16, 4, 2, "experts 4..5 of every 16 (8 of 64)"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        bool has[64];
        char words[96] = "";
        for (int64_t k = 0; k < of[i].count; k++)
            has[k] = k % of[i].period >= of[i].first && k % of[i].period < of[i].first + of[i].wide;
        const moe_int_set set = {.has = has, .count = of[i].count};
        moe_int_set_words(&set, "expert", words, sizeof words);
        cr_expect_str_eq(words, of[i].words);
    }
}

/* Cells that are over the gate, and those that have elements. */
static void count(const moe_error_map *m, int *ret_over, int *ret_filled) {
    *ret_over = *ret_filled = 0;
    for (int i = 0; i < m->rows; i++) {
        for (int j = 0; j < m->columns; j++) {
            *ret_over += m->over[i][j] > 1;
            *ret_filled += m->over[i][j] >= 0;
        }
    }
}

/* An expert's rows: one line of it, in tiles that fit the width; an expert's share of tokens. */
Test(check_where, maps_of_rows_and_tokens) {
    static const int64_t pairs[] = {320, 8}, tokens[] = {160, 8};
    moe_plan *plan = pairs_plan(160, 8);
    int over, filled;
    moe_check_result *r = judge(MOE_T_Y, plan, 2, pairs, rows_of_expert_1, 8);
    cr_assert_eq(r->n_maps, 1);
    const moe_error_map *m = r->map;
    cr_expect_str_eq(m->tensor, "Y");
    cr_expect_str_eq(m->down, "expert");
    cr_expect_str_eq(m->across, "row");
    cr_expect(m->rows == 8 && m->columns == 5 && m->tile == 8 && m->extent == 40);
    count(m, &over, &filled);
    cr_expect(over == 2 && filled == 40 && m->over[1][2] > 1 && m->over[1][3] > 1);
    cr_expect_float_eq(m->nmse[1][2], 1, 1e-6);
    moe_check_result_destroy(&r);

    r = judge(MOE_T_O, plan, 2, tokens, tokens_of_expert_2, 0);
    m = r->map;
    cr_expect(m->rows == 8 && m->tile == 4 && m->columns == 40, "%d %d", (int)m->tile, m->columns);
    count(m, &over, &filled);
    cr_expect_eq(over, 20 + 20 + 20, "expert 2's tokens, and those that they share with 1 and 3");
    cr_expect(m->over[0][0] >= 0 && m->over[0][0] <= 1 && m->over[0][1] == m->over[0][0]);
    moe_check_result_destroy(&r);
    moe_plan_destroy(&plan);
}

/* A slice has two maps; a shared expert's matrix one, of tiles of rows; a passing tensor none. */
Test(check_where, maps_of_slices) {
    static const int64_t slices[] = {8, 12, 6}, matrix[] = {130, 32};
    moe_plan *plan = pairs_plan(160, 8);
    int over, filled;
    moe_check_result *r = judge(MOE_T_DW1, plan, 3, slices, block_of_expert_3, 0);
    cr_assert_eq(r->n_maps, 2);
    cr_expect_str_eq(r->map[0].across, "row");
    count(&r->map[0], &over, &filled);
    cr_expect(over == 4 && filled == 96 && r->map[0].over[3][8] > 1);
    cr_expect_str_eq(r->map[1].across, "column");
    count(&r->map[1], &over, &filled);
    cr_expect(over == 4 && filled == 48 && r->map[1].over[3][0] > 1);
    moe_check_result_destroy(&r);

    r = judge(MOE_T_DW1_SHARED, plan, 2, matrix, corner, 0);
    cr_assert_eq(r->n_maps, 1);
    cr_expect_str_eq(r->map[0].down, "row");
    cr_expect(r->map[0].rows == 33 && r->map[0].row[1] == 4 && r->map[0].columns == 32);
    count(&r->map[0], &over, &filled);
    cr_expect_eq(over, 2 * 8);
    moe_check_result_destroy(&r);

    r = judge(MOE_T_DW1, plan, 3, slices, token_3, 0);
    moe_int_result_drop_maps(r, "dW1");
    cr_expect_eq(r->n_maps, 0);
    moe_check_result_destroy(&r);
    moe_plan_destroy(&plan);
}

/* Where there are more experts than lines the worst are kept, in order. */
Test(check_where, maps_keep_the_worst_experts) {
    static const int64_t tokens[] = {400, 4};
    moe_plan *plan = pairs_plan(400, 200);
    moe_check_result *r = judge(MOE_T_O, plan, 2, tokens, token_3, 0);
    cr_assert_eq(r->n_maps, 1);
    cr_expect(r->map->rows == MOE_MAP_ROWS && r->map->rows_of == 200);
    cr_expect(r->map->row[3] == 3 && r->map->row[4] == 4 && r->map->over[3][0] > 1);
    cr_expect(r->map->over[0][8] < 0, "a cell without tokens");
    moe_check_result_destroy(&r);
    moe_plan_destroy(&plan);
}
