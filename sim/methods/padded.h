/* Internal: rows of all experts where each expert's are padded to tiles of 128. */
#ifndef MOE_SIM_PADDED_H
#define MOE_SIM_PADDED_H

#include "sim/kernels/list.h"

static inline double moe_int_padded_rows(const moe_int_list *l) {
    double rows = 0;
    for (int64_t e = 0; e < (int64_t)l->E; e++)
        rows += 128 * (double)((l->counts[e] + 127) / 128);
    return rows;
}

#endif
