/* Which layers of a model have experts, and which attend: every way in which families say it, as
 * Transformers' modeling files read it. */
#include "capture.h"
#include "moeref/whole.h"
#include "temporary.h"

/* clang-format off */
#define MODEL(type, more)                                                                          \
    "{\"model_type\":\"" type "\",\"hidden_size\":64,\"moe_intermediate_size\":16,"                \
    "\"intermediate_size\":32,\"num_experts\":8,\"num_experts_per_tok\":2,\"vocab_size\":100,"     \
    "\"num_attention_heads\":4,\"shared_expert_intermediate_size\":16," more "}"
#define EIGHT "\"num_hidden_layers\":8"

static const struct {
    const char *text;
    const char *layers; /* E: experts, one letter a layer */
    int64_t full, windowed, dense, unknown;
} models[] = {
    {MODEL("qwen3_moe", EIGHT), "EEEEEEEE", 8, 0, 0, 0},
    /* Steps that count from 1, and layers left out. */
    {MODEL("qwen3_moe", EIGHT ",\"decoder_sparse_step\":2,\"mlp_only_layers\":[3]"), ".E...E.E",
     8, 0, 5, 0},
    {MODEL("llama4_text", EIGHT ",\"interleave_moe_layer_step\":4"), "...E...E", 8, 0, 6, 0},
    /* By number, whatever the step; attention in chunks reaches no further than one. */
    {MODEL("llama4_text", EIGHT ",\"interleave_moe_layer_step\":1,\"moe_layers\":[1,6],"
           "\"attention_chunk_size\":16,\"layer_types\":[\"chunked_attention\","
           "\"chunked_attention\",\"chunked_attention\",\"full_attention\",\"chunked_attention\","
           "\"chunked_attention\",\"chunked_attention\",\"full_attention\"]"),
     ".E....E.", 2, 6, 6, 0},
    {MODEL("step3p5", EIGHT ",\"share_expert_dim\":16,\"moe_layers_enum\":\"3,4, 7\""), "...EE..E",
     8, 0, 5, 0},
    /* Dense ones first; DeepSeek's step counts from 0. */
    {MODEL("afmoe", EIGHT ",\"num_dense_layers\":2"), "..EEEEEE", 8, 0, 2, 0},
    {MODEL("deepseek_v2", EIGHT ",\"first_k_dense_replace\":1,\"moe_layer_freq\":3"), "...E..E.",
     8, 0, 6, 0},
    {MODEL("mimo_v2_flash", EIGHT ",\"moe_layer_freq\":[0,1,1,0,0,0,0,1]"), ".EE....E", 8, 0, 5, 0},
    /* Ernie's from one layer to another, or to the end, every second. */
    {MODEL("ernie4_5_moe", EIGHT ",\"moe_layer_start_index\":1,\"moe_layer_end_index\":-1,"
           "\"moe_layer_interval\":1"), ".EEEEEEE", 8, 0, 1, 0},
    {MODEL("ernie4_5_moe", EIGHT ",\"moe_layer_start_index\":2,\"moe_layer_end_index\":6,"
           "\"moe_layer_interval\":2"), "...E.E..", 8, 0, 6, 0},
    {MODEL("ernie4_5_moe", EIGHT ",\"moe_layer_start_index\":-3,\"moe_layer_end_index\":1"),
     "EE......", 8, 0, 6, 0},
    /* Jamba's every second from the one at an offset; of eight one attends, and types of layers
     * beside them name no experts. */
    {MODEL("jamba", EIGHT ",\"expert_layer_period\":2,\"expert_layer_offset\":1,"
           "\"attn_layer_period\":8,\"attn_layer_offset\":4"), ".E.E.E.E", 1, 0, 4, 7},
    {MODEL("jamba", "\"layers_block_type\":[\"mamba\",\"attention\",\"mamba\",\"mamba\"],"
           "\"expert_layer_period\":4,\"expert_layer_offset\":2"), "..E.", 4, 0, 3, 0},
    /* Nemotron-H's layers are one thing each: a list, which tells their number, or a pattern. */
    {MODEL("nemotron_h", "\"moe_shared_expert_intermediate_size\":16,\"mlp_hidden_act\":\"relu2\","
           "\"layers_block_type\":[\"linear_attention\",\"moe\",\"full_attention\",\"mlp\",\"moe\"]"),
     ".E..E", 1, 0, 1, 1},
    {MODEL("nemotron_h", EIGHT ",\"moe_shared_expert_intermediate_size\":16,"
           "\"mlp_hidden_act\":\"relu2\",\"hybrid_override_pattern\":\"MEM*EM-E\""), ".E..E..E",
     1, 0, 1, 3},
    /* Types of attention: to all, to a window, and such as are not modelled. */
    {MODEL("granitemoehybrid", "\"num_hidden_layers\":4,\"layer_types\":[\"mamba\",\"attention\","
           "\"mamba\",\"mamba\"],\"shared_intermediate_size\":16"), "EEEE", 1, 0, 0, 3},
    {MODEL("deepseek_v32", "\"num_hidden_layers\":3,\"first_k_dense_replace\":1,"
           "\"mlp_layer_types\":[\"dense\",\"sparse\",\"sparse\"],\"layer_types\":["
           "\"indexed_attention\",\"indexed_attention\",\"full_attention\"]"), ".EE", 1, 0, 1, 2},
    {MODEL("mimo_v2_flash", EIGHT ",\"sliding_window\":4,"
           "\"hybrid_layer_pattern\":[0,1,1,1,1,0,1,1]"), "EEEEEEEE", 2, 6, 0, 0},
    {MODEL("deepseek_v4", "\"num_hidden_layers\":3,\"sliding_window\":4,"
           "\"compress_ratios\":[0,4,128,0]"), "EEE", 0, 1, 0, 2},
    {MODEL("kimi_linear", EIGHT ",\"linear_attn_config\":{\"full_attn_layers\":[4,8],"
           "\"kda_layers\":[1,2,3,5,6,7]}"), "EEEEEEEE", 2, 0, 0, 6},
    {MODEL("bailing_hybrid", EIGHT ",\"layer_group_size\":4"), "EEEEEEEE", 2, 0, 0, 6},
    {MODEL("afmoe", EIGHT ",\"sliding_window\":4,\"global_attn_every_n_layers\":4"),
     "EEEEEEEE", 2, 6, 0, 0},
    {MODEL("exaone_moe", EIGHT ",\"sliding_window\":4,\"sliding_window_pattern\":\"LLLG\""),
     "EEEEEEEE", 8, 0, 0, 0},
    {MODEL("qwen3_moe", "\"num_hidden_layers\":2,\"mlp_layer_types\":[\"dense\",\"dense\"]"), "..",
     2, 0, 2, 0},
    /* Ernie VL's lists are of text and images, not of layers. */
    {"{\"model_type\":\"ernie4_5_vl_moe\",\"text_config\":{\"model_type\":"
     "\"ernie4_5_vl_moe_text\",\"hidden_size\":64,\"moe_intermediate_size\":[16,8],"
     "\"moe_num_experts\":[8,8],\"moe_k\":2,\"vocab_size\":100,\"num_attention_heads\":4,"
     "\"mlp_layer_types\":[\"dense\",\"sparse\",\"sparse\",\"sparse\"],"
     "\"num_hidden_layers\":4}}", ".EEE", 4, 0, 1, 0},
    /* A type of its own around a text model's of the same name. */
    {"{\"model_type\":\"step3p7\",\"text_config\":"
     MODEL("step3p5", "\"num_hidden_layers\":3,\"share_expert_dim\":16,"
           "\"mlp_layer_types\":[\"dense\",\"sparse\",\"sparse\"]") "}", ".EE", 3, 0, 1, 0},
};
/* clang-format on */

static void expect_layers(const char *path, const char *text, const char *layers) {
    for (int64_t i = 0; i <= (int64_t)strlen(layers); i++) {
        moe_layer_desc l = {0};
        int64_t hidden;
        const moe_status status = moe_layer_of_config(path, i, NULL, &l, &hidden);
        cr_expect_eq(status, layers[i] == 'E' ? MOE_OK : MOE_E_NOTFOUND, "layer %d of %s", (int)i,
                     text);
        cr_expect(status || (l.E == 8 && (l.n == 16 || l.n == 32)), "layer %d of %s", (int)i, text);
    }
}

Test(layer_hf_layers, which_have_experts) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[TEMPORARY_BYTES];
        temporary_file(path, ".json", models[i].text, strlen(models[i].text));
        expect_layers(path, models[i].text, models[i].layers);
        temporary_remove(path);
    }
}

Test(layer_hf_layers, which_attend) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[TEMPORARY_BYTES];
        moe_model_shape m = {0};
        temporary_file(path, ".json", models[i].text, strlen(models[i].text));
        cr_expect_eq(moe_model_shape_from_config(path, NULL, &m), MOE_OK, "%s", models[i].text);
        cr_expect(m.full == models[i].full && m.windowed == models[i].windowed &&
                      m.dense_layers == models[i].dense && m.unknown == models[i].unknown,
                  "full %d windowed %d dense %d unknown %d: %s", (int)m.full, (int)m.windowed,
                  (int)m.dense_layers, (int)m.unknown, models[i].text);
        temporary_remove(path);
    }
}

/* What a shape's sums would be wrong by is said: attention by an index, heads that are none. */
Test(layer_hf_layers, what_attention_is_not) {
    static const struct {
        const char *text, *said;
        moe_status status;
    } rows[] = {{MODEL("glm_moe_dsa", "\"num_hidden_layers\":3,\"index_topk\":2048"),
                 "attention to 2048 tokens that an index chooses is counted as attention to all",
                 MOE_OK},
                {MODEL("qwen3_moe", "\"num_hidden_layers\":3,\"head_dim\":0"),
                 "4 heads of attention, 4 of keys, 0 and 0 wide, are none", MOE_E_FORMAT},
                {MODEL("qwen3_moe", "\"num_hidden_layers\":3,\"num_key_value_heads\":0"),
                 "4 heads of attention, 0 of keys", MOE_E_FORMAT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[TEMPORARY_BYTES];
        capture seen;
        const moe_log log = capture_log(&seen);
        moe_model_shape m = {0};
        temporary_file(path, ".json", rows[i].text, strlen(rows[i].text));
        cr_expect_eq(moe_model_shape_from_config(path, &log, &m), rows[i].status);
        cr_expect(seen.messages == 1 && strstr(seen.text, rows[i].said), "'%s' lacks '%s'",
                  seen.text, rows[i].said);
        temporary_remove(path);
    }
}

/* A number that counts one of two stacks is not taken for all. */
Test(layer_hf_layers, two_stacks_are_refused) {
    static const char text[] =
        "{\"model_type\":\"switch_transformers\",\"d_model\":64,\"d_ff\":32,\"num_experts\":8,"
        "\"num_layers\":12,\"num_decoder_layers\":12,\"expert_capacity\":64,"
        "\"is_encoder_decoder\":true}";
    char path[TEMPORARY_BYTES];
    capture seen;
    const moe_log log = capture_log(&seen);
    int64_t moe, all;
    temporary_file(path, ".json", text, strlen(text));
    cr_expect_eq(moe_layers_from_config(path, &log, &moe, &all), MOE_E_UNSUPPORTED);
    cr_expect(strstr(seen.text, "an encoder and a decoder"), "%s", seen.text);
    temporary_remove(path);
}
