/* Internal: which experts' weights stay on the GPU. */
#ifndef MOE_SIM_METHODS_CACHE_H
#define MOE_SIM_METHODS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum moe_int_cache {
    MOE_INT_CACHE_LRU,    /* the least recently used goes */
    MOE_INT_CACHE_BELADY, /* the one whose next use is furthest: no cache misses less */
    MOE_INT_CACHE_MRS,    /* HybriMoE: the least score, S = a * score of now, if it is among the
                             highest, + (1 - a) * S */
    MOE_INT_CACHE_COUNT
} moe_int_cache;

#define MOE_INT_CACHE_EXPERTS 256 /* at most */

/* Misses of `steps` steps that use K experts each, use[steps][K], with `slots` in the cache, which
 * starts empty. scores[steps][E] are the router's, for MRS; slots >= K. -1: sizes are too large. */
int64_t moe_int_cache_misses(moe_int_cache policy, const int32_t *use, const double *scores,
                             int64_t steps, int64_t K, int64_t E, int64_t slots);

#endif
