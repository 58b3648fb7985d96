/* One pass over a failing tensor's elements: which rows and columns of its slices are wrong, and
 * its error maps. */
#ifndef MOE_CHECK_COMPARE_PROFILE_H
#define MOE_CHECK_COMPARE_PROFILE_H

#include "check/compare/compare.h"

/* A slice is what a group is of: a token's or a pair's row (rows 1), an expert's matrix. */
typedef struct moe_int_profile {
    int64_t rows, columns;
    moe_int_group *row, *column; /* [rows], [columns] sums over the failing groups, owned */
} moe_int_profile;

/* Also draws the maps. *ret is to be freed, also on failure. */
moe_status moe_int_profile_make(const moe_int_scene *s, moe_int_profile *ret);
void moe_int_profile_destroy(moe_int_profile *p);

#endif
