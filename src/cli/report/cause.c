#include "cli/report/cause.h"

#include <string.h>

static const moe_tensor_verdict *judged(const moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0 && r->tensor[i].verdict != MOE_VERDICT_SKIP)
            return &r->tensor[i];
    return NULL;
}

/* What to look at next where no hypothesis explains a failure. Results that are wrong everywhere,
 * by more than zeros would be, are mostly right ones of other inputs. */
static void print_advice(FILE *to, const moe_check_result *r) {
    const moe_tensor_verdict *first = judged(r, r->first_wrong_stage);
    moe_tensor_id id;
    if (first && first->nmse > 1)
        fprintf(to, "  next: is it made of this case's inputs (seed, --inputs)? All zero would be "
                    "less wrong\n");
    if (first && !judged(r, "H") && moe_tensor_id_parse(first->name, &id) == MOE_OK && id > MOE_T_S)
        fprintf(to, "  next: stages beside it (H, A, Y, dH, dXp; moeref golden --help has their "
                    "rows) would show the first wrong one\n");
}

void cli_cause_text(FILE *to, const moe_check_result *r) {
    const moe_explanation *x = &r->explanation;
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
        print_advice(to, r);
    } else if (x->tried > 0) {
        fprintf(to, "  explanation: none of %d hypotheses explains it\n", (int)x->tried);
        print_advice(to, r);
    }
}

void cli_cause_of_most(FILE *to, const cli_verdicts *verdicts, size_t first, int64_t failed) {
    const char *most = "";
    long long best = 0, cases = 0;
    for (size_t i = first; i < verdicts->count; i++) {
        const char *kind = verdicts->at[i]->explanation.kind;
        long long elements = 0, given = 0;
        for (size_t j = first; kind[0] && j < verdicts->count; j++) {
            const moe_check_result *r = verdicts->at[j];
            const bool gives = r->verdict == MOE_VERDICT_FAIL && !strcmp(r->explanation.kind, kind);
            elements += gives ? r->checked_elements : 0;
            given += gives;
        }
        if (elements > best) {
            best = elements;
            most = kind;
            cases = given;
        }
    }
    if (failed > 1 && best > 0)
        fprintf(to, "  likely cause: %s, by most elements of %lld of %lld failures\n", most, cases,
                (long long)failed);
}
