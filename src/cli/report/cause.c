#include "cli/report/cause.h"

#include <string.h>

static const moe_tensor_verdict *judged(const moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0 && r->tensor[i].verdict != MOE_VERDICT_SKIP)
            return &r->tensor[i];
    return NULL;
}

size_t cli_advice(const moe_check_result *r, const char *ret[CLI_ADVICE_MOST]) {
    const moe_explanation *x = &r->explanation;
    const moe_tensor_verdict *first = judged(r, r->first_wrong_stage);
    moe_tensor_id id;
    size_t n = 0;
    if (x->kind[0] || x->tried == 0 || !first)
        return 0;
    if (first->nmse > 1)
        ret[n++] =
            "is it made of this case's inputs (seed, --inputs)? All zero would be less wrong";
    if (!judged(r, "H") && moe_tensor_id_parse(first->name, &id) == MOE_OK && id > MOE_T_S)
        ret[n++] = "stages beside it (H, A, Y, dH, dXp; moeref golden --help has their rows) would "
                   "show the first wrong one";
    return n;
}

void cli_cause_text(FILE *to, const moe_check_result *r) {
    const moe_explanation *x = &r->explanation;
    const char *next[CLI_ADVICE_MOST];
    if (x->kind[0]) {
        fprintf(to, "  explanation: %s (%s: NMSE %.1e, then %.1e)\n", x->text, x->tensor, x->before,
                x->after);
        if (x->ended)
            fprintf(to, "  the search was ended there: there may be a better one\n");
    } else if (x->ended) {
        fprintf(to,
                "  explanation: the search was ended after %d hypotheses; none of them explains "
                "it\n",
                (int)x->tried);
    } else if (x->tried > 0) {
        fprintf(to, "  explanation: none of %d hypotheses explains it\n", (int)x->tried);
    }
    const size_t n = cli_advice(r, next);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "  next: %s\n", next[i]);
}

cli_cause cli_cause_of_most(const cli_verdicts *verdicts, size_t first) {
    cli_cause most = {.kind = ""};
    long long best = 0;
    for (size_t i = first; i < verdicts->count; i++) {
        const char *kind = verdicts->at[i]->explanation.kind;
        long long elements = 0, given = 0;
        most.failed += verdicts->at[i]->verdict == MOE_VERDICT_FAIL;
        for (size_t j = first; kind[0] && j < verdicts->count; j++) {
            const moe_check_result *r = verdicts->at[j];
            const bool gives = r->verdict == MOE_VERDICT_FAIL && !strcmp(r->explanation.kind, kind);
            elements += gives ? r->checked_elements : 0;
            given += gives;
        }
        if (elements > best) {
            best = elements;
            most.kind = kind;
            most.cases = given;
        }
    }
    if (most.failed < 2)
        most.kind = "";
    return most;
}

void cli_cause_of_most_text(FILE *to, const cli_cause *most) {
    if (most->kind[0])
        fprintf(to, "likely cause: %s, by most elements of %lld of %lld failures", most->kind,
                (long long)most->cases, (long long)most->failed);
}
