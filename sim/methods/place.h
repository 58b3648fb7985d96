/* Internal: which group of GPUs gets which expert. */
#ifndef MOE_SIM_METHODS_PLACE_H
#define MOE_SIM_METHODS_PLACE_H

#include <stdint.h>

/* Equal numbers of experts (as equal as E allows) for each of `groups`, so that the most pairs that
 * a group has are few: the heaviest expert to the lightest group with room, then swaps while one
 * helps. */
void moe_int_place(const int64_t *counts, int64_t E, int64_t groups, int32_t *owner);

/* The most pairs that a group has. */
int64_t moe_int_place_most(const int64_t *counts, const int32_t *owner, int64_t E, int64_t groups);

#endif
