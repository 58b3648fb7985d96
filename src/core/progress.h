/* Telling how far something long is. */
#ifndef MOE_CORE_PROGRESS_H
#define MOE_CORE_PROGRESS_H

#include "moeref/status.h"

static inline void moe_int_progress(const moe_progress *to, const char *phase, int64_t done,
                                    int64_t of) {
    if (to && to->fn)
        to->fn(to->user, phase, done, of);
}

#endif
