/* What is wrong with a sum of a token's terms: how often does each of them count? O is made of the
 * experts' Y, b2, the shared expert's Y; dX of dX~, the shared expert's and the router's part. */
#include "check/explain/bank.h"
#include "check/explain/terms.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const class_words[MOE_INT_TERM_CLASSES] = {
    "an expert's part",       "b2's part",         "the shared expert's part",
    "the shared gate's part", "the router's part", "a zero expert's part",
    "what does not belong"};

/* What a right term's factor may be off by: rounding that is left in all columns shows in it. */
static double uncertainty(const moe_int_terms *k, int64_t j, double left) {
    const double *row = k->row + j * k->columns, size = moe_int_inner(row, row, k->columns);
    return size > 0 ? 4 * sqrt(fmax(left, 0) / (double)k->columns / size) : 0;
}

static bool note(moe_int_terms *k, const double *off, double left) {
    for (int64_t j = 0; j < k->count; j++) {
        const moe_int_term_class of = k->of[j];
        if (fabs(off[j]) <= fmax(0.01, uncertainty(k, j, left))) {
            k->right[of]++;
            continue;
        }
        double *more = realloc(k->factor[of], (size_t)(k->noted[of] + 1) * sizeof *more);
        k->factor[of] = more ? more : k->factor[of];
        int64_t *pairs =
            more ? realloc(k->noted_pair[of], (size_t)(k->noted[of] + 1) * sizeof *pairs) : NULL;
        k->noted_pair[of] = pairs ? pairs : k->noted_pair[of];
        if (!pairs)
            return false;
        k->factor[of][k->noted[of]] = (of != MOE_INT_TERM_FOREIGN) + off[j];
        k->noted_pair[of][k->noted[of]++] =
            k->pair[j] >= 0 ? k->pair[j]
                            : k->l->p->e->routing->plan->pair_of_token[0]; /* a weight of none */
    }
    return true;
}

/* Leaves of `count` rows of d elements the wrong columns alone, close together. */
static void keep_columns(const moe_int_terms *k, int64_t count, double *rows) {
    for (int64_t j = 0; k->columns < k->d && j < count; j++)
        for (int64_t c = 0; c < k->columns; c++)
            rows[j * k->columns + c] = rows[j * k->d + k->column[c]];
}

/* One term alone is off where the columns are too few to tell of more: which? Returns what is left.
 */
static double fit_few(const moe_int_terms *k, double *off) {
    double least = INFINITY;
    int64_t is = 0;
    for (int64_t j = 0; j < k->count; j++) {
        const double left = moe_int_fit(k->row + j * k->columns, 1, k->columns, k->error, &off[j]);
        if (left >= 0 && left < least) {
            least = left;
            is = j;
        }
    }
    for (int64_t j = 0; j < k->count; j++)
        off[j] = j == is ? off[j] : 0;
    return isfinite(least) ? least : -1;
}

/* Token i of the scene, if it is wrong. */
static bool fit_token(moe_int_terms *k, int64_t i) {
    const moe_int_sight *p = k->l->p;
    const double *right = k->l->right->value[p->id] + i * k->d;
    const moe_tensor *got = p->got;
    const int64_t t = k->l->scene->tokens[i];
    double off[MOE_INT_MOST_TERMS], d2 = 0;
    for (int64_t c = 0; c < k->d; c++) {
        k->error[c] = moe_load(got->data, got->dtype, (size_t)(t * k->d + c)) - right[c];
        d2 += k->error[c] * k->error[c];
    }
    const double size = moe_int_inner(right, right, k->d);
    if (d2 <= 10 * p->e->gate[p->id] * size)
        return true;
    moe_int_terms_collect(k, i);
    if (k->foreign >= 0)
        moe_int_terms_add_foreign(k, i);
    if (k->count == 0 || k->columns < 4)
        return false;
    keep_columns(k, k->count, k->row);
    keep_columns(k, 1, k->error);
    const double left = 2 * k->count > k->columns
                            ? fit_few(k, off)
                            : moe_int_fit(k->row, k->count, k->columns, k->error, off);
    k->d2 += d2;
    k->left += left;
    return left >= 0 && left <= moe_int_local_limit(p->e, p->id, d2) && note(k, off, left);
}

static void say_class(const moe_int_terms *k, int of, bool more, moe_int_finding *f) {
    moe_int_finding_say(f, "%s %s", more ? ";" : ":", class_words[of]);
    bool all = k->noted[of] > 0 && of != MOE_INT_TERM_FOREIGN; /* which is there, however small */
    for (int64_t i = 0; i < k->noted[of]; i++)
        all &= fabs(k->factor[of][i]) < 0.02;
    if (all) {
        moe_int_finding_say(f, " is missing%s", k->right[of] ? " at some tokens" : "");
        return;
    }
    if (of == MOE_INT_TERM_FOREIGN)
        moe_int_finding_say(f, ", %s,", moe_int_vector_words[k->foreign]);
    if (of == MOE_INT_TERM_SHARED && k->l->p->e->problem->layer.shared_gate)
        moe_int_finding_say(f, ", so its gate,");
    moe_int_finding_say(f, " has a factor");
    moe_int_say_factors(k->l->p->e, k->noted_pair[of], k->factor[of], k->noted[of], f);
}

/* All columns count, unless it is a part of them that is wrong. */
static void choose_columns(moe_int_terms *k) {
    for (int64_t c = 0; c < k->d; c++)
        if (moe_int_sight_wrong_column(k->l->p, c))
            k->column[k->columns++] = c;
    if (4 * k->columns > 3 * k->d || k->columns == 0)
        for (k->columns = 0; k->columns < k->d; k->columns++)
            k->column[k->columns] = k->columns;
}

static bool terms_make(const moe_int_local *l, moe_int_terms *k) {
    const int64_t d = l->p->width;
    *k = (moe_int_terms){.l = l, .d = d, .foreign = -1};
    if ((l->p->id != MOE_T_O && l->p->id != MOE_T_DX) || l->p->odd > 0 ||
        !l->right->value[l->p->id])
        return false;
    k->row = malloc((size_t)((MOE_INT_MOST_TERMS + 1) * d) * sizeof(double));
    k->error = k->row ? k->row + MOE_INT_MOST_TERMS * d : NULL;
    k->column = malloc((size_t)d * sizeof *k->column);
    if (!k->row || !k->column)
        return false;
    choose_columns(k);
    return true;
}

static void forget(moe_int_terms *k) {
    for (int of = 0; of < MOE_INT_TERM_CLASSES; of++) {
        free(k->factor[of]);
        free(k->noted_pair[of]);
        k->factor[of] = NULL;
        k->noted_pair[of] = NULL;
        k->noted[of] = k->right[of] = 0;
    }
    k->left = k->d2 = 0;
}

static void terms_destroy(moe_int_terms *k) {
    forget(k);
    free(k->row);
    free(k->column);
}

/* All wrong tokens of the scene, with the terms as they are and the vector that is tried. */
static bool fit_tokens(moe_int_terms *k, moe_int_finding *f) {
    bool found = true, more = false;
    forget(k);
    for (int64_t i = 0; found && i < k->l->scene->n_tokens; i++)
        found = fit_token(k, i);
    if (!found || k->d2 == 0 || (k->foreign >= 0 && k->noted[MOE_INT_TERM_FOREIGN] == 0))
        return false;
    moe_int_local_residuals(k->l->p, k->left, k->d2, f);
    for (int of = 0; of < MOE_INT_TERM_CLASSES; of++) {
        if (k->noted[of] == 0)
            continue;
        say_class(k, of, more, f);
        more = true;
    }
    if (more && k->columns < k->d)
        moe_int_finding_say(f, "; in %lld columns, from %lld to %lld", (long long)k->columns,
                            (long long)k->column[0], (long long)k->column[k->columns - 1]);
    return more;
}

bool moe_int_local_token_terms(const moe_int_local *l, moe_int_finding *f) {
    moe_int_terms k;
    const bool found = terms_make(l, &k) && fit_tokens(&k, f);
    terms_destroy(&k);
    return found;
}

bool moe_int_local_foreign_terms(const moe_int_local *l, moe_int_finding *f) {
    moe_int_terms k;
    bool found = false;
    const bool made = terms_make(l, &k);
    for (int which = 0; made && !found && which < MOE_INT_VECTOR_COUNT; which++) {
        moe_int_finding try = *f;
        const moe_tensor_id own = l->p->id;
        const bool itself = (which == MOE_INT_VECTOR_O && own == MOE_T_O) ||
                            (which == MOE_INT_VECTOR_DX && own == MOE_T_DX) ||
                            (which == MOE_INT_VECTOR_Y && own == MOE_T_O) ||
                            (which == MOE_INT_VECTOR_DXP && own == MOE_T_DX);
        if (itself || !moe_int_vector_exists(l->p->e, (moe_int_vector)which, l->p->width))
            continue;
        k.foreign = which;
        found = fit_tokens(&k, &try);
        if (found)
            *f = try;
    }
    terms_destroy(&k);
    return found;
}
