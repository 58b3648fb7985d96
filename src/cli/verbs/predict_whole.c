/* moeref predict --layers all: the whole model around its MoE layers. */
#include "cli/verbs/predict_whole.h"
#include "cli/input/messages.h"
#include "cli/report/json.h"

#include <math.h>
#include <stdio.h>

#define GIB 1073741824.0

/* What a model adds up to. */
typedef struct sum {
    const cli_whole *what;
    const moe_model_shape *m;
    const moe_model_rest *rest;
    const char *method, *gpu;
    double moe_us, us, weights, activations, hbm_gib;
} sum;

static double tokens_per_s(const sum *s) {
    return s->us > 0 ? (double)s->what->run.tokens / s->us * 1e6 : 0;
}

static double memory(const sum *s) {
    return s->weights + s->rest->kv_bytes + s->activations;
}

static void print_text(const sum *s, FILE *to) {
    const double needed = memory(s), gpus = ceil(needed / (s->hbm_gib * GIB));
    fprintf(to, "whole model, %lld tokens", (long long)s->what->run.tokens);
    if (s->what->run.context > 0)
        fprintf(to, ", each after %lld of its own", (long long)s->what->run.context);
    fprintf(to, ", on %s\n  %-22s %11.1f us\n", s->gpu, "MoE layers", s->moe_us);
    for (int p = 0; p < MOE_PART_COUNT; p++) {
        if (s->rest->us[p] > 0)
            fprintf(to, "  %-22s %11.1f us\n", moe_model_part_name((moe_model_part)p),
                    s->rest->us[p]);
    }
    fprintf(to, "  %-22s %11.1f us, %.1f tokens/s\n", "total", s->us, tokens_per_s(s));
    fprintf(to, "  memory: weights%s %.1f GB, keys and values %.2f GB, activations %.2f GB",
            s->what->run.pass == MOE_PASS_FWD ? "" : " and gradients", s->weights / 1e9,
            s->rest->kv_bytes / 1e9, s->activations / 1e9);
    if (gpus > 1)
        fprintf(to, ": more than %s has, %.0f of them at least", s->gpu, gpus);
    fprintf(to, "\n");
}

static void print_json(const sum *s, FILE *to) {
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_int(&t, "moeref", CLI_JSON_VERSION);
    cli_json_string(&t, "gpu", s->gpu);
    cli_json_string(&t, "method", s->method);
    cli_json_int(&t, "tokens", s->what->run.tokens);
    cli_json_int(&t, "context", s->what->run.context);
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

moe_status cli_predict_whole(const cli_whole *what, const moe_gpu *gpu, const char *method,
                             const moe_workload *state, const cli_layers *layers, FILE *to) {
    moe_model_shape m;
    moe_model_rest rest;
    sum s = {.what = what, .m = &m, .rest = &rest, .method = method, .gpu = moe_gpu_name(gpu)};
    moe_status status = moe_model_shape_from_config(what->config, cli_log(), &m);
    if (!status)
        status = moe_predict_rest(gpu, method, &m, &what->run, state, cli_log(), &rest);
    if (status)
        return status;
    say_unknown(&m, what->config);
    s.us = s.moe_us = layers->us;
    for (int p = 0; p < MOE_PART_COUNT; p++)
        s.us += rest.us[p];
    s.weights = rest.param_bytes + layers->param_bytes;
    s.activations = layers->cached_bytes + layers->peak_bytes;
    moe_gpu_get(gpu, "hbm_gib", &s.hbm_gib);
    if (what->output == CLI_TEXT)
        print_text(&s, to);
    else
        print_json(&s, to);
    return MOE_OK;
}
