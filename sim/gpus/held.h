/* Internal: what the numbers of a description were held to, and the intervals that follow. */
#ifndef MOE_SIM_HELD_H
#define MOE_SIM_HELD_H

#include "sim/gpus/params.h"

/* Of a layer of that size by a system, or of a dense product of that type; "" for nothing. Lives as
 * long as `gpu`. */
const char *moe_int_held_to(const moe_gpu *gpu, moe_int_system system, bool layer, int32_t storage,
                            moe_int_size size);

/* Intervals are those of 16 bits; other types get that of what was never measured. */
moe_int_spread moe_int_spread_of(const moe_gpu *gpu, moe_int_system system, int32_t storage,
                                 moe_int_size size);

/* A description's own words on it: types that there are, and texts. */
moe_status moe_int_held_check(const moe_int_json *root);

/* Puts what a fit has found since loading into a description. True: no memory. */
bool moe_int_held_put(const moe_gpu *gpu, json_t *root, const char *source);

#endif
