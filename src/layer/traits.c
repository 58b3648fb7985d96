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
