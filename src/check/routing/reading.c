#include "check/routing/reading.h"
#include "moeref/ep.h"

bool moe_int_is_low(moe_dtype arithmetic) {
    return arithmetic == MOE_BF16 || arithmetic == MOE_F16;
}

bool moe_int_sends_sums(const moe_problem *problem) {
    return problem->split.ranks > 0 && problem->split.combine == MOE_EP_RANKS;
}

uint32_t moe_int_points_of(const moe_recipe *recipe, const moe_problem *problem) {
    return recipe->points | (moe_int_sends_sums(problem) ? MOE_POINT_ADD_O | MOE_POINT_ADD_DX : 0);
}

uint32_t moe_int_recipe_points(const moe_check_params *params, const moe_problem *problem) {
    const moe_recipe *named = params->recipe ? moe_recipe_find(params->recipe) : NULL;
    size_t count;
    return moe_int_points_of(named ? named : moe_recipes(&count), problem);
}
