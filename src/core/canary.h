/* Guard zones around a buffer that others write: a write outside is seen afterwards. */
#ifndef MOE_CORE_CANARY_H
#define MOE_CORE_CANARY_H

#include <stdbool.h>
#include <stddef.h>

enum { MOE_INT_CANARY_BYTES = 4096 };

/* No two neighbouring bytes are alike, so that neither a fill nor a shifted copy passes. */
static inline unsigned char moe_int_canary_at(size_t i) {
    return (unsigned char)(0xa5 ^ (i * 29));
}

static inline void moe_int_canary_set(unsigned char *zone) {
    for (size_t i = 0; i < MOE_INT_CANARY_BYTES; i++)
        zone[i] = moe_int_canary_at(i);
}

static inline bool moe_int_canary_is_whole(const unsigned char *zone) {
    for (size_t i = 0; i < MOE_INT_CANARY_BYTES; i++)
        if (zone[i] != moe_int_canary_at(i))
            return false;
    return true;
}

#endif
