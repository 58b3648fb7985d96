#include "layer/traits.h"

#define ACT_ROW(word, value, gated, sigmoid, clamps) [value] = {word, gated, sigmoid, clamps},
#define SELECT_ROW(word, value, pairs, other)        [value] = {word, pairs, other},
#define ONE(...)                                     +1

const moe_int_act_traits moe_int_acts[MOE_ACT_COUNT] = {MOE_INT_ACTS(ACT_ROW)};
const moe_int_select_traits moe_int_select_rules[MOE_SELECT_COUNT] = {MOE_INT_SELECTS(SELECT_ROW)};

_Static_assert(0 MOE_INT_ACTS(ONE) == MOE_ACT_COUNT, "one row for every moe_act");
_Static_assert(0 MOE_INT_SELECTS(ONE) == MOE_SELECT_COUNT, "one row for every moe_select");

bool moe_int_pairs_are_known(const moe_layer_desc *desc) {
    return moe_int_select_rules[desc->router.select].pairs == MOE_INT_PAIRS_PER_TOKEN &&
           desc->n_zero == 0;
}

bool moe_int_is_weight(moe_tensor_id id) {
    const moe_tensor_id param = moe_tensor_param_of(id);
    switch ((int)(param == MOE_T_COUNT ? id : param)) {
    case MOE_T_W1:
    case MOE_T_W2:
    case MOE_T_W1_SHARED:
    case MOE_T_W2_SHARED:
        return true;
    default:
        return false;
    }
}

bool moe_int_is_expert_gradient(moe_tensor_id id) {
    const moe_tensor_id param = moe_tensor_param_of(id);
    return param == MOE_T_B1 || param == MOE_T_B2 ||
           (param != MOE_T_COUNT && moe_int_is_weight(id));
}
