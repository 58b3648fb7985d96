/* A layer over several GPUs, predicted, for tests. */
#ifndef MOEREF_TESTS_SIM_DEVICES_H
#define MOEREF_TESTS_SIM_DEVICES_H

#include "moeref/node.h"

#include <criterion/criterion.h>

typedef struct asked {
    const char *node, *line;
    moe_ep_options o;
} asked;

static inline moe_ep_prediction *predict(const asked *a) {
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_case c;
    moe_ep_prediction *p = NULL;
    const moe_workload state = {0};
    cr_assert_eq(moe_node_load(a->node, NULL, &node), MOE_OK);
    cr_assert_eq(moe_gpu_load(moe_node_gpu(node), NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_case_parse(a->line, NULL, &c), MOE_OK);
    cr_assert_eq(moe_predict_ep(node, gpu, &c, &state, &a->o, NULL, &p), MOE_OK, "%s %s",
                 a->o.method, a->line);
    moe_case_destroy(&c);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
    return p;
}

static inline double sum_of(const moe_ep_prediction *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n_tasks; i++)
        sum += p->tasks[i].us;
    return sum;
}

#endif
