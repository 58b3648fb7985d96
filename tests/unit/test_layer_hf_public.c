/* Public models' config.json, cut to the settings of their MoE layers, and what they must be read
 * as. The files come from the model_configs of github.com/ai-dynamo/aiconfigurator (Apache-2.0). */
#include "capture.h"
#include "moeref/case.h"
#include "nemotron.h"
#include "temporary.h"

/* clang-format off */
static const struct {
    const char *name, *text;
    int64_t E, K, d, n, n_shared, groups, topk_groups;
    double scale;
    int64_t with_experts, layers;
} models[] = {
    {"MiniMax-M2.5",
     "{\"model_type\":\"minimax_m2\",\"num_hidden_layers\":62,\"hidden_size\":3072,"
     "\"intermediate_size\":1536,\"num_experts_per_tok\":8,\"num_local_experts\":256,"
     "\"scoring_func\":\"sigmoid\",\"quantization_config\":{}}",
     256, 8, 3072, 1536, 0, 1, 1, 1, 62, 62},
    {"Qwen3-30B-A3B-FP8",
     "{\"hidden_size\":2048,\"intermediate_size\":6144,\"model_type\":\"qwen3_moe\","
     "\"moe_intermediate_size\":768,\"norm_topk_prob\":true,\"num_experts\":128,"
     "\"num_experts_per_tok\":8,\"num_hidden_layers\":48,\"torch_dtype\":\"bfloat16\","
     "\"quantization_config\":{}}",
     128, 8, 2048, 768, 0, 1, 1, 1, 48, 48},
    {"Qwen3-VL-30B-A3B-Instruct",
     "{\"model_type\":\"qwen3_vl_moe\",\"text_config\":{\"dtype\":\"bfloat16\","
     "\"hidden_size\":2048,\"intermediate_size\":6144,\"model_type\":\"qwen3_vl_moe_text\","
     "\"moe_intermediate_size\":768,\"norm_topk_prob\":true,\"num_experts\":128,"
     "\"num_experts_per_tok\":8,\"num_hidden_layers\":48}}",
     128, 8, 2048, 768, 0, 1, 1, 1, 48, 48},
    {"Qwen3.5-122B-A10B",
     "{\"model_type\":\"qwen3_5_moe\",\"text_config\":{\"dtype\":\"bfloat16\","
     "\"hidden_size\":3072,\"model_type\":\"qwen3_5_moe_text\",\"moe_intermediate_size\":1024,"
     "\"num_experts\":256,\"num_experts_per_tok\":8,\"num_hidden_layers\":48,"
     "\"shared_expert_intermediate_size\":1024}}",
     256, 8, 3072, 1024, 1024, 1, 1, 1, 48, 48},
    {"MiMo-V2-Flash",
     "{\"model_type\":\"mimo_v2_flash\",\"num_hidden_layers\":48,\"hidden_size\":4096,"
     "\"intermediate_size\":16384,\"moe_layer_freq\":[0,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
     "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"moe_intermediate_size\":2048,"
     "\"n_routed_experts\":256,\"n_shared_experts\":null,\"num_experts_per_tok\":8,"
     "\"norm_topk_prob\":true,\"scoring_func\":\"sigmoid\",\"n_group\":1,\"topk_group\":1,"
     "\"topk_method\":\"noaux_tc\",\"routed_scaling_factor\":null,"
     "\"torch_dtype\":\"bfloat16\",\"quantization_config\":{}}",
     256, 8, 4096, 2048, 0, 1, 1, 1, 47, 48},
    {"DeepSeek-V3",
     "{\"first_k_dense_replace\":3,\"hidden_size\":7168,\"intermediate_size\":18432,"
     "\"model_type\":\"deepseek_v3\",\"moe_intermediate_size\":2048,\"moe_layer_freq\":1,"
     "\"n_group\":8,\"n_routed_experts\":256,\"n_shared_experts\":1,\"norm_topk_prob\":true,"
     "\"num_experts_per_tok\":8,\"num_hidden_layers\":61,\"quantization_config\":{},"
     "\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\",\"topk_group\":4,"
     "\"topk_method\":\"noaux_tc\",\"torch_dtype\":\"bfloat16\"}",
     256, 8, 7168, 2048, 2048, 8, 4, 2.5, 58, 61},
    {"DeepSeek-V4-Flash",
     "{\"hidden_size\":4096,\"model_type\":\"deepseek_v4\",\"moe_intermediate_size\":2048,"
     "\"n_routed_experts\":256,\"n_shared_experts\":1,\"norm_topk_prob\":true,"
     "\"num_experts_per_tok\":6,\"num_hidden_layers\":43,\"quantization_config\":{},"
     "\"routed_scaling_factor\":1.5,\"scoring_func\":\"sqrtsoftplus\","
     "\"topk_method\":\"noaux_tc\",\"torch_dtype\":\"bfloat16\"}",
     256, 6, 4096, 2048, 2048, 1, 1, 1.5, 43, 43},
    {"gemma-4-26B-A4B",
     "{\"dtype\":\"bfloat16\",\"model_type\":\"gemma4\","
     "\"text_config\":{\"dtype\":\"bfloat16\",\"hidden_activation\":\"gelu_pytorch_tanh\","
     "\"hidden_size\":2816,\"intermediate_size\":2112,\"model_type\":\"gemma4_text\","
     "\"moe_intermediate_size\":704,\"num_experts\":128,\"num_hidden_layers\":30,"
     "\"top_k_experts\":8}}",
     128, 8, 2816, 704, 0, 1, 1, 1, 30, 30},
    {"Llama-4-Scout-17B-16E-Instruct",
     "{\"model_type\":\"llama4\",\"text_config\":{\"hidden_size\":5120,"
     "\"interleave_moe_layer_step\":1,\"intermediate_size\":8192,"
     "\"model_type\":\"llama4_text\",\"num_experts_per_tok\":1,\"num_hidden_layers\":48,"
     "\"num_local_experts\":16,\"torch_dtype\":\"bfloat16\"},\"torch_dtype\":\"bfloat16\"}",
     16, 1, 5120, 8192, 8192, 1, 1, 1, 48, 48},
    {"Kimi-K2-Instruct",
     "{\"first_k_dense_replace\":1,\"hidden_size\":7168,\"intermediate_size\":18432,"
     "\"model_type\":\"kimi_k2\",\"moe_intermediate_size\":2048,\"moe_layer_freq\":1,"
     "\"n_group\":1,\"n_routed_experts\":384,\"n_shared_experts\":1,\"norm_topk_prob\":true,"
     "\"num_experts_per_tok\":8,\"num_hidden_layers\":61,\"quantization_config\":{},"
     "\"routed_scaling_factor\":2.827,\"scoring_func\":\"sigmoid\",\"topk_group\":1,"
     "\"topk_method\":\"noaux_tc\",\"torch_dtype\":\"bfloat16\"}",
     384, 8, 7168, 2048, 2048, 1, 1, 2.827, 60, 61},
    {"NVIDIA-Nemotron-3-Super-120B-A12B-FP8",
     NEMOTRON_SUPER "}",
     512, 22, 1024, 2688, 5376, 1, 1, 5, 40, 88},
    {"gpt-oss-120b",
     "{\"hidden_size\":2880,\"intermediate_size\":2880,\"model_type\":\"gpt_oss\","
     "\"num_experts_per_tok\":4,\"num_hidden_layers\":36,\"num_local_experts\":128,"
     "\"quantization_config\":{}}",
     128, 4, 2880, 2880, 0, 1, 1, 1, 36, 36},
    {"Step-3.7-Flash",
     "{\"model_type\":\"step3p7\",\"num_hidden_layers\":45,\"hidden_size\":4096,"
     "\"torch_dtype\":\"bfloat16\",\"intermediate_size\":11264,\"first_k_dense_replace\":3,"
     "\"num_experts\":288,\"num_experts_per_tok\":8,\"moe_intermediate_size\":1280,"
     "\"share_expert_dim\":1280,\"n_shared_experts\":1,\"scoring_func\":\"sigmoid\","
     "\"moe_router_scaling_factor\":3.0}",
     288, 8, 4096, 1280, 1280, 1, 1, 3, 42, 45},
    {"GLM-5",
     "{\"dtype\":\"bfloat16\",\"first_k_dense_replace\":3,\"hidden_size\":6144,"
     "\"intermediate_size\":12288,\"moe_intermediate_size\":2048,\"moe_layer_freq\":1,"
     "\"model_type\":\"glm_moe_dsa\",\"n_group\":1,\"n_routed_experts\":256,"
     "\"n_shared_experts\":1,\"norm_topk_prob\":true,\"num_experts_per_tok\":8,"
     "\"num_hidden_layers\":78,\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\","
     "\"topk_group\":1,\"topk_method\":\"noaux_tc\"}",
     256, 8, 6144, 2048, 2048, 1, 1, 2.5, 75, 78},
};
/* clang-format on */

Test(layer_hf_public, sizes_and_choices) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[TEMPORARY_BYTES];
        moe_layer_desc l = {0}, last = {0};
        int32_t dtype = -1;
        int64_t with_experts = 0, layers = 0, seen = 0, hidden = 0;
        temporary_file(path, ".json", models[i].text, strlen(models[i].text));
        cr_assert_eq(moe_layer_from_config(path, NULL, &l, &hidden, &dtype), MOE_OK, "%s",
                     models[i].name);
        cr_expect(l.E == models[i].E && l.K == models[i].K && l.d == models[i].d &&
                      l.n == models[i].n && l.n_shared == models[i].n_shared,
                  "%s: E=%lld K=%lld d=%lld n=%lld shared=%lld", models[i].name, (long long)l.E,
                  (long long)l.K, (long long)l.d, (long long)l.n, (long long)l.n_shared);
        cr_expect(l.router.groups == models[i].groups &&
                      l.router.topk_groups == models[i].topk_groups,
                  "%s: %d of %d groups", models[i].name, l.router.topk_groups, l.router.groups);
        cr_expect(l.router.scale == models[i].scale, "%s: scale %g", models[i].name,
                  l.router.scale);
        cr_expect_eq(dtype, MOE_BF16, "%s", models[i].name);
        cr_expect_eq(moe_layers_from_config(path, NULL, &with_experts, &layers), MOE_OK);
        cr_expect(with_experts == models[i].with_experts && layers == models[i].layers,
                  "%s: %lld of %lld layers", models[i].name, (long long)with_experts,
                  (long long)layers);
        for (int64_t layer = 0; layer < layers; layer++)
            seen += moe_layer_of_config(path, layer, NULL, &last, &hidden) == MOE_OK;
        cr_expect_eq(seen, with_experts, "%s", models[i].name);
        cr_expect_eq(last.n, l.n, "%s", models[i].name);
        temporary_remove(path);
    }
}

/* Hunyuan-A13B's lists, one value a layer. */
Test(layer_hf_public, layers_of_their_own_sizes) {
    static const char text[] =
        "{\"model_type\":\"hunyuan_v1_moe\",\"hidden_size\":64,\"num_hidden_layers\":3,"
        "\"intermediate_size\":[16,24,32],\"num_experts\":8,\"moe_topk\":[1,2,3]}";
    char path[TEMPORARY_BYTES];
    temporary_file(path, ".json", text, strlen(text));
    for (int64_t layer = 0; layer < 3; layer++) {
        moe_layer_desc l = {0};
        int64_t hidden = -1;
        cr_assert_eq(moe_layer_of_config(path, layer, NULL, &l, &hidden), MOE_OK);
        cr_expect_eq(hidden, 0);
        cr_expect(l.n == 16 + 8 * layer && l.K == layer + 1, "n=%lld K=%lld", (long long)l.n,
                  (long long)l.K);
    }
    moe_layer_desc none;
    int64_t hidden;
    cr_expect_eq(moe_layer_of_config(path, 3, NULL, &none, &hidden), MOE_E_NOTFOUND);
    temporary_remove(path);
}

static void expect_projected(const char *text, const char *said) {
    char path[TEMPORARY_BYTES];
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_layer_desc first = {0}, l = {0};
    int64_t hidden = 0, of_layer = 0;
    int32_t dtype;
    temporary_file(path, ".json", text, strlen(text));
    cr_assert_eq(moe_layer_from_config(path, &log, &first, &hidden, &dtype), MOE_OK);
    cr_expect(first.d == 16 && hidden == 64, "%s: d=%lld hidden=%lld", text, (long long)first.d,
              (long long)hidden);
    cr_expect_eq(seen.messages, *said ? 1 : 0, "%s", seen.text);
    cr_expect(strstr(seen.text, said), "%s", seen.text);
    cr_assert_eq(moe_layer_of_config(path, 1, NULL, &l, &of_layer), MOE_OK);
    cr_expect(l.d == 16 && of_layer == 64);
    temporary_remove(path);
}

/* Experts of Nemotron-3-Super and Muse Spark are narrower than the model: d is theirs. */
Test(layer_hf_public, experts_between_projections) {
    expect_projected(
        "{\"model_type\":\"nemotron_h\",\"hidden_size\":64,\"moe_latent_size\":16,"
        "\"moe_intermediate_size\":32,\"moe_shared_expert_intermediate_size\":32,"
        "\"mlp_hidden_act\":\"relu2\",\"n_routed_experts\":8,\"num_experts_per_tok\":2,"
        "\"hybrid_override_pattern\":\"ME\",\"num_hidden_layers\":2,"
        "\"dtype\":\"bfloat16\"}",
        "");
    expect_projected("{\"model_type\":\"muse_spark_text\",\"hidden_size\":64,"
                     "\"moe_hidden_size\":16,\"moe_intermediate_size\":32,\"num_experts\":8,"
                     "\"num_experts_per_tok\":2,\"num_hidden_layers\":2,"
                     "\"output_multiplier\":1,\"post_norm_eps\":1e-6,"
                     "\"dtype\":\"bfloat16\"}",
                     "without norms around the experts");
}
