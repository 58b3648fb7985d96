/* Guard zones around a buffer that others write: a write outside is seen afterwards. And what the
 * buffer holds before. */
#ifndef MOE_CORE_CANARY_H
#define MOE_CORE_CANARY_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The pattern repeats after 256 bytes. */
enum { MOE_INT_CANARY_BYTES = 4096, MOE_INT_CANARY_PERIOD = 256 };

/* Every byte of it: a NaN in every floating type, which no computation gives. */
enum { MOE_INT_POISON = 0xff };

/* No two neighbouring bytes are alike, so that neither a fill nor a shifted copy passes. */
static inline unsigned char moe_int_canary_at(size_t i) {
    return (unsigned char)(0xa5 ^ (i * 29));
}

static inline void moe_int_canary_set(unsigned char *zone) {
    for (size_t i = 0; i < MOE_INT_CANARY_PERIOD; i++)
        zone[i] = moe_int_canary_at(i);
    for (size_t i = MOE_INT_CANARY_PERIOD; i < MOE_INT_CANARY_BYTES; i += MOE_INT_CANARY_PERIOD)
        memcpy(zone + i, zone, MOE_INT_CANARY_PERIOD);
}

static inline bool moe_int_canary_is_whole(const unsigned char *zone) {
    for (size_t i = 0; i < MOE_INT_CANARY_PERIOD; i++)
        if (zone[i] != moe_int_canary_at(i))
            return false;
    return memcmp(zone, zone + MOE_INT_CANARY_PERIOD,
                  MOE_INT_CANARY_BYTES - MOE_INT_CANARY_PERIOD) == 0;
}

#endif
