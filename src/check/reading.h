/* One way to read a subject: an arithmetic and the rounding points of a recipe. */
#ifndef MOE_CHECK_READING_H
#define MOE_CHECK_READING_H

#include "moeref/recipe.h"

typedef struct moe_int_reading {
    moe_dtype arithmetic;
    uint32_t points; /* moe_point bits */
} moe_int_reading;

#endif
