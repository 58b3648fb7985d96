/* Hypotheses about which experts are a group: for its score, and for what it lets in. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_GROUPS = 256, MOST_EXPERTS = 1024 };

/* Experts 0 .. R-1 in groups of R / G. */
typedef enum partition { CONTIGUOUS, REMAINDER, ONE_LATE, ONE_EARLY, INSIDE_OUT } partition;
/* Which of a group's experts, in their order. */
typedef enum members {
    ALL,
    FIRST_HALF,
    SECOND_HALF,
    FIRST_EXPERT,
    BEST_ONE, /* by their scores */
    BEST_TWO,
    BEST_THREE
} members;
/* Whose score group g goes by. */
typedef enum scored { OWN, NEXT, BEFORE, BESIDE, LEAST_BEST, LEAST_MEMBER } scored;

typedef struct group_form {
    const char *words;
    partition score, mask;
    members counts, let_in;
    scored by;
} group_form;

static const group_form forms[] = {
    {"expert e is let in with group e mod groups", CONTIGUOUS, REMAINDER, ALL, ALL, OWN},
    {"expert e is in group e mod groups", REMAINDER, REMAINDER, ALL, ALL, OWN},
    {"expert e counts for group e mod groups", REMAINDER, CONTIGUOUS, ALL, ALL, OWN},
    {"groups that are let in begin an expert late", CONTIGUOUS, ONE_LATE, ALL, ALL, OWN},
    {"groups that are let in begin an expert early", CONTIGUOUS, ONE_EARLY, ALL, ALL, OWN},
    {"groups begin an expert late", ONE_LATE, ONE_LATE, ALL, ALL, OWN},
    {"groups begin an expert early", ONE_EARLY, ONE_EARLY, ALL, ALL, OWN},
    {"the groups that are let in are in reverse order", CONTIGUOUS, INSIDE_OUT, ALL, ALL, OWN},
    {"a group goes by the next group's score", CONTIGUOUS, CONTIGUOUS, ALL, ALL, NEXT},
    {"a group goes by the score of the group before", CONTIGUOUS, CONTIGUOUS, ALL, ALL, BEFORE},
    {"groups of a pair go by each other's score", CONTIGUOUS, CONTIGUOUS, ALL, ALL, BESIDE},
    {"the worst groups are kept", CONTIGUOUS, CONTIGUOUS, ALL, ALL, LEAST_BEST},
    {"a group goes by its worst expert", CONTIGUOUS, CONTIGUOUS, ALL, ALL, LEAST_MEMBER},
    {"a group goes by its first half of experts", CONTIGUOUS, CONTIGUOUS, FIRST_HALF, ALL, OWN},
    {"a group goes by its second half of experts", CONTIGUOUS, CONTIGUOUS, SECOND_HALF, ALL, OWN},
    {"a group goes by its first expert", CONTIGUOUS, CONTIGUOUS, FIRST_EXPERT, ALL, OWN},
    {"the first half of a group's experts is let in", CONTIGUOUS, CONTIGUOUS, ALL, FIRST_HALF, OWN},
    {"the second half of a group's experts is let in", CONTIGUOUS, CONTIGUOUS, ALL, SECOND_HALF,
     OWN},
    {"no more than one expert of a group", CONTIGUOUS, CONTIGUOUS, ALL, BEST_ONE, OWN},
    {"no more than two experts of a group", CONTIGUOUS, CONTIGUOUS, ALL, BEST_TWO, OWN},
    {"no more than three experts of a group", CONTIGUOUS, CONTIGUOUS, ALL, BEST_THREE, OWN},
};
enum { FORMS = sizeof forms / sizeof *forms };

/* The group of expert e, and its place in it. */
static int64_t group_of(partition form, int64_t e, int64_t R, int64_t G, int64_t *place) {
    const int64_t size = R / G;
    const int64_t by = form == ONE_LATE ? R - 1 : form == ONE_EARLY ? 1 : 0, at = (e + by) % R;
    if (form == REMAINDER) {
        *place = e / G;
        return e % G;
    }
    *place = at % size;
    return form == INSIDE_OUT ? G - 1 - at / size : at / size;
}

static bool is_in(members which, int64_t place, int64_t size) {
    return which == ALL || which >= BEST_ONE || (which == FIRST_HALF && place < size / 2) ||
           (which == SECOND_HALF && place >= size / 2) || (which == FIRST_EXPERT && place == 0);
}

/* ret [G] from score [R]: the two best, or the worst. */
static void score_groups(const group_form *form, const double *score, int64_t R, int64_t G,
                         double *ret) {
    double best[MOST_GROUPS], second[MOST_GROUPS], least[MOST_GROUPS], own[MOST_GROUPS];
    for (int64_t g = 0; g < MOST_GROUPS; g++) {
        best[g] = second[g] = -INFINITY;
        least[g] = INFINITY;
    }
    for (int64_t e = 0; e < R; e++) {
        int64_t place;
        const int64_t g = group_of(form->score, e, R, G, &place);
        if (!is_in(form->counts, place, R / G))
            continue;
        second[g] = fmax(second[g], fmin(best[g], score[e]));
        best[g] = fmax(best[g], score[e]);
        least[g] = fmin(least[g], score[e]);
    }
    for (int64_t g = 0; g < G; g++)
        own[g] = form->by == LEAST_MEMBER ? least[g]
                 : isinf(second[g])       ? best[g]
                                          : best[g] + second[g];
    for (int64_t g = 0; g < G; g++) {
        const int64_t beside = (g ^ 1) < G ? g ^ 1 : g;
        const int64_t of = form->by == NEXT     ? (g + 1) % G
                           : form->by == BEFORE ? (g + G - 1) % G
                           : form->by == BESIDE ? beside
                                                : g;
        ret[g] = form->by == LEAST_BEST ? -own[of] : own[of];
    }
}

/* How many experts of e's group have a better score. */
static int64_t better_in_group(const double *score, int64_t e, int64_t R, int64_t G) {
    const int64_t size = R / G, first = e / size * size;
    int64_t count = 0;
    for (int64_t o = first; o < first + size; o++)
        count += score[o] > score[e] || (score[o] == score[e] && o < e);
    return count;
}

/* One token's scores; those that are not let in become the least. */
static void mask_groups(const group_form *form, const moe_router_desc *r, int64_t R,
                        double *score) {
    double group[MOST_GROUPS];
    int32_t kept[MOST_GROUPS];
    bool open[MOST_GROUPS] = {false};
    score_groups(form, score, R, r->groups, group);
    const int64_t n = moe_int_topk(group, NULL, r->groups, r->topk_groups, kept);
    for (int64_t i = 0; i < n; i++)
        open[kept[i]] = true;
    const int64_t most = form->let_in < BEST_ONE ? R : form->let_in - BEST_ONE + 1;
    bool beaten[MOST_EXPERTS];
    for (int64_t e = 0; e < R; e++)
        beaten[e] = most < R && better_in_group(score, e, R, r->groups) >= most;
    for (int64_t e = 0; e < R; e++) {
        int64_t place;
        const int64_t g = group_of(form->mask, e, R, r->groups, &place);
        if (!open[g] || beaten[e] || !is_in(form->let_in, place, R / r->groups))
            score[e] = -INFINITY;
    }
}

bool moe_int_change_groups_otherwise(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    const moe_problem *p = s->evidence->problem;
    const moe_router_desc *r = &p->layer.router;
    const int64_t R = c->plan->n_experts, T = p->T;
    if (trial >= FORMS || !c->logits || r->select != MOE_SELECT_GROUP_TOPK ||
        r->groups > MOST_GROUPS || R > MOST_EXPERTS || R % r->groups)
        return false;
    double *b = moe_int_selection_bias(s), *score = malloc((size_t)(T * R) * sizeof *score);
    if (score)
        moe_route_selection_scores(&c->desc, T, c->logits, b, score);
    for (int64_t t = 0; score && t < T; t++)
        mask_groups(&forms[trial], r, R, score + t * R);
    moe_int_finding_say(f, ": %s", forms[trial].words);
    const bool done = score && moe_int_choose_best(s, score, 1, c);
    free(score);
    free(b);
    return done;
}
