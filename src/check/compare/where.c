/* Where an error is concentrated: which tokens, rows, experts, K slots and columns fail, and what
 * they share. */
#include "check/compare/profile.h"
#include "check/compare/sets.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

typedef struct text {
    const moe_int_scene *s;
    char *to;
    size_t size;
} text;

bool moe_int_scene_fails(const moe_int_scene *s, int64_t g) {
    return !(moe_int_group_over(&s->groups[g], &s->gate) <= 1);
}

static moe_int_set set_of(const text *t, const bool *has, int64_t count) {
    return (moe_int_set){has, count, t->s->c->tile};
}

/* "expert 3" or "experts {3, 5}"; `word` in front. */
static void add_experts(const text *t, const bool *has, int64_t count, const char *word) {
    moe_int_set set = set_of(t, has, count);
    moe_int_append(t->to, t->size, "%s", word);
    if (moe_int_set_size(&set) == 1)
        moe_int_append(t->to, t->size, "expert %lld",
                       (long long)((const bool *)memchr(has, true, (size_t)count) - has));
    else
        moe_int_set_words(&set, "expert", t->to, t->size);
}

/* Experts of which every token fails: do their tokens cover the failing ones? */
static bool covered_by_experts(const moe_plan *plan, const bool *fails, int64_t failing,
                               bool *ret_experts) {
    int64_t covered = 0;
    bool *seen = calloc((size_t)plan->n_tokens + 1, sizeof *seen);
    for (int64_t e = 0; seen && e < plan->n_experts; e++) {
        int64_t first = plan->offsets[e], end = plan->offsets[e + 1], hits = 0, news = 0;
        for (int64_t r = first; r < end; r++) {
            hits += fails[plan->token[r]];
            news += !seen[plan->token[r]];
        }
        ret_experts[e] = hits == end - first && news > 0;
        for (int64_t r = first; ret_experts[e] && r < end; r++)
            seen[plan->token[r]] = true;
        covered += ret_experts[e] ? news : 0;
    }
    free(seen);
    return covered == failing;
}

/* The expert that every failing token is routed to and that has the fewest other tokens; -1. */
static int64_t shared_expert(const moe_plan *plan, const bool *fails, int64_t failing) {
    int64_t best = -1, best_rows = INT64_MAX;
    for (int64_t e = 0; e < plan->n_experts; e++) {
        int64_t hits = 0, rows = plan->offsets[e + 1] - plan->offsets[e];
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            hits += fails[plan->token[r]];
        if (hits == failing && rows < best_rows) {
            best = e;
            best_rows = rows;
        }
    }
    return best;
}

static void add_tokens(const text *t, const bool *fails, int64_t failing) {
    const moe_plan *plan = t->s->c->plan;
    if (!plan || t->s->layout->base || plan->n_tokens != t->s->layout->groups ||
        failing == plan->n_tokens)
        return;
    int64_t e = shared_expert(plan, fails, failing);
    bool *experts = calloc((size_t)plan->n_experts + 1, sizeof *experts);
    if (experts && e >= 0) {
        bool all = plan->offsets[e + 1] - plan->offsets[e] == failing;
        moe_int_append(t->to, t->size, ", %s routed to expert %lld",
                       failing == 1 ? "which is"
                       : all        ? "exactly the ones"
                                    : "all",
                       (long long)e);
    } else if (experts && covered_by_experts(plan, fails, failing, experts)) {
        add_experts(t, experts, plan->n_experts, ", exactly the ones routed to ");
    }
    free(experts);
}

/* The rank of a pair's weight among its token's, from 0, the largest. */
static int64_t slot_of(const moe_plan *plan, int64_t r) {
    int64_t slot = 0, token = plan->token[r];
    for (int64_t k = plan->token_offsets[token]; k < plan->token_offsets[token + 1]; k++) {
        int64_t other = plan->pair_of_token[k];
        slot += plan->weight[other] > plan->weight[r] ||
                (plan->weight[other] == plan->weight[r] && other < r);
    }
    return slot;
}

/* Says so where the failing pairs are all those of some K slots, and these are not all. */
static void add_slots(const text *t, const bool *fails, int64_t pairs) {
    enum { MOST = 64 };
    const moe_plan *plan = t->s->c->plan;
    int64_t hits[MOST] = {0}, all[MOST] = {0}, slots = 0;
    bool has[MOST] = {0}, exact = true;
    for (int64_t r = 0; r < pairs; r++) {
        int64_t slot = slot_of(plan, r);
        if (slot >= MOST)
            return;
        slots = slot >= slots ? slot + 1 : slots;
        all[slot]++;
        hits[slot] += fails[r];
    }
    for (int64_t k = 0; k < slots; k++) {
        has[k] = hits[k] > 0;
        exact &= hits[k] == 0 || (hits[k] == all[k] && all[k] > 1);
    }
    moe_int_set set = set_of(t, has, slots);
    if (!exact || moe_int_set_size(&set) == slots)
        return;
    moe_int_append(t->to, t->size, ", exactly ");
    moe_int_set_words(&set, "K slot", t->to, t->size);
    moe_int_append(t->to, t->size, " by weight");
}

/* How the failing rows lie in each expert that has some. */
typedef struct shares {
    bool all;   /* every row of it */
    bool first; /* its first row alone */
    bool last;
    bool tail; /* exactly what is past its last whole tile of 128 */
} shares;

static shares shares_of(const moe_plan *plan, const bool *fails, int64_t tile, int64_t e) {
    int64_t a = plan->offsets[e], b = plan->offsets[e + 1], hits = 0, in_tail = 0;
    int64_t tail = a + (b - a) / tile * tile;
    for (int64_t r = a; r < b; r++) {
        hits += fails[r];
        in_tail += fails[r] && r >= tail;
    }
    return (shares){hits == b - a, hits == 1 && fails[a], hits == 1 && fails[b - 1],
                    tail > a && tail < b && hits == in_tail && hits == b - tail};
}

static void add_pairs_of_experts(const text *t, const bool *fails, const bool *experts) {
    const moe_plan *plan = t->s->c->plan;
    int64_t tile = t->s->c->tile > 0 ? t->s->c->tile : 128;
    shares s = {true, true, true, true};
    for (int64_t e = 0; e < plan->n_experts; e++) {
        if (!experts[e])
            continue;
        shares one = shares_of(plan, fails, tile, e);
        s = (shares){s.all && one.all, s.first && one.first, s.last && one.last,
                     s.tail && one.tail};
    }
    moe_int_append(t->to, t->size, ": ");
    if (s.tail)
        moe_int_append(t->to, t->size, "the rows past the last whole tile of %lld of ",
                       (long long)tile);
    else
        moe_int_append(t->to, t->size, "%s of ",
                       s.all     ? "every row"
                       : s.first ? "the first row"
                       : s.last  ? "the last row"
                                 : "rows");
    add_experts(t, experts, plan->n_experts, "");
}

static void add_pairs(const text *t, const bool *fails, int64_t failing) {
    const moe_plan *plan = t->s->c->plan;
    int64_t groups = t->s->layout->groups;
    if (!plan || t->s->layout->base || failing == groups)
        return;
    bool *experts = calloc((size_t)plan->n_experts + 1, sizeof *experts);
    int64_t e = -1, many = 0;
    for (int64_t r = 0; experts && r < groups; r++) {
        if (!fails[r] || experts[moe_int_plan_expert_of(plan, r)])
            continue;
        e = moe_int_plan_expert_of(plan, r);
        experts[e] = true;
        many++;
    }
    if (many == 1) {
        int64_t first = plan->offsets[e];
        moe_int_set rows = set_of(t, fails + first, plan->offsets[e + 1] - first);
        moe_int_append(t->to, t->size, ": ");
        moe_int_set_words(&rows, "row", t->to, t->size);
        moe_int_append(t->to, t->size, " of expert %lld", (long long)e);
    } else if (experts) {
        add_pairs_of_experts(t, fails, experts);
    }
    free(experts);
    add_slots(t, fails, groups);
}

/* Rows or columns that are wrong, where others of the same groups are right. */
static void add_lines(const text *t, const moe_int_group *line, int64_t count, const char *word) {
    bool *has = calloc((size_t)count + 1, sizeof *has);
    int64_t wrong = 0;
    for (int64_t i = 0; has && i < count; i++) {
        has[i] = !(moe_int_group_over(&line[i], &t->s->gate) <= 1);
        wrong += has[i];
    }
    if (wrong > 0 && wrong < count) {
        moe_int_set set = set_of(t, has, count);
        moe_int_append(t->to, t->size, "%s", t->to[0] ? "; " : "");
        moe_int_set_words(&set, word, t->to, t->size);
    }
    free(has);
}

/* The failing groups; of a sample only how many, and the first and last. */
static void add_groups(const text *t, const bool *fails, int64_t failing) {
    static const char *const words[] = {"token", "pair row", "expert", ""};
    const moe_int_layout *l = t->s->layout;
    int64_t first = 0, last = l->groups - 1;
    if (!l->base) {
        moe_int_set set = set_of(t, fails, l->groups);
        moe_int_set_words(&set, words[l->by], t->to, t->size);
        return;
    }
    while (!fails[first])
        first++;
    while (!fails[last])
        last--;
    moe_int_append(t->to, t->size, "%ss %lld..%lld (%lld of %lld sampled slices)", words[l->by],
                   (long long)moe_int_layout_group(l, first),
                   (long long)moe_int_layout_group(l, last), (long long)failing,
                   (long long)l->groups);
}

static void describe(const text *t, const moe_int_profile *p, const bool *fails, int64_t failing) {
    const moe_int_grouping by = t->s->layout->by;
    if (by != MOE_INT_WHOLE && t->s->layout->groups > 1) {
        if (failing == 0) {
            moe_int_append(t->to, t->size, "spread out: none alone is over the gate");
            return;
        }
        add_groups(t, fails, failing);
        if (by == MOE_INT_BY_TOKEN)
            add_tokens(t, fails, failing);
        else if (by == MOE_INT_BY_PAIR)
            add_pairs(t, fails, failing);
    }
    add_lines(t, p->row, p->rows, "row");
    add_lines(t, p->column, p->columns, "column");
}

void moe_int_locate(const moe_int_scene *s, char *ret_where, size_t size) {
    moe_int_profile p = {0};
    text t = {s, ret_where, size};
    int64_t failing = 0;
    bool *fails = calloc((size_t)s->layout->groups + 1, sizeof *fails);
    ret_where[0] = '\0';
    for (int64_t g = 0; fails && g < s->layout->groups; g++) {
        fails[g] = moe_int_scene_fails(s, g);
        failing += fails[g];
    }
    if (fails && moe_int_profile_make(s, &p) == MOE_OK)
        describe(&t, &p, fails, failing);
    moe_int_profile_destroy(&p);
    free(fails);
}
