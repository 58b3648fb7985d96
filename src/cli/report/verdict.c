#include "cli/report/verdict.h"

#include <string.h>

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

static void print_tensor(FILE *to, const moe_tensor_verdict *v) {
    fprintf(to, "    %-14s %-10s", v->name, moe_verdict_str(v->verdict));
    if (v->verdict == MOE_VERDICT_SKIP) {
        fprintf(to, " %s\n", v->why);
        return;
    }
    fprintf(to, " nmse %.2e", v->nmse);
    print_figure(to, "worst group", v->worst_group_nmse);
    print_figure(to, "|d|", v->max_abs);
    print_figure(to, "z", v->max_z);
    fprintf(to, "  (%s)\n", v->truth ? v->truth : "-");
    if (v->why[0])
        fprintf(to, "      %s\n", v->why);
    if (v->where[0])
        fprintf(to, "      where: %s\n", v->where);
    if (v->verdict != MOE_VERDICT_FAIL || v->worst_ndim == 0)
        return;
    fprintf(to, "      worst: ");
    print_index(to, v);
    fprintf(to, " = %.9g, should be %.9g", v->got, v->want);
    if (v->worst_expert >= 0)
        fprintf(to, " (expert %lld)", (long long)v->worst_expert);
    fprintf(to, "\n");
}

/* Under which reading it was judged, and which one would pass. */
static void print_reading(FILE *to, const moe_check_result *r) {
    fprintf(to, "  arithmetic %s: %s", moe_dtype_name((moe_dtype)r->arithmetic), r->arithmetic_why);
    if (r->recipe[0])
        fprintf(to, "; recipe %s: %s", r->recipe, r->recipe_why);
    if (r->suggestion[0])
        fprintf(to, "; %s", r->suggestion);
    fprintf(to, "\n");
}

/* Must even a short report say it? What was guessed, or is not the project's own. */
static bool reading_matters(const moe_check_result *r) {
    return strstr(r->arithmetic_why, "stored") ||
           (r->recipe[0] && strcmp(r->recipe, "moeref") != 0);
}

void cli_verdict_text(FILE *to, const moe_check_result *r, bool full) {
    bool failed = r->verdict >= MOE_VERDICT_MISTRUSTED;
    fprintf(to, "%-10s %s %s", moe_verdict_str(r->verdict), r->backend, r->case_name);
    if (r->verdict == MOE_VERDICT_AMBIGUOUS)
        fprintf(to, "  [%lld tokens inside the rounding margin]", (long long)r->ambiguous_tokens);
    fprintf(to, "\n");
    if (r->why[0] && (failed || full || r->verdict == MOE_VERDICT_SKIP))
        fprintf(to, "  %s\n", r->why);
    if (r->verdict != MOE_VERDICT_SKIP && (failed || full || reading_matters(r)))
        print_reading(to, r);
    if (!failed && !full)
        return;
    if (r->sampled[0])
        fprintf(to, "  sampled: %s\n", r->sampled);
    for (size_t i = 0; i < r->n_tensors; i++)
        print_tensor(to, &r->tensor[i]);
    if (r->first_wrong_stage[0])
        fprintf(to, "  first wrong stage: %s\n", r->first_wrong_stage);
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
    fprintf(to, "\n");
}

static json_t *tensor_json(const moe_tensor_verdict *v) {
    json_t *index = json_array();
    for (int i = 0; i < v->worst_ndim; i++)
        json_array_append_new(index, json_integer(v->worst_index[i]));
    /* json_real refuses NaN and infinities: then the value is null. */
    json_t *worst = json_pack("{s:o, s:o*, s:o*, s:I}", "index", index, "got", json_real(v->got),
                              "want", json_real(v->want), "expert", (json_int_t)v->worst_expert);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o*, s:o*, s:o*, s:o*, s:I, s:o}", "name", v->name,
                     "verdict", moe_verdict_str(v->verdict), "why", v->why, "where", v->where,
                     "truth", v->truth ? v->truth : "", "nmse", json_real(v->nmse), "max_abs",
                     json_real(v->max_abs), "max_z", json_real(v->max_z), "worst_group_nmse",
                     json_real(v->worst_group_nmse), "bad_elements", (json_int_t)v->bad_elements,
                     "worst", worst);
}

/* Where the first failing tensor's error is concentrated, or null. */
static json_t *explanation_json(const moe_check_result *r) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (r->tensor[i].verdict == MOE_VERDICT_FAIL && r->tensor[i].where[0])
            return json_sprintf("%s: %s", r->tensor[i].name, r->tensor[i].where);
    return json_null();
}

static json_t *case_json(const moe_check_result *r) {
    json_t *tensors = json_array();
    for (size_t i = 0; i < r->n_tensors; i++)
        json_array_append_new(tensors, tensor_json(&r->tensor[i]));
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:I, s:s, s:f, s:s, s:s, s:s, s:s, s:s}", "case",
        r->case_name, "backend", r->backend, "verdict", moe_verdict_str(r->verdict), "why", r->why,
        "tensors", tensors, "first_wrong_stage",
        r->first_wrong_stage[0] ? json_string(r->first_wrong_stage) : json_null(), "explanation",
        explanation_json(r), "reproduce", r->reproduce, "ambiguous_tokens",
        (json_int_t)r->ambiguous_tokens, "sampled", r->sampled, "seconds", r->seconds, "arithmetic",
        moe_dtype_name((moe_dtype)r->arithmetic), "arithmetic_why", r->arithmetic_why, "recipe",
        r->recipe, "recipe_why", r->recipe_why, "suggestion", r->suggestion);
}

json_t *cli_verdicts_json(const cli_verdicts *verdicts) {
    json_t *cases = json_array();
    for (size_t i = 0; i < verdicts->count; i++)
        json_array_append_new(cases, case_json(verdicts->at[i]));
    const int64_t *t = verdicts->tally;
    return json_pack("{s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "moeref", 1, "cases", cases,
                     "summary", "passed", (json_int_t)t[MOE_VERDICT_PASS], "failed",
                     (json_int_t)t[MOE_VERDICT_FAIL], "ambiguous",
                     (json_int_t)t[MOE_VERDICT_AMBIGUOUS], "mistrusted",
                     (json_int_t)t[MOE_VERDICT_MISTRUSTED], "skipped",
                     (json_int_t)t[MOE_VERDICT_SKIP], "errors", (json_int_t)t[MOE_VERDICT_ERROR]);
}
