#include "check/routing/reading.h"

bool moe_int_is_low(moe_dtype arithmetic) {
    return arithmetic == MOE_BF16 || arithmetic == MOE_F16;
}

uint32_t moe_int_recipe_points(const moe_check_params *params) {
    const moe_recipe *named = params->recipe ? moe_recipe_find(params->recipe) : NULL;
    size_t count;
    return named ? named->points : moe_recipes(&count)->points;
}
