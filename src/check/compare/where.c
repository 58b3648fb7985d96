/* Where an error is concentrated: which tokens, rows or experts fail, and what they share. */
#include "check/compare/compare.h"

#include <stdio.h>
#include <stdlib.h>

/* The failing groups: how many, the first and the last of them. */
typedef struct failing {
    int64_t count, first, last;
} failing;

static bool fails(const moe_int_group *g, double gate) {
    return !moe_int_group_passes(g, gate);
}

static failing find(const moe_int_layout *layout, const moe_int_group *groups, double gate) {
    failing f = {0, -1, -1};
    for (int64_t g = 0; g < layout->groups; g++) {
        if (!fails(&groups[g], gate))
            continue;
        if (f.count++ == 0)
            f.first = g;
        f.last = g;
    }
    return f;
}

/* The expert that every failing token is routed to and that has the fewest other tokens; -1. */
static int64_t shared_expert(const moe_plan *plan, const moe_int_group *groups, double gate,
                             int64_t count) {
    int64_t best = -1, best_rows = INT64_MAX;
    for (int64_t e = 0; e < plan->n_experts; e++) {
        int64_t hits = 0, rows = plan->offsets[e + 1] - plan->offsets[e];
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            hits += fails(&groups[plan->token[r]], gate);
        if (hits == count && rows < best_rows) {
            best = e;
            best_rows = rows;
        }
    }
    return best;
}

static size_t add_tokens(const moe_int_comparison *c, const moe_int_layout *layout,
                         const moe_int_group *groups, double gate, const failing *f, char *ret,
                         size_t size) {
    bool whole = c->plan && !layout->base && c->plan->n_tokens == layout->groups;
    int64_t e = whole ? shared_expert(c->plan, groups, gate, f->count) : -1;
    if (e < 0)
        return 0;
    int64_t rows = c->plan->offsets[e + 1] - c->plan->offsets[e];
    return (size_t)snprintf(ret, size, ", %s routed to expert %lld",
                            rows == f->count ? "exactly the ones" : "all", (long long)e);
}

static size_t add_rows(const moe_int_comparison *c, const moe_int_layout *layout, const failing *f,
                       char *ret, size_t size) {
    int64_t a = moe_int_layout_expert(layout, c->plan, f->first);
    int64_t b = moe_int_layout_expert(layout, c->plan, f->last);
    if (a < 0 || a != b)
        return 0;
    int64_t first = c->plan->offsets[a];
    return (size_t)snprintf(ret, size, ": rows %lld..%lld of the %lld of expert %lld",
                            (long long)(moe_int_layout_group(layout, f->first) - first),
                            (long long)(moe_int_layout_group(layout, f->last) - first),
                            (long long)(c->plan->offsets[a + 1] - first), (long long)a);
}

void moe_int_where(const moe_int_comparison *c, const moe_int_layout *layout,
                   const moe_int_group *groups, double gate, char *ret, size_t size) {
    static const char *const words[] = {"tokens", "pair rows", "experts", ""};
    failing f = find(layout, groups, gate);
    ret[0] = '\0';
    if (layout->groups < 2 || f.count == 0)
        return;
    if (f.count == layout->groups) {
        snprintf(ret, size, "all %lld %s", (long long)f.count, words[layout->by]);
        return;
    }
    int used = snprintf(ret, size, "%s %lld..%lld (%lld of %lld)", words[layout->by],
                        (long long)moe_int_layout_group(layout, f.first),
                        (long long)moe_int_layout_group(layout, f.last), (long long)f.count,
                        (long long)layout->groups);
    if (used < 0 || (size_t)used >= size)
        return;
    if (layout->by == MOE_INT_BY_TOKEN)
        add_tokens(c, layout, groups, gate, &f, ret + used, size - (size_t)used);
    else if (layout->by == MOE_INT_BY_PAIR)
        add_rows(c, layout, &f, ret + used, size - (size_t)used);
}
