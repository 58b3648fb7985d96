/* A model over several GPUs: what each has of it, and what they tell each other. */
#include "capture.h"
#include "layers.h"
#include "moeref/whole.h"
#include "sim/net/transfer.h"
#include "sim/shared.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

/* Round numbers: 6 layers, 2 of them dense, 16 heads, 4 of keys and values. */
static moe_model_shape round_model(void) {
    moe_model_shape m = {.layers = 6, .moe_layers = 4, .dense_layers = 2, .full = 6};
    m.d = 2048, m.vocab = 32000, m.dense_n = 8192;
    m.heads = 16, m.kv_heads = 4, m.qk_dim = m.v_dim = 128;
    m.layer = layer_of(2048, 512, 8, 2);
    return m;
}

static moe_node *load_node(void) {
    moe_node *node = NULL;
    cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
    return node;
}

static moe_model_rest rest_of(const moe_model_shape *m, const moe_model_run *run) {
    const moe_workload state = {0};
    moe_gpu *gpu = load("h100-sxm");
    moe_model_rest rest;
    cr_assert_eq(moe_predict_rest(gpu, "triton_fused_moe", m, run, &state, NULL, &rest), MOE_OK);
    moe_gpu_destroy(&gpu);
    return rest;
}

/* One GPU of a node is one GPU. */
Test(sim_shared, one_of_one_is_all) {
    const moe_model_shape m = round_model();
    moe_node *node = load_node();
    const moe_model_run alone = {512, 0, 0};
    const moe_model_run one = {.tokens = 512, .node = node, .attention_tp = 1, .replicas = 1};
    const moe_model_rest a = rest_of(&m, &alone), b = rest_of(&m, &one);
    for (int part = 0; part < MOE_PART_COUNT; part++)
        cr_expect_eq(a.us[part], b.us[part], "%s", moe_model_part_name((moe_model_part)part));
    cr_expect(a.param_bytes == b.param_bytes && a.kv_bytes == b.kv_bytes && a.flops == b.flops);
    moe_node_destroy(&node);
}

/* All but the router, which each GPU has, is divided; keys and values no further than their heads
 * go, 4 of which 8 GPUs have one each, twice over. */
Test(sim_shared, weights_and_work_divide) {
    const moe_model_shape m = round_model();
    moe_node *node = load_node();
    moe_model_run run = {.tokens = 512, .pass = MOE_PASS_FWD, .node = node, .replicas = 1};
    const double kv = 6 * 2 * 4 * 128. * 2048, q = 6 * 2 * 16 * 128. * 2048;
    const double rest = 2 * 3 * 8192. * 2048 + 2 * 32000. * 2048;
    run.attention_tp = 1;
    const moe_model_rest one = rest_of(&m, &run);
    cr_expect_float_eq(one.param_bytes, 2 * (kv + q + rest), 1);
    for (int64_t parts = 2; parts <= 8; parts *= 2) {
        run.attention_tp = parts;
        const double share = fmin((double)parts, 4);
        const moe_model_rest r = rest_of(&m, &run);
        cr_expect_float_eq(r.param_bytes, 2 * (kv / share + (q + rest) / (double)parts), 1, "%d",
                           (int)parts);
        cr_expect_float_eq(r.kv_bytes, one.kv_bytes / share, 1);
        cr_expect_lt(r.us[MOE_PART_FFN], one.us[MOE_PART_FFN]);
        cr_expect_lt(r.us[MOE_PART_HEAD], one.us[MOE_PART_HEAD]);
        cr_expect_eq(r.us[MOE_PART_ROUTER], one.us[MOE_PART_ROUTER], "every GPU has all of it");
        cr_expect_gt(r.us[MOE_PART_SHARING], 0);
    }
    moe_node_destroy(&node);
}

/* A sum after each attention, each dense FFN and the embedding, and the logits of those rows that
 * need them; again backward; gradients over replicas. */
Test(sim_shared, what_gpus_tell_each_other) {
    moe_model_shape m = round_model();
    moe_node *node = load_node();
    moe_model_run run = {.tokens = 64,
                         .context = 100,
                         .pass = MOE_PASS_FWD,
                         .node = node,
                         .attention_tp = 4,
                         .replicas = 1};
    const double sum = moe_int_collective_us(node, MOE_INT_ALL_REDUCE, 4, 64 * 2048 * 2.);
    const double all = moe_int_collective_us(node, MOE_INT_ALL_GATHER, 4, 64 * 32000 * 2.);
    const double last = moe_int_collective_us(node, MOE_INT_ALL_GATHER, 4, 32000 * 2.);
    cr_expect_float_eq(moe_int_share_us(&m, &run, 2, 0), 9 * sum + all, 1e-6);
    run.context = 0;
    cr_expect_float_eq(moe_int_share_us(&m, &run, 2, 0), 9 * sum + last, 1e-6);
    run.pass = MOE_PASS_BOTH;
    run.replicas = 2;
    const double gradients = moe_int_collective_us(node, MOE_INT_ALL_REDUCE, 2, 1e9);
    cr_expect_float_eq(moe_int_share_us(&m, &run, 2, 1e9), 18 * sum + all + gradients, 1e-6);
    run.attention_tp = 1;
    cr_expect_float_eq(moe_int_share_us(&m, &run, 2, 1e9), gradients, 1e-6);
    run.attention_tp = 8; /* replicas fill a host each: their gradients take the network */
    cr_assert_eq(moe_node_what_if(node, "hosts=2", NULL), MOE_OK);
    cr_assert_eq(moe_node_what_if(node, "inter_gbps=50", NULL), MOE_OK);
    cr_expect_gt(moe_int_share_us(&m, &run, 2, 1e9) - moe_int_share_us(&m, &run, 2, 0), 1e9 / 50e3);
    m.dense_n = 0; /* layers without an FFN of their own have no sum */
    run.attention_tp = 4, run.pass = MOE_PASS_FWD;
    cr_expect_float_eq(moe_int_share_us(&m, &run, 2, 0), 7 * sum + last, 1e-6);
    moe_node_destroy(&node);
}

Test(sim_shared, heads_that_do_not_divide) {
    const moe_model_shape m = round_model();
    moe_model_shape own;
    capture seen;
    const moe_log log = capture_log(&seen);
    cr_expect_eq(moe_int_share_model(&m, 16, &log, &own), MOE_OK);
    cr_expect(own.heads == 1 && own.kv_heads == 1);
    cr_expect_eq(moe_int_share_model(&m, 3, &log, &own), MOE_E_INVALID);
    cr_expect(strstr(seen.text, "3 GPUs cannot share 16 heads"), "%s", seen.text);
}

static double total(const char *method, int64_t ep, int64_t tp, int64_t tokens, double *ret_sum) {
    moe_ep_prediction *p = NULL;
    moe_node *node = load_node();
    moe_gpu *gpu = load("h100-sxm");
    const moe_ep_options o = {.method = method, .compute = "triton_fused_moe", .ep = ep, .tp = tp};
    const moe_workload state = {0};
    moe_case c;
    cr_assert_eq(moe_case_parse("T=1 d=2048 n=768 E=128 K=8 route=balanced pass=fwd", NULL, &c),
                 MOE_OK);
    c.T = tokens;
    cr_assert_eq(moe_predict_ep(node, gpu, &c, &state, &o, NULL, &p), MOE_OK);
    const double us = p->total_us;
    if (ret_sum)
        *ret_sum = p->n_tasks > 1 ? p->tasks[p->n_tasks - 1].us : 0;
    moe_ep_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
    return us;
}

/* All GPUs have the same tokens: T is theirs together, one GPU is the layer itself, and experts or
 * widths on eight take an eighth of weights that are streamed, and one all-reduce more. */
Test(sim_shared, an_all_reduce_of_the_same_tokens) {
    double by_experts, by_width;
    const double one = total("allreduce", 1, 1, 64, NULL);
    const double experts = total("allreduce", 8, 1, 64, &by_experts);
    const double width = total("allreduce", 1, 8, 64, &by_width);
    moe_node *node = load_node();
    const double sum = moe_int_collective_us(node, MOE_INT_ALL_REDUCE, 8, 64 * 2048 * 2.);
    moe_node_destroy(&node);
    cr_expect_float_eq(by_experts, sum, 1e-6);
    cr_expect_float_eq(by_width, sum, 1e-6);
    cr_expect(experts - sum > one / 8 && experts - sum < 0.35 * one, "%g of %g", experts, one);
    cr_expect(width - sum > one / 8 && width - sum < 0.35 * one, "%g of %g", width, one);
    /* An exchange's T are one GPU's: eight times the tokens. */
    cr_expect_gt(total("ep_serial", 8, 1, 64, NULL), experts);
}
