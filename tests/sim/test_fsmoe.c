/* FSMoE: chunks of forward and backward, gradients in the network's gaps. */
#include "devices.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* FSMoE's first testbed: 6 hosts of 8 A6000 with one adapter of 200 Gbit/s each, experts over hosts
 * and the expert-sharding group within one. Is the best number of chunks another one backward? */
static bool chunks_differ(const char *line, double beside_bytes) {
    static const char *const of_node[] = {"hosts=6", "inter_gbps=3.125", "link_gbps=56.25"};
    static const char *const of_gpu[] = {"sms=84", "tensor_flops*0.5", "hbm_bw*0.38"};
    const moe_workload state = {0};
    const moe_ep_options o = {.method = "fsmoe", .ep = 6, .tp = 8, .beside_bytes = beside_bytes};
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_case c;
    moe_ep_prediction *p = NULL;
    cr_assert_eq(moe_node_load("h100-x16-ib", NULL, &node), MOE_OK);
    cr_assert_eq(moe_gpu_load("a100-sxm", NULL, &gpu), MOE_OK);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(moe_node_what_if(node, of_node[i], NULL), MOE_OK);
        cr_assert_eq(moe_gpu_what_if(gpu, of_gpu[i], NULL), MOE_OK);
    }
    cr_assert_eq(moe_case_parse(line, NULL, &c), MOE_OK);
    cr_assert_eq(moe_predict_ep(node, gpu, &c, &state, &o, NULL, &p), MOE_OK);
    const bool differ = p->chunks[0] != p->chunks[1];
    moe_ep_prediction_destroy(&p);
    moe_case_destroy(&c);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
    return differ;
}

/* Published: in 912 of 1458 rows, with attention's gradients in the network's gaps. */
Test(sim_fsmoe, fsmoes_best_chunks_of_forward_and_backward_often_differ) {
    static const int tokens[] = {512, 1024, 2048, 4096}, widths[] = {1024, 2048, 4096};
    int differ[2] = {0}, all = 0;
    for (int t = 0; t < 4; t++)
        for (int w = 0; w < 3; w++)
            for (int ratio = 2; ratio <= 4; ratio++) {
                char line[128];
                snprintf(line, sizeof line, "T=%d d=%d n=%d E=12 K=2 act=gelu route=balanced",
                         tokens[t], widths[w], ratio * widths[w]);
                for (int beside = 0; beside < 2; beside++) /* 4 d d of them, 16 bits each */
                    differ[beside] += chunks_differ(line, beside * 8.0 * widths[w] * widths[w]);
                all++;
            }
    cr_expect_geq(differ[1], all / 2, "%d of %d", differ[1], all);
    cr_expect_lt(differ[1], all, "%d of %d", differ[1], all);
    cr_expect_gt(differ[1], differ[0], "%d, %d", differ[0], differ[1]);
}

static double beside_of(const moe_ep_prediction *p, double *ret_bytes) {
    double us = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < p->n_tasks; i++)
        if (strcmp(p->tasks[i].name, "gradients beside") == 0) {
            us += p->tasks[i].us;
            *ret_bytes += p->tasks[i].bytes;
        }
    return us;
}

/* Two tasks of one row at the same time. */
static bool overlaps(const moe_ep_prediction *p, const char *row) {
    for (size_t i = 0; i < p->n_tasks; i++)
        for (size_t k = 0; k < i; k++) {
            const moe_ep_task *a = &p->tasks[i], *b = &p->tasks[k];
            if (strcmp(a->row, row) == 0 && strcmp(b->row, row) == 0 && a->us > 0 && b->us > 0 &&
                fmin(a->start_us + a->us, b->start_us + b->us) - fmax(a->start_us, b->start_us) >
                    1e-6)
                return true;
        }
    return false;
}

/* Few bytes cost nothing, many as much as the network is busy longer. */
Test(sim_fsmoe, fsmoe_fills_the_networks_gaps_with_gradients) {
    static const double bytes[] = {0, 4e6, 4e9};
    double total[3];
    for (int i = 0; i < 3; i++) {
        asked a = {"h100-x16-ib",
                   "T=2048 d=2048 n=4096 E=8 K=2 act=relu route=balanced pass=bwd",
                   {.method = "fsmoe", .ep = 2, .tp = 8, .chunks = 4, .beside_bytes = bytes[i]}};
        double sent;
        moe_ep_prediction *p = predict(&a);
        total[i] = p->total_us;
        const double us = beside_of(p, &sent);
        cr_expect_float_eq(sent, bytes[i], 1e-3);
        cr_expect_eq(us > 0, i > 0);
        cr_expect_not(overlaps(p, "network"));
        cr_expect_geq(p->total_us, p->busiest_us * (1 - 1e-12));
        cr_expect_float_eq(p->serial_us, sum_of(p), 1e-6 * p->serial_us);
        a.o.serial = 1;
        moe_ep_prediction *serial = predict(&a);
        cr_expect_float_eq(serial->total_us, sum_of(serial), 1e-6 * serial->total_us);
        moe_ep_prediction_destroy(&serial);
        moe_ep_prediction_destroy(&p);
    }
    cr_expect_eq(total[1], total[0]);
    cr_expect_gt(total[2], 1.2 * total[0]);
}
