#include "cli/report/coverage.h"
#include "cli/report/json_text.h"

#include <string.h>

static const moe_dtype types[] = {MOE_BF16, MOE_F16, MOE_F32, MOE_F64};
enum { N_TYPES = sizeof types / sizeof *types };

/* One feature over the cases of one backend. */
typedef struct tally {
    int64_t decided[N_TYPES];
    int64_t cases; /* in which it decides something */
} tally;

/* First verdict after `first` of another backend. */
static size_t end_of_backend(const cli_verdicts *verdicts, size_t first) {
    size_t end = first;
    while (end < verdicts->count &&
           strcmp(verdicts->at[end]->backend, verdicts->at[first]->backend) == 0)
        end++;
    return end;
}

static tally tally_of(const cli_verdicts *verdicts, size_t first, size_t end, int32_t feature) {
    tally sum = {0};
    for (size_t i = first; i < end; i++) {
        const moe_coverage *c = &verdicts->at[i]->coverage;
        for (int t = 0; c->counted && t < N_TYPES; t++)
            if (c->dtype == (int32_t)types[t])
                sum.decided[t] += c->decided[feature];
        sum.cases += c->counted && c->decided[feature] > 0;
    }
    return sum;
}

static void backend_text(FILE *to, const cli_verdicts *verdicts, size_t first, size_t end) {
    fprintf(to, "what these cases decide on %s\n  %-20s", verdicts->at[first]->backend, "");
    for (int t = 0; t < N_TYPES; t++)
        fprintf(to, " %8s", moe_dtype_name(types[t]));
    fprintf(to, " %6s\n", "cases");
    for (int32_t f = 0; f < moe_features(); f++) {
        const tally sum = tally_of(verdicts, first, end, f);
        fprintf(to, "  %-20s", moe_feature_name(f));
        for (int t = 0; t < N_TYPES; t++)
            fprintf(to, " %8lld", (long long)sum.decided[t]);
        fprintf(to, " %6lld  %s\n", (long long)sum.cases, moe_feature_counted(f));
    }
}

void cli_coverage_text(FILE *to, const cli_verdicts *verdicts) {
    for (size_t first = 0, end; first < verdicts->count; first = end) {
        end = end_of_backend(verdicts, first);
        backend_text(to, verdicts, first, end);
    }
}

static json_t *feature_json(const char *backend, int32_t feature, const tally *sum) {
    json_t *row = json_pack("{s:o, s:s, s:s, s:I}", "backend", cli_json_text(backend), "feature",
                            moe_feature_name(feature), "counted", moe_feature_counted(feature),
                            "cases", (json_int_t)sum->cases);
    for (int t = 0; t < N_TYPES; t++)
        json_object_set_new(row, moe_dtype_name(types[t]), json_integer(sum->decided[t]));
    return row;
}

json_t *cli_decides_json(const moe_coverage *coverage) {
    if (!coverage->counted)
        return json_null();
    json_t *decides = json_object();
    for (int32_t f = 0; f < moe_features(); f++)
        if (coverage->decided[f] > 0 || coverage->carried[f])
            json_object_set_new(decides, moe_feature_name(f), json_integer(coverage->decided[f]));
    return decides;
}

json_t *cli_coverage_json(const cli_verdicts *verdicts) {
    json_t *rows = json_array();
    for (size_t first = 0, end; first < verdicts->count; first = end) {
        end = end_of_backend(verdicts, first);
        for (int32_t f = 0; f < moe_features(); f++) {
            const tally sum = tally_of(verdicts, first, end, f);
            json_array_append_new(rows, feature_json(verdicts->at[first]->backend, f, &sum));
        }
    }
    return rows;
}

bool cli_mistrusted_in_part(const moe_check_result *r) {
    return r->undecided[0] && r->verdict < MOE_VERDICT_MISTRUSTED && r->verdict != MOE_VERDICT_SKIP;
}

int64_t cli_mistrusted_parts(const cli_verdicts *verdicts, size_t first) {
    int64_t n = 0;
    for (size_t i = first; i < verdicts->count; i++)
        n += cli_mistrusted_in_part(verdicts->at[i]);
    return n;
}
