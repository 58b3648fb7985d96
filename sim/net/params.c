/* The tables of a node description. A new number is one row here and one in the enum. */
#include "sim/net/params.h"

#include <string.h>

/* clang-format off */
const moe_gpu_param moe_int_node_params[MOE_INT_NP_COUNT] = {
    {"gpus", "", "GPUs of one host, or of one domain of switched links", 1, 1024, 0, .whole = 1},
    {"hosts", "", "hosts", 1, 1024, 0, .whole = 1},
    {"link_gbps", "GB/s", "nominal rate of a GPU's links inside the host, each way", 1, 1e5, 0},
    {"inter_gbps", "GB/s", "nominal rate of a GPU's network adapter, each way; 0: there is none", 0, 1e5, 0},
    {"inter_us", "us", "beyond what a transfer inside the host starts with, to another host", 0, 1000, 1},
};

const moe_gpu_param moe_int_carrier_params[MOE_INT_CP_COUNT] = {
    {"floor_us", "us", "no call is shorter", 0, 1000, 1},
    {"start_us", "us", "launch, handshakes and the first bytes", 0, 1000, 1},
    {"rank_us", "us", "for each rank", 0, 1000, 1},
    {"expert_us", "us", "for each expert: counts and flags", 0, 10, 1},
    {"first_gbps", "GB/s", "rate at which the first row passes through one warp; 0: no matter", 0, 1e4, 1},
    {"ramp", "us/sqrt(MiB)", "channels that open one after another as messages grow", 0, 1000, 1},
    {"fill_us", "us", "work at the start that sender and receiver do in turn, not at once", 0, 1000, 1},
    {"link_eff", "", "share of the nominal link rate", 0.01, 1, 1},
    {"near", "", "of that is lost with few peers: 1 - near/ranks is left", 0, 0.99, 1},
    {"inter_eff", "", "share of the nominal network rate", 0.01, 1, 1},
    {"sm_gbps", "GB/s", "rate at which one SM copies rows; 0: no matter", 0, 1e4, 1},
    {"copy_us", "us", "of an SM for each copy of a row", 0, 100, 1},
    {"visit_us", "us", "of an SM for each token and rank, and once more where it is copied", 0, 100, 1},
    {"token_gbps", "GB/s", "rate at which one SM adds up or writes a token's own row; 0: no matter", 0, 1e4, 1},
    {"local_gbps", "GB/s", "rate of all copies through the GPU's own memory; 0: no matter", 0, 1e5, 1},
    {"sms", "", "SMs that it takes; 0: those of the GPU", 0, 1024, 0, .whole = 1},
    {"gemm_eff", "", "rate of products in kernels that transfer too, against the GPU's own; 0: 1", 0, 2, 1},
};
/* clang-format on */

#define NAME(constant, name, home, what) #name,
const char *const moe_int_carrier_names[MOE_INT_CARRIER_COUNT + 1] = {MOE_INT_CARRIERS(NAME)};

#define HOME(constant, name, home, what) home,
const char *const moe_int_carrier_homes[MOE_INT_CARRIER_COUNT] = {MOE_INT_CARRIERS(HOME)};

moe_int_carrier moe_int_carrier_find(const char *name, size_t length) {
    return (moe_int_carrier)moe_int_described_name(moe_int_carrier_names, name, length);
}

moe_int_numbers moe_int_node_numbers(moe_node *node) {
    return (moe_int_numbers){moe_int_node_params, MOE_INT_NP_COUNT, node->p, node->set_p};
}

moe_int_numbers moe_int_node_numbers_of(moe_node *node, int carrier) {
    return (moe_int_numbers){moe_int_carrier_params, MOE_INT_CP_COUNT, node->c[carrier],
                             node->set_c[carrier]};
}

double *moe_int_node_slot(moe_node *node, const char *key, const moe_gpu_param **ret_info,
                          unsigned char **ret_set) {
    const char *dot = strchr(key, '.');
    if (!dot)
        return moe_int_numbers_slot(moe_int_node_numbers(node), key, ret_info, ret_set);
    const moe_int_carrier c = moe_int_carrier_find(key, (size_t)(dot - key));
    return c == MOE_INT_CARRIER_COUNT ? NULL
                                      : moe_int_numbers_slot(moe_int_node_numbers_of(node, (int)c),
                                                             dot + 1, ret_info, ret_set);
}
