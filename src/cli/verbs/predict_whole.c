/* moeref predict --config: a layer, all layers, and the whole model around them. */
#include "cli/verbs/predict_whole.h"
#include "cli/input/messages.h"
#include "cli/report/whole.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The next number of "T,T,.." at *at, which goes on; 0: the default; below 0: none from 1 on. */
static int64_t next_tokens(const char **at) {
    char *end;
    if (!*at)
        return 0;
    const long long value = strtoll(*at, &end, 10);
    const bool is_number = end != *at && value >= 1 && (*end == ',' || *end == '\0');
    *at = *end == ',' ? end + 1 : NULL;
    return is_number ? value : -1;
}

static bool tokens_are_numbers(const char *at) {
    while (at) {
        if (next_tokens(&at) < 0)
            return false;
    }
    return true;
}

const char *cli_whole_wrong(const cli_whole *w, cli_output output) {
    if (!tokens_are_numbers(w->tokens))
        return "--tokens takes whole numbers from 1 on, T or T,T,..";
    if ((w->layers || w->dtype || w->pass || w->route || w->tokens) && !w->config)
        return "--layers, --dtype, --pass, --route and --tokens go with --config";
    if (w->context && !w->layers)
        return "--context is a number of tokens, with --layers all";
    if (w->context && (!w->pass || strcmp(w->pass, "fwd") != 0))
        return "--context is decoding, which has no backward pass: say --pass fwd too";
    if (w->step_us < 0 || w->sequence_us < 0 || ((w->step_us || w->sequence_us) && !w->layers))
        return "--step-us and --sequence-us are microseconds, with --layers all";
    if (w->layers && strcmp(w->layers, "all") != 0)
        return "--layers takes \"all\"";
    if (w->attention_tp && !w->layers)
        return "--attention-tp is a number of GPUs, with --layers all and --ep or --tp";
    if (w->layers && output == CLI_CSV)
        return "--layers has text and JSON, no CSV";
    return NULL;
}

moe_status cli_whole_question(const cli_whole *w, const char **at, cli_question *ret) {
    const int64_t tokens = next_tokens(at);
    return cli_question_config(w->config, tokens, w->dtype, w->pass,
                               w->route || !w->layers ? w->route : "uniform", ret);
}

static void say_unknown(const moe_model_shape *m, const char *config) {
    if (m->unknown > 0)
        moe_log_send(cli_log(), MOE_LOG_WARN,
                     "%s: %lld of %lld layers mix tokens in ways that are not modelled (Mamba, "
                     "linear, indexed or compressed attention, convolutions): that is left out",
                     config, (long long)m->unknown, (long long)m->layers);
    if (m->left_out)
        moe_log_send(cli_log(), MOE_LOG_WARN, "%s: the model is taken without %s", config,
                     m->left_out);
}

/* The model whose MoE layers together take *layers; layout and rank_bytes as in cli_model_told. */
static moe_status predict_whole(const cli_whole *w, const cli_whole_job *job, const char *method,
                                const moe_case *c, const cli_layers *layers,
                                const cli_layout *layout, const double *rank_bytes) {
    moe_model_shape m;
    moe_model_rest rest;
    const moe_model_run run = {.tokens = c->T,
                               .context = w->context,
                               .pass = c->pass,
                               .step_us = (double)w->step_us,
                               .sequence_us = (double)w->sequence_us,
                               .node = layout ? layout->node : NULL,
                               .attention_tp = layout ? layout->attention_tp : 1,
                               .replicas = layout ? layout->replicas : 1};
    cli_model_told s = {.run = &run,
                        .rest = &rest,
                        .method = method,
                        .gpu = moe_gpu_name(job->gpu),
                        .layout = layout,
                        .rank_bytes = rank_bytes};
    moe_status status = moe_model_shape_from_config(w->config, cli_log(), &m);
    if (!status)
        status = moe_predict_rest(job->gpu, layout ? layout->o.compute : method, &m, &run,
                                  job->state, cli_log(), &rest);
    if (status)
        return status;
    say_unknown(&m, w->config);
    s.us = s.moe_us = layers->us;
    for (int p = 0; p < MOE_PART_COUNT; p++)
        s.us += rest.us[p];
    /* What a forward pass would keep for a backward pass goes where there is none. */
    s.activations = layers->peak_bytes + (run.pass == MOE_PASS_FWD ? 0 : layers->cached_bytes);
    moe_gpu_get(job->gpu, "hbm_gib", &s.hbm_gib);
    (job->output == CLI_TEXT ? cli_model_text : cli_model_json)(job->to, &s);
    return MOE_OK;
}

/* The first layer's question for another layer. MOE_E_NOTFOUND: it has no experts. */
static moe_status ask_layer(const cli_whole *w, const cli_question *first, int64_t layer,
                            cli_question *ret) {
    moe_layer_desc desc;
    int64_t hidden;
    moe_status status = moe_layer_of_config(w->config, layer, cli_log(), &desc, &hidden);
    return status ? status : cli_question_layer(first, &desc, hidden, ret);
}

static moe_status add_layer(const cli_whole_job *job, const cli_question *s, const char *method,
                            cli_layers *sum) {
    const moe_log silent = {0};
    moe_prediction *p = NULL;
    moe_status status = cli_question_predict(s, job->gpu, method, job->state,
                                             job->all_methods ? &silent : cli_log(), &p);
    if (status)
        return status;
    sum->us += p->pass[MOE_PASS_TOTAL].us;
    sum->param_bytes += p->param_bytes;
    sum->cached_bytes += p->cached_bytes;
    sum->peak_bytes = fmax(sum->peak_bytes, p->peak_bytes);
    moe_prediction_destroy(&p);
    return MOE_OK;
}

/* How a layer is added up: on one GPU, or spread. */
typedef struct adder {
    const cli_whole_job *job;
    const char *method;
    const cli_layout *layout; /* NULL: one GPU */
    cli_layers *sum;
    double *rank_bytes;
} adder;

static moe_status add_one(const adder *a, const cli_question *s) {
    return a->layout
               ? cli_layout_add(a->layout, a->job->gpu, a->job->state, s, a->sum, a->rank_bytes)
               : add_layer(a->job, s, a->method, a->sum);
}

static moe_status add_layers(const cli_whole *w, const cli_question *first, const adder *a) {
    moe_status status = MOE_OK;
    for (int64_t layer = 0; !status && layer < a->sum->all; layer++) {
        cli_question s;
        status = ask_layer(w, first, layer, &s);
        if (status == MOE_E_NOTFOUND) {
            status = MOE_OK;
            continue;
        }
        if (!status) {
            status = add_one(a, &s);
            cli_question_destroy(&s);
        }
    }
    return status;
}

static moe_status spread_by(const cli_whole *w, const cli_whole_job *job, const cli_question *first,
                            const char *method) {
    cli_layout layout = {0};
    cli_layers sum = {0};
    double *rank_bytes = NULL;
    moe_status status = cli_layout_of(job->spread, job->node, w->attention_tp, method, &layout);
    if (!status)
        status = cli_spread_check(job->spread, &layout.o.method, 1, cli_log());
    if (!status)
        status = cli_converts_check(job->state, false, cli_log());
    if (!status)
        status = moe_layers_from_config(w->config, cli_log(), &sum.with_experts, &sum.all);
    if (!status && !(rank_bytes = calloc((size_t)layout.gpus, sizeof *rank_bytes)))
        status = moe_fail(cli_log(), MOE_E_NOMEM, "prediction: out of memory");
    const adder a = {job, layout.o.method, &layout, &sum, rank_bytes};
    if (!status)
        status = add_layers(w, first, &a);
    if (!status)
        status = predict_whole(w, job, layout.o.method, &first->c, &sum, &layout, rank_bytes);
    free(rank_bytes);
    return status;
}

moe_status cli_whole_spread(const cli_whole *w, const cli_whole_job *job,
                            const cli_question *first) {
    moe_status status = job->methods->count ? MOE_OK : spread_by(w, job, first, NULL);
    for (size_t i = 0; !status && i < job->methods->count; i++)
        status = spread_by(w, job, first, job->methods->at[i]);
    return status;
}

moe_status cli_whole_layers(const cli_whole *w, const cli_whole_job *job,
                            const cli_question *first) {
    cli_layers sum = {.trains = first->c.pass != MOE_PASS_FWD};
    moe_status status = moe_layers_from_config(w->config, cli_log(), &sum.with_experts, &sum.all);
    for (size_t i = 0; !status && i < job->methods->count; i++) {
        const char *method = job->methods->at[i];
        sum.us = sum.param_bytes = sum.cached_bytes = sum.peak_bytes = 0;
        const adder a = {job, method, NULL, &sum, NULL};
        status = add_layers(w, first, &a);
        if (!status) {
            cli_prediction_layers(job->to, job->output, method, &sum);
            status = predict_whole(w, job, method, &first->c, &sum, NULL, &sum.param_bytes);
        } else if (job->all_methods && status == MOE_E_UNSUPPORTED) {
            status = MOE_OK;
        }
    }
    return status;
}
