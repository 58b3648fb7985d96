/* Whole models as text and JSON. */
#include "cli/report/whole.h"
#include "cli/report/json.h"

#include <math.h>

#define GIB 1073741824.0

static double tokens_per_s(const cli_model_told *s) {
    const double replicas = s->layout ? (double)s->layout->replicas : 1;
    return s->us > 0 ? (double)s->run->tokens * replicas / s->us * 1e6 : 0;
}

static double weights(const cli_model_told *s, int64_t rank) {
    return s->rest->param_bytes + s->rank_bytes[rank];
}

/* One or more GPUs that have the same. */
static void print_memory(const cli_model_told *s, int64_t first, int64_t count, FILE *to) {
    const double needed = weights(s, first) + s->rest->kv_bytes + s->activations;
    const double gpus = ceil(needed / (s->hbm_gib * GIB));
    fprintf(to, "  memory");
    if (s->layout && count > 1)
        fprintf(to, " of GPUs %lld to %lld", (long long)first, (long long)(first + count - 1));
    else if (s->layout)
        fprintf(to, " of GPU %lld", (long long)first);
    fprintf(to, ": weights%s %.1f GB, keys and values %.2f GB, activations %.2f GB",
            s->run->pass == MOE_PASS_FWD ? "" : " and gradients", weights(s, first) / 1e9,
            s->rest->kv_bytes / 1e9, s->activations / 1e9);
    if (gpus > 1 && s->layout)
        fprintf(to, ": more than a %s has", s->gpu);
    else if (gpus > 1)
        fprintf(to, ": more than %s has, %.0f of them at least", s->gpu, gpus);
    fprintf(to, "\n");
}

static void print_where(const cli_model_told *s, FILE *to) {
    const cli_layout *l = s->layout;
    if (!l) {
        fprintf(to, ", on %s\n", s->gpu);
        return;
    }
    fprintf(to,
            ", on %lld x %s of %s\n  %s with kernels of %s: ep=%lld tp=%lld, attention over %lld, "
            "%lld replica%s with so many tokens each\n",
            (long long)l->gpus, s->gpu, moe_node_name(l->node), l->o.method, l->o.compute,
            (long long)l->o.ep, (long long)l->o.tp, (long long)l->attention_tp,
            (long long)l->replicas, l->replicas > 1 ? "s" : "");
}

/* GPUs from `first` on that have the same weights. */
static int64_t alike(const cli_model_told *s, int64_t first) {
    const int64_t gpus = s->layout ? s->layout->gpus : 1;
    int64_t end = first + 1;
    while (end < gpus && s->rank_bytes[end] == s->rank_bytes[first])
        end++;
    return end - first;
}

void cli_model_text(FILE *to, const cli_model_told *s) {
    const int64_t gpus = s->layout ? s->layout->gpus : 1;
    fprintf(to, "whole model, %lld tokens", (long long)s->run->tokens);
    if (s->run->context > 0)
        fprintf(to, ", each after %lld of its own", (long long)s->run->context);
    print_where(s, to);
    fprintf(to, "  %-22s %11.1f us\n", "MoE layers", s->moe_us);
    for (int p = 0; p < MOE_PART_COUNT; p++) {
        if (s->rest->us[p] > 0)
            fprintf(to, "  %-22s %11.1f us\n", moe_model_part_name((moe_model_part)p),
                    s->rest->us[p]);
    }
    fprintf(to, "  %-22s %11.1f us, %.1f tokens/s\n", "total", s->us, tokens_per_s(s));
    for (int64_t first = 0, count; first < gpus; first += count) {
        count = alike(s, first);
        print_memory(s, first, count, to);
    }
}

static void put_layout(cli_json *t, const cli_model_told *s) {
    const cli_layout *l = s->layout;
    cli_json_string(t, "node", moe_node_name(l->node));
    cli_json_string(t, "compute", l->o.compute);
    cli_json_int(t, "gpus", l->gpus);
    cli_json_int(t, "ep", l->o.ep);
    cli_json_int(t, "tp", l->o.tp);
    cli_json_int(t, "attention_tp", l->attention_tp);
    cli_json_int(t, "replicas", l->replicas);
    cli_json_open(t, "ranks", '[');
    for (int64_t first = 0, count; first < l->gpus; first += count) {
        count = alike(s, first);
        cli_json_open(t, NULL, '{');
        cli_json_int(t, "first", first);
        cli_json_int(t, "count", count);
        cli_json_real(t, "weight_bytes", weights(s, first));
        cli_json_real(t, "kv_bytes", s->rest->kv_bytes);
        cli_json_real(t, "activation_bytes", s->activations);
        cli_json_close(t, '}');
    }
    cli_json_close(t, ']');
}

/* Of the GPU that needs most. */
static double most_weights(const cli_model_told *s) {
    double most = 0;
    for (int64_t rank = 0; rank < (s->layout ? s->layout->gpus : 1); rank++)
        most = fmax(most, weights(s, rank));
    return most;
}

void cli_model_json(FILE *to, const cli_model_told *s) {
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
    cli_json_real(&t, "weight_bytes", most_weights(s));
    cli_json_real(&t, "kv_bytes", s->rest->kv_bytes);
    cli_json_real(&t, "activation_bytes", s->activations);
    cli_json_real(&t, "gpu_bytes", s->hbm_gib * GIB);
    if (s->layout)
        put_layout(&t, s);
    cli_json_close(&t, '}');
    cli_json_line(&t);
}
