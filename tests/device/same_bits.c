/* moeref-same-bits BACKEND OTHER CASES [PART OF]: every result and stage of each case of a file on
 * two backends, bit by bit, forward and backward, twice on the first. PART OF: every OF-th case
 * from PART on. Sums that ranks make by themselves (gradients of the router and of the shared
 * expert) may differ where their names are printed. */
#include "moeref/backend.h"
#include "moeref/case.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    moe_layer *layer;
    const moe_plan *plan;
} run;

static moe_status pass_through(run *r, const moe_problem *p) {
    const moe_input input = {p->T, p->in.t[MOE_T_X], p->in.t[MOE_T_DO], p->plan, p->seed};
    moe_status status = moe_layer_set_input(r->layer, &input);
    if (!status)
        status = moe_layer_forward(r->layer);
    if (!status && p->pass & MOE_PASS_BWD)
        status = moe_layer_backward(r->layer);
    r->plan = p->plan;
    return status || p->plan ? status : moe_layer_routing(r->layer, &r->plan);
}

static moe_status start(moe_backend *backend, const moe_problem *p, run *ret) {
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    moe_support support;
    moe_status status = moe_backend_supports(backend, &p->layer, &use, &support);
    if (!status)
        status = moe_layer_prepare(backend, &p->layer, &use, &p->in, &ret->layer);
    return status ? status : pass_through(ret, p);
}

static moe_tensor fetch(const run *r, const moe_problem *p, moe_tensor_id id) {
    moe_tensor t = {0};
    if (!moe_tensor_exists(&p->layer, id, p->plan != NULL))
        return t;
    moe_tensor_shape(&p->layer, id, p->T, r->plan->offsets[p->layer.E], r->plan->n_pairs, &t);
    if (moe_tensor_alloc(MOE_F32, t.ndim, t.shape, &t) || moe_layer_fetch(r->layer, id, &t))
        moe_tensor_destroy(&t);
    return t;
}

static bool is_sum_of_ranks(moe_tensor_id id) {
    return id == MOE_T_DW_R || id == MOE_T_DB_R || id == MOE_T_DW1_SHARED ||
           id == MOE_T_DW2_SHARED || id == MOE_T_DW_GATE_SHARED;
}

/* Elements that differ; what is only a sum of the ranks' parts is left out. */
static int64_t differing(const run *a, const run *b, const moe_problem *p, int64_t *ret_compared) {
    int64_t all = 0;
    const moe_tensor_id end = p->pass & MOE_PASS_BWD ? MOE_T_COUNT : MOE_T_DS;
    for (moe_tensor_id id = MOE_T_LOGITS; id < end; id++) {
        moe_tensor x = fetch(a, p, id), y = fetch(b, p, id);
        int64_t differ = 0, count = x.data ? moe_tensor_count(&x) : 0;
        if (!x.data != !y.data || (x.data && moe_tensor_count(&y) != count))
            differ = 1;
        for (int64_t i = 0; !differ && i < count; i++)
            differ = memcmp((float *)x.data + i, (float *)y.data + i, sizeof(float)) != 0;
        for (int64_t i = 1; differ && y.data && i < count && count == moe_tensor_count(&y); i++)
            differ += memcmp((float *)x.data + i, (float *)y.data + i, sizeof(float)) != 0;
        if (differ)
            printf("  %s: %lld of %lld elements differ%s\n", moe_tensor_name(id), (long long)differ,
                   (long long)count, is_sum_of_ranks(id) ? " (a sum of the ranks')" : "");
        *ret_compared += count;
        all += is_sum_of_ranks(id) ? 0 : differ;
        moe_tensor_destroy(&x);
        moe_tensor_destroy(&y);
    }
    return all;
}

/* 0: same bits, 1: not, 2: the case is not supported. */
static int compare(moe_backend *const backend[2], const moe_problem *p, int64_t *compared) {
    run a = {0}, b = {0};
    const moe_status first = start(backend[0], p, &a), second = start(backend[1], p, &b);
    int result = first == MOE_E_UNSUPPORTED || second == MOE_E_UNSUPPORTED ? 2 : first || second;
    if (!result)
        result = differing(&a, &b, p, compared) != 0;
    if (!result)
        result = pass_through(&a, p) || differing(&a, &b, p, compared) != 0;
    moe_layer_destroy(&a.layer);
    moe_layer_destroy(&b.layer);
    return result;
}

static int compare_line(moe_backend *const backend[2], const char *line, int64_t *compared) {
    moe_case c;
    moe_problem *p = NULL;
    moe_status status = moe_case_parse(line, &log_to_stderr, &c);
    if (!status) {
        status = moe_problem_from_case(&c, &log_to_stderr, &p);
        moe_case_destroy(&c);
    }
    const int result = status ? 1 : compare(backend, p, compared);
    if (result == 1)
        printf("differ %s\n", line);
    moe_problem_destroy(&p);
    return result;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6)
        return 2;
    const int part = argc > 4 ? atoi(argv[4]) : 0, of = argc > 4 ? atoi(argv[5]) : 1;
    moe_backend *backend[2] = {NULL, NULL};
    moe_backends *all = NULL;
    FILE *cases = fopen(argv[3], "r");
    moe_status status = cases ? moe_backends_load(NULL, &log_to_stderr, &all) : MOE_E_IO;
    for (int i = 0; !status && i < 2; i++) {
        const moe_open_params open = {.log = &log_to_stderr};
        status = moe_backend_open(all, argv[1 + i], &open, &log_to_stderr, &backend[i]);
    }
    if (status)
        return 3;
    char line[1000];
    int counts[3] = {0}, number = 0;
    int64_t compared = 0;
    while (fgets(line, sizeof line, cases)) {
        line[strcspn(line, "#\n")] = '\0';
        if (!line[0] || number++ % of != part)
            continue;
        counts[compare_line(backend, line, &compared)]++;
        fflush(stdout);
    }
    printf("%s and %s: same bits in %d cases, %lld elements; %d differ, %d unsupported\n", argv[1],
           argv[2], counts[0], (long long)compared, counts[1], counts[2]);
    fclose(cases);
    for (int i = 0; i < 2; i++)
        moe_backend_close(&backend[i]);
    moe_backends_destroy(&all);
    return counts[1] != 0 || counts[0] == 0;
}
