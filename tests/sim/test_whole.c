/* What is around the MoE layers: sizes from a config.json, products, bytes. */
#include "capture.h"
#include "layers.h"
#include "moeref/whole.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static moe_model_shape shape_of(const char *family) {
    char path[4096];
    moe_model_shape m;
    snprintf(path, sizeof path, "%s/golden/hf/%s/config.json", getenv("MOEREF_SOURCE_ROOT"),
             family);
    cr_assert_eq(moe_model_shape_from_config(path, NULL, &m), MOE_OK, "%s", path);
    return m;
}

/* By the numbers in those files. */
Test(sim_whole, sizes_of_configs) {
    const moe_model_shape plain = shape_of("mixtral"), latent = shape_of("deepseek_v3"),
                          sliding = shape_of("gpt_oss"), mixed = shape_of("qwen3_next");
    cr_expect(plain.full == plain.layers && plain.windowed == 0 && plain.kv_rank == 0);
    cr_expect(plain.heads > 0 && plain.kv_heads > 0 && plain.qk_dim * plain.heads > 0);
    cr_expect(!plain.head_norms && mixed.head_norms);
    cr_expect(latent.kv_rank > 0 && latent.rope_dim > 0 && latent.qk_dim > latent.rope_dim);
    cr_expect_eq(latent.dense_layers, latent.layers - latent.moe_layers);
    cr_expect(sliding.windowed > 0 && sliding.window > 0 &&
              sliding.windowed + sliding.full == sliding.layers);
    cr_expect_eq(mixed.full + mixed.unknown, mixed.layers);
}

/* Round numbers: 2 layers, one of them dense. */
static moe_model_shape round_model(void) {
    moe_model_shape m = {.layers = 2, .moe_layers = 1, .dense_layers = 1, .full = 2};
    m.d = 1024, m.vocab = 32000, m.dense_n = 4096;
    m.heads = 8, m.kv_heads = 2, m.qk_dim = m.v_dim = 128;
    m.layer = layer_of(1024, 512, 8, 2);
    return m;
}

static moe_model_rest rest_of(const char *method, const moe_model_shape *m, moe_model_run run,
                              int32_t storage) {
    const moe_workload state = {.storage = storage};
    moe_gpu *gpu = load("h100-sxm");
    moe_model_rest rest;
    cr_assert_eq(moe_predict_rest(gpu, method, m, &run, &state, NULL, &rest), MOE_OK);
    moe_gpu_destroy(&gpu);
    return rest;
}

#define PROJECTIONS (2. * ((8 + 2 + 2) * 128 + 8 * 128) * 1024) /* weights of both layers */
#define FFN         (3. * 4096 * 1024)
#define HEAD        (32000. * 1024)
#define ROUTER      (8. * 1024)

Test(sim_whole, flops_weights_and_cache) {
    const moe_model_shape m = round_model();
    const moe_model_rest fwd = rest_of("cublas", &m, (moe_model_run){512, 0, MOE_PASS_FWD}, 0);
    const moe_model_rest both = rest_of("cublas", &m, (moe_model_run){512, 0, 0}, 0);
    /* Causal: half of 513 keys a token, products of both layers, the last token's logits. */
    const double attend = 2 * 2. * 512 * 256.5 * 8 * 256;
    cr_expect_float_eq(fwd.flops, 2 * 512 * (PROJECTIONS + FFN + ROUTER) + 2 * HEAD + attend, 1,
                       "%g", fwd.flops);
    cr_expect_float_eq(both.flops, 6 * 512 * (PROJECTIONS + FFN + ROUTER + HEAD) + 3.5 * attend, 1,
                       "%g", both.flops);
    cr_expect_float_eq(fwd.param_bytes, 2 * (PROJECTIONS + FFN + 2 * HEAD), 1);
    cr_expect_float_eq(both.param_bytes, 2 * fwd.param_bytes, 1);
    cr_expect_float_eq(fwd.kv_bytes, 2 * 512 * 2. * 2 * 256, 1);
    const moe_model_rest next = rest_of("cublas", &m, (moe_model_run){512, 99, MOE_PASS_FWD}, 0);
    cr_expect_float_eq(next.kv_bytes, 100 * fwd.kv_bytes, 1);
    cr_expect(next.us[MOE_PART_HEAD] > fwd.us[MOE_PART_HEAD], "each sequence needs its logits");
    cr_expect_eq(fwd.us[MOE_PART_SHARING], 0);
    const moe_model_rest triton =
        rest_of("triton_fused_moe", &m, (moe_model_run){512, 0, MOE_PASS_FWD}, 0);
    cr_expect_eq(triton.param_bytes, fwd.param_bytes);
}

/* Where the layers count their router, only those that start from given logits need it beside. */
Test(sim_whole, the_router_counts_once) {
    const moe_model_shape m = round_model();
    const moe_model_run run = {512, 0, MOE_PASS_FWD};
    moe_gpu *gpu = load("h100-sxm");
    for (int32_t counted = 0; counted < 2; counted++) {
        const moe_workload state = {.with_router = counted};
        moe_model_rest plain, given;
        cr_assert_eq(moe_predict_rest(gpu, "cublas", &m, &run, &state, NULL, &plain), MOE_OK);
        cr_assert_eq(moe_predict_rest(gpu, "triton_fused_moe", &m, &run, &state, NULL, &given),
                     MOE_OK);
        cr_expect_gt(given.us[MOE_PART_ROUTER], 0);
        cr_expect_eq(plain.us[MOE_PART_ROUTER], counted ? 0 : given.us[MOE_PART_ROUTER]);
    }
    moe_gpu_destroy(&gpu);
}

/* By hand, on an H100: 132 SMs, one instruction has 64 rows. */
Test(sim_whole, heads_and_host) {
    moe_model_shape m = round_model();
    const moe_model_run next = {1, 8192, MOE_PASS_FWD};
    const moe_model_rest plain = rest_of("cublas", &m, next, 0);
    m.head_norms = 1;
    const moe_model_rest normed = rest_of("cublas", &m, next, 0);
    const moe_model_rest norms = rest_of("cublas", &m, (moe_model_run){1, 0, MOE_PASS_FWD}, 0);
    /* Two kernels for each of two layers beside two norms and a turn of each; all are launches. */
    cr_expect_float_eq(normed.us[MOE_PART_NORMS] / plain.us[MOE_PART_NORMS], 10 / 6., 0.01);
    cr_expect_float_eq(normed.us[MOE_PART_NORMS], norms.us[MOE_PART_NORMS], 1e-6);
    /* A token alone cuts its keys, 70 tokens have heads enough: no second kernel. */
    const moe_model_rest many = rest_of("cublas", &m, (moe_model_run){70, 1, MOE_PASS_FWD}, 0);
    const moe_model_rest one = rest_of("cublas", &m, (moe_model_run){1, 1, MOE_PASS_FWD}, 0);
    cr_expect_float_eq(one.us[MOE_PART_ATTENTION] / many.us[MOE_PART_ATTENTION], 3 / 2., 0.1);
    /* 64 heads share keys and values, or 32: 64 rows are multiplied for both. */
    m.heads = 512;
    m.kv_heads = 8;
    const moe_model_run far = {64, 1 << 20, MOE_PASS_FWD};
    const moe_model_rest full = rest_of("cublas", &m, far, 0);
    m.heads = 256;
    const moe_model_rest half = rest_of("cublas", &m, far, 0);
    cr_expect_float_eq(half.us[MOE_PART_ATTENTION] / full.us[MOE_PART_ATTENTION], 1, 0.01);
    cr_expect_lt(half.flops, 0.51 * full.flops);
    const moe_model_rest host =
        rest_of("cublas", &m, (moe_model_run){64, 8, MOE_PASS_FWD, 1000, 50}, 0);
    cr_expect_float_eq(host.us[MOE_PART_HOST], 1000 + 64 * 50, 1e-9);
    cr_expect_eq(full.us[MOE_PART_HOST], 0);
}

/* Quantised products leave attention and head alone; a window bounds what a token attends to. */
Test(sim_whole, types_and_windows) {
    moe_model_shape m = round_model();
    const moe_model_run run = {64, 8192, MOE_PASS_FWD};
    const moe_model_rest wide = rest_of("cublas", &m, run, 0);
    const moe_model_rest fp8 = rest_of("cublas", &m, run, MOE_STORAGE_FP8);
    cr_expect_eq(fp8.us[MOE_PART_ATTENTION], wide.us[MOE_PART_ATTENTION]);
    cr_expect_eq(fp8.us[MOE_PART_HEAD], wide.us[MOE_PART_HEAD]);
    cr_expect_float_eq(fp8.param_bytes, (1 + 4. / 16384) * (PROJECTIONS + FFN) + 2 * 2 * HEAD, 1);
    m.full = 0, m.windowed = 2, m.window = 128;
    const moe_model_rest narrow = rest_of("cublas", &m, run, 0);
    cr_expect_lt(narrow.us[MOE_PART_ATTENTION], 0.3 * wide.us[MOE_PART_ATTENTION]);
    cr_expect_float_eq(narrow.kv_bytes, wide.kv_bytes * 128 / 8193, 1);
}

/* Two attentions and two dense FFNs a layer; a dense FFN beside the experts; gates of attention;
 * heads of layers that attend to all and of those with a window. By the numbers in those files. */
Test(sim_whole, layers_with_more) {
    const moe_model_shape twice = shape_of("longcat_flash"), beside = shape_of("gemma4_text"),
                          gated = shape_of("beam"), by_head = shape_of("step3p5");
    cr_expect_eq(twice.full, 2 * twice.layers);
    cr_expect_eq(twice.dense_layers, 2 * twice.moe_layers);
    cr_expect(twice.moe_layers == twice.layers && twice.beside == twice.layers);
    cr_expect(beside.dense_layers == beside.layers && beside.beside == beside.moe_layers);
    cr_expect(gated.gate_dim == gated.v_dim && gated.gate_dim > 1 && by_head.gate_dim == 1);
    const char text[] =
        "{\"model_type\":\"mimo_v2_flash\",\"hidden_size\":64,\"num_hidden_layers\":3,"
        "\"intermediate_size\":32,\"moe_intermediate_size\":16,\"n_routed_experts\":8,"
        "\"num_experts_per_tok\":2,\"n_group\":1,\"topk_group\":1,\"vocab_size\":100,"
        "\"num_attention_heads\":8,\"num_key_value_heads\":2,\"head_dim\":24,\"v_head_dim\":16,"
        "\"swa_num_key_value_heads\":4,\"swa_head_dim\":24,\"swa_v_head_dim\":16,"
        "\"sliding_window\":8,\"hybrid_layer_pattern\":[0,1,1],\"moe_layer_freq\":[0,1,1]}";
    char path[TEMPORARY_BYTES];
    moe_model_shape m;
    temporary_file(path, ".json", text, strlen(text));
    cr_assert_eq(moe_model_shape_from_config(path, NULL, &m), MOE_OK);
    temporary_remove(path);
    cr_expect(m.full == 1 && m.windowed == 2 && m.kv_heads == 2 && m.qk_dim == 24 && m.v_dim == 16);
    cr_expect(m.near.kv_heads == 4 && m.near.qk_dim == 24 && m.near.v_dim == 16);
}

/* Weights and cache by hand. */
Test(sim_whole, gates_and_other_heads) {
    const moe_model_run next = {512, 99, MOE_PASS_FWD};
    moe_model_shape m = round_model();
    const moe_model_rest plain = rest_of("cublas", &m, next, 0);
    m.gate_dim = 128;
    const moe_model_rest values = rest_of("cublas", &m, next, 0);
    cr_expect_float_eq(values.param_bytes - plain.param_bytes, 2 * 2. * 8 * 128 * 1024, 1);
    cr_expect_gt(values.us[MOE_PART_PROJECTIONS], plain.us[MOE_PART_PROJECTIONS]);
    m.gate_dim = 1;
    const moe_model_rest heads = rest_of("cublas", &m, next, 0);
    cr_expect_float_eq(heads.param_bytes - plain.param_bytes, 2 * 2. * 8 * 1024, 1);
    m.gate_dim = 0;
    m.full = m.windowed = 1, m.window = 40;
    m.near.kv_heads = 4, m.near.qk_dim = m.near.v_dim = 64;
    const moe_model_rest mixed = rest_of("cublas", &m, next, 0);
    const double near = 2. * ((8 + 4 + 4) * 64 + 8 * 64) * 1024;
    cr_expect_float_eq(plain.param_bytes - mixed.param_bytes, PROJECTIONS - near, 1);
    cr_expect_float_eq(mixed.kv_bytes, 2 * 512 * (100. * 2 * 256 + 40. * 4 * 128), 1);
    m.beside = 1; /* the FFN and the experts share a norm: three of four are left */
    const moe_model_rest beside = rest_of("cublas", &m, next, 0);
    cr_expect_lt(beside.us[MOE_PART_NORMS], mixed.us[MOE_PART_NORMS]);
}

Test(sim_whole, refusals) {
    const moe_model_shape m = round_model();
    const moe_workload state = {0};
    moe_gpu *gpu = load("h100-sxm");
    moe_model_rest rest;
    capture seen;
    const moe_log log = capture_log(&seen);
    const moe_model_run none = {0, 0, MOE_PASS_FWD}, back = {8, 8, MOE_PASS_BOTH};
    cr_expect_eq(moe_predict_rest(gpu, "cublas", &m, &none, &state, &log, &rest), MOE_E_INVALID);
    cr_expect_eq(moe_predict_rest(gpu, "cublas", &m, &back, &state, &log, &rest), MOE_E_INVALID);
    cr_expect(strstr(seen.text, "no backward pass"), "%s", seen.text);
    cr_expect_neq(moe_model_shape_from_config("nowhere.json", &log, &(moe_model_shape){0}), MOE_OK);
    moe_gpu_destroy(&gpu);
}
