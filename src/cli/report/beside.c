#include "cli/report/beside.h"

#include <stdbool.h>
#include <string.h>

/* Under which reading it was judged, and which one would pass. */
static void print_reading(FILE *to, const moe_check_result *r) {
    fprintf(to, "  arithmetic %s: %s", moe_dtype_name((moe_dtype)r->arithmetic), r->arithmetic_why);
    if (r->suggestion[0])
        fprintf(to, "; %s", r->suggestion);
    if (r->recipe[0])
        fprintf(to, "\n  recipe %s: %s", r->recipe, r->recipe_why);
    fprintf(to, "\n");
}

/* Must even a short report say it? What no backend declares, or is not the project's own. */
static bool reading_matters(const moe_check_result *r) {
    return strcmp(r->arithmetic_why, "the backend says so") != 0 ||
           (r->recipe[0] && strcmp(r->recipe, "moeref") != 0);
}

static void print_invariance(FILE *to, const moe_invariance *v) {
    if (!v->asked)
        return;
    fprintf(to, "  batch invariance: %s: %s\n", moe_verdict_str(v->verdict), v->why);
    if (v->differ[0])
        fprintf(to, "    differ: %s\n    agree: %s\n", v->differ, v->agree[0] ? v->agree : "none");
}

static void print_ranks(FILE *to, const moe_ranks *v) {
    if (!v->asked || v->verdict == MOE_VERDICT_SKIP)
        return;
    fprintf(to, "  %d ranks, %s, %s: %lld rows in their places, %lld bytes as the plans make them",
            (int)v->ranks, v->transport, v->combine, (long long)v->rows, (long long)v->bytes);
    if (v->same || v->differ)
        fprintf(to, ", %lld of %lld elements with one rank's bits", (long long)v->same,
                (long long)v->same + v->differ);
    if (v->not_same[0])
        fprintf(to, " (sums of parts: %s)", v->not_same);
    if (v->repeats)
        fprintf(to, ", the same bits after random delays");
    fprintf(to, "%s%s\n", v->why[0] ? "\n    " : "", v->why);
}

/* One line for what the backend itself declares and keeps. */
static bool print_kept(FILE *to, const moe_bits *b) {
    int64_t elements = 0;
    for (int i = 0; i < b->n_stages; i++) {
        if (b->stage[i].differ)
            return false;
        elements += b->stage[i].elements;
    }
    if (b->n_stages)
        fprintf(to, "  bits: %d stages, all %lld elements as declared\n", (int)b->n_stages,
                (long long)elements);
    return true;
}

static void print_bits(FILE *to, const moe_bits *b, bool full) {
    if (b->declared && !full && print_kept(to, b))
        return;
    if (b->asked && b->why[0])
        fprintf(to, "  bits: not compared: %s\n", b->why);
    for (int i = 0; i < b->n_stages; i++) {
        const moe_bits_stage *s = &b->stage[i];
        if (s->differ)
            fprintf(to, "  bits: %-14s %lld of %lld elements are not %s's\n        %s\n", s->name,
                    (long long)s->differ, (long long)s->elements, s->arithmetic, s->first);
        else
            fprintf(to, "  bits: %-14s %s bit for bit in all of %lld elements\n", s->name,
                    s->arithmetic, (long long)s->elements);
        if (s->undecided)
            fprintf(to, "        %lld of them may be either of two numbers\n",
                    (long long)s->undecided);
        if (s->elements < s->total)
            fprintf(to, "        looked at: %lld of the tensor's %lld elements\n",
                    (long long)s->elements, (long long)s->total);
        if (s->explained_by > 1)
            fprintf(to,
                    "        %d arithmetics give the same here: the data do not tell them apart\n",
                    (int)s->explained_by);
    }
}

void cli_beside_text(FILE *to, const moe_check_result *r, bool full) {
    const bool failed = r->verdict >= MOE_VERDICT_MISTRUSTED;
    if (r->verdict != MOE_VERDICT_SKIP && (failed || full || reading_matters(r)))
        print_reading(to, r);
    print_invariance(to, &r->invariance);
    if (full || failed || r->verdict == MOE_VERDICT_PASS)
        print_ranks(to, &r->over_ranks);
    print_bits(to, &r->bits, full);
}
