#include "cli/report/beside.h"
#include "cli/report/cause.h"
#include "cli/report/coverage.h"
#include "cli/report/html_parts.h"
#include "cli/report/map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put_row(FILE *to, const char *name, const char *text) {
    if (!text[0])
        return;
    fprintf(to, "<dt>%s</dt><dd>", name);
    cli_html_text(to, text);
    fprintf(to, "</dd>");
}

static void put_heading(FILE *to, const moe_check_result *r) {
    cli_html_badge(to, r->verdict);
    if (cli_mistrusted_in_part(r)) {
        fprintf(to, " <span class=\"note\">MISTRUSTED for ");
        cli_html_text(to, r->undecided);
        fprintf(to, " (decides nothing here)</span>");
    }
    fprintf(to, " <b>");
    cli_html_text(to, r->backend);
    fprintf(to, "</b> <code>");
    cli_html_text(to, r->case_name);
    fprintf(to, "</code>");
}

/* The cause, as far as it is known, or what to look at next. */
static void put_explanation(FILE *to, const moe_check_result *r) {
    const moe_explanation *e = &r->explanation;
    const char *next[CLI_ADVICE_MOST];
    const size_t n = cli_advice(r, next);
    if (e->tried == 0 && !e->ended)
        return;
    fprintf(to, "<div class=\"cause\"><h4>%s</h4><p>",
            e->kind[0] ? "What would make it right" : "No explanation");
    if (e->text[0])
        cli_html_text(to, e->text);
    else
        fprintf(to, "None of the %d hypotheses that were tried explains it.", (int)e->tried);
    if (e->ended)
        fprintf(to, " The search was ended there.");
    fprintf(to, "</p>");
    if (e->kind[0]) {
        fprintf(to, "<p class=\"note\">");
        cli_html_text(to, e->kind);
        fprintf(to, ": NMSE of ");
        cli_html_text(to, e->tensor);
        fprintf(to, " %.2e before, %.2e after; the best of %d hypotheses</p>", e->before, e->after,
                (int)e->tried);
    }
    for (size_t i = 0; i < n; i++) {
        fprintf(to, "<p>Next: ");
        cli_html_text(to, next[i]);
        fprintf(to, "</p>");
    }
    fprintf(to, "</div>");
}

/* The lines of the text report, all of them: the page has room. */
static void put_beside(FILE *to, const moe_check_result *r) {
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    if (!lines)
        return;
    cli_beside_text(lines, r, true);
    if (fclose(lines) == 0 && size > 0) {
        fprintf(to, "<h4>How it was read and run</h4><pre class=\"said\">");
        cli_html_text(to, text);
        fprintf(to, "</pre>");
    }
    free(text);
}

/* What a reader must know of the whole case. */
static void put_notes(FILE *to, const moe_check_result *r) {
    char tokens[64] = "";
    if (r->verdict == MOE_VERDICT_AMBIGUOUS)
        snprintf(tokens, sizeof tokens, "%lld tokens", (long long)r->ambiguous_tokens);
    fprintf(to, "<dl>");
    put_row(to, "sampled", r->sampled);
    put_row(to, "MISTRUSTED for (decides nothing here)", r->undecided);
    put_row(to, "every element by identities", r->identities);
    put_row(to, "judged where it lies farthest from", r->scouted);
    put_row(to, "inside the rounding margin", tokens);
    fprintf(to, "</dl>");
    put_beside(to, r);
}

/* The tensors in the order of computation; the first wrong one stands out. */
static void put_chain(FILE *to, const moe_check_result *r) {
    fprintf(to, "<ol class=\"chain\" aria-label=\"order of computation\">");
    for (size_t i = 0; i < r->n_tensors; i++) {
        const moe_tensor_verdict *v = &r->tensor[i];
        bool first = strcmp(v->name, r->first_wrong_stage) == 0;
        fprintf(to, "<li class=\"%s%s\">", moe_verdict_str(v->verdict), first ? " first" : "");
        cli_html_text(to, v->name);
        fprintf(to, "</li>");
    }
    fprintf(to, "</ol>");
}

static void put_worst(FILE *to, const moe_tensor_verdict *v) {
    fprintf(to, "<dt>worst element</dt><dd><code>");
    cli_html_text(to, v->name);
    fprintf(to, "[");
    for (int i = 0; i < v->worst_ndim; i++)
        fprintf(to, "%s%lld", i ? ", " : "", (long long)v->worst_index[i]);
    fprintf(to, "] = %.9g</code>", v->got);
    if (!isnan(v->want))
        fprintf(to, ", should be <code>%.9g</code>", v->want);
    if (v->worst_expert >= 0)
        fprintf(to, " (expert %lld)", (long long)v->worst_expert);
    fprintf(to, "</dd>");
}

static void put_maps(FILE *to, const moe_check_result *r, const char *tensor) {
    size_t at = 0;
    fprintf(to, "<div class=\"maps\">");
    for (const moe_error_map *m; (m = cli_map_next(r, tensor, &at));)
        cli_html_map(to, m);
    fprintf(to, "</div>");
}

/* A failing tensor: why, where, its worst element, its maps. */
static void put_failing_tensor(FILE *to, const moe_check_result *r, const moe_tensor_verdict *v,
                               bool maps) {
    fprintf(to, "<dl>");
    put_row(to, "why", v->why);
    put_row(to, "where", v->where);
    if (v->worst_ndim > 0)
        put_worst(to, v);
    fprintf(to, "</dl>");
    if (maps)
        put_maps(to, r, v->name);
}

/* The first wrong stage in the open, those that follow from it folded. */
static void put_failing_tensors(FILE *to, const moe_check_result *r, bool all_maps) {
    for (size_t i = 0; i < r->n_tensors; i++) {
        const moe_tensor_verdict *v = &r->tensor[i];
        bool first = strcmp(v->name, r->first_wrong_stage) == 0;
        if (v->verdict != MOE_VERDICT_FAIL)
            continue;
        fprintf(to, "<details class=\"wrong\"%s><summary><b>", first ? " open" : "");
        cli_html_text(to, v->name);
        fprintf(to, "</b> %s</summary>", first ? "first wrong stage" : "fails too");
        put_failing_tensor(to, r, v, first || all_maps);
        fprintf(to, "</details>\n");
    }
}

static void put_reproduce(FILE *to, const moe_check_result *r) {
    fprintf(to, "<h4>Reproduce</h4><div class=\"copy\"><pre><code>");
    cli_html_text(to, r->reproduce);
    fprintf(to, "</code></pre><button type=\"button\">Copy</button></div>");
}

void cli_html_failing(FILE *to, const moe_check_result *r, size_t number, bool all_maps) {
    fprintf(to, "<article class=\"card case\" id=\"c%zu\"><h3>", number);
    put_heading(to, r);
    fprintf(to, "</h3><p class=\"why\">");
    cli_html_text(to, r->why);
    fprintf(to, "</p>");
    put_explanation(to, r);
    if (r->first_wrong_stage[0])
        put_chain(to, r);
    put_failing_tensors(to, r, all_maps);
    if (r->n_tensors > 0) {
        fprintf(to, "<h4>Every tensor</h4>");
        cli_html_tensors(to, r);
    }
    put_notes(to, r);
    put_reproduce(to, r);
    fprintf(to, "</article>\n");
}

/* How near the nearest tensor is to its gate. */
static double nearest(const moe_check_result *r, const moe_tensor_verdict **ret) {
    double most = 0;
    *ret = NULL;
    for (size_t i = 0; i < r->n_tensors; i++) {
        const moe_tensor_verdict *v = &r->tensor[i];
        double part = v->gate.nmse > 0 ? v->nmse / v->gate.nmse : 0;
        if (part > most) {
            most = part;
            *ret = v;
        }
    }
    return most;
}

void cli_html_passing(FILE *to, const moe_check_result *r, size_t number) {
    const moe_tensor_verdict *v;
    double part = nearest(r, &v);
    fprintf(to, "<details class=\"passed\" id=\"c%zu\"><summary>", number);
    put_heading(to, r);
    if (v) {
        fprintf(to, " <span class=\"note\">nearest to its gate: ");
        cli_html_text(to, v->name);
        fprintf(to, ", NMSE %.1e, %.2g of it</span>", v->nmse, part);
    }
    fprintf(to, "</summary>");
    fprintf(to, "<dl>");
    put_row(to, "why", r->why);
    fprintf(to, "</dl>");
    put_notes(to, r);
    if (r->n_tensors > 0)
        cli_html_tensors(to, r);
    fprintf(to, "</details>\n");
}
