/* Node descriptions, the equation of transfers, and tables of them. */
#include "capture.h"
#include "sim/fit/table.h"
#include "sim/net/transfers.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

Test(sim_nodes, shipped_descriptions_load_with_their_gpus) {
    for (const char *const *name = moe_node_names(); *name; name++) {
        moe_node *node = NULL;
        moe_gpu *gpu = NULL;
        cr_assert_eq(moe_node_load(*name, NULL, &node), MOE_OK, "%s", *name);
        cr_expect_str_eq(moe_node_name(node), *name);
        cr_expect_eq(moe_gpu_load(moe_node_gpu(node), NULL, &gpu), MOE_OK, "%s", *name);
        for (int c = 0; c < MOE_INT_CARRIER_COUNT; c++)
            cr_expect(node->c[c][MOE_INT_CP_LINK_EFF] > 0, "%s %s", *name,
                      moe_int_carrier_names[c]);
        moe_gpu_destroy(&gpu);
        moe_node_destroy(&node);
    }
}

static double link_in(const moe_node *node) {
    double gbps = 0;
    cr_expect_eq(moe_node_get(node, "link_gbps", &gbps), MOE_OK);
    return gbps;
}

/* A clone is changed, told and written alone, and outlives what it was made of. */
Test(sim_nodes, a_clone_is_another_node) {
    moe_node *node = NULL, *clone = NULL, *read = NULL;
    char path[TEMPORARY_BYTES];
    cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
    cr_assert_eq(moe_node_clone(node, &clone), MOE_OK);
    const double gbps = link_in(node);
    cr_expect_eq(moe_node_what_if(clone, "link_gbps*2", NULL), MOE_OK);
    cr_expect_eq(link_in(clone), 2 * gbps);
    cr_expect_eq(link_in(node), gbps);
    moe_node_destroy(&node);
    cr_expect_str_eq(moe_node_name(clone), "h100-x8");
    cr_expect_str_eq(moe_node_gpu(clone), "h100-sxm");
    cr_expect(moe_node_brief(clone)[0] && moe_node_held_to(clone)[0]);
    temporary_file(path, ".json", NULL, 0);
    cr_assert_eq(moe_node_write(clone, path, "assumed", "a clone", NULL), MOE_OK);
    cr_assert_eq(moe_node_load(path, NULL, &read), MOE_OK);
    cr_expect_eq(link_in(read), 2 * gbps);
    moe_node_destroy(&read);
    moe_node_destroy(&clone);
    temporary_remove(path);
}

Test(sim_nodes, what_is_wrong_is_named) {
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_node *node = NULL;
    cr_expect_eq(moe_node_load("h100-x9", &log, &node), MOE_E_NOTFOUND);
    cr_expect(strstr(seen.text, "h100-x8"));
    cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
    cr_expect_eq(moe_node_what_if(node, "alltoall.link_eff=2", &log), MOE_E_INVALID);
    cr_expect(strstr(seen.text, "alltoall.link_eff"));
    cr_expect_eq(moe_node_what_if(node, "alltoall.colour=2", &log), MOE_E_NOTFOUND);
    moe_node_destroy(&node);
}

/* 100 GB/s of 200 for two ranks with near = 0.5: a megabyte takes 1e6 / (200e3 * 0.5 * 0.75) us. */
Test(sim_nodes, a_transfer_is_what_its_terms_add_up_to) {
    moe_node node = {.p = {[MOE_INT_NP_GPUS] = 8, [MOE_INT_NP_LINK] = 200}};
    double *c = node.c[MOE_INT_CARRIER_ALLTOALL];
    c[MOE_INT_CP_START_US] = 5;
    c[MOE_INT_CP_RANK_US] = 1;
    c[MOE_INT_CP_RAMP] = 2;
    c[MOE_INT_CP_LINK_EFF] = 0.5;
    c[MOE_INT_CP_NEAR] = 0.5;
    const moe_int_load load = {.ranks = 2, .near = 1048576};
    const double us = moe_int_transfer_us(&node, MOE_INT_CARRIER_ALLTOALL, &load);
    cr_expect_float_eq(us, 5 + 2 + 2 + 1048576 / (200e3 * 0.5 * 0.75), 1e-9);
    c[MOE_INT_CP_FLOOR_US] = 50;
    cr_expect_float_eq(moe_int_transfer_us(&node, MOE_INT_CARRIER_ALLTOALL, &load), 50, 1e-9);
    cr_expect_float_eq(moe_int_collective_us(&node, MOE_INT_ALLTOALL, 1, 1e6), 0, 1e-9);
}

/* 8 experts, 2 a token: a rank with 4 of them is missed by 4*3 of 8*7 ordered choices. */
Test(sim_nodes, a_token_reaches_a_rank_by_the_hypergeometric_rule) {
    cr_expect_float_eq(moe_int_reach(4, 8, 2), 1 - 12.0 / 56, 1e-12);
    cr_expect_float_eq(moe_int_reach(8, 8, 2), 1, 1e-12);
    cr_expect_float_eq(moe_int_reach(0, 8, 2), 0, 1e-12);
    const moe_int_load load = moe_int_even_load(2, 2, 100, 8, 2, 10);
    cr_expect_float_eq(load.copies, 200 * (1 - 12.0 / 56), 1e-9);
    cr_expect_float_eq(load.near, load.copies * 10 / 2, 1e-9);
}

static void make_table(const moe_node *node, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "# made\nsystem\top\tgpus\tbytes\tus\n");
    for (int gpus = 2; gpus <= 8; gpus *= 2) {
        for (double bytes = 1048576; bytes < 1e9; bytes *= 2)
            used +=
                (size_t)snprintf(text + used, size - used, "mine\talltoall\t%d\t%.0f\t%.4f\n", gpus,
                                 bytes, moe_int_collective_us(node, MOE_INT_ALLTOALL, gpus, bytes));
    }
    snprintf(text + used, size - used, "other\talltoall\t2\t1024\t1000\n");
}

/* A table made by one set of numbers leads back to them from another. */
Test(sim_nodes, a_fit_finds_the_numbers_that_made_a_table) {
    static char text[8192];
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_table *table = NULL;
    moe_fit_result r;
    cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    const double link = node->c[MOE_INT_CARRIER_ALLTOALL][MOE_INT_CP_LINK_EFF];
    make_table(node, text, sizeof text);
    cr_assert_eq(moe_int_table_parse(text, strlen(text), "made", "system=mine", NULL, &table),
                 MOE_OK);
    cr_expect_eq(moe_table_rows(table), 30);
    moe_node_set(node, "alltoall.link_eff", 0.5, NULL);
    moe_node_set(node, "alltoall.start_us", 20, NULL);
    const moe_fit_params params = {
        .node = node, .free_keys = "alltoall.link_eff,alltoall.start_us", .folds = 3};
    cr_assert_eq(moe_gpu_fit(gpu, table, &params, NULL, &r), MOE_OK);
    cr_expect_float_eq(node->c[MOE_INT_CARRIER_ALLTOALL][MOE_INT_CP_LINK_EFF], link, 1e-2 * link);
    cr_expect_lt(r.held_out[MOE_FIT_ALL].mean, 1);
    cr_expect_gt(r.as_given[MOE_FIT_ALL].mean, 10);
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
}

Test(sim_nodes, a_bad_line_is_named) {
    static const char text[] = "op\tgpus\tbytes\tus\nalltoall\t2\tmany\t3\n";
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_table *table = NULL;
    cr_expect_eq(moe_int_table_parse(text, strlen(text), "bad.tsv", NULL, &log, &table),
                 MOE_E_FORMAT);
    cr_expect(strstr(seen.text, "bad.tsv:2"), "%s", seen.text);
}
