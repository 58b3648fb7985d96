/* One equation for all carriers; each has the terms that its mechanism has. */
#include "sim/net/transfer.h"
#include "sim/kernels/rates.h"

#include <math.h>

#define OVERLAP  4   /* exponent of the norm that joins link, network and SMs */
#define SMS      132 /* of the GPUs that the carriers were measured on */
#define GB_PER_S 1e3 /* bytes per us */
#define MIB      1048576.0

const char *const moe_int_collective_names[MOE_INT_COLLECTIVES + 1] = {
    "alltoall", "all_gather", "reduce_scatter", "all_reduce"};

/* bytes at a rate of which 0 means that it does not matter. */
static double at_rate(double bytes, double gbps) {
    return gbps > 0 ? bytes / (gbps * GB_PER_S) : 0;
}

double moe_int_transfer_link_us(const moe_node *node, moe_int_carrier carrier,
                                const moe_int_load *load) {
    const double *c = node->c[carrier], *p = node->p;
    const double near = load->near / (p[MOE_INT_NP_LINK] * c[MOE_INT_CP_LINK_EFF] * GB_PER_S *
                                      (1 - c[MOE_INT_CP_NEAR] / load->ranks));
    const double far =
        load->far > 0 ? load->far / (p[MOE_INT_NP_INTER] * c[MOE_INT_CP_INTER_EFF] * GB_PER_S) : 0;
    return moe_int_join(near, far, OVERLAP);
}

/* SM time of the rows, us. */
static double work(const double *c, const moe_int_load *load) {
    const double sms = load->sms > 0             ? load->sms
                       : c[MOE_INT_CP_SMS] > 0.0 ? c[MOE_INT_CP_SMS]
                                                 : SMS;
    const double copy = at_rate(load->row, c[MOE_INT_CP_SM_GBPS]) + c[MOE_INT_CP_COPY_US];
    const double token = at_rate(load->token_row, c[MOE_INT_CP_TOKEN_GBPS]);
    const double visits = load->tokens * load->ranks + load->copies;
    return (load->copies * copy + load->tokens * token + visits * c[MOE_INT_CP_VISIT_US]) / sms;
}

double moe_int_transfer_us(const moe_node *node, moe_int_carrier carrier,
                           const moe_int_load *load) {
    const double *c = node->c[carrier];
    const double start = c[MOE_INT_CP_START_US] + load->ranks * c[MOE_INT_CP_RANK_US] +
                         load->experts * c[MOE_INT_CP_EXPERT_US] +
                         at_rate(load->row, c[MOE_INT_CP_FIRST]) +
                         (load->far > 0 ? node->p[MOE_INT_NP_INTER_US] : 0);
    const double link = moe_int_transfer_link_us(node, carrier, load);
    const double busy = moe_int_join(link, work(c, load), OVERLAP);
    const double fill = c[MOE_INT_CP_FILL_US];
    const double in_turn = fill > 0 ? fill * (1 - exp(-busy / fill)) : 0;
    const double ramp = c[MOE_INT_CP_RAMP] * sqrt((load->near + load->far) / MIB);
    const double local = at_rate(load->copies * load->row, c[MOE_INT_CP_LOCAL_GBPS]);
    return fmax(c[MOE_INT_CP_FLOOR_US], start + ramp + busy + in_turn + local);
}

double moe_int_low_latency_sms(double experts, double sms) {
    return experts > 0 ? ceil(experts / ceil(experts / sms)) : sms;
}

/* Bytes of the buffer that go through a rank's links: 1, or 2 where they go round twice. */
static double rounds(moe_int_collective op) {
    return op == MOE_INT_ALL_REDUCE ? 2 : 1;
}

moe_int_load moe_int_collective_load(const moe_node *node, moe_int_collective op, double ranks,
                                     double apart, double bytes) {
    const double here = fmin(ranks, fmax(1, floor(node->p[MOE_INT_NP_GPUS] / apart)));
    moe_int_load load = {.ranks = ranks};
    if (op == MOE_INT_ALLTOALL) {
        load.near = bytes * (here - 1) / ranks;
        load.far = bytes * (ranks - here) / ranks;
    } else {
        const double round = rounds(op) * bytes * (ranks - 1) / ranks;
        load.near = here > 1 ? round : 0;
        load.far = ranks > here ? round / here : 0;
    }
    return load;
}

double moe_int_collective_apart_us(const moe_node *node, moe_int_collective op, double ranks,
                                   double apart, double bytes) {
    const moe_int_load load = moe_int_collective_load(node, op, ranks, apart, bytes);
    const moe_int_carrier c =
        op == MOE_INT_ALLTOALL ? MOE_INT_CARRIER_ALLTOALL : MOE_INT_CARRIER_RING;
    return ranks < 2 ? 0 : moe_int_transfer_us(node, c, &load);
}

double moe_int_collective_us(const moe_node *node, moe_int_collective op, double ranks,
                             double bytes) {
    return moe_int_collective_apart_us(node, op, ranks, 1, bytes);
}

double moe_int_reach(double held, double E, double K) {
    double none = 1;
    for (int i = 0; i < (int)ceil(K); i++)
        none *= fmax(0, E - held - i) / (E - i);
    return 1 - none;
}
