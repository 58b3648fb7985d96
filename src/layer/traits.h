/* Internal: what the library has to know of each activation and each selection, one row a value.
 * The first entry is its word in the case grammar. A value of layer.h without a row here does not
 * compile. */
#ifndef MOE_LAYER_TRAITS_H
#define MOE_LAYER_TRAITS_H

#include "moeref/layer.h"

#include <stdbool.h>

/* clang-format off */

/* ROW(word, value, gated, sigmoid, clamps) */
#define MOE_INT_ACTS(ROW)                                                                         \
    ROW("swiglu", MOE_ACT_SWIGLU, true, true, false) ROW("geglu", MOE_ACT_GEGLU, true, false, false)                         \
    ROW("reglu", MOE_ACT_REGLU, true, false, false) ROW("swiglu_clamp", MOE_ACT_SWIGLU_CLAMP, true, true, true)             \
    ROW("relu2", MOE_ACT_RELU2, false, false, false) ROW("relu", MOE_ACT_RELU, false, false, false)                           \
    ROW("gelu", MOE_ACT_GELU, false, false, false) ROW("silu", MOE_ACT_SILU, false, true, false)                           \
    ROW("swiglu_limit", MOE_ACT_SWIGLU_LIMIT, true, true, true)                                               \
    ROW("swiglu_limit_after", MOE_ACT_SWIGLU_LIMIT_AFTER, true, true, true)                                   \
    ROW("geglu_tanh", MOE_ACT_GEGLU_TANH, true, true, false)                                                   \
    ROW("swiglu_softcap", MOE_ACT_SWIGLU_SOFTCAP, true, true, false)

/* ROW(word, value, pairs, other_tokens) */
#define MOE_INT_SELECTS(ROW)                                                                      \
    ROW("topk", MOE_SELECT_TOPK, MOE_INT_PAIRS_PER_TOKEN, false)                                  \
    ROW("group_topk", MOE_SELECT_GROUP_TOPK, MOE_INT_PAIRS_PER_TOKEN, false)                      \
    ROW("expert_choice", MOE_SELECT_EXPERT_CHOICE, MOE_INT_PAIRS_PER_EXPERT, true)                \
    ROW("capacity", MOE_SELECT_CAPACITY, MOE_INT_PAIRS_FREE, true)                                \
    ROW("token_rounding", MOE_SELECT_TOKEN_ROUNDING, MOE_INT_PAIRS_FREE, true)                    \
    ROW("group_max", MOE_SELECT_GROUP_MAX, MOE_INT_PAIRS_PER_TOKEN, false)                        \
    ROW("group_zero", MOE_SELECT_GROUP_ZERO, MOE_INT_PAIRS_PER_TOKEN, false)

/* clang-format on */

/* How many pairs a selection makes. */
typedef enum moe_int_pairs_rule {
    MOE_INT_PAIRS_PER_TOKEN,  /* K of every token */
    MOE_INT_PAIRS_PER_EXPERT, /* as many of every expert */
    MOE_INT_PAIRS_FREE        /* the logits decide */
} moe_int_pairs_rule;

typedef struct moe_int_act_traits {
    const char *name;
    bool gated;   /* 2n pre-activations: gates and ups */
    bool sigmoid; /* phi(g) is g times a sigmoid, or as good as that */
    bool clamps;  /* up lies between -limit and limit */
} moe_int_act_traits;

typedef struct moe_int_select_traits {
    const char *name;
    moe_int_pairs_rule pairs;
    bool other_tokens; /* a token's experts depend on the other tokens' scores */
} moe_int_select_traits;

extern const moe_int_act_traits moe_int_acts[MOE_ACT_COUNT];
extern const moe_int_select_traits moe_int_select_rules[MOE_SELECT_COUNT];

/* Is `select` one of those that keep the best groups of experts? */
static inline bool moe_int_has_groups(int32_t select) {
    return select == MOE_SELECT_GROUP_TOPK || select == MOE_SELECT_GROUP_MAX ||
           select == MOE_SELECT_GROUP_ZERO;
}

/* Is it a matrix of experts, routed or shared (W1, W2), or the gradient of one? */
bool moe_int_is_weight(moe_tensor_id id);

/* Is it the gradient of a parameter of experts, biases included? */
bool moe_int_is_expert_gradient(moe_tensor_id id);

/* Does every token get K pairs of real experts, whatever the logits are? */
bool moe_int_pairs_are_known(const moe_layer_desc *desc);

#endif
