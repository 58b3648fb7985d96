/* Internal: how long a carrier takes to move rows between ranks. */
#ifndef MOE_SIM_NET_TRANSFER_H
#define MOE_SIM_NET_TRANSFER_H

#include "sim/net/params.h"

/* What one rank moves. Bytes to or from others: the larger of what it sends and receives. */
typedef struct moe_int_load {
    double ranks;
    double experts;   /* in all; 0 where none are known */
    double tokens;    /* of the rank itself */
    double copies;    /* rows that it sends, those to itself included */
    double row;       /* bytes of one */
    double token_row; /* bytes of a token as the layer has it */
    double near;      /* bytes over the host's links */
    double far;       /* bytes over the network */
    double sms;       /* that the kernel runs on; 0: the carrier's own number, or the GPU's 132 */
} moe_int_load;

/* us. */
double moe_int_transfer_us(const moe_node *node, moe_int_carrier carrier, const moe_int_load *load);

/* The part of it for which the links are busy: no overlap hides work in it behind other transfers.
 */
double moe_int_transfer_link_us(const moe_node *node, moe_int_carrier carrier,
                                const moe_int_load *load);

/* SMs of the low-latency kernels: groups of warps, one for each expert, are spread over `sms`. */
double moe_int_low_latency_sms(double experts, double sms);

/* NCCL's all-to-all with `bytes` for each pair of ranks; the same, all-gather and reduce-scatter of
 * a buffer of `bytes` in all, and all-reduce of one of `bytes`. */
typedef enum moe_int_collective {
    MOE_INT_ALLTOALL,
    MOE_INT_ALL_GATHER,
    MOE_INT_REDUCE_SCATTER,
    MOE_INT_ALL_REDUCE,
    MOE_INT_COLLECTIVES
} moe_int_collective;

extern const char *const moe_int_collective_names[MOE_INT_COLLECTIVES + 1];

/* What one rank moves in it: `bytes` is its whole send buffer (all-to-all) or the whole buffer. One
 * of every `apart` GPUs takes part; what goes to other hosts is shared by those of one host. */
moe_int_load moe_int_collective_load(const moe_node *node, moe_int_collective op, double ranks,
                                     double apart, double bytes);
double moe_int_collective_apart_us(const moe_node *node, moe_int_collective op, double ranks,
                                   double apart, double bytes);
/* Of neighbours. */
double moe_int_collective_us(const moe_node *node, moe_int_collective op, double ranks,
                             double bytes);

/* Probability that at least one of a token's K experts, out of E, is among `held`, which need not
 * be whole: a rank with a larger share of the load holds more. */
double moe_int_reach(double held, double E, double K);

#endif
