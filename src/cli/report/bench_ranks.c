#include "cli/report/bench_ranks.h"
#include "cli/input/messages.h"
#include "cli/input/select.h"
#include "moeref/node.h"

#include <stdlib.h>

static const char *const pass_name[2] = {"forward", "backward"};

/* ---- predicted ---- */

static const char *method_of(const cli_node_model *m) {
    return m->method ? m->method : "ep_serial";
}

int cli_node_model_check(const cli_node_model *m) {
    moe_node *node = NULL;
    if (!m->node)
        return -1;
    if (!moe_ep_method_brief(method_of(m)))
        return cli_usage("there is no method '%s' of several GPUs; moeref predict --help lists "
                         "them",
                         method_of(m));
    const moe_status status = moe_node_load(m->node, cli_log(), &node);
    moe_node_destroy(&node);
    return status ? cli_exit_code(status) : -1;
}

/* One pass alone, or both: its time and the work of its busiest resource, than which no schedule is
 * shorter. */
static moe_status predict(const cli_node_model *m, const moe_node *node, const moe_gpu *gpu,
                          const moe_problem *p, const moe_ep_params *ep, int32_t pass,
                          moe_bench_times *ret) {
    const int32_t tp = ep->tp > 1 ? ep->tp : 1;
    const moe_ep_options o = {.method = method_of(m), .ep = ep->ranks / tp, .tp = tp};
    const moe_workload state = {.clock = MOE_CLOCK_BURST, .in_stream = 1};
    moe_ep_prediction *x = NULL;
    moe_case c;
    moe_case_init(&c);
    c.layer = p->layer;
    c.T = (p->T + ep->ranks - 1) / ep->ranks;
    c.dtype = p->dtype;
    c.pass = pass;
    moe_status status = moe_predict_ep(node, gpu, &c, &state, &o, cli_log(), &x);
    if (!status) {
        ret->predicted_us = x->total_us;
        ret->floor_us = x->busiest_us;
        snprintf(ret->bound_by, sizeof ret->bound_by, "%s", x->busiest);
    }
    moe_ep_prediction_destroy(&x);
    return status;
}

moe_status cli_bench_by_node(const cli_node_model *m, const moe_problem *problem,
                             const moe_ep_params *ep, moe_bench_result *r) {
    static const int32_t passes[MOE_PASS_SUMS] = {[MOE_PASS_FORWARD] = MOE_PASS_FWD,
                                                  [MOE_PASS_BACKWARD] = MOE_PASS_BWD,
                                                  [MOE_PASS_TOTAL] = MOE_PASS_BOTH};
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_status status = moe_node_load(m->node, cli_log(), &node);
    if (!status)
        status = moe_gpu_load(moe_node_gpu(node), cli_log(), &gpu);
    for (int i = 0; !status && i < MOE_PASS_SUMS; i++)
        if ((passes[i] & problem->pass) && r->pass[i].median_us > 0)
            status = predict(m, node, gpu, problem, ep, passes[i] & problem->pass, &r->pass[i]);
    for (size_t k = 0; k < r->n_kernels; k++) /* stages of a node are tasks, of other names */
        r->kernel[k].predicted_us = r->kernel[k].floor_us = 0;
    if (!status)
        snprintf(r->model, sizeof r->model, "%s on %s, burst clock", method_of(m), m->node);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
    return status;
}

/* ---- measured ---- */

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static moe_bench_range range_of(double *values, int32_t count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    const double middle = (values[(count - 1) / 2] + values[count / 2]) / 2;
    return (moe_bench_range){middle, values[0], values[count - 1]};
}

static void ranges(const moe_backend *backend, int32_t backward, moe_bench_range *ret_pass,
                   moe_bench_range *ret_exchange) {
    double pass[MOE_EP_MAX_RANKS], exchange[MOE_EP_MAX_RANKS];
    int32_t first, count;
    moe_ep_place(backend, &first, &count);
    for (int32_t i = 0; i < count; i++) {
        moe_ep_time t = {0};
        moe_ep_time_of(backend, first + i, backward, &t);
        pass[i] = t.pass_us;
        exchange[i] = t.exchange_us;
    }
    *ret_pass = range_of(pass, count);
    *ret_exchange = range_of(exchange, count);
}

static bool has_pass(const moe_problem *problem, int32_t backward) {
    return !backward || (problem->pass & MOE_PASS_BWD);
}

void cli_bench_ranks_text(FILE *to, const moe_backend *backend, const moe_problem *problem) {
    for (int32_t b = 0; b < 2 && has_pass(problem, b); b++) {
        moe_bench_range pass, exchange;
        ranges(backend, b, &pass, &exchange);
        fprintf(to,
                "  ranks, %s: least %.1f, median %.1f, most %.1f us; in exchanges, with waiting, "
                "%.1f, %.1f, %.1f\n",
                pass_name[b], pass.min, pass.median, pass.max, exchange.min, exchange.median,
                exchange.max);
    }
}

static json_t *range_json(const moe_bench_range *r) {
    return json_pack("{s:f, s:f, s:f}", "median", r->median, "min", r->min, "max", r->max);
}

json_t *cli_bench_ranks_json(const moe_backend *backend, const moe_problem *problem) {
    json_t *root = json_object();
    for (int32_t b = 0; b < 2 && has_pass(problem, b); b++) {
        moe_bench_range pass, exchange;
        ranges(backend, b, &pass, &exchange);
        json_object_set_new(root, pass_name[b],
                            json_pack("{s:o, s:o}", "pass_us", range_json(&pass), "exchange_us",
                                      range_json(&exchange)));
    }
    return root;
}
