/* Under which names a file has the pieces of a layer. */
#include "hf/keys.h"
#include "hf/parts.h"

#include <stdio.h>
#include <string.h>

static const struct {
    moe_tensor_id param;
    moe_int_rows_of rows;
} parts[MOE_INT_PART_COUNT] = {
    [MOE_INT_PART_ROUTER] = {MOE_T_W_R, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_ROUTER_BIAS] = {MOE_T_B_R, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_SELECT_BIAS] = {MOE_T_B_SELECT, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_GATE_UP] = {MOE_T_W1, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_GATE] = {MOE_T_W1, MOE_INT_ROWS_FIRST_HALF},
    [MOE_INT_PART_UP] = {MOE_T_W1, MOE_INT_ROWS_SECOND_HALF},
    [MOE_INT_PART_DOWN] = {MOE_T_W2, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_GATE_UP_BIAS] = {MOE_T_B1, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_DOWN_BIAS] = {MOE_T_B2, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_SHARED_GATE_UP] = {MOE_T_W1_SHARED, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_SHARED_GATE] = {MOE_T_W1_SHARED, MOE_INT_ROWS_FIRST_HALF},
    [MOE_INT_PART_SHARED_UP] = {MOE_T_W1_SHARED, MOE_INT_ROWS_SECOND_HALF},
    [MOE_INT_PART_SHARED_DOWN] = {MOE_T_W2_SHARED, MOE_INT_ROWS_ALL},
    [MOE_INT_PART_SHARED_SIGMOID] = {MOE_T_W_GATE_SHARED, MOE_INT_ROWS_ALL},
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
