/* What parts that do not count once have in common: all of one rank's, all from one to another, all
 * but a token's first on each rank ... A class explains them if it has all of them and no part that
 * does count once. */
#include "check/ranks/shares.h"

#include <math.h>
#include <stdio.h>

/* ---- which ---- */

typedef bool (*holds_fn)(const moe_int_share *a, int64_t i, int64_t k);

static bool is_any(const moe_int_share *a, int64_t i, int64_t k) {
    (void)a, (void)i, (void)k;
    return true;
}

static bool is_owner(const moe_int_share *a, int64_t i, int64_t k) {
    (void)k;
    return a->owner == i;
}

static bool is_home(const moe_int_share *a, int64_t i, int64_t k) {
    (void)k;
    return a->home == i;
}

static bool is_link(const moe_int_share *a, int64_t i, int64_t k) {
    return a->owner == i && a->home == k;
}

static bool is_remote(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return a->owner != a->home;
}

static bool is_local(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return a->owner == a->home;
}

static bool is_not_first(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return !a->first;
}

static bool is_not_last(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return !a->last;
}

static bool is_other_than_last_rank(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return !a->last_rank;
}

static bool is_other_than_first_rank(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return !a->first_rank;
}

static bool is_end(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return a->end;
}

static bool is_not_start(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return !a->start;
}

static bool is_bottom(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return a->bottom;
}

static bool is_boundary(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return a->boundary;
}

static bool is_top(const moe_int_share *a, int64_t i, int64_t k) {
    (void)i, (void)k;
    return a->top;
}

static bool is_other_home(const moe_int_share *a, int64_t i, int64_t k) {
    (void)k;
    return a->home != i;
}

static bool is_other_owner(const moe_int_share *a, int64_t i, int64_t k) {
    (void)k;
    return a->owner != i;
}

static bool is_expert(const moe_int_share *a, int64_t i, int64_t k) {
    (void)k;
    return a->expert == i;
}

enum {
    OF_PAIRS = 1,
    OF_EXPERTS = 2,
    OF_RANKS = 4,
    EACH_RANK = 8,
    EACH_LINK = 16,
    EACH_EXPERT = 32
};

typedef struct class {
    holds_fn holds;
    int flags;
    const char *pairs, *tokens; /* %d: the rank, and the home's of a link; `tokens` of gradients */
} class;

static const class classes[] = {
    {is_any, OF_PAIRS | OF_EXPERTS | OF_RANKS, "every row", "every token"},
    {is_owner, OF_PAIRS | OF_EXPERTS | EACH_RANK, "what rank %d made",
     "all tokens of the experts of rank %d"},
    {is_home, OF_PAIRS | OF_EXPERTS | OF_RANKS | EACH_RANK, "what was made for rank %d's tokens",
     "the tokens of rank %d"},
    {is_link, OF_PAIRS | OF_EXPERTS | EACH_LINK, "what rank %d made for rank %d's tokens",
     "what the experts of rank %d got from rank %d"},
    {is_remote, OF_PAIRS | OF_EXPERTS, "what other ranks than a token's own made",
     "the tokens of other ranks than an expert's own"},
    {is_local, OF_PAIRS | OF_EXPERTS, "what a token's own rank made",
     "the tokens of an expert's own rank"},
    {is_not_first, OF_PAIRS, "all but the first of a token's experts on each rank", NULL},
    {is_not_last, OF_PAIRS, "all but the last of a token's experts on each rank", NULL},
    {is_other_than_last_rank, OF_PAIRS, "all but the part of a token's last rank", NULL},
    {is_other_than_first_rank, OF_PAIRS, "all but the part of a token's first rank", NULL},
    {is_end, OF_PAIRS, "the last of each token's experts", NULL},
    {is_not_start, OF_PAIRS, "all but the first of each token's experts", NULL},
    {is_bottom, OF_PAIRS, "the last row that each rank received", NULL},
    {is_boundary, OF_PAIRS | OF_EXPERTS, "what the first expert of every rank but 0 made",
     "all tokens of the first expert of every rank but 0"},
    {is_top, OF_PAIRS | OF_EXPERTS, "what the last expert of every rank made",
     "all tokens of the last expert of every rank"},
    {is_other_home, OF_PAIRS | OF_EXPERTS | OF_RANKS | EACH_RANK,
     "what was made for others than rank %d's tokens", "the tokens of all ranks but %d"},
    {is_other_owner, OF_PAIRS | OF_EXPERTS | EACH_RANK, "what other ranks than %d made",
     "all tokens of the experts of other ranks than %d"},
    {is_expert, OF_PAIRS | OF_EXPERTS | EACH_EXPERT, "what expert %d of rank %d made",
     "all tokens of expert %d of rank %d"},
};
enum { CLASSES = sizeof classes / sizeof *classes };

/* ---- both ---- */

typedef struct seen {
    const moe_int_rank_scene *s;
    const char *subject;
    const moe_int_share *share;
    int64_t count;
    double factor; /* of those that do not count once, where they are all alike */
} seen;

/* Do those of the class, and no others, count as the rule says? Where all do, it is no class. */
static bool fits(const seen *k, const moe_int_times *rule, const class *c, int64_t i,
                 int64_t other) {
    int64_t told = 0, outside = 0;
    for (int64_t j = 0; j < k->count; j++) {
        const moe_int_share *a = &k->share[j];
        const double due = rule->of(k->s, a, k->factor);
        const bool in = c->holds(a, i, other);
        if (!moe_int_share_known(a))
            continue;
        if (!moe_int_share_near(a, in ? due : 1))
            return false;
        told += in && !moe_int_share_near(a, 1);
        outside += !in;
    }
    return told > 0 && (outside > 0 || c->holds == is_any);
}

static void say(const seen *k, const moe_int_times *rule, const class *c, int64_t i, int64_t other,
                char *ret, size_t size) {
    char verb[80], which[120];
    const bool pairs = k->share[0].pair >= 0;
    moe_int_times_verb(rule, k->factor, verb, sizeof verb);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* of the tables above */
    snprintf(which, sizeof which, pairs ? c->pairs : c->tokens, (int)i, (int)other);
#pragma GCC diagnostic pop
    snprintf(ret, size, "%s %s %s", k->subject, verb, which);
}

static int kind_of(const seen *k) {
    const moe_int_share *a = &k->share[0];
    return a->pair >= 0 ? OF_PAIRS : a->expert >= 0 ? OF_EXPERTS : OF_RANKS;
}

/* Members of a class: ranks, links, experts, or the one. */
static int64_t members(const seen *k, const class *c) {
    const int64_t R = k->s->R;
    return c->flags & EACH_RANK     ? R
           : c->flags & EACH_LINK   ? R * R
           : c->flags & EACH_EXPERT ? k->s->E
                                    : 1;
}

static bool try_class(const seen *k, const moe_int_times *rule, const class *c, char *ret,
                      size_t size) {
    const int64_t R = k->s->R;
    for (int64_t m = 0, all = members(k, c); m < all; m++) {
        const bool link = c->flags & EACH_LINK, expert = c->flags & EACH_EXPERT;
        const int64_t i = link ? m / R : m, other = link ? m % R : expert ? k->s->owner[m] : 0;
        if (fits(k, rule, c, i, other)) {
            say(k, rule, c, i, other, ret, size);
            return true;
        }
    }
    return false;
}

bool moe_int_rank_class(const moe_int_rank_scene *s, const char *subject,
                        const moe_int_share *share, int64_t count, char *ret, size_t size) {
    seen k = {.s = s, .subject = subject, .share = share, .count = count};
    if (count == 0)
        return false;
    k.factor = moe_int_times_factor(share, count);
    /* What is wrong with every row alike and has nothing to do with ranks is not theirs. */
    for (int c = 0; c < CLASSES; c++)
        for (int r = 0; r < MOE_INT_TIMES; r++)
            if (classes[c].flags & kind_of(&k) && (s->is->plain || classes[c].holds == is_any) &&
                (classes[c].holds != is_any || moe_int_times_rules[r].of_ranks) &&
                try_class(&k, &moe_int_times_rules[r], &classes[c], ret, size))
                return true;
    return false;
}
