/* Layers over several GPUs: what holds of every method, and the signs of published trends. */
#include "devices.h"
#include "sim/devices/devices.h"
#include "sim/methods/alltoall.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char small[] = "T=2048 d=2048 n=768 E=32 K=4 route=uniform pass=fwd seed=3";

static asked ask(const char *method, int64_t ep, int64_t tp) {
    return (asked){"h100-x8", small, {.method = method, .ep = ep, .tp = tp, .cached = 0.5}};
}

static bool has_whole_experts(const char *method) {
    for (const char *const *m = moe_ep_methods(); *m; m++)
        if (strcmp(*m, method) == 0)
            return moe_int_devices_methods[m - moe_ep_methods()]->whole;
    return false;
}

static void check_bounds(const char *method, int64_t ep, int64_t tp) {
    asked a = ask(method, ep, tp);
    if (tp > 1 && has_whole_experts(method))
        return;
    moe_ep_prediction *p = predict(&a);
    cr_expect_geq(p->total_us, p->busiest_us * (1 - 1e-12), "%s", method);
    cr_expect_leq(p->total_us, sum_of(p) * (1 + 1e-12), "%s", method);
    cr_expect_float_eq(p->serial_us, sum_of(p), 1e-6 * p->serial_us, "%s", method);
    a.o.serial = 1;
    a.o.chunks = p->chunks[0];
    a.o.comm_sms = p->comm_sms;
    moe_ep_prediction *serial = predict(&a);
    cr_expect_float_eq(serial->total_us, sum_of(serial), 1e-6 * serial->total_us, "%s", method);
    cr_expect_geq(serial->total_us, p->total_us * (1 - 1e-12), "%s", method);
    moe_ep_prediction_destroy(&p);
    moe_ep_prediction_destroy(&serial);
}

Test(sim_devices, no_method_beats_its_busiest_row_and_without_overlap_is_the_sum) {
    for (const char *const *m = moe_ep_methods(); *m; m++) {
        check_bounds(*m, 8, 1);
        check_bounds(*m, 2, 4);
        check_bounds(*m, 1, 1);
    }
}

Test(sim_devices, one_chunk_is_the_sum) {
    static const char *const chunked[] = {"tutel", "fsmoe", "moeref_ep"};
    for (size_t i = 0; i < sizeof chunked / sizeof *chunked; i++) {
        asked a = ask(chunked[i], 8, 1);
        a.o.chunks = 1;
        moe_ep_prediction *one = predict(&a);
        cr_expect_float_eq(one->total_us, sum_of(one), 1e-6 * one->total_us, "%s", chunked[i]);
        a.o.chunks = 0;
        moe_ep_prediction *best = predict(&a);
        cr_expect_leq(best->total_us, one->total_us * (1 + 1e-12), "%s", chunked[i]);
        moe_ep_prediction_destroy(&one);
        moe_ep_prediction_destroy(&best);
    }
}

/* Words of the case that say what ranks send would change nothing. */
Test(sim_devices, words_that_change_nothing_are_refused) {
    static const char *const words[] = {"combine=ranks",    "wire=e4m3",  "skew=1",
                                        "tokens=1024+1024", "replicas=2", "padding=wire pad=8"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char line[160];
        moe_node *node = NULL;
        moe_gpu *gpu = NULL;
        moe_case c;
        moe_ep_prediction *p = NULL;
        const moe_workload state = {0};
        const moe_ep_options o = {.method = "deepep", .ep = 2, .tp = 1};
        snprintf(line, sizeof line, "%s ep=2 %s", small, words[i]);
        cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
        cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
        cr_assert_eq(moe_case_parse(line, NULL, &c), MOE_OK, "%s", line);
        cr_expect_eq(moe_predict_ep(node, gpu, &c, &state, &o, NULL, &p), MOE_E_UNSUPPORTED, "%s",
                     words[i]);
        moe_case_destroy(&c);
        moe_gpu_destroy(&gpu);
        moe_node_destroy(&node);
    }
}

Test(sim_devices, there_are_at_most_64_chunks) {
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_case c;
    moe_ep_prediction *p = NULL;
    const moe_workload state = {0};
    moe_ep_options o = {.method = "tutel", .ep = 8, .tp = 1, .chunks = 64};
    cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_case_parse(small, NULL, &c), MOE_OK);
    cr_assert_eq(moe_predict_ep(node, gpu, &c, &state, &o, NULL, &p), MOE_OK);
    moe_ep_prediction_destroy(&p);
    o.chunks = 65;
    cr_expect_eq(moe_predict_ep(node, gpu, &c, &state, &o, NULL, &p), MOE_E_INVALID);
    moe_case_destroy(&c);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
}

Test(sim_devices, faster_links_never_take_longer) {
    for (const char *const *m = moe_ep_methods(); *m; m++) {
        double us[2];
        for (int i = 0; i < 2; i++) {
            moe_node *node = NULL;
            moe_gpu *gpu = NULL;
            moe_case c;
            moe_ep_prediction *p = NULL;
            const moe_workload state = {0};
            const asked a = ask(*m, 8, 1);
            cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
            cr_assert_eq(moe_node_what_if(node, i ? "link_gbps*2" : "link_gbps*1", NULL), MOE_OK);
            cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
            cr_assert_eq(moe_case_parse(small, NULL, &c), MOE_OK);
            cr_assert_eq(moe_predict_ep(node, gpu, &c, &state, &a.o, NULL, &p), MOE_OK);
            us[i] = p->total_us;
            moe_ep_prediction_destroy(&p);
            moe_case_destroy(&c);
            moe_gpu_destroy(&gpu);
            moe_node_destroy(&node);
        }
        cr_expect_leq(us[1], us[0], "%s", *m);
    }
}

/* Comet's figure: 18 blocks at M = 4096, 26 at 16384 (TP = 8). */
Test(sim_devices, comets_senders_rise_with_tokens) {
    enum { FIRST = 128, COUNT = 6, AT_4096 = 2, AT_16384 = 4 }; /* tokens a GPU, M = 8 T */
    int sms[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char line[96];
        snprintf(line, sizeof line, "T=%d d=4096 n=14336 E=8 K=2 route=uniform pass=fwd",
                 FIRST << i);
        asked a = {"h800-x8", line, {.method = "comet", .ep = 1, .tp = 8}};
        moe_ep_prediction *p = predict(&a);
        sms[i] = (int)p->comm_sms;
        moe_ep_prediction_destroy(&p);
        cr_expect(i == 0 || sms[i] >= sms[i - 1], "%s: %d after %d", line, sms[i], sms[i - 1]);
    }
    cr_expect_lt(sms[AT_4096], sms[AT_16384]);
    cr_expect_leq(abs(sms[AT_4096] - 18), 6, "%d", sms[AT_4096]);
    cr_expect_leq(abs(sms[AT_16384] - 26), 6, "%d", sms[AT_16384]);
}

static const moe_ep_task *find(const moe_ep_prediction *p, const char *name) {
    for (size_t i = 0; i < p->n_tasks; i++) {
        if (strcmp(p->tasks[i].name, name) == 0)
            return &p->tasks[i];
    }
    return NULL;
}

/* Of the weights that come beside other work: experts, the time after that work that they still
 * need, and what they say of themselves. */
typedef struct gathered {
    double experts, late_us, gbps, hot_waits_us;
} gathered;

/* ask()'s experts, of which a rank lacks 7/8: gate, up and down in bf16. */
static gathered gather_beside(double beside_us, int64_t replicas) {
    asked a = ask("hecate", 8, 1);
    moe_case c;
    a.o.beside_us = beside_us;
    a.o.chunks = replicas;
    cr_assert_eq(moe_case_parse(a.line, NULL, &c), MOE_OK);
    const double missing = 3.0 * (double)(c.layer.n * c.layer.d) * 2 * 7 / 8;
    moe_case_destroy(&c);
    moe_ep_prediction *p = predict(&a);
    const moe_ep_task *in = find(p, "hot experts in"), *hot = find(p, "hot experts");
    const double end = in->start_us + in->us;
    const gathered ret = {in->bytes / missing, end - beside_us, in->bytes / in->us * 1e-3,
                          hot->start_us - end};
    moe_ep_prediction_destroy(&p);
    return ret;
}

/* t is the most experts that the work covers (t = T bandwidth / bytes of one): so many are in
 * time, one more is not, and what is late is waited for. */
Test(sim_devices, hecate_hides_as_many_experts_as_the_work_beside_it_covers) {
    double before = 0;
    for (double beside = 50; beside < 800; beside += 50) {
        const gathered own = gather_beside(beside, 0);
        const int64_t t = llround(own.experts);
        cr_expect_float_eq(own.experts, (double)t, 1e-6, "%g us: %g experts", beside, own.experts);
        cr_expect_leq(own.late_us, 1e-6, "%g us", beside);
        cr_expect_geq(own.experts, before, "%g us", beside);
        cr_expect(own.gbps > 225 && own.gbps < 450, "%g GB/s", own.gbps); /* of NVLink's 450 */
        before = own.experts;
        if (t == 32)
            continue; /* there are no more */
        const gathered more = gather_beside(beside, t + 1);
        cr_expect_gt(more.late_us, 0, "%g us: %g experts are not the most", beside, own.experts);
        cr_expect_geq(more.hot_waits_us, -1e-6, "%g us", beside);
    }
    cr_expect_geq(before, 10);
}

/* FlashMoE's figures: as long with 8 experts as with 128, and with 2 GPUs as with 4. */
Test(sim_devices, flashmoe_takes_as_long_with_more_experts) {
    double us[2][2];
    for (int e = 0; e < 2; e++)
        for (int g = 0; g < 2; g++) {
            char line[128];
            snprintf(line, sizeof line,
                     "T=16384 d=2048 n=2048 E=%d K=2 act=relu pass=fwd route=balanced",
                     e ? 128 : 8);
            asked a = {"h100-x8", line, {.method = "flashmoe", .ep = g ? 4 : 2, .tp = 1}};
            moe_ep_prediction *p = predict(&a);
            us[e][g] = p->total_us;
            cr_expect_lt(p->total_us - p->busiest_us, 0.02 * p->total_us);
            moe_ep_prediction_destroy(&p);
        }
    cr_expect_float_eq(us[1][0], us[0][0], 0.01 * us[0][0]);
    cr_expect_float_eq(us[1][1], us[1][0], 0.1 * us[1][0]);
}

Test(sim_devices, two_level_all_to_all_is_faster_for_small_messages_alone) {
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    const moe_workload state = {0};
    cr_assert_eq(moe_node_load("h100-x16-ib", NULL, &node), MOE_OK);
    cr_assert_eq(moe_node_what_if(node, "hosts=32", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    const moe_int_devices x = {
        .node = node, .gpu = gpu, .state = &state, .ep = 256, .tp = 1, .hosts = 32, .peers = 8};
    int crossings = 0;
    bool before = true;
    for (double bytes = 256 * 64; bytes < 1e9; bytes *= 2) {
        const moe_int_load rows = {.ranks = 256,
                                   .copies = bytes / 4096,
                                   .row = 4096,
                                   .near = bytes * 7 / 256,
                                   .far = bytes * 248 / 256};
        const bool two =
            moe_int_alltoall_two_level_us(&x, &rows) < moe_int_alltoall_linear_us(&x, &rows);
        crossings += two != before;
        before = two;
    }
    cr_expect_eq(crossings, 1);
    cr_expect_not(before);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
}
