/* Internal: the named numbers of a node description: GPUs of one or more hosts, the links between
 * them, and what each carrier, a library's kernel that moves rows or buffers, gets out of those. */
#ifndef MOE_SIM_NET_PARAMS_H
#define MOE_SIM_NET_PARAMS_H

#include "moeref/node.h"
#include "sim/gpus/described.h"

#include <jansson.h>

/* The order is that of the table in params.c. */
typedef enum moe_int_np {
    MOE_INT_NP_GPUS,
    MOE_INT_NP_HOSTS,
    MOE_INT_NP_LINK,
    MOE_INT_NP_INTER,
    MOE_INT_NP_INTER_US,
    MOE_INT_NP_COUNT
} moe_int_np;

typedef enum moe_int_cp {
    MOE_INT_CP_FLOOR_US,
    MOE_INT_CP_START_US,
    MOE_INT_CP_RANK_US,
    MOE_INT_CP_EXPERT_US,
    MOE_INT_CP_FIRST,
    MOE_INT_CP_RAMP,
    MOE_INT_CP_FILL_US,
    MOE_INT_CP_LINK_EFF,
    MOE_INT_CP_NEAR,
    MOE_INT_CP_INTER_EFF,
    MOE_INT_CP_SM_GBPS,
    MOE_INT_CP_COPY_US,
    MOE_INT_CP_VISIT_US,
    MOE_INT_CP_TOKEN_GBPS,
    MOE_INT_CP_LOCAL_GBPS,
    MOE_INT_CP_SMS,
    MOE_INT_CP_GEMM_EFF,
    MOE_INT_CP_COUNT
} moe_int_cp;

/* CARRIER(constant, name, home, what): what a description does not say of a carrier are the
 * numbers of the carrier's home, the node that it was measured on. */
/* clang-format off */
#define MOE_INT_CARRIERS(CARRIER)                                                                  \
    CARRIER(ALLTOALL, alltoall, "h100-x8", "NCCL's all-to-all")                                    \
    CARRIER(RING, ring, "h100-x8", "NCCL's all-gather and reduce-scatter, and both as all-reduce") \
    CARRIER(DISPATCH, deepep_dispatch, "h100-x8", "DeepEP's normal dispatch, FP8 rows")            \
    CARRIER(COMBINE, deepep_combine, "h100-x8", "DeepEP's normal combine, bf16 rows")              \
    CARRIER(LL_DISPATCH, ll_dispatch, "h100-x8", "DeepEP's low-latency dispatch, FP8 rows")        \
    CARRIER(LL_COMBINE, ll_combine, "h100-x8", "DeepEP's low-latency combine, bf16 rows")          \
    CARRIER(ONE_DISPATCH, onesided_dispatch, "gb200-x72", "TensorRT-LLM's one-sided dispatch")     \
    CARRIER(ONE_COMBINE, onesided_combine, "gb200-x72", "TensorRT-LLM's one-sided combine")        \
    CARRIER(TWO_DISPATCH, twosided_dispatch, "gb200-x72", "TensorRT-LLM's two-sided dispatch")     \
    CARRIER(TWO_COMBINE, twosided_combine, "gb200-x72", "TensorRT-LLM's two-sided combine")     \
    CARRIER(COMET_GATHER, comet_gather, "h800-x8", "Comet's layer 0: rows come to waiting tiles")  \
    CARRIER(COMET_REDUCE, comet_reduce, "h800-x8", "Comet's layer 1: columns leave as they finish") \
    CARRIER(FLASHMOE, flashmoe, "h100-x8", "FlashMoE's one kernel")                                \
    CARRIER(PEER, peer, "h200-x2", "plain copies into other GPUs' memory, by copy engines")
/* clang-format on */

#define MOE_INT_CARRIER_CONSTANT(constant, name, home, what) MOE_INT_CARRIER_##constant,
typedef enum moe_int_carrier {
    MOE_INT_CARRIERS(MOE_INT_CARRIER_CONSTANT) MOE_INT_CARRIER_COUNT
} moe_int_carrier;

struct moe_node {
    char name[64];
    char gpu[64];
    double p[MOE_INT_NP_COUNT];
    double c[MOE_INT_CARRIER_COUNT][MOE_INT_CP_COUNT];
    bool derived[MOE_INT_CARRIER_COUNT];   /* its file does not say it */
    unsigned char set_p[MOE_INT_NP_COUNT]; /* changed since loading */
    unsigned char set_c[MOE_INT_CARRIER_COUNT][MOE_INT_CP_COUNT];
    json_t *root; /* the file, for writing it again with its sources */
};

extern const moe_gpu_param moe_int_node_params[MOE_INT_NP_COUNT];
extern const moe_gpu_param moe_int_carrier_params[MOE_INT_CP_COUNT];
extern const char *const moe_int_carrier_names[MOE_INT_CARRIER_COUNT + 1];
extern const char *const moe_int_carrier_homes[MOE_INT_CARRIER_COUNT];

/* The carrier of that name, MOE_INT_CARRIER_COUNT for none. */
moe_int_carrier moe_int_carrier_find(const char *name, size_t length);

/* Shipped description files. */
typedef moe_int_file moe_int_node_file;
extern const moe_int_node_file moe_int_node_files[];
extern const char *const moe_int_node_names[]; /* theirs, ending with NULL */

/* Its own numbers, and those of a carrier. */
moe_int_numbers moe_int_node_numbers(moe_node *node);
moe_int_numbers moe_int_node_numbers_of(moe_node *node, int carrier);

/* Where "KEY" or "CARRIER.KEY" lives; NULL when unknown. ret_info and ret_set may be NULL. */
double *moe_int_node_slot(moe_node *node, const char *key, const moe_gpu_param **ret_info,
                          unsigned char **ret_set);

#endif
