/* Comet (Zhang and others, 2025) and Flux: rows arrive by source rank and the first product starts
 * with a rank's own; the second product's columns leave in groups as they finish, by SMs that do
 * nothing else. With tp > 1 all rows come to all ranks; else those that are routed. */
#include "sim/devices/devices.h"

#include <math.h>

#define GROUPS 4 /* of columns */

/* Products fused with transfers are slower than a library's: gemm_eff. */
static double eff(const moe_int_devices *x, moe_int_carrier c) {
    const double e = x->node->c[c][MOE_INT_CP_GEMM_EFF];
    return e > 0 ? e : 1;
}

static moe_int_load load_of(const moe_int_devices *x) {
    moe_int_load load = moe_int_devices_tokens(x, 1, x->d * x->element);
    if (x->tp > 1) {
        load.ranks = x->ranks;
        load.copies = x->T * x->ranks;
        load.near = x->T * (x->here - 1) * load.row;
        load.far = x->T * (x->ranks - x->here) * load.row;
    }
    return load;
}

/* Rows of one source after another: the links bring the next while tiles of the last are
 * multiplied. The start is the kernel's, before anything. */
static int first_layer(moe_int_devices *x, double us, const moe_int_load *load) {
    const moe_int_carrier c = MOE_INT_CARRIER_COMET_GATHER;
    const int sources = (int)load->ranks;
    const double start = x->node->c[c][MOE_INT_CP_START_US];
    const double link = moe_int_transfer_link_us(x->node, c, load);
    int tiles = moe_int_tl_add(&x->t, "launch", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, start, 0,
                               MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    const int launch = tiles;
    for (int s = 0; s < sources; s++) {
        int rows = launch;
        x->t.chunk = s;
        if (s > 0)
            rows = moe_int_devices_send(x, moe_int_pass_name(x, "X of a rank", "dO of a rank"),
                                        load->far > 0, link / (sources - 1),
                                        (load->near + load->far) / (sources - 1), launch);
        tiles = moe_int_tl_add(&x->t, moe_int_pass_name(x, "A", "dH"), MOE_INT_TL_SMS,
                               MOE_INT_TL_COUNT, us / sources, 0, rows, tiles);
    }
    return tiles;
}

/* Senders read a token's rows, add them up and write one to its home; the links may be slower. */
static double send_us(const moe_int_devices *x, const moe_int_load *load, double sms) {
    const moe_int_carrier c = MOE_INT_CARRIER_COMET_REDUCE;
    const double rate = x->node->c[c][MOE_INT_CP_SM_GBPS] * 1e3 * sms;
    return fmax(moe_int_transfer_link_us(x->node, c, load), load->copies * load->row / rate);
}

static void second_layer(moe_int_devices *x, double us, const moe_int_load *load, int after) {
    double sms = 132;
    moe_gpu_get(x->gpu, "sms", &sms);
    const double n_c = fmin((double)x->comm_sms, sms / 2);
    const double product = us * sms / (sms - n_c) / GROUPS;
    const double send = send_us(x, load, n_c) / GROUPS;
    int columns = moe_int_tl_add(&x->t, "launch", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                                 x->node->c[MOE_INT_CARRIER_COMET_REDUCE][MOE_INT_CP_START_US], 0,
                                 after, MOE_INT_NO_TASK);
    for (int g = 0; g < GROUPS; g++) {
        x->t.chunk = g;
        columns = moe_int_tl_add(&x->t, moe_int_pass_name(x, "Y", "dX~"), MOE_INT_TL_SMS,
                                 MOE_INT_TL_COUNT, product, 0, columns, MOE_INT_NO_TASK);
        moe_int_tl_add(&x->t, moe_int_pass_name(x, "O of a rank", "dX of a rank"),
                       MOE_INT_TL_SENDERS, MOE_INT_TL_OUT, send, (load->near + load->far) / GROUPS,
                       columns, MOE_INT_NO_TASK);
    }
}

static void run(moe_int_devices *x) {
    const moe_int_local l = moe_int_devices_all(x, 1);
    const moe_int_load load = load_of(x);
    const int a = first_layer(x, l.first / eff(x, MOE_INT_CARRIER_COMET_GATHER), &load);
    second_layer(x, l.second / eff(x, MOE_INT_CARRIER_COMET_REDUCE), &load, a);
    x->t.chunk = 0;
    if (l.rest > 0)
        moe_int_tl_add(&x->t, "dW", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, l.rest, 0, a,
                       MOE_INT_NO_TASK);
}

const moe_int_devices_method moe_int_devices_comet = {
    .brief = "Comet, Flux: products that wait for rows by source and send columns as they finish",
    .run = run,
    .senders = true};
