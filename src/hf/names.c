/* Under which names a file has the pieces of a layer. */
#include "hf/keys.h"
#include "hf/parts.h"

#include <stdio.h>
#include <string.h>

#define P(part) MOE_INT_PART_##part

/* Names of a linear map's tensor in the four spellings of shared experts. */
#define SHARED(map)                                                                                \
    "shared_experts." map ".weight|shared_expert." map ".weight|shared_mlp." map ".weight"

/* What a row without names of its own has: the spellings of checkpoints, then those of the running
 * model, where they differ. */
static const char *const common[P(COUNT)] = {
    [P(ROUTER)] = "gate.weight|router.weight|router.layer.weight|router.classifier.weight|"
                  "router.gate.weight|gate.wg.weight",
    [P(ROUTER_BIAS)] = "router.bias",
    [P(SELECT_BIAS)] = "gate.e_score_correction_bias|e_score_correction_bias|gate.expert_bias|"
                       "expert_bias|router.e_score_correction_bias|"
                       "moe_statics.e_score_correction_bias|"
                       "gate.moe_statics.e_score_correction_bias|experts.e_score_correction_bias|"
                       "gate.bias",
    [P(GATE_UP)] = "experts.gate_up_proj|experts.gate_up_proj.weight|input_linear.weight|"
                   "experts.fc1.weight",
    [P(GATE)] = "experts.%d.gate_proj.weight|experts.%d.w1.weight|experts.%d.w1",
    [P(UP)] = "experts.%d.up_proj.weight|experts.%d.w3.weight|experts.%d.w3|experts.up_proj",
    [P(DOWN)] = "experts.%d.down_proj.weight|experts.%d.w2.weight|experts.%d.w2|"
                "experts.down_proj|experts.down_proj.weight|output_linear.weight|"
                "experts.fc2.weight",
    [P(GATE_UP_BIAS)] = "experts.gate_up_proj_bias",
    [P(DOWN_BIAS)] = "experts.down_proj_bias",
    [P(SHARED_GATE_UP)] = SHARED("gate_up_proj"),
    [P(SHARED_GATE)] = SHARED("gate_proj") "|" SHARED("linear_gate") "|" SHARED("w1"),
    [P(SHARED_UP)] = SHARED("up_proj") "|" SHARED("w3"),
    [P(SHARED_DOWN)] = SHARED("down_proj") "|" SHARED("w2"),
    [P(SHARED_SIGMOID)] = "shared_expert_gate.weight",
};

const char *moe_int_family_names(const moe_int_family *family, moe_int_part part) {
    return family->names[part] ? family->names[part] : common[part];
}

const char *moe_int_family_module(const moe_int_family *family) {
    return family->module ? family->module : "mlp|block_sparse_moe|feed_forward|ffn|moe";
}

static const struct {
    moe_tensor_id param;
    moe_int_rows_of rows;
} parts[P(COUNT)] = {
    [P(ROUTER)] = {MOE_T_W_R, MOE_INT_ROWS_ALL},
    [P(ROUTER_BIAS)] = {MOE_T_B_R, MOE_INT_ROWS_ALL},
    [P(SELECT_BIAS)] = {MOE_T_B_SELECT, MOE_INT_ROWS_ALL},
    [P(GATE_UP)] = {MOE_T_W1, MOE_INT_ROWS_ALL},
    [P(GATE)] = {MOE_T_W1, MOE_INT_ROWS_FIRST_HALF},
    [P(UP)] = {MOE_T_W1, MOE_INT_ROWS_SECOND_HALF},
    [P(DOWN)] = {MOE_T_W2, MOE_INT_ROWS_ALL},
    [P(GATE_UP_BIAS)] = {MOE_T_B1, MOE_INT_ROWS_ALL},
    [P(DOWN_BIAS)] = {MOE_T_B2, MOE_INT_ROWS_ALL},
    [P(SHARED_GATE_UP)] = {MOE_T_W1_SHARED, MOE_INT_ROWS_ALL},
    [P(SHARED_GATE)] = {MOE_T_W1_SHARED, MOE_INT_ROWS_FIRST_HALF},
    [P(SHARED_UP)] = {MOE_T_W1_SHARED, MOE_INT_ROWS_SECOND_HALF},
    [P(SHARED_DOWN)] = {MOE_T_W2_SHARED, MOE_INT_ROWS_ALL},
    [P(SHARED_SIGMOID)] = {MOE_T_W_GATE_SHARED, MOE_INT_ROWS_ALL},
};

moe_tensor_id moe_int_part_param(moe_int_part part) {
    return parts[part].param;
}

void moe_int_name_spell(const moe_int_part_source *src, const char *word, int64_t expert,
                        char *buf) {
    const char *prefix = *word == '^' ? src->outer : src->prefix;
    const char *name = word + (*word == '^' || *word == '~');
    const char *hole = strstr(name, "%d");
    if (hole)
        snprintf(buf, MOE_INT_NAME_BYTES, "%s%.*s%lld%s", prefix, (int)(hole - name), name,
                 (long long)expert, hole + 2);
    else
        snprintf(buf, MOE_INT_NAME_BYTES, "%s%s", prefix, name);
}

/* Is there a tensor of that spelling? The gradients of an expert without tokens may be missing. */
static bool has_spelling(const moe_int_part_source *src, const char *word) {
    int64_t experts = strstr(word, "%d") && src->gradients ? src->config->layer.E : 1;
    char name[MOE_INT_NAME_BYTES];
    moe_tensor t;
    for (int64_t e = 0; e < experts; e++) {
        moe_int_name_spell(src, word, e, name);
        if (moe_safetensors_get(src->file, name, &t) != MOE_E_NOTFOUND)
            return true;
    }
    return false;
}

bool moe_int_name_find(const moe_int_part_source *src, const char *spellings, char *word) {
    for (const char *next = spellings; next;) {
        next = moe_int_hf_next_word(next, word, MOE_INT_NAME_BYTES);
        if (has_spelling(src, word))
            return true;
    }
    moe_int_hf_next_word(spellings, word, MOE_INT_NAME_BYTES);
    return false;
}

bool moe_int_part_spelling(const moe_int_part_source *src, moe_int_part part, char *word) {
    return moe_int_name_find(src, moe_int_family_names(src->config->family, part), word);
}

bool moe_int_part_present(const moe_int_part_source *src, moe_int_part part) {
    char word[MOE_INT_NAME_BYTES];
    return moe_int_part_spelling(src, part, word);
}

moe_int_rows_of moe_int_part_rows(const moe_int_part_source *src, moe_int_part part) {
    bool up = part == MOE_INT_PART_UP || part == MOE_INT_PART_SHARED_UP;
    return up && !moe_act_is_gated(src->config->layer.act) ? MOE_INT_ROWS_ALL : parts[part].rows;
}

bool moe_int_part_used(const moe_int_part_source *src, moe_int_part part) {
    static const struct {
        moe_int_part fused, gate, up;
    } cuts[] = {
        {MOE_INT_PART_GATE_UP, MOE_INT_PART_GATE, MOE_INT_PART_UP},
        {MOE_INT_PART_SHARED_GATE_UP, MOE_INT_PART_SHARED_GATE, MOE_INT_PART_SHARED_UP},
    };
    char word[MOE_INT_NAME_BYTES];
    if (!moe_tensor_exists(&src->config->layer, parts[part].param, 0))
        return false;
    const bool gated = moe_act_is_gated(src->config->layer.act);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        bool fused = gated && moe_int_part_spelling(src, cuts[i].fused, word);
        if (part == cuts[i].fused)
            return fused;
        if (part == cuts[i].up)
            return !fused;
        if (part == cuts[i].gate)
            return gated && !fused;
    }
    return true;
}

bool moe_int_part_is_per_expert(const moe_int_part_source *src, moe_int_part part) {
    char word[MOE_INT_NAME_BYTES];
    moe_int_part_spelling(src, part, word);
    return strstr(word, "%d") != NULL;
}

const char *moe_int_part_name(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                              char *buf) {
    char word[MOE_INT_NAME_BYTES];
    moe_int_part_spelling(src, part, word);
    moe_int_name_spell(src, word, expert, buf);
    return buf;
}
