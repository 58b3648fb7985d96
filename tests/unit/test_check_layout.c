/* Which token, pair or expert an element belongs to, against walks over the plan. */
#include "check/compare/compare.h"
#include "core/elements.h"
#include "reference/run.h"

#include <criterion/criterion.h>

enum { T = 6, D = 4, E = 5 };

/* Experts 0 and 3 have no row. */
static moe_plan *plan_of(void) {
    const int32_t token[] = {0, 1, 2, 3, 4, 5, 0, 2, 4}, expert[] = {1, 1, 2, 4, 4, 4, 4, 1, 2};
    moe_plan *plan = NULL;
    cr_assert_eq(moe_plan_create(T, E, 9, token, expert, NULL, NULL, &plan), MOE_OK);
    return plan;
}

static int64_t expert_by_walk(const moe_plan *plan, int64_t row) {
    for (int64_t e = 0; e < plan->n_experts; e++)
        if (row >= plan->offsets[e] && row < plan->offsets[e + 1])
            return e;
    return -1;
}

Test(check_layout, experts_of_groups) {
    moe_plan *plan = plan_of();
    const moe_tensor pairs = {.dtype = MOE_F32, .ndim = 2, .shape = {9, D}};
    const moe_tensor tokens = {.dtype = MOE_F32, .ndim = 2, .shape = {T, D}};
    const moe_tensor experts = {.dtype = MOE_F32, .ndim = 3, .shape = {E, 2, D}};
    const moe_tensor whole = {.dtype = MOE_F32, .ndim = 2, .shape = {2, D}};
    moe_int_layout l = moe_int_layout_of(MOE_T_H, &pairs);
    cr_expect(l.groups == 9 && l.width == D && l.tiled);
    for (int64_t r = 0; r < 9; r++) {
        cr_expect_eq(moe_int_layout_expert(&l, plan, r), expert_by_walk(plan, r));
        cr_expect_eq(moe_int_layout_expert(&l, NULL, r), -1, "no plan, no expert");
    }
    l = moe_int_layout_of(MOE_T_O, &tokens);
    cr_expect(l.groups == T && l.width == D && l.tiled);
    for (int64_t t = 0; t < T; t++)
        cr_expect_eq(moe_int_layout_expert(&l, plan, t), -1, "a token is of no one expert");
    l = moe_int_layout_of(MOE_T_DW1, &experts);
    cr_expect(l.groups == E && l.width == 2 * D && !l.tiled);
    for (int64_t e = 0; e < E; e++)
        cr_expect_eq(moe_int_layout_expert(&l, plan, e), e);
    l = moe_int_layout_of(MOE_T_DW1_SHARED, &whole);
    cr_expect(l.groups == 1 && l.width == 2 * D && !l.tiled);
    cr_expect_eq(moe_int_layout_expert(&l, plan, 0), -1);
    moe_plan_destroy(&plan);
}

/* Elements that err independently: a third of the products that a group adds up. */
Test(check_layout, sources_of_groups) {
    moe_plan *plan = plan_of();
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.n = 30, desc.n_shared = 12;
    const moe_tensor tokens = {.dtype = MOE_F32, .ndim = 2, .shape = {T, D}};
    const moe_tensor experts = {.dtype = MOE_F32, .ndim = 3, .shape = {E, 2, D}};
    moe_int_layout l = moe_int_layout_of(MOE_T_O, &tokens);
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_O, &desc, plan, 0), 2 * 30 / 3);
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_O, &desc, plan, 5), 30 / 3);
    l = moe_int_layout_of(MOE_T_DW1, &experts);
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_DW1, &desc, plan, 4), 4 * 30 / 3);
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_LOGITS, &desc, plan, 4), l.width);
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_DW1, &desc, plan, 0), 1, "at least one");
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_DW_R, &desc, plan, 4), 4 / 3);
    l = moe_int_layout_of(MOE_T_DW1_SHARED, &tokens);
    cr_expect_eq(moe_int_layout_sources(&l, MOE_T_DW1_SHARED, &desc, plan, 0), T * 12 / 3);
    moe_plan_destroy(&plan);
}

/* Flat indices count rows of the last dimension. */
Test(check_layout, indices) {
    const moe_tensor t = {.dtype = MOE_F32, .ndim = 3, .shape = {3, 4, 5}};
    int64_t flat = 0, at[3];
    for (int64_t a = 0; a < 3; a++)
        for (int64_t b = 0; b < 4; b++)
            for (int64_t c = 0; c < 5; c++) {
                moe_int_unravel(&t, flat++, at);
                cr_expect(at[0] == a && at[1] == b && at[2] == c);
            }
}

/* A number of threads that was asked for is used; none means all. */
Test(check_layout, threads) {
    cr_expect_eq(moe_int_thread_count(1), 1);
    cr_expect_eq(moe_int_thread_count(7), 7);
    cr_expect_geq(moe_int_thread_count(0), 1);
    cr_expect_eq(moe_int_thread_count(-1), moe_int_thread_count(0));
}
