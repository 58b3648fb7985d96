/* Layers over several hosts: what takes the network, and what a host keeps. */
#include "capture.h"
#include "devices.h"
#include "sim/devices/devices.h"
#include "sim/net/transfers.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define TWO_HOSTS "h100-x16-ib" /* of 8 */

static const char layer[] = "T=1536 d=1024 n=512 E=48 K=2 route=balanced pass=fwd";

static moe_ep_prediction *predict_with(const char *method, int64_t ep, int64_t tp) {
    const asked a = {TWO_HOSTS, layer, {.method = method, .ep = ep, .tp = tp, .cached = 0.5}};
    return predict(&a);
}

static bool is_on(const moe_ep_task *task, const char *row) {
    return strcmp(task->row, row) == 0 || (task->also && strcmp(task->also, row) == 0);
}

/* Every row does one thing at a time. */
static void check_rows(const moe_ep_prediction *p, const char *method) {
    for (int row = 0; row < MOE_INT_TL_COUNT; row++) {
        double end = 0;
        for (size_t i = 0; i < p->n_tasks; i++) {
            const moe_ep_task *t = &p->tasks[i];
            if (!is_on(t, moe_int_tl_names[row]) || t->us <= 0)
                continue;
            cr_expect_geq(t->start_us, end - 1e-6, "%s %s: %s", method, moe_int_tl_names[row],
                          t->name);
            end = t->start_us + t->us;
        }
    }
}

Test(sim_hosts, every_method_is_bounded_on_two_hosts_however_they_are_filled) {
    static const int64_t spread[][2] = {{16, 1}, {12, 1}, {9, 1}, {4, 4}, {2, 8}, {1, 16}, {3, 5}};
    for (int m = 0; m < MOE_INT_EP_COUNT; m++)
        for (size_t i = 0; i < sizeof spread / sizeof *spread; i++) {
            const char *method = moe_ep_methods()[m];
            if (moe_int_devices_methods[m]->whole && spread[i][1] > 1)
                continue;
            moe_ep_prediction *p = predict_with(method, spread[i][0], spread[i][1]);
            cr_expect(isfinite(p->total_us) && p->total_us > 0, "%s", method);
            cr_expect_geq(p->total_us, p->busiest_us * (1 - 1e-12), "%s", method);
            cr_expect_leq(p->total_us, sum_of(p) * (1 + 1e-12), "%s", method);
            cr_expect_gt(p->sent_bytes, 0, "%s", method);
            check_rows(p, method);
            moe_ep_prediction_destroy(&p);
        }
}

static double bytes_of(const moe_ep_prediction *p, const char *name) {
    double bytes = 0;
    for (size_t i = 0; i < p->n_tasks; i++)
        bytes += strcmp(p->tasks[i].name, name) == 0 ? p->tasks[i].bytes : 0;
    return bytes;
}

/* A GPU of four that share experts lacks three quarters of the rows that come to them: K for each
 * token, or one for each token that has an expert there. */
Test(sim_hosts, rows_that_came_are_gathered) {
    static const struct {
        const char *method;
        bool tokens;
    } methods[] = {{"ep_serial", false}, {"tutel", false}, {"fsmoe", false}, {"t3", true}};
    const double reach = 1 - 36.0 / 48 * 35 / 47, all = 1536.0 * 4 * 1024 * 2 * 3 / 4;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        moe_ep_prediction *p = predict_with(methods[i].method, 4, 4);
        const double want = all * (methods[i].tokens ? 4 * reach : 2);
        cr_expect_float_eq(bytes_of(p, "all-gather"), want, 1e-9 * want, "%s", methods[i].method);
        cr_expect_float_eq(bytes_of(p, "reduce-scatter"), want, 1e-9 * want, "%s",
                           methods[i].method);
        moe_ep_prediction_destroy(&p);
    }
}

/* Of 12 ranks, 8 and 4: one of the four has 8 of its 11 peers elsewhere. Of four groups of four, a
 * host has two. */
Test(sim_hosts, the_emptiest_host_sends_most_to_others) {
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    const double row = 1024 * 2, sent = 1536 * 2 * row;
    cr_assert_eq(moe_node_load(TWO_HOSTS, NULL, &node), MOE_OK);
    cr_assert_eq(moe_gpu_load(moe_node_gpu(node), NULL, &gpu), MOE_OK);
    moe_ep_prediction *p = predict_with("tutel", 12, 1);
    cr_expect_float_eq(p->sent_bytes, 2 * sent * 11 / 12, 1e-9 * sent);
    moe_ep_prediction_destroy(&p);
    int64_t counts[48];
    int32_t owner[48];
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.E = 48;
    for (int e = 0; e < 48; e++) {
        counts[e] = 12 * 1536 * 2 / 48;
        owner[e] = e / 4;
    }
    const moe_int_devices x = {.node = node,
                               .gpu = gpu,
                               .layer = &d,
                               .counts = counts,
                               .owner = owner,
                               .ranks = 12,
                               .ep = 12,
                               .tp = 1,
                               .hosts = 2,
                               .here = 4,
                               .peers = 4,
                               .T = 1536,
                               .E = 48,
                               .K = 2,
                               .d = 1024,
                               .element = 2};
    const moe_int_load load = moe_int_devices_rows(&x, 1, row);
    cr_expect_float_eq(load.far, sent * 8 / 12, 1e-9 * sent);
    cr_expect_float_eq(load.near, sent * 3 / 12, 1e-9 * sent);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
}

/* What a method moves is what tables of the same kernels were read as: copies, and bytes over links
 * and network. */
Test(sim_hosts, even_loads_are_those_of_measured_tables) {
    enum { E = 256, K = 8, T = 4096, RANKS = 16 };
    int64_t counts[E];
    int32_t owner[E];
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.E = E;
    for (int hosts = 1; hosts <= 2; hosts++) {
        const int ranks = RANKS / 2 * hosts;
        moe_node *node = NULL;
        cr_assert_eq(moe_node_load(TWO_HOSTS, NULL, &node), MOE_OK);
        for (int e = 0; e < E; e++) {
            counts[e] = (int64_t)ranks * T * K / E;
            owner[e] = e * ranks / E;
        }
        const moe_int_devices x = {.node = node,
                                   .layer = &d,
                                   .counts = counts,
                                   .owner = owner,
                                   .ranks = ranks,
                                   .ep = ranks,
                                   .tp = 1,
                                   .hosts = hosts,
                                   .here = 8,
                                   .peers = 8,
                                   .T = T,
                                   .E = E,
                                   .K = K,
                                   .d = 7168,
                                   .element = 2};
        const moe_int_load of[] = {
            moe_int_devices_forwarded(&x, 1, 7392), moe_int_even_load(ranks, 8, T, E, K, 7392),
            moe_int_devices_rows(&x, 1, 7392), moe_int_even_pairs(ranks, 8, T, E, K, 7392)};
        for (int i = 0; i < 4; i += 2) {
            const moe_int_load *own = &of[i], *table = &of[i + 1];
            cr_expect_float_eq(own->copies, table->copies, 1e-9 * table->copies);
            cr_expect_float_eq(own->near, table->near, 1e-9 * table->near, "%d hosts: %g, %g",
                               hosts, own->near, table->near);
            cr_expect_float_eq(own->far, table->far, 1e-9 * table->far, "%d hosts: %g, %g", hosts,
                               own->far, table->far);
            cr_expect_eq(own->ranks, table->ranks);
        }
        moe_node_destroy(&node);
    }
}

/* All rows come to all ranks, half of them from the other host. */
Test(sim_hosts, comet_takes_longer_over_the_network) {
    moe_ep_prediction *one = predict_with("comet", 1, 8), *two = predict_with("comet", 1, 16);
    cr_expect_gt(two->link_us, 4 * one->link_us);
    for (size_t i = 0; i < one->n_tasks; i++)
        cr_expect_not(is_on(&one->tasks[i], "network"));
    moe_ep_prediction_destroy(&one);
    moe_ep_prediction_destroy(&two);
}

/* A better number of senders for one pass may be a worse one for the other. */
Test(sim_hosts, comets_senders_are_best_for_both_passes) {
    asked a = {"l40s-pcie",
               "T=129 d=7168 n=16 E=256 K=2 act=relu route=hot:1",
               {.method = "comet", .ep = 3, .tp = 2}};
    moe_ep_prediction *best = predict(&a);
    for (a.o.comm_sms = 2; a.o.comm_sms <= 64; a.o.comm_sms += 2) {
        moe_ep_prediction *p = predict(&a);
        cr_expect_geq(p->total_us, best->total_us * (1 - 1e-12));
        moe_ep_prediction_destroy(&p);
    }
    moe_ep_prediction_destroy(&best);
}

static void expect_refused(const char *node_name, const char *what_if, const moe_ep_options *o,
                           moe_status status, const char *word) {
    capture seen;
    const moe_log log = capture_log(&seen);
    const moe_workload state = {0};
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_case c;
    moe_ep_prediction *p = NULL;
    cr_assert_eq(moe_node_load(node_name, NULL, &node), MOE_OK);
    cr_assert_eq(moe_node_what_if(node, what_if, NULL), MOE_OK);
    cr_assert_eq(moe_gpu_load(moe_node_gpu(node), NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_case_parse(layer, NULL, &c), MOE_OK);
    cr_expect_eq(moe_predict_ep(node, gpu, &c, &state, o, &log, &p), status, "%s", word);
    cr_expect(strstr(seen.text, word), "%s", seen.text);
    moe_case_destroy(&c);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
}

Test(sim_hosts, what_cannot_be_asked_is_named) {
    moe_ep_options o = {.method = "tutel", .ep = 16, .tp = 1};
    expect_refused("h100-x8", "hosts=2", &o, MOE_E_INVALID, "inter_gbps");
    expect_refused("h100-x8", "hosts=1", &o, MOE_E_INVALID, "more than the 8 GPUs of h100-x8");
    o = (moe_ep_options){.method = "tutel", .ep = 2, .tp = 1, .chunks = 65};
    expect_refused("h100-x8", "hosts=1", &o, MOE_E_INVALID, "chunks = 65 is not from 0 to 64");
    o = (moe_ep_options){.method = "hybrimoe", .ep = 2, .tp = 1, .cached = 1.5};
    expect_refused("h100-x8", "hosts=1", &o, MOE_E_INVALID, "cached share = 1.5");
    o = (moe_ep_options){.method = "flashmoe", .ep = 2, .tp = 2};
    expect_refused("h100-x8", "hosts=1", &o, MOE_E_UNSUPPORTED, "tp=1");
}
