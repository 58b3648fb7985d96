/* The table of stages: complete, consistent, and its work is the layer's. */
#include "moeref/stage.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(stages, names_are_unique_and_found_again) {
    moe_stage found = MOE_STAGE_COUNT;
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        const char *name = moe_stage_name((moe_stage)i);
        cr_assert_not_null(name, "stage %d has no row", i);
        cr_expect_lt(strlen(name), 24, "%s does not fit into moe_cost", name);
        cr_expect_eq(moe_stage_parse(name, &found), MOE_OK);
        cr_expect_eq((int)found, i, "%s stands twice", name);
    }
    cr_expect_eq(moe_stage_parse("up_proj", &found), MOE_E_NOTFOUND);
    cr_expect_eq(moe_stage_parse("A_shared_shared", &found), MOE_E_NOTFOUND);
    cr_expect_eq((int)found, MOE_STAGE_COUNT - 1, "left alone on failure");
    cr_expect_str_eq(moe_stage_name(MOE_STAGE_COUNT), "?");
}

/* One level: what is part of something is part of a stage, of a pass that it shares. */
Test(stages, parts_belong_to_stages) {
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        const moe_stage_info part = moe_stage_info_of((moe_stage)i);
        const moe_stage_info whole = moe_stage_info_of(part.part_of);
        cr_expect_eq(whole.part_of, part.part_of, "%s is part of a part", part.name);
        cr_expect(whole.pass == MOE_PASS_FWD || whole.pass == MOE_PASS_BWD, "%s", whole.name);
        cr_expect(part.pass & whole.pass, "%s runs in another pass than %s", part.name, whole.name);
        cr_expect(part.tensor >= -1 && part.tensor < MOE_T_COUNT, "%s", part.name);
    }
}

/* The suffix, for whoever reads a report; nothing computes with it. */
Test(stages, shared_stages_have_a_suffix) {
    int with = 0;
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        char name[32];
        const moe_stage shared = moe_stage_of_shared((moe_stage)i);
        if (shared == (moe_stage)i)
            continue;
        with++;
        snprintf(name, sizeof name, "%s_shared", moe_stage_name((moe_stage)i));
        cr_expect_str_eq(moe_stage_name(shared), name);
        cr_expect_eq(moe_stage_info_of(shared).pass, moe_stage_info_of((moe_stage)i).pass);
        cr_expect_eq(moe_stage_of_shared(shared), shared);
    }
    cr_expect_eq(with, 9);
}

static moe_layer_desc layer(moe_act act, int64_t n_shared) {
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = 48, d.n = 20, d.E = 6, d.K = 2, d.act = act, d.n_shared = n_shared;
    return d;
}

/* Products of experts alone: the router's are not in moe_layer_flops, nor are weighted sums. */
static int is_product(moe_stage s) {
    switch ((int)s) {
    case MOE_STAGE_ROUTER:
    case MOE_STAGE_ROUTER_BACKWARD:
    case MOE_STAGE_O:
    case MOE_STAGE_DX:
    case MOE_STAGE_O_SHARED:
    case MOE_STAGE_DX_SHARED:
        return 0;
    default:
        return 1;
    }
}

Test(stages, flops_are_the_layers) {
    enum { T = 30, P = 55, ACTIVE = 5 };
    for (int i = 0; i < 4; i++) {
        const moe_layer_desc d = layer(i & 1 ? MOE_ACT_RELU2 : MOE_ACT_SWIGLU, i & 2 ? 28 : 0);
        for (int pass = MOE_PASS_FWD; pass <= MOE_PASS_BWD; pass++) {
            double sum = 0, flops, elements;
            for (int s = 0; s < MOE_STAGE_COUNT; s++) {
                if (moe_stage_exists(&d, (moe_stage)s, pass, 0) && is_product((moe_stage)s) &&
                    moe_stage_work(&d, (moe_stage)s, T, P, ACTIVE, &flops, &elements) == MOE_OK) {
                    sum += flops;
                    cr_expect_gt(elements, 0, "%s", moe_stage_name((moe_stage)s));
                }
            }
            cr_expect_eq(sum, moe_layer_flops(&d, T, P, pass == MOE_PASS_BWD), "layer %d: %g", i,
                         sum);
        }
    }
}

/* Y reads A and the weights of the experts that have rows, and writes Y; dW2 writes them all. */
Test(stages, elements_of_two_by_hand) {
    const moe_layer_desc d = layer(MOE_ACT_SWIGLU, 28);
    double flops, elements;
    cr_expect_eq(moe_stage_work(&d, MOE_STAGE_Y, 30, 55, 5, &flops, &elements), MOE_OK);
    cr_expect_eq(elements, 55 * 20 + 5 * 48 * 20 + 55 * 48);
    cr_expect_eq(moe_stage_work(&d, MOE_STAGE_DW2_SHARED, 30, 55, 5, &flops, &elements), MOE_OK);
    cr_expect_eq(elements, 30 * 48 + 30 * 28 + 48 * 28);
    cr_expect_eq(moe_stage_work(&d, MOE_STAGE_TOPK, 30, 55, 5, &flops, &elements),
                 MOE_E_UNSUPPORTED);
}

Test(stages, exist_where_their_owner_does) {
    moe_layer_desc d = layer(MOE_ACT_SWIGLU, 0);
    cr_expect(moe_stage_exists(&d, MOE_STAGE_ROUTER, MOE_PASS_BOTH, 0));
    cr_expect_not(moe_stage_exists(&d, MOE_STAGE_ROUTER, MOE_PASS_BOTH, 1));
    cr_expect_not(moe_stage_exists(&d, MOE_STAGE_DW1, MOE_PASS_FWD, 0));
    cr_expect_not(moe_stage_exists(&d, MOE_STAGE_DB, MOE_PASS_BWD, 0));
    cr_expect_not(moe_stage_exists(&d, MOE_STAGE_SORT, MOE_PASS_FWD, 0), "a part");
    cr_expect_not(moe_stage_exists(&d, MOE_STAGE_A_SHARED, MOE_PASS_FWD, 0));
    d.n_shared = 8, d.expert_bias = 1;
    cr_expect(moe_stage_exists(&d, MOE_STAGE_A_SHARED, MOE_PASS_FWD, 0));
    cr_expect(moe_stage_exists(&d, MOE_STAGE_DB, MOE_PASS_BWD, 0));
    cr_expect_not(moe_stage_exists(&d, MOE_STAGE_GATE_BACKWARD, MOE_PASS_BWD, 0));
    d.shared_gate = 1;
    cr_expect(moe_stage_exists(&d, MOE_STAGE_GATE_BACKWARD, MOE_PASS_BWD, 0));
}
