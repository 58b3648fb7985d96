/* moeref predict and trace of several GPUs. */
#include "cli/verbs/predict_spread.h"
#include "cli/input/messages.h"
#include "cli/report/spread.h"

#include <string.h>

typedef struct spread {
    const cli_spread_options *s;
    moe_node *node;
    moe_gpu *gpu;
    moe_workload state;
} spread;

static void close_spread(spread *x) {
    moe_gpu_destroy(&x->gpu);
    moe_node_destroy(&x->node);
}

/* Asks about a line; the caller destroys *ret. */
static moe_status ask(const spread *x, const cli_question *q, const moe_ep_options *o,
                      moe_ep_prediction **ret) {
    if (q->is_gemm)
        return moe_fail(cli_log(), MOE_E_UNSUPPORTED, "a product is not spread over GPUs");
    return moe_predict_ep(x->node, x->gpu, &q->c, &x->state, o, cli_log(), ret);
}

static moe_status predict_one(const spread *x, const cli_question *q, const char *method,
                              bool json) {
    const moe_ep_options o = cli_spread_for(x->s, method);
    const cli_spread_asked what = {q->line, x->node, x->gpu, &o};
    moe_ep_prediction *p = NULL;
    const moe_status status = ask(x, q, &o, &p);
    if (!status)
        (json ? cli_spread_json : cli_spread_text)(stdout, &what, p);
    moe_ep_prediction_destroy(&p);
    return status;
}

static moe_status predict_line(const spread *x, const char *line, const cli_strings *methods,
                               bool json) {
    const bool all = methods->count == 1 && strcmp(methods->at[0], "all") == 0;
    cli_question q;
    moe_status status = cli_question_parse(line, cli_log(), &q);
    if (status)
        return status;
    if (methods->count == 0)
        status = predict_one(x, &q, NULL, json);
    for (size_t i = 0; !all && !status && i < methods->count; i++)
        status = predict_one(x, &q, methods->at[i], json);
    for (const char *const *m = moe_ep_methods(); all && !status && *m; m++)
        status = predict_one(x, &q, *m, json);
    cli_question_destroy(&q);
    return status;
}

moe_status cli_predict_spread(const cli_spread_options *s, const cli_model_options *m,
                              const cli_strings *lines, const cli_strings *methods, bool json) {
    spread x = {.s = s};
    moe_status status = cli_spread_open(s, m, &x.node, &x.gpu, &x.state);
    for (size_t i = 0; !status && i < lines->count; i++)
        status = predict_line(&x, lines->at[i], methods, json);
    close_spread(&x);
    return status;
}

moe_status cli_trace_spread(const cli_spread_options *s, const cli_model_options *m,
                            const char *line, const char *method, const char *path) {
    spread x = {.s = s};
    cli_question q = {0};
    moe_ep_prediction *p = NULL;
    const moe_ep_options o = cli_spread_for(s, method);
    moe_status status = cli_spread_open(s, m, &x.node, &x.gpu, &x.state);
    if (!status)
        status = cli_question_parse(line, cli_log(), &q);
    if (!status)
        status = ask(&x, &q, &o, &p);
    if (!status)
        status = cli_spread_trace(path, p);
    moe_ep_prediction_destroy(&p);
    cli_question_destroy(&q);
    close_spread(&x);
    return status;
}
