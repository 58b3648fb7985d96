/* What is wrong with a sum of a token's terms: how often does each of them count? O is made of the
 * experts' Y, b2, the shared expert's Y; dX of dX~, the shared expert's and the router's part. */
#include "check/explain/bank.h"
#include "check/explain/vectors.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TERMS = 40, CLASSES = 7 };

typedef enum term_class { PAIRS, BIAS, SHARED, GATE, ROUTER, ZERO, FOREIGN } term_class;

static const char *const class_words[CLASSES] = {
    "an expert's part",       "b2's part",         "the shared expert's part",
    "the shared gate's part", "the router's part", "a zero expert's part",
    "what does not belong"};

typedef struct terms {
    const moe_int_local *l;
    int64_t d, count;
    double *row, *error;      /* [MOST_TERMS][d], [d] */
    int64_t *column, columns; /* [columns], those that are wrong */
    term_class of[MOST_TERMS];
    int64_t pair[MOST_TERMS]; /* of the whole plan; -1: none's */
    double *factor[CLASSES];  /* [noted] of wrong rows' terms that count otherwise */
    int64_t *noted_pair[CLASSES], noted[CLASSES], right[CLASSES];
    double left, d2;
    int foreign; /* the vector that is tried beside the terms; negative: none */
} terms;

static double *add_term(terms *k, term_class of, int64_t pair) {
    if (k->count == MOST_TERMS)
        return NULL;
    k->of[k->count] = of;
    k->pair[k->count] = pair;
    return k->row + k->count++ * k->d;
}

static void add_scaled(terms *k, term_class of, int64_t pair, double scale, const double *row) {
    double *to = add_term(k, of, pair);
    for (int64_t c = 0; to && c < k->d; c++)
        to[c] = scale * row[c];
}

/* Zero experts all add x, so those of a token are one term. */
static void add_zero(terms *k, int64_t pair, double scale, const double *x) {
    for (int64_t j = 0; j < k->count; j++)
        if (k->of[j] == ZERO) {
            for (int64_t c = 0; c < k->d; c++)
                k->row[j * k->d + c] += scale * x[c];
            return;
        }
    add_scaled(k, ZERO, pair, scale, x);
}

/* Pair `q` of the scene's own plan is pair p of the whole. */
static void add_pair(terms *k, int64_t i, int64_t q, int64_t p) {
    const moe_int_scene *s = k->l->scene;
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    const moe_tensor *b2 = &s->evidence->problem->in.t[MOE_T_B2];
    const bool forward = k->l->p->id == MOE_T_O;
    const bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const double w = s->sub->weight[q];
    const int64_t e = moe_int_plan_expert_of(s->sub, q);
    if (e >= desc->E) {
        add_zero(k, p, w, (forward ? s->X : s->dO) + i * k->d);
        return;
    }
    const double scale = forward == on_input ? 1 : w;
    if (!forward) {
        add_scaled(k, PAIRS, p, scale, rows->dXp + q * k->d);
        return;
    }
    add_scaled(k, PAIRS, p, scale, rows->AW2 + q * k->d);
    double *to = b2->data ? add_term(k, BIAS, p) : NULL;
    for (int64_t c = 0; to && c < k->d; c++)
        to[c] = scale * moe_load(b2->data, b2->dtype, (size_t)(e * k->d + c));
}

/* The right row's part that no other term has: the router's. */
static void add_rest(terms *k, int64_t i) {
    const double *right = k->l->right->value[k->l->p->id] + i * k->d;
    double *to = add_term(k, ROUTER, -1), size = 0;
    for (int64_t c = 0; to && c < k->d; c++) {
        to[c] = right[c];
        for (int64_t j = 0; j + 1 < k->count; j++)
            to[c] -= k->row[j * k->d + c];
        size += to[c] * to[c];
    }
    if (to && size <= 1e-18 * moe_int_inner(right, right, k->d))
        k->count--;
}

static void collect(terms *k, int64_t i) {
    const moe_int_scene *s = k->l->scene;
    const moe_int_stage_rows *shared = &k->l->right->shared;
    const moe_plan *whole = s->evidence->routing->plan;
    const moe_tensor *gate = &s->evidence->problem->in.t[MOE_T_W_GATE_SHARED];
    const int64_t from = s->sub->token_offsets[i];
    k->count = 0;
    for (int64_t j = from; j < s->sub->token_offsets[i + 1]; j++)
        add_pair(k, i, s->sub->pair_of_token[j],
                 whole->pair_of_token[whole->token_offsets[s->tokens[i]] + j - from]);
    if (shared->block && k->l->p->id == MOE_T_O)
        add_scaled(k, SHARED, -1, shared->weight[i], shared->Y + i * k->d);
    if (shared->block && k->l->p->id == MOE_T_DX) {
        add_scaled(k, SHARED, -1, 1, shared->dXp + i * k->d);
        double *to = gate->data ? add_term(k, GATE, -1) : NULL;
        const double g = shared->weight[i];
        for (int64_t c = 0; to && c < k->d; c++)
            to[c] = shared->dS[i] * g * (1 - g) * moe_load(gate->data, gate->dtype, (size_t)c);
    }
    if (k->l->p->id == MOE_T_DX && s->evidence->routing->logits)
        add_rest(k, i);
}

/* The vector that is tried: a token's, or that of each of its pairs. */
static void add_foreign(terms *k, int64_t i) {
    const moe_int_evidence *e = k->l->p->e;
    const moe_plan *plan = e->routing->plan;
    const moe_int_vector which = (moe_int_vector)k->foreign;
    const int64_t t = k->l->scene->tokens[i];
    const bool one = moe_int_vector_of_token(which);
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++) {
        const int64_t p = plan->pair_of_token[j];
        double *to = p < plan->offsets[e->problem->layer.E] || one ? add_term(k, FOREIGN, p) : NULL;
        if (to)
            moe_int_vector_load(e, which, one ? t : p, one, to);
        if (one)
            break;
    }
}

/* What a right term's factor may be off by: rounding that is left in all columns shows in it. */
static double uncertainty(const terms *k, int64_t j, double left) {
    const double *row = k->row + j * k->columns, size = moe_int_inner(row, row, k->columns);
    return size > 0 ? 4 * sqrt(fmax(left, 0) / (double)k->columns / size) : 0;
}

static bool note(terms *k, const double *off, double left) {
    for (int64_t j = 0; j < k->count; j++) {
        const term_class of = k->of[j];
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
        k->factor[of][k->noted[of]] = (of != FOREIGN) + off[j];
        k->noted_pair[of][k->noted[of]++] =
            k->pair[j] >= 0 ? k->pair[j]
                            : k->l->p->e->routing->plan->pair_of_token[0]; /* a weight of none */
    }
    return true;
}

/* Leaves of `count` rows of d elements the wrong columns alone, close together. */
static void keep_columns(const terms *k, int64_t count, double *rows) {
    for (int64_t j = 0; k->columns < k->d && j < count; j++)
        for (int64_t c = 0; c < k->columns; c++)
            rows[j * k->columns + c] = rows[j * k->d + k->column[c]];
}

/* One term alone is off where the columns are too few to tell of more: which? Returns what is left.
 */
static double fit_few(const terms *k, double *off) {
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
static bool fit_token(terms *k, int64_t i) {
    const moe_int_sight *p = k->l->p;
    const double *right = k->l->right->value[p->id] + i * k->d;
    const moe_tensor *got = p->got;
    const int64_t t = k->l->scene->tokens[i];
    double off[MOST_TERMS], d2 = 0;
    for (int64_t c = 0; c < k->d; c++) {
        k->error[c] = moe_load(got->data, got->dtype, (size_t)(t * k->d + c)) - right[c];
        d2 += k->error[c] * k->error[c];
    }
    const double size = moe_int_inner(right, right, k->d);
    if (d2 <= 10 * p->e->gate[p->id] * size)
        return true;
    collect(k, i);
    if (k->foreign >= 0)
        add_foreign(k, i);
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

static void say_class(const terms *k, int of, bool more, moe_int_finding *f) {
    moe_int_finding_say(f, "%s %s", more ? ";" : ":", class_words[of]);
    bool all = k->noted[of] > 0;
    for (int64_t i = 0; i < k->noted[of]; i++)
        all &= fabs(k->factor[of][i]) < 0.02;
    if (all) {
        moe_int_finding_say(f, " is missing%s", k->right[of] ? " at some tokens" : "");
        return;
    }
    if (of == FOREIGN)
        moe_int_finding_say(f, ", %s,", moe_int_vector_words[k->foreign]);
    if (of == SHARED && k->l->p->e->problem->layer.shared_gate)
        moe_int_finding_say(f, ", so its gate,");
    moe_int_finding_say(f, " has a factor");
    moe_int_say_factors(k->l->p->e, k->noted_pair[of], k->factor[of], k->noted[of], f);
}

/* All columns count, unless it is a part of them that is wrong. */
static void choose_columns(terms *k) {
    for (int64_t c = 0; c < k->d; c++)
        if (moe_int_sight_wrong_column(k->l->p, c))
            k->column[k->columns++] = c;
    if (4 * k->columns > 3 * k->d || k->columns == 0)
        for (k->columns = 0; k->columns < k->d; k->columns++)
            k->column[k->columns] = k->columns;
}

static bool terms_make(const moe_int_local *l, terms *k) {
    const int64_t d = l->p->width;
    *k = (terms){.l = l, .d = d, .foreign = -1};
    if ((l->p->id != MOE_T_O && l->p->id != MOE_T_DX) || l->p->odd > 0 ||
        !l->right->value[l->p->id])
        return false;
    k->row = malloc((size_t)((MOST_TERMS + 1) * d) * sizeof(double));
    k->error = k->row ? k->row + MOST_TERMS * d : NULL;
    k->column = malloc((size_t)d * sizeof *k->column);
    if (!k->row || !k->column)
        return false;
    choose_columns(k);
    return true;
}

static void forget(terms *k) {
    for (int of = 0; of < CLASSES; of++) {
        free(k->factor[of]);
        free(k->noted_pair[of]);
        k->factor[of] = NULL;
        k->noted_pair[of] = NULL;
        k->noted[of] = k->right[of] = 0;
    }
    k->left = k->d2 = 0;
}

static void terms_destroy(terms *k) {
    forget(k);
    free(k->row);
    free(k->column);
}

/* All wrong tokens of the scene, with the terms as they are and the vector that is tried. */
static bool fit_tokens(terms *k, moe_int_finding *f) {
    bool found = true, more = false;
    forget(k);
    for (int64_t i = 0; found && i < k->l->scene->n_tokens; i++)
        found = fit_token(k, i);
    if (!found || k->d2 == 0 || (k->foreign >= 0 && k->noted[FOREIGN] == 0))
        return false;
    moe_int_local_residuals(k->l->p, k->left, k->d2, f);
    for (int of = 0; of < CLASSES; of++) {
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
    terms k;
    const bool found = terms_make(l, &k) && fit_tokens(&k, f);
    terms_destroy(&k);
    return found;
}

bool moe_int_local_foreign_terms(const moe_int_local *l, moe_int_finding *f) {
    terms k;
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
