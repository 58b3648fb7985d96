/* How experts are chosen: one row of a table per rule. Ties go to the lower index, always. */
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

moe_status moe_int_pairs_add(moe_int_pairs *pairs, int64_t token, int64_t expert) {
    if (pairs->count == pairs->room) {
        int64_t room = pairs->room ? 2 * pairs->room : 256;
        int32_t *t = realloc(pairs->token, (size_t)room * sizeof *t);
        if (t)
            pairs->token = t;
        int32_t *e = t ? realloc(pairs->expert, (size_t)room * sizeof *e) : NULL;
        if (!e)
            return MOE_E_NOMEM;
        pairs->expert = e;
        pairs->room = room;
    }
    pairs->token[pairs->count] = (int32_t)token;
    pairs->expert[pairs->count++] = (int32_t)expert;
    return MOE_OK;
}

void moe_int_pairs_destroy(moe_int_pairs *pairs) {
    free(pairs->token);
    free(pairs->expert);
}

/* Does a rank strictly before b? NaN ranks last. */
static bool ranks_before(double a, double b) {
    return a > b || (isnan(b) && !isnan(a));
}

/* Is entry i better than entry j? A total order: ties go to the lower index. */
static bool is_better(const double *score, int32_t i, int32_t j) {
    if (ranks_before(score[i], score[j]))
        return true;
    return i < j && !ranks_before(score[j], score[i]);
}

/* Lets heap[0] sink to its place: no entry is better than the one above it, so the worst is on top.
 */
static void sink(const double *score, int32_t *heap, int64_t n) {
    int32_t moved = heap[0];
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_better(score, heap[child], heap[child + 1]))
            child++;
        if (!is_better(score, moved, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Adds an entry to a heap of n. */
static void rise(const double *score, int32_t *heap, int64_t n, int32_t entry) {
    int64_t at = n;
    for (int64_t above; at > 0; at = above) {
        above = (at - 1) / 2;
        if (!is_better(score, heap[above], entry))
            break;
        heap[at] = heap[above];
    }
    heap[at] = entry;
}

/* A heap of the k best so far, then sorted in place: n log k, no memory but the result's. */
int64_t moe_int_topk(const double *score, const unsigned char *allowed, int64_t n, int64_t k,
                     int32_t *ret) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        if (allowed && !allowed[i])
            continue;
        if (found < k) {
            rise(score, ret, found++, (int32_t)i);
        } else if (k > 0 && is_better(score, (int32_t)i, ret[0])) {
            ret[0] = (int32_t)i;
            sink(score, ret, found);
        }
    }
    for (int64_t end = found - 1; end > 0; end--) {
        int32_t worst = ret[0];
        ret[0] = ret[end];
        sink(score, ret, end);
        ret[end] = worst;
    }
    return found;
}

static int compare_ranked(const void *left, const void *right) {
    const moe_int_ranked *a = left, *b = right;
    if (ranks_before(a->score, b->score))
        return -1;
    if (ranks_before(b->score, a->score))
        return 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

void moe_int_rank(moe_int_ranked *column, int64_t n) {
    qsort(column, (size_t)n, sizeof *column, compare_ranked);
}

/* Appends the top-K of every token; `mask_of` may narrow the experts of a token. */
typedef void (*mask_fn)(const moe_int_selection *in, const double *score, unsigned char *allowed);

static moe_status choose_per_token(const moe_int_selection *in, mask_fn mask_of,
                                   moe_int_pairs *ret) {
    unsigned char *allowed = malloc((size_t)in->n);
    int32_t *best = malloc((size_t)in->desc->K * sizeof *best);
    moe_status status = allowed && best ? MOE_OK : MOE_E_NOMEM;
    for (int64_t t = 0; !status && t < in->tokens; t++) {
        const double *score = in->scores + t * in->n;
        if (mask_of)
            mask_of(in, score, allowed);
        int64_t found = moe_int_topk(score, mask_of ? allowed : NULL, in->n, in->desc->K, best);
        for (int64_t k = 0; !status && k < found; k++)
            status = moe_int_pairs_add(ret, t, best[k]);
    }
    free(allowed);
    free(best);
    return status;
}

static moe_status choose_topk(const moe_int_selection *in, moe_int_pairs *ret) {
    return choose_per_token(in, NULL, ret);
}

/* What a group is ranked by: the sum of its `best` best scores. */
static double group_score(const double *score, int64_t size, int64_t best) {
    int32_t two[2];
    int64_t found = moe_int_topk(score, NULL, size, best, two);
    return score[two[0]] + (found > 1 ? score[two[1]] : 0);
}

void moe_int_mask_groups(const moe_int_selection *in, const double *score, unsigned char *allowed) {
    const moe_router_desc *r = &in->desc->router;
    int64_t size = in->n / r->groups;
    memset(allowed, 0, (size_t)in->n);
    for (int kept = 0; kept < r->topk_groups; kept++) {
        int64_t best = -1;
        double best_sum = NAN;
        for (int64_t g = 0; g < r->groups; g++) {
            if (allowed[g * size])
                continue;
            double sum =
                group_score(score + g * size, size, r->select == MOE_SELECT_GROUP_MAX ? 1 : 2);
            if (best < 0 || ranks_before(sum, best_sum)) {
                best = g;
                best_sum = sum;
            }
        }
        memset(allowed + best * size, 1, (size_t)size);
    }
}

static moe_status choose_group_topk(const moe_int_selection *in, moe_int_pairs *ret) {
    return choose_per_token(in, moe_int_mask_groups, ret);
}

/* As above, but the experts outside take part with a score of 0. */
static moe_status choose_group_zero(const moe_int_selection *in, moe_int_pairs *ret) {
    size_t n = (size_t)in->n;
    unsigned char *allowed = malloc(n);
    double *score = malloc((size_t)in->tokens * n * sizeof *score);
    moe_status status = allowed && score ? MOE_OK : MOE_E_NOMEM;
    for (int64_t t = 0; !status && t < in->tokens; t++) {
        moe_int_mask_groups(in, in->scores + t * in->n, allowed);
        for (int64_t e = 0; e < in->n; e++)
            score[t * in->n + e] = allowed[e] ? in->scores[t * in->n + e] : 0;
    }
    moe_int_selection masked = *in;
    masked.scores = score;
    if (!status)
        status = choose_topk(&masked, ret);
    free(allowed);
    free(score);
    return status;
}

/* Each expert takes its best ceil(T*K/experts) tokens (arXiv 2202.09368). */
static moe_status choose_expert_choice(const moe_int_selection *in, moe_int_pairs *ret) {
    int64_t take = (in->tokens * in->desc->K + in->n - 1) / in->n;
    if (take > in->tokens)
        take = in->tokens;
    moe_int_ranked *column = malloc((size_t)in->tokens * sizeof *column);
    moe_status status = column ? MOE_OK : MOE_E_NOMEM;
    for (int64_t e = 0; !status && e < in->n; e++) {
        for (int64_t t = 0; t < in->tokens; t++)
            column[t] = (moe_int_ranked){in->scores[t * in->n + e], (int32_t)t};
        moe_int_rank(column, in->tokens);
        for (int64_t k = 0; !status && k < take; k++)
            status = moe_int_pairs_add(ret, column[k].index, e);
    }
    free(column);
    return status;
}

/* Top-K, then every expert keeps its first `capacity` tokens in token order, of each group
 * (arXiv 2006.16668). */
static moe_status choose_capacity(const moe_int_selection *in, moe_int_pairs *ret) {
    const int64_t size = in->desc->router.capacity_group;
    int64_t *load = calloc((size_t)in->n, sizeof *load);
    moe_status status = load ? choose_topk(in, ret) : MOE_E_NOMEM;
    int64_t kept = 0, group = 0;
    for (int64_t i = 0; !status && i < ret->count; i++) {
        if (size && ret->token[i] / size != group) {
            group = ret->token[i] / size;
            memset(load, 0, (size_t)in->n * sizeof *load);
        }
        if (load[ret->expert[i]]++ >= in->desc->router.capacity)
            continue;
        ret->token[kept] = ret->token[i];
        ret->expert[kept++] = ret->expert[i];
    }
    if (!status)
        ret->count = kept;
    free(load);
    return status;
}

const moe_int_select moe_int_selects[MOE_SELECT_COUNT] = {
    [MOE_SELECT_TOPK] = {choose_topk, false, true},
    [MOE_SELECT_GROUP_TOPK] = {choose_group_topk, false, false}, /* adds two scores */
    [MOE_SELECT_EXPERT_CHOICE] = {choose_expert_choice, false, false},
    [MOE_SELECT_CAPACITY] = {choose_capacity, true, true},
    [MOE_SELECT_TOKEN_ROUNDING] = {moe_int_choose_token_rounding, true, false},
    [MOE_SELECT_GROUP_MAX] = {choose_group_topk, false, true},
    [MOE_SELECT_GROUP_ZERO] = {choose_group_zero, false, false},
};
_Static_assert(MOE_SELECT_GROUP_ZERO + 1 == MOE_SELECT_COUNT, "one row for every moe_select");
