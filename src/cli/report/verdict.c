#include "cli/report/verdict.h"
#include "cli/report/beside.h"
#include "cli/report/cause.h"
#include "cli/report/coverage.h"
#include "cli/report/map.h"
#include "cli/report/tint.h"

#include <string.h>

#include <math.h>

static void print_index(FILE *to, const moe_tensor_verdict *v) {
    fprintf(to, "%s[", v->name);
    for (int i = 0; i < v->worst_ndim; i++)
        fprintf(to, "%s%lld", i ? ", " : "", (long long)v->worst_index[i]);
    fprintf(to, "]");
}

/* A figure where it applies to this tensor. */
static void print_figure(FILE *to, const char *name, double value) {
    if (value > 0)
        fprintf(to, "  %s %.2e", name, value);
}

static void print_figures(FILE *to, const moe_tensor_verdict *v) {
    if (v->nmse > 0 || v->verdict != MOE_VERDICT_FAIL) /* ids and NaN have none */
        fprintf(to, " nmse %.2e", v->nmse);
    print_figure(to, "worst group", v->worst_group_nmse);
    print_figure(to, "|d|", v->max_abs);
    print_figure(to, "z", v->max_z);
    fprintf(to, "  (%s)\n", v->truth);
    if (v->why[0])
        fprintf(to, "      %s\n", v->why);
}

/* The limits and what it makes of them, one after the other: NMSE 1.5e-05 of 6e-05. */
static void print_gates(FILE *to, const moe_tensor_verdict *v) {
    const struct {
        const char *name;
        double value, gate;
    } rows[] = {
        {"NMSE", v->nmse, v->gate.nmse},
        {"worst group", v->worst_group_nmse, v->gate.group_nmse},
        {"worst 128 rows", v->worst_tile_nmse, v->gate.tile_nmse},
        {"z", v->max_z, v->gate.max_z},
        {"row rms z", v->row_rms_z, v->gate.row_rms_z},
    };
    const char *comma = "      gates: ";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(rows[i].gate > 0))
            continue;
        fprintf(to, "%s%s %.1e of %g", comma, rows[i].name, rows[i].value, rows[i].gate);
        comma = ", ";
    }
    if (v->floor_nmse > 0)
        fprintf(to, "; a correct kernel has NMSE %.1e", v->floor_nmse);
    if (v->gate.nmse > 0)
        fprintf(to, "\n");
}

/* What is printed of a tensor: its gates, its error maps. */
typedef struct tensor_detail {
    bool gates, maps;
} tensor_detail;

static void print_tensor(FILE *to, const moe_check_result *r, const moe_tensor_verdict *v,
                         tensor_detail detail) {
    fprintf(to, "    %-14s ", v->name);
    cli_tint_verdict(to, v->verdict, 10);
    const bool skipped = v->verdict == MOE_VERDICT_SKIP;
    if (skipped || !v->truth || !v->truth[0]) /* it could not be compared: there are no figures */
        fprintf(to, " %s\n", v->why);
    else
        print_figures(to, v);
    if (skipped)
        return;
    if (v->where[0])
        fprintf(to, "      where: %s\n", v->where);
    if (detail.gates)
        print_gates(to, v);
    size_t at = 0;
    for (const moe_error_map *m; detail.maps && (m = cli_map_next(r, v->name, &at));)
        cli_map_text(to, m);
    if (v->verdict != MOE_VERDICT_FAIL || v->worst_ndim == 0)
        return;
    fprintf(to, "      worst: ");
    print_index(to, v);
    fprintf(to, " = %.9g", v->got);
    if (!isnan(v->want))
        fprintf(to, ", should be %.9g", v->want);
    if (v->worst_expert >= 0)
        fprintf(to, " (expert %lld)", (long long)v->worst_expert);
    fprintf(to, "\n");
}

/* What a pass is silent about: tensors that the case makes and nobody handed over. */
static void print_unjudged(FILE *to, const moe_check_result *r) {
    const char *before = "  [not judged: ";
    for (size_t i = 0; i < r->n_tensors; i++) {
        if (r->tensor[i].verdict != MOE_VERDICT_SKIP)
            continue;
        fprintf(to, "%s%s", before, r->tensor[i].name);
        before = ", ";
    }
    if (before[0] == ',')
        fprintf(to, "]");
}

void cli_verdict_text(FILE *to, const moe_check_result *r, bool full) {
    bool failed = r->verdict >= MOE_VERDICT_MISTRUSTED;
    const bool in_part = cli_mistrusted_in_part(r);
    cli_tint_verdict(to, r->verdict, in_part ? 0 : 10);
    if (in_part)
        fprintf(to, ", MISTRUSTED for %s (decides nothing here) ", r->undecided);
    fprintf(to, " %s %s", r->backend, r->case_name);
    if (r->sampled[0])
        fprintf(to, "  [sampled: %s]", r->sampled);
    if (r->identities[0])
        fprintf(to, "  [every element by identities: %s]", r->identities);
    if (r->scouted[0])
        fprintf(to, "  [judged where it lies farthest from %s]", r->scouted);
    if (r->verdict == MOE_VERDICT_PASS || r->verdict == MOE_VERDICT_AMBIGUOUS)
        print_unjudged(to, r);
    if (r->verdict == MOE_VERDICT_AMBIGUOUS)
        fprintf(to, "  [%lld tokens inside the rounding margin]", (long long)r->ambiguous_tokens);
    fprintf(to, "\n");
    if (r->why[0] && (failed || full || r->verdict == MOE_VERDICT_SKIP))
        fprintf(to, "  %s\n", r->why);
    cli_beside_text(to, r, full);
    if (!failed && !full)
        return;
    for (size_t i = 0; i < r->n_tensors; i++) {
        bool first_wrong = strcmp(r->tensor[i].name, r->first_wrong_stage) == 0;
        print_tensor(to, r, &r->tensor[i], (tensor_detail){full, full || first_wrong});
    }
    if (r->first_wrong_stage[0])
        fprintf(to, "  first wrong stage: %s\n", r->first_wrong_stage);
    cli_cause_text(to, r);
    if (failed)
        fprintf(to, "  reproduce: %s\n", r->reproduce);
}

static int64_t tally_of(const cli_verdicts *verdicts, size_t first, moe_verdict verdict) {
    int64_t n = 0;
    for (size_t i = first; i < verdicts->count; i++)
        n += verdicts->at[i]->verdict == verdict;
    return n;
}

void cli_verdict_summary(FILE *to, const cli_verdicts *verdicts, size_t first) {
    fprintf(to, "%lld passed, %lld failed, %lld ambiguous, %lld mistrusted, %lld skipped",
            (long long)tally_of(verdicts, first, MOE_VERDICT_PASS),
            (long long)tally_of(verdicts, first, MOE_VERDICT_FAIL),
            (long long)tally_of(verdicts, first, MOE_VERDICT_AMBIGUOUS),
            (long long)tally_of(verdicts, first, MOE_VERDICT_MISTRUSTED),
            (long long)tally_of(verdicts, first, MOE_VERDICT_SKIP));
    int64_t errors = tally_of(verdicts, first, MOE_VERDICT_ERROR);
    if (errors)
        fprintf(to, ", %lld could not run", (long long)errors);
    const int64_t in_part = cli_mistrusted_parts(verdicts, first);
    if (in_part)
        fprintf(to, "; %lld passed MISTRUSTED for what decides nothing in them",
                (long long)in_part);
    fprintf(to, "\n");
    const cli_cause most = cli_cause_of_most(verdicts, first);
    if (most.kind[0]) {
        fprintf(to, "  ");
        cli_cause_of_most_text(to, &most);
        fprintf(to, "\n");
    }
}

void cli_verdicts_print(const cli_verdicts *verdicts, cli_output output) {
    if (output == CLI_JSON) {
        json_t *root = cli_verdicts_json(verdicts);
        json_dumpf(root, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(root);
    } else if (verdicts->count) {
        cli_verdict_summary(stdout, verdicts, 0);
        if (verdicts->coverage)
            cli_coverage_text(stdout, verdicts);
    }
}
