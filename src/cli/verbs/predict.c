/* moeref predict: how long will it take, what bounds it, how much memory? */
#include "cli/input/batch.h"
#include "cli/input/messages.h"
#include "cli/input/question.h"
#include "cli/report/prediction.h"
#include "cli/verbs/predict_slopes.h"
#include "cli/verbs/predict_spread.h"
#include "cli/verbs/predict_whole.h"
#include "cli/verbs/verbs.h"

#include <stdlib.h>
#include <string.h>

typedef struct predict_options {
    cli_model_options model;
    cli_spread_options spread;
    cli_strings cases, methods;
    const char *batch, *against;
    cli_whole whole;
    cli_output output;
    bool sensitivities, all_methods;
    bool failed;     /* a line of the batch, or one of all methods */
    bool impossible; /* a measured time lies further below its floor than L2 explains */
} predict_options;

/* What answers a line, and where to. */
typedef struct answer {
    const predict_options *o;
    const moe_gpu *gpu;
    const moe_workload *state;
    cli_spread_job *spread;
    const moe_log *log;
    FILE *to;
    bool *failed; /* set by any thread */
} answer;

static moe_status predict_one(const answer *a, const cli_question *s, const char *method) {
    moe_prediction *p = NULL;
    moe_status status = cli_question_predict(s, a->gpu, method, a->state, a->log, &p);
    if (status)
        return status;
    const cli_predicted what = {s, a->gpu, s->is_gemm ? "cublas" : method};
    if (a->o->output == CLI_TEXT) {
        cli_prediction_text(a->to, &what, p);
        if (a->o->sensitivities)
            status = cli_slopes_print(a->to, a->gpu, s, method, a->state, a->log,
                                      p->pass[MOE_PASS_TOTAL].us);
    } else if (a->o->output == CLI_CSV) {
        cli_prediction_csv(a->to, &what, p);
    } else {
        cli_prediction_json(a->to, &what, p);
    }
    moe_prediction_destroy(&p);
    return status;
}

/* One of all methods: that it cannot do this is a record, and does not keep the others from it. */
static moe_status predict_one_of_all(const answer *a, const cli_question *s, const char *method) {
    cli_heard h = {.log = a->log};
    const moe_log log = cli_hear(&h);
    answer aloud = *a;
    aloud.log = &log;
    const moe_status status = predict_one(&aloud, s, method);
    if (status != MOE_E_UNSUPPORTED)
        return status;
    cli_prediction_failure(a->to, a->o->output, s->line, moe_gpu_name(a->gpu), method, h.why);
#pragma omp atomic write
    *a->failed = true;
    return MOE_OK;
}

static moe_status predict_question(const answer *a, const cli_question *s) {
    moe_status status = MOE_OK;
    const size_t count = s->is_gemm ? 1 : a->o->methods.count;
    const cli_strings *named = a->spread->methods;
    if (s->is_gemm && !a->o->batch && named->count && strcmp(named->at[0], "cublas") != 0)
        return moe_fail(a->log, MOE_E_INVALID,
                        "--method is of layers: a product is cuBLAS's, whatever it says");
    for (size_t i = 0; !status && i < count; i++)
        status = (a->o->all_methods ? predict_one_of_all : predict_one)(a, s, a->o->methods.at[i]);
    return status;
}

/* A line that asks for several GPUs, in words of its own or as the command line does. */
static moe_status predict_spread(const answer *a, const cli_spread_options *spread,
                                 const char *line) {
    if (a->o->output == CLI_CSV || a->o->sensitivities)
        return moe_fail(a->log, MOE_E_UNSUPPORTED,
                        "a layer over several GPUs is told as text or json, without sensitivities");
    return cli_spread_job_line(a->spread, spread, line, a->log, a->to);
}

/* Of a cli_batch_job, as the next. */
static moe_status predict_line(const void *user, const char *line, const moe_log *log, FILE *to) {
    answer a = *(const answer *)user;
    cli_spread_options spread = a.o->spread;
    cli_question s;
    char *rest = NULL;
    a.log = log;
    a.to = to;
    moe_status status = cli_spread_take(line, log, &spread, &rest);
    if (!status && cli_spread_is_asked(&spread)) {
        status = predict_spread(&a, &spread, rest ? rest : line);
    } else if (!status) {
        status = cli_spread_check(&spread, NULL, 0, log);
        if (!status)
            status = cli_question_parse(rest ? rest : line, log, &s);
        if (!status) {
            status = predict_question(&a, &s);
            cli_question_destroy(&s);
        }
    }
    free(rest);
    return status;
}

static void fail_line(const void *user, const char *line, const char *why, FILE *to) {
    const answer *a = user;
    cli_prediction_failure(to, a->o->output, line, moe_gpu_name(a->gpu), a->o->methods.at[0], why);
}

static moe_status predict_batch(predict_options *o, const answer *a) {
    const cli_batch_job job = {.user = a, .make = predict_line, .fail = fail_line};
    long failed = 0;
    const moe_status status = cli_batch(o->batch, &job, &failed);
    o->failed |= failed > 0;
    return status;
}

/* One number of tokens after another. */
static moe_status predict_config(const predict_options *o, const answer *a) {
    const bool spread = cli_spread_is_asked(&o->spread);
    const cli_whole_job job = {.gpu = a->gpu,
                               .state = a->state,
                               .methods = spread ? a->spread->methods : &o->methods,
                               .spread = &o->spread,
                               .node = a->spread->node,
                               .all_methods = o->all_methods,
                               .output = o->output,
                               .to = a->to};
    const char *at = o->whole.tokens;
    moe_status status = MOE_OK;
    do {
        cli_question s;
        status = cli_whole_question(&o->whole, &at, &s);
        if (status)
            return status;
        if (!spread)
            status = predict_question(a, &s);
        if (!status && o->whole.layers)
            status = (spread ? cli_whole_spread : cli_whole_layers)(&o->whole, &job, &s);
        cli_question_destroy(&s);
    } while (!status && at);
    return status;
}

static moe_status predict_all(predict_options *o, cli_spread_job *spread) {
    const answer a = {.o = o,
                      .gpu = spread->gpu,
                      .state = &spread->state,
                      .spread = spread,
                      .log = cli_log(),
                      .to = stdout,
                      .failed = &o->failed};
    moe_status status = MOE_OK;
    if (o->output == CLI_CSV && !cli_spread_is_asked(&o->spread))
        cli_prediction_csv_header(stdout);
    for (size_t i = 0; !status && i < o->cases.count; i++)
        status = predict_line(&a, o->cases.at[i], cli_log(), stdout);
    if (!status && o->whole.config)
        status = predict_config(o, &a);
    if (!status && o->batch)
        status = predict_batch(o, &a);
    if (!status && o->against)
        status = cli_against(o->against, a.gpu, o->methods.at[0], a.state, o->output == CLI_JSON,
                             &o->impossible);
    return status;
}

static moe_status choose_methods(predict_options *o) {
    moe_status status = MOE_OK;
    if (o->methods.count == 1 && strcmp(o->methods.at[0], "all") == 0) {
        o->methods.count = 0;
        o->all_methods = true;
        for (const char *const *m = moe_methods(); !status && *m; m++)
            status = cli_strings_add(&o->methods, *m);
    } else if (o->methods.count == 0) {
        status = cli_strings_add(&o->methods, "moeref");
    }
    return status;
}

static int answer_all(predict_options *o) {
    cli_strings named = {0};
    cli_spread_job spread = {
        .methods = &named, .json = o->output == CLI_JSON, .failed = &o->failed};
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < o->methods.count; i++)
        status = cli_strings_add(&named, o->methods.at[i]);
    if (!status)
        status = choose_methods(o);
    if (!status)
        status = cli_spread_job_open(&spread, &o->spread, &o->model);
    if (!status)
        status = predict_all(o, &spread);
    cli_spread_job_close(&spread);
    cli_strings_destroy(&named);
    return !status && (o->impossible || o->failed) ? CLI_FAILED : cli_exit_code(status);
}

static int run(predict_options *o) {
    if (cli_spread_is_asked(&o->spread) && ((o->whole.config && !o->whole.layers) || o->against))
        return cli_usage("--ep, --tp and --node go with --case, --batch, or --config and --layers");
    if (o->whole.attention_tp && !cli_spread_is_asked(&o->spread))
        return cli_usage("--attention-tp goes with --ep or --tp");
    if (o->cases.count == 0 && !o->batch && !o->whole.config && !o->against)
        return cli_usage(
            "predict needs --case, --batch, --config or --against (moeref predict --help)");
    const char *wrong = cli_whole_wrong(&o->whole, o->output);
    if (wrong)
        return cli_usage("%s", wrong);
    if (o->sensitivities && o->output != CLI_TEXT)
        return cli_usage("--sensitivities are part of the text output");
    if (o->against && o->model.converts)
        return cli_usage("--converts is of products \"gemm ...\": a bench has layers");
    if (o->against && (o->methods.count > 1 || o->sensitivities || o->output == CLI_CSV ||
                       (o->methods.count && strcmp(o->methods.at[0], "all") == 0)))
        return cli_usage("--against judges one --method and prints text or json");
    return answer_all(o);
}

int cli_predict(int argc, char **argv) {
    predict_options o = {.spread = CLI_SPREAD_DEFAULTS};
    char help[8192];
    const cli_option options[] = {
        {"case", CLI_STRINGS, &o.cases, "\"T=.. d=..\"",
         "a layer, or \"gemm m=.. n=.. k=.. [batch=..]\"; may be repeated. route=router, the "
         "default, counts as balanced but for token rounding; route=uniform draws"},
        {"batch", CLI_STRING, &o.batch, "FILE",
         "one such line each; - is standard input. A line that is wrong becomes a record with its "
         "error and exit code 1; the others are answered"},
        {"against", CLI_STRING, &o.against, "FILE",
         "measured beside predicted: what moeref bench --output json wrote"},
        CLI_WHOLE_OPTIONS(o.whole),
        {"method", CLI_STRINGS, &o.methods, "NAME",
         "who runs it, or all (default moeref); exit code 1 where one of all cannot"},
        CLI_MODEL_OPTIONS(o.model),
        CLI_SPREAD_OPTIONS(o.spread),
        {"sensitivities", CLI_FLAG, &o.sensitivities, NULL,
         "slope of the time in each parameter of the GPU that may change little by little"},
        {"output", CLI_OUTPUT, &o.output, "text|json|csv", "json: one object a line"},
        {0}};
    cli_method_help(help, sizeof help);
    cli_spread_help(help, sizeof help);
    cli_slopes_help(help, sizeof help);
    int code = cli_parse(argc, argv,
                         "Predicts time, traffic and memory of a layer on a GPU, without one. With "
                         "--against a measured\ntime further below its floor than L2 explains is a "
                         "measuring error: exit code 1.",
                         options, help, NULL);
    if (code < 0)
        code = run(&o);
    cli_strings_destroy(&o.cases);
    cli_strings_destroy(&o.methods);
    cli_strings_destroy(&o.model.what_if);
    return code;
}
