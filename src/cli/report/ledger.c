#include "cli/report/ledger.h"
#include "cli/report/allocated.h"
#include "cli/report/csv.h"
#include "cli/report/json.h"

#include <math.h>

enum { BAR = 40 }; /* characters of the longest bar */

static const char *stage_name(int32_t stage) {
    return stage == MOE_STAGE_COUNT ? "" : moe_stage_name((moe_stage)stage);
}

static bool is_activation(const moe_live *t) {
    return t->kind == MOE_LIVE_WORK || t->kind == MOE_LIVE_CACHED;
}

cli_ledger_sums cli_ledger_sum(const moe_prediction *p, int64_t layers) {
    const double n = (double)layers;
    cli_ledger_sums s = {.cached = n * p->cached_bytes,
                         .peak = (n - 1) * p->cached_bytes + p->peak_bytes};
    for (size_t i = 0; i < p->n_tensors; i++) {
        if (p->tensors[i].kind == MOE_LIVE_WEIGHT)
            s.weights += n * p->tensors[i].bytes;
        else if (p->tensors[i].kind == MOE_LIVE_GRADIENT)
            s.gradients += n * p->tensors[i].bytes;
    }
    return s;
}

static void put_bar(FILE *to, double bytes, double longest) {
    const int length = longest > 0 ? (int)lround(BAR * bytes / longest) : 0;
    for (int i = 0; i < length; i++)
        putc('#', to);
    putc('\n', to);
}

/* Longest bar among activations, or among weights: these dwarf those. */
static double longest_of(const moe_prediction *p, bool activations) {
    double most = 0;
    for (size_t i = 0; i < p->n_tensors; i++)
        if (is_activation(&p->tensors[i]) == activations)
            most = fmax(most, p->tensors[i].bytes);
    return most;
}

static void print_tensor(FILE *to, const moe_prediction *p, size_t i, double longest) {
    const moe_live *t = &p->tensors[i];
    fprintf(to, "  %-14s %16.0f  %-8s %-12s %-12s %s ", t->name, t->bytes,
            cli_live_kind_name(t->kind), is_activation(t) ? stage_name(t->first) : "",
            !is_activation(t)            ? ""
            : t->last == MOE_STAGE_COUNT ? "end"
                                         : stage_name(t->last),
            moe_prediction_at_peak(p, i) ? "*" : " ");
    put_bar(to, t->bytes, longest);
}

void cli_ledger_text(FILE *to, const cli_predicted *what, int64_t layers, const moe_prediction *p,
                     const moe_allocation *a) {
    const cli_ledger_sums s = cli_ledger_sum(p, layers);
    const double longest = longest_of(p, true), heaviest = longest_of(p, false);
    fprintf(to, "%s\n%s, memory of a layer (* alive at the peak)\n", what->question->line,
            what->method);
    fprintf(to, "  %-14s %16s  %-8s %-12s to\n", "tensor", "bytes", "kind", "from");
    for (size_t i = 0; i < p->n_tensors; i++)
        print_tensor(to, p, i, is_activation(&p->tensors[i]) ? longest : heaviest);
    fprintf(to, "  cached %.0f, peak %.0f, weights and gradients %.0f bytes\n", p->cached_bytes,
            p->peak_bytes, p->param_bytes);
    if (layers > 1)
        fprintf(to, "  %lld layers: cached %.0f, peak %.0f, weights and gradients %.0f bytes\n",
                (long long)layers, s.cached, s.peak, s.weights + s.gradients);
    if (a)
        cli_allocated_text(to, layers, a);
}

static void put_tensor(cli_json *t, const moe_prediction *p, size_t i) {
    const moe_live *live = &p->tensors[i];
    cli_json_open(t, NULL, '{');
    cli_json_string(t, "name", live->name);
    cli_json_string(t, "kind", cli_live_kind_name(live->kind));
    cli_json_int(t, "bytes", (long long)ceil(live->bytes));
    if (is_activation(live)) {
        cli_json_string(t, "pass", live->backward ? "bwd" : "fwd");
        cli_json_string(t, "first", stage_name(live->first));
        cli_json_string(t, "last", stage_name(live->last));
        cli_json_int(t, "at_peak", moe_prediction_at_peak(p, i));
    }
    cli_json_close(t, '}');
}

void cli_ledger_json(FILE *to, const cli_predicted *what, int64_t layers, const moe_prediction *p,
                     const moe_allocation *a) {
    const cli_ledger_sums s = cli_ledger_sum(p, layers);
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_int(&t, "moeref", CLI_JSON_VERSION);
    cli_json_string(&t, "case", what->question->line);
    cli_json_string(&t, "method", what->method);
    cli_json_int(&t, "layers", layers);
    cli_json_int(&t, "weight_bytes", (long long)ceil(s.weights));
    cli_json_int(&t, "gradient_bytes", (long long)ceil(s.gradients));
    cli_json_int(&t, "cached_bytes", (long long)ceil(s.cached));
    cli_json_int(&t, "peak_bytes", (long long)ceil(s.peak));
    cli_json_open(&t, "tensors", '[');
    for (size_t i = 0; i < p->n_tensors; i++)
        put_tensor(&t, p, i);
    cli_json_close(&t, ']');
    if (a)
        cli_allocated_json(&t, layers, a);
    cli_json_close(&t, '}');
    cli_json_line(&t);
}

void cli_ledger_csv_header(FILE *to) {
    fprintf(to, "case,method,layers,tensor,kind,bytes,first,last,at_peak\n");
}

void cli_ledger_csv(FILE *to, const cli_predicted *what, int64_t layers, const moe_prediction *p,
                    const moe_allocation *a) {
    for (size_t i = 0; i < p->n_tensors; i++) {
        const moe_live *t = &p->tensors[i];
        cli_csv_quoted(to, what->question->line);
        fprintf(to, ",%s,%lld,%s,%s,%.0f,%s,%s,%d\n", what->method, (long long)layers, t->name,
                cli_live_kind_name(t->kind), t->bytes, stage_name(t->first), stage_name(t->last),
                moe_prediction_at_peak(p, i));
    }
    if (a)
        cli_allocated_csv(to, what, layers, a);
}
