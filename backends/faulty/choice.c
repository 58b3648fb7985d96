/* Which K experts a token chooses: top-K, limited to groups, or to the room that experts have. */
#include "faulty.h"

#include <math.h>

enum { EVERY = 7 }; /* tokens that a fault of a few tokens concerns */

/* Does score a, of a higher index, rank before b? Ties stay with the lower index; NaN is last. */
static bool ranks_before(const fy_layer *l, double a, double b) {
    if (FAULT(l, ties_to_higher) && a == b)
        return true;
    if (FAULT(l, lowest_chosen))
        return a < b;
    return a > b || (isnan(b) && !isnan(a));
}

/* The best allowed of n scores, or -1. */
static int64_t best_of(const fy_layer *l, const double *score, const unsigned char *allowed,
                       int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (allowed[i] && (best < 0 || ranks_before(l, score[i], score[best])))
            best = i;
    return best;
}

/* A group's score: the sum of its two best experts'. */
static double group_score(const fy_layer *l, const double *score, int64_t size) {
    double first = -INFINITY, second = -INFINITY, sum = 0;
    for (int64_t i = 0; i < size; i++) {
        sum += score[i];
        if (score[i] > first) {
            second = first;
            first = score[i];
        } else if (score[i] > second) {
            second = score[i];
        }
    }
    if (FAULT(l, group_by_sum))
        return sum;
    return size > 1 && !FAULT(l, group_by_best) ? first + second : first;
}

/* Leaves the experts of the best groups allowed. */
static void keep_groups(const fy_layer *l, double *score, unsigned char *allowed) {
    const moe_router_desc *r = &l->desc.router;
    const int64_t size = l->R / r->groups;
    double group[512];
    unsigned char open[512];
    int kept = r->topk_groups - (FAULT(l, group_one_less) && r->topk_groups > 1);
    for (int64_t g = 0; g < r->groups && g < 512; g++) {
        group[g] = group_score(l, score + g * size, size);
        open[g] = 1;
    }
    for (int64_t i = 0; i < l->R; i++)
        allowed[i] = FAULT(l, groups_ignored);
    for (int k = 0; k < kept; k++) {
        const int64_t g = best_of(l, group, open, r->groups);
        open[g] = 0;
        for (int64_t i = 0; i < size; i++)
            allowed[g * size + i] = 1;
    }
    for (int64_t i = 0; FAULT(l, groups_masked_zero) && i < l->R; i++)
        if (!allowed[i]) {
            score[i] = 0;
            allowed[i] = 1;
        }
}

static int64_t first_not_among(const int32_t *chosen, int64_t count) {
    int64_t e = 0;
    for (int64_t k = 0; k < count; k++)
        if (chosen[k] == e) {
            e++;
            k = -1;
        }
    return e;
}

/* Experts that a kernel of limited width ever looks at. */
static int64_t width_of(const fy_layer *l) {
    const int64_t cap = FAULT(l, topk_capped_64) ? 64 : FAULT(l, topk_capped_256) ? 256 : l->R;
    return cap < l->R ? cap : l->R;
}

void fy_choose(const fy_layer *l, int64_t t, double *score, unsigned char *allowed, int32_t *ret) {
    const int64_t K = l->desc.K;
    for (int64_t i = 0; i < l->R; i++)
        allowed[i] = i < width_of(l);
    if (l->desc.router.select == MOE_SELECT_GROUP_TOPK)
        keep_groups(l, score, allowed);
    for (int64_t k = 0; k < K; k++) {
        int64_t e = best_of(l, score, allowed, l->R);
        e = e >= 0 ? e : first_not_among(ret, k); /* a fault has left too few */
        allowed[e] = 0;
        const bool spoilt = (FAULT(l, last_choice_second_best) && t % EVERY == 3) ||
                            (FAULT(l, one_token_misrouted) && t == 17);
        if (spoilt && k == K - 1) {
            const int64_t other = best_of(l, score, allowed, l->R);
            e = other >= 0 ? other : e;
        }
        ret[k] = (int32_t)e;
    }
}
