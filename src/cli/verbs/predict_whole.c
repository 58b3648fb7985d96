/* moeref predict --config: a layer, all layers, and the whole model around them. */
#include "cli/verbs/predict_whole.h"
#include "cli/input/messages.h"
#include "cli/report/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB 1073741824.0

/* The next number of "T,T,.." at *at, which goes on; 0: the default; below 0: not a number. */
static int64_t next_tokens(const char **at) {
    char *end;
    if (!*at)
        return 0;
    const long long value = strtoll(*at, &end, 10);
    const bool is_number = end != *at && value >= 0 && (*end == ',' || *end == '\0');
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
        return "--tokens takes numbers, T or T,T,..; they must not be negative";
    if ((w->layers || w->dtype || w->pass || w->route) && !w->config)
        return "--layers, --dtype, --pass and --route go with --config";
    if (w->context < 0 || (w->context && !w->layers))
        return "--context is a number of tokens, with --layers all";
    if (w->step_us < 0 || w->sequence_us < 0 || ((w->step_us || w->sequence_us) && !w->layers))
        return "--step-us and --sequence-us are microseconds, with --layers all";
    if (w->layers && strcmp(w->layers, "all") != 0)
        return "--layers takes \"all\"";
    if (w->layers && output == CLI_CSV)
        return "--layers has text and JSON, no CSV";
    return NULL;
}

moe_status cli_whole_question(const cli_whole *w, const char **at, cli_question *ret) {
    const int64_t tokens = next_tokens(at);
    return cli_question_config(w->config, tokens, w->dtype, w->pass,
                               w->route || !w->layers ? w->route : "uniform", ret);
}

/* What a model adds up to. */
typedef struct told {
    const moe_model_run *run;
    const moe_model_rest *rest;
    const char *method, *gpu;
    double moe_us, us, weights, activations, hbm_gib;
} told;

static double tokens_per_s(const told *s) {
    return s->us > 0 ? (double)s->run->tokens / s->us * 1e6 : 0;
}

static double memory(const told *s) {
    return s->weights + s->rest->kv_bytes + s->activations;
}

static void print_text(const told *s, FILE *to) {
    const double needed = memory(s), gpus = ceil(needed / (s->hbm_gib * GIB));
    fprintf(to, "whole model, %lld tokens", (long long)s->run->tokens);
    if (s->run->context > 0)
        fprintf(to, ", each after %lld of its own", (long long)s->run->context);
    fprintf(to, ", on %s\n  %-22s %11.1f us\n", s->gpu, "MoE layers", s->moe_us);
    for (int p = 0; p < MOE_PART_COUNT; p++) {
        if (s->rest->us[p] > 0)
            fprintf(to, "  %-22s %11.1f us\n", moe_model_part_name((moe_model_part)p),
                    s->rest->us[p]);
    }
    fprintf(to, "  %-22s %11.1f us, %.1f tokens/s\n", "total", s->us, tokens_per_s(s));
    fprintf(to, "  memory: weights%s %.1f GB, keys and values %.2f GB, activations %.2f GB",
            s->run->pass == MOE_PASS_FWD ? "" : " and gradients", s->weights / 1e9,
            s->rest->kv_bytes / 1e9, s->activations / 1e9);
    if (gpus > 1)
        fprintf(to, ": more than %s has, %.0f of them at least", s->gpu, gpus);
    fprintf(to, "\n");
}

static void print_json(const told *s, FILE *to) {
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_int(&t, "moeref", CLI_JSON_VERSION);
    cli_json_string(&t, "gpu", s->gpu);
    cli_json_string(&t, "method", s->method);
    cli_json_int(&t, "tokens", s->run->tokens);
    cli_json_int(&t, "context", s->run->context);
    cli_json_open(&t, "parts", '{');
    cli_json_real(&t, "MoE layers", s->moe_us);
    for (int p = 0; p < MOE_PART_COUNT; p++)
        cli_json_real(&t, moe_model_part_name((moe_model_part)p), s->rest->us[p]);
    cli_json_close(&t, '}');
    cli_json_real(&t, "model_us", s->us);
    cli_json_real(&t, "tokens_per_s", tokens_per_s(s));
    cli_json_real(&t, "weight_bytes", s->weights);
    cli_json_real(&t, "kv_bytes", s->rest->kv_bytes);
    cli_json_real(&t, "activation_bytes", s->activations);
    cli_json_real(&t, "gpu_bytes", s->hbm_gib * GIB);
    cli_json_close(&t, '}');
    cli_json_line(&t);
}

static void say_unknown(const moe_model_shape *m, const char *config) {
    if (m->unknown > 0)
        moe_log_send(cli_log(), MOE_LOG_WARN,
                     "%s: %lld of %lld layers neither attend nor are feed-forward (Mamba, linear "
                     "attention, convolutions): they are left out",
                     config, (long long)m->unknown, (long long)m->layers);
}

/* The model whose MoE layers together take *layers. */
static moe_status predict_whole(const cli_whole *w, const cli_whole_job *job, const char *method,
                                const moe_case *c, const cli_layers *layers) {
    moe_model_shape m;
    moe_model_rest rest;
    const moe_model_run run = {c->T, w->context, c->pass, (double)w->step_us,
                               (double)w->sequence_us};
    told s = {.run = &run, .rest = &rest, .method = method, .gpu = moe_gpu_name(job->gpu)};
    moe_status status = moe_model_shape_from_config(w->config, cli_log(), &m);
    if (!status)
        status = moe_predict_rest(job->gpu, method, &m, &run, job->state, cli_log(), &rest);
    if (status)
        return status;
    say_unknown(&m, w->config);
    s.us = s.moe_us = layers->us;
    for (int p = 0; p < MOE_PART_COUNT; p++)
        s.us += rest.us[p];
    s.weights = rest.param_bytes + layers->param_bytes;
    s.activations = layers->cached_bytes + layers->peak_bytes;
    moe_gpu_get(job->gpu, "hbm_gib", &s.hbm_gib);
    if (job->output == CLI_TEXT)
        print_text(&s, job->to);
    else
        print_json(&s, job->to);
    return MOE_OK;
}

/* The first layer's question for another layer. MOE_E_NOTFOUND: it has no experts. */
static moe_status ask_layer(const cli_whole *w, const cli_question *first, int64_t layer,
                            cli_question *ret) {
    moe_layer_desc desc;
    moe_status status = moe_layer_of_config(w->config, layer, cli_log(), &desc);
    return status ? status : cli_question_layer(first, &desc, ret);
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

static moe_status add_layers(const cli_whole *w, const cli_whole_job *job,
                             const cli_question *first, const char *method, cli_layers *sum) {
    moe_status status = MOE_OK;
    for (int64_t layer = 0; !status && layer < sum->all; layer++) {
        cli_question s;
        status = ask_layer(w, first, layer, &s);
        if (status == MOE_E_NOTFOUND) {
            status = MOE_OK;
            continue;
        }
        if (!status) {
            status = add_layer(job, &s, method, sum);
            cli_question_destroy(&s);
        }
    }
    return status;
}

moe_status cli_whole_layers(const cli_whole *w, const cli_whole_job *job,
                            const cli_question *first) {
    cli_layers sum = {0};
    moe_status status = moe_layers_from_config(w->config, cli_log(), &sum.with_experts, &sum.all);
    for (size_t i = 0; !status && i < job->methods->count; i++) {
        const char *method = job->methods->at[i];
        sum.us = sum.param_bytes = sum.cached_bytes = sum.peak_bytes = 0;
        status = add_layers(w, job, first, method, &sum);
        if (!status) {
            cli_prediction_layers(job->to, job->output, method, &sum);
            status = predict_whole(w, job, method, &first->c, &sum);
        } else if (job->all_methods && status == MOE_E_UNSUPPORTED) {
            status = MOE_OK;
        }
    }
    return status;
}
