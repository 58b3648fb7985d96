/* One way to read a subject: an arithmetic and the rounding points of a recipe. */
#ifndef MOE_CHECK_ROUTING_READING_H
#define MOE_CHECK_ROUTING_READING_H

#include "moeref/check.h"
#include "moeref/recipe.h"

#include <stdbool.h>

typedef struct moe_int_reading {
    moe_dtype arithmetic;
    uint32_t points; /* moe_point bits */
} moe_int_reading;

/* Does the problem lie over ranks that send sums of their experts? Whatever a recipe rounds beside
 * that, such sums are rounded too. */
bool moe_int_sends_sums(const moe_problem *problem);
uint32_t moe_int_points_of(const moe_recipe *recipe, const moe_problem *problem);
/* The points of the recipe that `params` names, or of this project's own. */
uint32_t moe_int_recipe_points(const moe_check_params *params, const moe_problem *problem);
/* bf16 or fp16: only there recipes differ. */
bool moe_int_is_low(moe_dtype arithmetic);

#endif
