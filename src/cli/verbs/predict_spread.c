/* moeref predict and trace of several GPUs. */
#include "cli/verbs/predict_spread.h"
#include "cli/input/messages.h"
#include "cli/report/prediction.h"
#include "cli/report/spread.h"

#include <stdlib.h>
#include <string.h>

moe_status cli_spread_job_open(cli_spread_job *job, const cli_spread_options *s,
                               const cli_model_options *m) {
    if (cli_spread_is_asked(s))
        return cli_spread_open(s, m, &job->node, &job->gpu, &job->state);
    return cli_spread_open_alone(m, &job->gpu, &job->state);
}

void cli_spread_job_close(cli_spread_job *job) {
    moe_gpu_destroy(&job->gpu);
    moe_node_destroy(&job->node);
}

/* The node that nobody named is loaded for the first line that asks for several GPUs: most batches
 * have none. */
static moe_status need_node(cli_spread_job *x, const moe_log *log) {
    moe_status status = MOE_OK;
#pragma omp critical(cli_spread_node)
    if (!x->node)
        status = moe_node_load(CLI_SPREAD_NODE, log, &x->node);
    return status;
}

/* Asks about a line; the caller destroys *ret. */
static moe_status ask(cli_spread_job *x, const cli_question *q, const moe_ep_options *o,
                      const moe_log *log, moe_ep_prediction **ret) {
    if (q->is_gemm)
        return moe_fail(log, MOE_E_UNSUPPORTED, "a product is not spread over GPUs");
    moe_status status = cli_converts_check(&x->state, false, log);
    if (!status)
        status = need_node(x, log);
    return status ? status : moe_predict_ep(x->node, x->gpu, &q->c, &x->state, o, log, ret);
}

static moe_status predict_one(cli_spread_job *x, const cli_spread_options *s, const cli_question *q,
                              const char *method, const moe_log *log, FILE *to) {
    const moe_ep_options o = cli_spread_for(s, method);
    moe_ep_prediction *p = NULL;
    const moe_status status = ask(x, q, &o, log, &p);
    const cli_spread_asked what = {q->line, x->node, x->gpu, &o};
    if (!status)
        (x->json ? cli_spread_json : cli_spread_text)(to, &what, p);
    moe_ep_prediction_destroy(&p);
    return status;
}

static moe_status predict_one_of_all(cli_spread_job *x, const cli_spread_options *s,
                                     const cli_question *q, const char *method, const moe_log *log,
                                     FILE *to) {
    cli_heard h = {.log = log};
    const moe_log aloud = cli_hear(&h);
    const moe_status status = predict_one(x, s, q, method, &aloud, to);
    if (status != MOE_E_UNSUPPORTED)
        return status;
    cli_prediction_failure(to, x->json ? CLI_JSON : CLI_TEXT, q->line, moe_gpu_name(x->gpu), method,
                           h.why);
#pragma omp atomic write
    *x->failed = true;
    return MOE_OK;
}

moe_status cli_spread_job_line(cli_spread_job *x, const cli_spread_options *s, const char *line,
                               const moe_log *log, FILE *to) {
    const cli_strings *methods = x->methods;
    const char *own = cli_spread_for(s, NULL).method;
    const bool all = methods->count == 1 && strcmp(methods->at[0], "all") == 0;
    cli_question q;
    moe_status status = MOE_OK;
    if (!all && methods->count)
        status = cli_spread_check(s, methods->at, methods->count, log);
    else if (!all)
        status = cli_spread_check(s, &own, 1, log);
    if (!status)
        status = cli_question_parse(line, log, &q);
    if (status)
        return status;
    if (methods->count == 0)
        status = predict_one(x, s, &q, NULL, log, to);
    for (size_t i = 0; !all && !status && i < methods->count; i++)
        status = predict_one(x, s, &q, methods->at[i], log, to);
    for (const char *const *m = moe_ep_methods(); all && !status && *m; m++)
        status = predict_one_of_all(x, s, &q, *m, log, to);
    cli_question_destroy(&q);
    return status;
}

moe_status cli_trace_spread(const cli_spread_options *s, const cli_model_options *m,
                            const char *line, const char *method, const char *path) {
    cli_spread_job x = {0};
    cli_question q = {0};
    moe_ep_prediction *p = NULL;
    const moe_ep_options o = cli_spread_for(s, method);
    moe_status status = cli_spread_check(s, &o.method, 1, cli_log());
    if (!status)
        status = cli_spread_job_open(&x, s, m);
    if (!status)
        status = cli_question_parse(line, cli_log(), &q);
    if (!status)
        status = ask(&x, &q, &o, cli_log(), &p);
    if (!status)
        status = cli_spread_trace(path, p);
    moe_ep_prediction_destroy(&p);
    cli_question_destroy(&q);
    cli_spread_job_close(&x);
    return status;
}
