/* Internal: measured tables of transfers: NCCL's collectives, DeepEP's and TensorRT-LLM's kernels.
 */
#ifndef MOE_SIM_NET_TRANSFERS_H
#define MOE_SIM_NET_TRANSFERS_H

#include "sim/net/transfer.h"

/* One measured transfer. */
typedef struct moe_int_moved {
    moe_int_collective op; /* MOE_INT_COLLECTIVES: not one, but the carrier's own kernel */
    moe_int_carrier carrier;
    double bytes; /* of a collective */
    moe_int_load load;
} moe_int_moved;

double moe_int_moved_us(const moe_node *node, const moe_int_moved *moved);

/* What a rank of `ranks`, `here` of them on its host, moves of `tokens` tokens with even routing,
 * one copy for each (token, rank). */
moe_int_load moe_int_even_load(double ranks, double here, double tokens, double E, double K,
                               double row);
/* The same with a copy for each (token, expert). */
moe_int_load moe_int_even_pairs(double ranks, double here, double tokens, double E, double K,
                                double row);

/* What lies in a line of a table: one row, or a dispatch and a combine. */
typedef struct moe_int_measured {
    char kernel[64];
    moe_int_moved moved;
    double us;
    int64_t size;   /* tokens of a rank, or KiB of a collective */
    uint64_t shape; /* what is left out together: a layer's shape, or a collective's size */
} moe_int_measured;

#define MOE_INT_MEASURED_MAX 2

/* Whether a header line is that of such a table. */
bool moe_int_is_transfers(const char *header);

/* Reads a line under that header. `where` ("COLUMN=VALUE,...", or NULL) chooses lines: *ret_count
 * is 0 for others. False: something in it is no number, or is missing. */
bool moe_int_read_transfers(const char *header, const char *line, const char *where,
                            moe_int_measured ret[MOE_INT_MEASURED_MAX], int *ret_count);

#endif
