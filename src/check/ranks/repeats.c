/* Rows of nobody that repeat an expert's first or last row in its gradient, as a buffer's stale
 * tail does: how often each row counts follows by least squares. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Multiplications, and numbers of one expert's terms. */
static const double most_steps = 2e9, most_numbers = 3e7;

/* What a row's number may be off by. */
static const double slack = 1e-3, slack_low = 0.05;

typedef struct repeats {
    const moe_int_rank_scene *s;
    int64_t width, most;  /* of a gradient; pairs of an expert */
    double *term, *times; /* [most][width], [most] */
    double left;
    int64_t first, last, others; /* experts of which that row, or another, counts otherwise */
    int64_t expert;              /* the first of them, and how often its row counts */
    double count;
} repeats;

static bool has_room(const moe_int_rank_scene *s, repeats *k) {
    const int64_t *offsets = s->plan->offsets;
    double steps = 0;
    *k = (repeats){.s = s, .width = s->count / s->E, .expert = -1};
    for (int64_t e = 0; e < s->E; e++) {
        const int64_t rows = offsets[e + 1] - offsets[e];
        steps += (double)(rows * rows) * (double)k->width;
        k->most = rows > k->most ? rows : k->most;
    }
    if (steps > most_steps || (double)k->most * (double)k->width > most_numbers ||
        k->most >= k->width)
        return false;
    k->term = malloc((size_t)(k->most * k->width + 1) * sizeof *k->term);
    k->times = malloc((size_t)(k->most + 1) * sizeof *k->times);
    return k->term && k->times;
}

static void note(repeats *k, int64_t e, int64_t rows) {
    const double near = k->s->is->low ? slack_low : slack;
    for (int64_t i = 0; i < rows; i++) {
        if (fabs(k->times[i] - 1) <= near)
            continue;
        k->first += i == 0 && rows > 1;
        k->last += i + 1 == rows && rows > 1;
        k->others += i > 0 && i + 1 < rows;
        if (k->expert < 0) {
            k->expert = e;
            k->count = k->times[i];
        }
    }
}

/* False: no numbers of its rows make the gradient of expert e. */
static bool fit_expert(repeats *k, int64_t e) {
    const int64_t begin = k->s->plan->offsets[e], rows = k->s->plan->offsets[e + 1] - begin;
    const double *got = k->s->got + e * k->width;
    if (rows == 0)
        return true;
    memset(k->term, 0, (size_t)(rows * k->width) * sizeof *k->term);
    for (int64_t i = 0; i < rows; i++)
        moe_int_rank_add_outer(k->s, begin + i, k->term + i * k->width);
    const double left = moe_int_fit(k->term, rows, k->width, got, k->times);
    if (left < 0)
        return false;
    k->left += left;
    note(k, e, rows);
    return true;
}

bool moe_int_rank_repeated_rows(const moe_int_rank_scene *s, moe_explanation *ret) {
    repeats k;
    const bool known = s->id == MOE_T_DW2 ? s->A && s->dO : s->dH != NULL;
    bool fits = known && has_room(s, &k);
    if (!known)
        return false;
    for (int64_t e = 0; fits && e < s->E; e++)
        fits = fit_expert(&k, e);
    const double after = fits ? k.left / moe_int_inner(s->right, s->right, s->count) : INFINITY;
    const bool at_end = k.last > 1 && k.first == 0, at_start = k.first > 1 && k.last == 0;
    const bool found =
        fits && k.others == 0 && (at_end || at_start) && moe_int_rank_explains(s, after);
    if (found)
        moe_int_rank_explain(s, "ranks_rows_repeated", after, ret,
                             "%s has the %s row of experts %s once: that of expert %lld on rank "
                             "%d %.4g times; %lld more experts'",
                             moe_tensor_name(s->id), at_end ? "last" : "first",
                             k.count > 1 ? "more than" : "not", (long long)k.expert,
                             (int)s->owner[k.expert], k.count,
                             (long long)((at_end ? k.last : k.first) - 1));
    free(k.term);
    free(k.times);
    return found;
}
