/* config.json of every family, and everything that can be wrong with one. */
#include "capture.h"
#include "hf/hf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *golden(const char *family, const char *file) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/golden/hf/%s/%s", getenv("MOEREF_SOURCE_ROOT"), family, file);
    return path;
}

/* What is read out of twelve golden files; everything else keeps its default. */
typedef struct expected_layer {
    const char *family;
    int64_t d, n, E, K, n_zero, n_shared;
    int shared_gate, expert_bias, router_bias, select_bias, renorm;
    int32_t act, glu, score, select, on, groups, topk_groups;
    double eps, jitter;
} expected_layer;

static const expected_layer layers[] = {
    {.family = "mixtral", .d = 96, .n = 80, .E = 8, .K = 3, .renorm = 1},
    {.family = "qwen2_moe",
     .d = 64,
     .n = 32,
     .E = 16,
     .K = 2,
     .renorm = 1,
     .n_shared = 56,
     .shared_gate = 1},
    {.family = "qwen3_moe", .d = 128, .n = 32, .E = 16, .K = 4},
    {.family = "olmoe", .d = 64, .n = 80, .E = 16, .K = 3, .renorm = 1},
    {.family = "deepseek_v3",
     .d = 96,
     .n = 48,
     .E = 24,
     .K = 2,
     .renorm = 1,
     .eps = 1e-20,
     .n_shared = 96,
     .select_bias = 1,
     .score = MOE_SCORE_SIGMOID,
     .select = MOE_SELECT_GROUP_TOPK,
     .groups = 4,
     .topk_groups = 2},
    {.family = "minimax_m2",
     .d = 64,
     .n = 112,
     .E = 16,
     .K = 3,
     .renorm = 1,
     .select_bias = 1,
     .score = MOE_SCORE_SIGMOID},
    {.family = "gpt_oss",
     .d = 64,
     .n = 80,
     .E = 16,
     .K = 2,
     .score = MOE_SCORE_SOFTMAX_TOPK,
     .router_bias = 1,
     .expert_bias = 1,
     .act = MOE_ACT_SWIGLU_CLAMP,
     .glu = MOE_GLU_INTERLEAVED},
    {.family = "granitemoe", .d = 96, .n = 112, .E = 16, .K = 2, .score = MOE_SCORE_SOFTMAX_TOPK},
    {.family = "llama4_text",
     .d = 128,
     .n = 80,
     .E = 8,
     .K = 4,
     .score = MOE_SCORE_SIGMOID,
     .on = MOE_WEIGHT_ON_INPUT,
     .n_shared = 80},
    {.family = "longcat_flash", .d = 64, .n = 48, .E = 16, .K = 3, .n_zero = 2, .select_bias = 1},
    {.family = "qwen3_next",
     .d = 128,
     .n = 48,
     .E = 8,
     .K = 4,
     .renorm = 1,
     .n_shared = 56,
     .shared_gate = 1},
    {.family = "phimoe", .d = 96, .n = 80, .E = 16, .K = 2, .score = MOE_SCORE_SPARSEMIXER},
};

Test(layer_hf_config, every_family_is_read) {
    for (size_t n = 0; n < sizeof layers / sizeof *layers; n++) {
        const expected_layer *want = &layers[n];
        moe_layer_desc expected, got;
        int64_t hidden = -1;
        int32_t dtype = -1;
        moe_layer_desc_init(&expected);
        expected.d = want->d;
        expected.n = want->n;
        expected.E = want->E;
        expected.K = want->K;
        expected.n_zero = want->n_zero;
        expected.n_shared = want->n_shared;
        expected.shared_gate = want->shared_gate;
        expected.expert_bias = want->expert_bias;
        expected.act = want->act;
        expected.glu_layout = want->glu;
        moe_router_desc *r = &expected.router;
        r->score = want->score;
        r->select = want->select;
        r->weight_on = want->on;
        r->bias = want->router_bias;
        r->select_bias = want->select_bias;
        r->renorm = want->renorm;
        r->renorm_eps = want->eps;
        if (want->groups) {
            r->groups = want->groups;
            r->topk_groups = want->topk_groups;
        }
        cr_assert_eq(
            moe_layer_from_config(golden(want->family, "config.json"), NULL, &got, &hidden, &dtype),
            MOE_OK, "%s", want->family);
        cr_expect_eq(memcmp(&got, &expected, sizeof got), 0, "%s", want->family);
        cr_expect_eq(dtype, MOE_BF16);
        cr_expect_eq(hidden, 0);
    }
}

static moe_status parse(const char *text, capture *seen, moe_int_hf_config *ret) {
    moe_log log = capture_log(seen);
    return moe_int_hf_config_parse(text, strlen(text), "config.json", -1, &log, ret);
}

static void assert_refused(const char *text, moe_status want, const char *needle) {
    capture seen;
    moe_int_hf_config untouched, config;
    memset(&untouched, 0xa5, sizeof untouched);
    memcpy(&config, &untouched, sizeof config);
    moe_status status = parse(text, &seen, &config);
    cr_expect_eq(status, want, "%s: status %d, %s", text, status, seen.text);
    cr_expect_eq(seen.messages, 1, "%s: %d messages", text, seen.messages);
    cr_expect(strstr(seen.text, needle), "%s: no \"%s\" in: %s", text, needle, seen.text);
    cr_expect(strstr(seen.text, "config.json"), "%s: which file? %s", text, seen.text);
    cr_expect_eq(memcmp(&config, &untouched, sizeof config), 0);
}

#define MIXTRAL_AS(family, extra)                                                                  \
    "{\"model_type\":\"" family "\",\"hidden_size\":32,\"intermediate_size\":16,"                  \
    "\"num_local_experts\":8,\"num_experts_per_tok\":2" extra "}"
#define MIXTRAL(extra) MIXTRAL_AS("mixtral", extra)
#define DEEPSEEK(extra)                                                                            \
    "{\"model_type\":\"deepseek_v3\",\"hidden_size\":32,\"moe_intermediate_size\":16,"             \
    "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"n_group\":4,\"topk_group\":2,"             \
    "\"routed_scaling_factor\":2.5" extra "}"

#define LIMITED(family, extra)                                                                     \
    "{\"model_type\":\"" family "\",\"hidden_size\":32,\"moe_intermediate_size\":16,"              \
    "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"n_shared_experts\":1" extra "}"

#define STEP(extra)                                                                                \
    "{\"model_type\":\"step3p5\",\"hidden_size\":32,\"moe_intermediate_size\":16,"                 \
    "\"moe_num_experts\":8,\"num_experts_per_tok\":2,\"share_expert_dim\":16" extra "}"

Test(layer_hf_config, errors_name_key_and_file) {
    static const struct {
        const char *text;
        moe_status status;
        const char *needle;
    } wrong[] = {
        {"", MOE_E_FORMAT, "JSON"},
        {"[]", MOE_E_FORMAT, "not an object"},
        {"{\"model_type\":\"mixtral\"", MOE_E_FORMAT, "JSON"},
        {"{}", MOE_E_FORMAT, "\"model_type\" is missing"},
        {"{\"model_type\":3}", MOE_E_FORMAT, "\"model_type\" must be a string"},
        {"{\"model_type\":\"llama\"}", MOE_E_UNSUPPORTED, "known are: mixtral qwen2_moe"},
        {"{\"model_type\":\"\"}", MOE_E_UNSUPPORTED, "not a known family"},
        {"{\"model_type\":\"llava\",\"text_config\":3}", MOE_E_FORMAT, "text_config"},
        {"{\"model_type\":\"llava\",\"text_config\":{}}", MOE_E_UNSUPPORTED, "\"llava\""},
        {"{\"model_type\":\"mixtral\"}", MOE_E_FORMAT, "\"hidden_size\" or \"d_model\" is missing"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":32}", MOE_E_FORMAT,
         "\"intermediate_size\" is missing"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":32,\"intermediate_size\":16}", MOE_E_FORMAT,
         "\"num_local_experts\" or \"num_experts\" or \"n_routed_experts\" or"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_experts\":8}",
         MOE_E_FORMAT, "\"num_experts_per_tok\" or \"moe_topk\" or"},
        {MIXTRAL(",\"hidden_act\":\"tanh\""), MOE_E_UNSUPPORTED, "\"tanh\" is not supported"},
        {MIXTRAL(",\"hidden_act\":null,\"dtype\":\"float8\""), MOE_E_UNSUPPORTED, "\"float8\""},
        {MIXTRAL(",\"dtype\":16"), MOE_E_FORMAT, "\"dtype\" must be a string"},
        {MIXTRAL(",\"hidden_size\":32"), MOE_E_FORMAT, "duplicate"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":\"32\"}", MOE_E_FORMAT,
         "\"hidden_size\" must be an integer, not a string"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":32.0}", MOE_E_FORMAT, "must be an integer"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":-1}", MOE_E_FORMAT, "\"hidden_size\" is -1"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":9999999999999}", MOE_E_FORMAT, "outside"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_local_experts\":4,\"num_experts_per_tok\":5}",
         MOE_E_FORMAT, "K = 5 is outside 1..4"},
        {"{\"model_type\":\"mixtral\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_local_experts\":0,\"num_experts_per_tok\":5}",
         MOE_E_FORMAT, "E = 0"},
        {"{\"model_type\":\"aria_text\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"moe_num_experts\":8,\"moe_topk\":2,\"moe_num_shared_experts\":1,"
         "\"hidden_act\":\"gelu\"}", /* of the shared expert alone */
         MOE_E_UNSUPPORTED, "\"hidden_act\" is \"gelu\"; for this family only \"silu\""},
        {"{\"model_type\":\"doge\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_experts\":16,\"num_experts_per_tok\":2,\"hidden_act\":\"relu2\"}",
         MOE_E_UNSUPPORTED, "\"relu2\" is not supported"}, /* nor has it a form with a gate */
        {"{\"model_type\":\"inkling2_text\",\"hidden_size\":32,\"moe_intermediate_size\":16,"
         "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"scoring_func\":\"tanh\"}",
         MOE_E_UNSUPPORTED, "\"scoring_func\" \"tanh\" is not supported"},
        {DEEPSEEK(",\"scoring_func\":\"softmax\""), MOE_E_UNSUPPORTED,
         "\"scoring_func\" is \"softmax\"; for this family only \"sigmoid\""},
        {DEEPSEEK(",\"topk_method\":\"greedy\""), MOE_E_UNSUPPORTED, "\"noaux_tc\""},
        {DEEPSEEK(",\"norm_topk_prob\":1"), MOE_E_FORMAT, "\"norm_topk_prob\" must be a boolean"},
        {DEEPSEEK(",\"n_shared_experts\":-1"), MOE_E_FORMAT, "\"n_shared_experts\" is -1"},
        {DEEPSEEK(",\"n_shared_experts\":2000000000"), MOE_E_FORMAT, "shared = 32000000000"},
        {"{\"model_type\":\"deepseek_v3\",\"hidden_size\":32,\"moe_intermediate_size\":16,"
         "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"n_group\":3,\"topk_group\":2,"
         "\"routed_scaling_factor\":1}",
         MOE_E_FORMAT, "does not divide"},
        {"{\"model_type\":\"phimoe\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_local_experts\":8}",
         MOE_E_FORMAT, "\"router_jitter_noise\" is missing"},
        {"{\"model_type\":\"gpt_oss\",\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_local_experts\":8,\"num_experts_per_tok\":2,\"hidden_act\":\"gelu\"}",
         MOE_E_UNSUPPORTED, "\"gelu\""},
        {"{\"model_type\":\"longcat_flash\",\"hidden_size\":32,\"expert_ffn_hidden_size\":16,"
         "\"n_routed_experts\":8,\"moe_topk\":2,\"routed_scaling_factor\":1,"
         "\"zero_expert_type\":\"copy\"}",
         MOE_E_UNSUPPORTED, "\"identity\""},
        /* where Transformers 5.24.0 clamps to 0, and every output is 0 */
        {LIMITED("hy_v4", ",\"swiglu_limit\":0.0"), MOE_E_UNSUPPORTED, "\"swiglu_limit\" is 0,"},
        {LIMITED("glm5_next_text", ",\"swiglu_limit\":0"), MOE_E_UNSUPPORTED, "above 0"},
        {LIMITED("deepseek_v4", ",\"swiglu_limit\":-1"), MOE_E_UNSUPPORTED, "is -1, to which"},
        {MIXTRAL_AS("gpt_oss", ",\"swiglu_limit\":0"), MOE_E_FORMAT, "limit > 0"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(wrong[i].text, wrong[i].status, wrong[i].needle);
}

static moe_int_hf_config accepted(const char *text) {
    capture seen;
    moe_int_hf_config config = {0};
    cr_assert_eq(parse(text, &seen, &config), MOE_OK, "%s: %s", text, seen.text);
    return config;
}

Test(layer_hf_config, choices_that_the_file_makes) {
    moe_int_hf_config c = accepted(MIXTRAL(""));
    cr_expect_eq(c.dtype, MOE_BF16, "no dtype means bf16");
    cr_expect(c.layer.act == MOE_ACT_SWIGLU && c.layer.router.renorm == 1);
    cr_expect_eq(accepted(MIXTRAL(",\"torch_dtype\":\"float16\"")).dtype, MOE_F16);
    cr_expect_eq(accepted(MIXTRAL(",\"hidden_act\":\"gelu\"")).layer.act, MOE_ACT_GEGLU);
    cr_expect_eq(accepted(MIXTRAL(",\"hidden_act\":\"relu\"")).layer.act, MOE_ACT_REGLU);
    /* Mixtral's code has no norm_topk_prob. */
    cr_expect_eq(accepted(MIXTRAL(",\"norm_topk_prob\":false")).layer.router.renorm, 1);
    c = accepted(DEEPSEEK(""));
    cr_expect(c.layer.router.scale == 2.5 && c.layer.router.renorm == 1 && c.layer.n_shared == 0);
    c = accepted(DEEPSEEK(",\"norm_topk_prob\":false,\"n_shared_experts\":3"));
    cr_expect(c.layer.router.renorm == 0 && c.layer.n_shared == 48 && !c.layer.shared_gate);
    c = accepted("{\"model_type\":\"olmoe\",\"hidden_size\":32,\"intermediate_size\":16,"
                 "\"num_experts\":8,\"num_experts_per_tok\":2}");
    cr_expect_eq(c.layer.router.renorm, 0);
    c = accepted("{\"model_type\":\"phimoe\",\"hidden_size\":32,\"intermediate_size\":16,"
                 "\"num_local_experts\":8,\"num_experts_per_tok\":7,\"router_jitter_noise\":0.25}");
    cr_expect(c.layer.K == 2 && c.layer.router.jitter == 0.25);
    c = accepted("{\"model_type\":\"gpt_oss\",\"hidden_size\":32,\"intermediate_size\":16,"
                 "\"num_local_experts\":8,\"num_experts_per_tok\":2,\"swiglu_limit\":5.5}");
    cr_expect(c.layer.act_limit == 5.5 && c.layer.act_alpha == 1.702);
    c = accepted("{\"model_type\":\"qwen2_moe\",\"hidden_size\":32,\"moe_intermediate_size\":16,"
                 "\"num_experts\":8,\"num_experts_per_tok\":2,"
                 "\"shared_expert_intermediate_size\":0}");
    cr_expect(c.layer.n_shared == 0 && c.layer.shared_gate == 0);
}

/* As Transformers 5.24.0: a limit of its own where the file says nothing; hy_v4's shared expert has
 * none, and Step 3.5 takes 0 and nothing for none. */
Test(layer_hf_config, limits_of_the_activation) {
    static const struct {
        const char *text;
        double routed, shared;
    } rows[] = {
        {LIMITED("glm5_next_text", ",\"swiglu_limit\":2.5"), 2.5, 2.5},
        {LIMITED("glm5_next_text", ""), 10, 10},
        {LIMITED("deepseek_v4", ""), 10, 10},
        {LIMITED("hy_v4", ""), 10, 1e30},
        {LIMITED("hy_v4", ",\"swiglu_limit\":2.5"), 2.5, 1e30},
        {STEP(""), 1e30, 1e30},
        {STEP(",\"swiglu_limits\":[0,7],\"swiglu_limits_shared\":[16,null]"), 1e30, 16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_layer_desc layer = accepted(rows[i].text).layer;
        cr_expect(layer.act_limit == rows[i].routed && layer.act_alpha == rows[i].shared,
                  "%s: %g, %g", rows[i].text, layer.act_limit, layer.act_alpha);
    }
}

Test(layer_hf_config, the_language_model_of_a_multimodal_one) {
    moe_int_hf_config c =
        accepted("{\"model_type\":\"llama4\",\"dtype\":\"bfloat16\",\"text_config\":"
                 "{\"model_type\":\"llama4_text\",\"hidden_size\":32,\"intermediate_size\":16,"
                 "\"num_local_experts\":8,\"num_experts_per_tok\":1}}");
    cr_expect_str_eq(c.family->model_type, "llama4_text");
    cr_expect(c.layer.d == 32 && c.layer.n_shared == 16 && c.dtype == MOE_BF16);
}

Test(layer_hf_config, files_that_are_not_there) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_layer_desc layer;
    int64_t hidden;
    int32_t dtype;
    cr_expect_eq(moe_layer_from_config("/nonexistent/config.json", &log, &layer, &hidden, &dtype),
                 MOE_E_IO);
    cr_expect(strstr(seen.text, "/nonexistent/config.json"), "%s", seen.text);
}

/* Every prefix of a real file is refused without a crash, and so is every single damaged byte, or
 * it still describes a valid layer. */
Test(layer_hf_config, damaged_files) {
    FILE *file = fopen(golden("deepseek_v3", "config.json"), "rb");
    char text[8192];
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    cr_assert(size > 500 && size < sizeof text);
    moe_int_hf_config config;
    for (size_t n = 0; n + 2 < size; n++)
        cr_assert_eq(moe_int_hf_config_parse(text, n, "cut", -1, NULL, &config), MOE_E_FORMAT);
    for (size_t i = 0; i < size; i++) {
        char keep = text[i];
        text[i] = "\0\"{9-\xff"[i % 6];
        if (moe_int_hf_config_parse(text, size, "damaged", -1, NULL, &config) == MOE_OK)
            cr_assert_eq(moe_layer_desc_check(&config.layer, 1, NULL), MOE_OK);
        text[i] = keep;
    }
}
