#include "cli/report/allocated.h"
#include "cli/report/csv.h"

const char *cli_live_kind_name(int32_t kind) {
    switch ((moe_live_kind)kind) {
    case MOE_LIVE_WORK:
        return "work";
    case MOE_LIVE_CACHED:
        return "cached";
    case MOE_LIVE_WEIGHT:
        return "weight";
    case MOE_LIVE_GRADIENT:
        return "gradient";
    }
    return "";
}

/* Of all layers. */
typedef struct sums {
    long long weights, gradients, cached, peak;
} sums;

static sums own_sums(const moe_allocation *a, int64_t layers) {
    return (sums){layers * a->own.weights, layers * a->gradients, layers * a->own.cached,
                  layers * a->own.peak};
}

static sums bound_sums(const moe_allocation *a, int64_t layers) {
    const int64_t workspace = a->bound.peak - a->bound.cached;
    return (sums){layers * a->bound.weights, 0, layers * a->bound.cached,
                  layers * a->bound.cached + workspace};
}

static void print_sums(FILE *to, const char *backend, int64_t layers, const sums *s) {
    fprintf(to, "  %-10s", backend);
    if (layers > 1)
        fprintf(to, " %lld layers:", (long long)layers);
    fprintf(to, " cached %lld, peak %lld, weights %lld, gradients %lld bytes\n", s->cached, s->peak,
            s->weights, s->gradients);
}

void cli_allocated_text(FILE *to, int64_t layers, const moe_allocation *a) {
    const sums own = own_sums(a, layers), bound = bound_sums(a, layers);
    fprintf(to, "allocated by backend cuda, all of it as long as a layer lives\n");
    fprintf(to, "  %-24s %16s  kind\n", "buffer", "bytes");
    for (size_t i = 0; i < a->n_buffers; i++)
        fprintf(to, "  %-24s %16lld  %s\n", a->buffers[i].name, (long long)a->buffers[i].bytes,
                cli_live_kind_name(a->buffers[i].kind));
    print_sums(to, "cuda", layers, &own);
    if (a->unbound[0]) {
        fprintf(to, "  cuda:bound none: %s\n", a->unbound);
        return;
    }
    print_sums(to, "cuda:bound", layers, &bound);
    fprintf(to, "  operator   cached %lld, forward %lld, backward %lld bytes a call\n",
            (long long)a->sizes.cached, (long long)a->sizes.forward, (long long)a->sizes.backward);
}

static void put_sums(cli_json *to, const char *backend, const sums *s) {
    cli_json_string(to, "backend", backend);
    cli_json_int(to, "weights_bytes", s->weights);
    cli_json_int(to, "gradient_bytes", s->gradients);
    cli_json_int(to, "cached_bytes", s->cached);
    cli_json_int(to, "peak_bytes", s->peak);
}

static void put_buffers(cli_json *to, const moe_allocation *a) {
    cli_json_open(to, "buffers", '[');
    for (size_t i = 0; i < a->n_buffers; i++) {
        cli_json_open(to, NULL, '{');
        cli_json_string(to, "name", a->buffers[i].name);
        cli_json_string(to, "kind", cli_live_kind_name(a->buffers[i].kind));
        cli_json_int(to, "bytes", a->buffers[i].bytes);
        cli_json_close(to, '}');
    }
    cli_json_close(to, ']');
}

void cli_allocated_json(cli_json *to, int64_t layers, const moe_allocation *a) {
    const sums own = own_sums(a, layers), bound = bound_sums(a, layers);
    cli_json_open(to, "allocated", '[');
    cli_json_open(to, NULL, '{');
    put_sums(to, "cuda", &own);
    put_buffers(to, a);
    cli_json_close(to, '}');
    if (!a->unbound[0]) {
        cli_json_open(to, NULL, '{');
        put_sums(to, "cuda:bound", &bound);
        cli_json_int(to, "operator_cached_bytes", a->sizes.cached);
        cli_json_int(to, "operator_forward_bytes", a->sizes.forward);
        cli_json_int(to, "operator_backward_bytes", a->sizes.backward);
        cli_json_close(to, '}');
    }
    cli_json_close(to, ']');
}

void cli_allocated_csv(FILE *to, const cli_predicted *what, int64_t layers,
                       const moe_allocation *a) {
    for (size_t i = 0; i < a->n_buffers; i++) {
        cli_csv_quoted(to, what->question->line);
        fprintf(to, ",cuda,%lld,", (long long)layers);
        cli_csv_text(to, a->buffers[i].name);
        fprintf(to, ",%s,%lld,,,1\n", cli_live_kind_name(a->buffers[i].kind),
                (long long)a->buffers[i].bytes);
    }
}
