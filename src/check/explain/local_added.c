/* Something is added that does not belong: another tensor's rows, or another row of its own. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN = 24, WAYS = 3, MOST_ROWS = 8192 };

/* What may have been added, its row of the same token or pair, or of those beside. */
typedef struct candidate {
    const moe_tensor *t;
    moe_tensor_id id;
    bool of_token; /* a row a token, though the wrong tensor has a row a pair */
} candidate;

/* Rows of a wrong tensor: what each has too much. */
typedef struct extra {
    const moe_int_sight *p;
    int64_t row[SEEN], rows;
    double *more, *room; /* [rows][width], [width] */
    double d2;
} extra;

static bool extra_make(const moe_int_sight *p, extra *k) {
    *k = (extra){.p = p};
    if (p->odd > 0 || p->width < 4)
        return false;
    k->rows = moe_int_local_rows(p, SEEN, k->row);
    k->more = malloc((size_t)((k->rows + 1) * p->width) * sizeof *k->more);
    if (!k->more || k->rows == 0)
        return false;
    k->room = k->more + k->rows * p->width;
    for (int64_t i = 0; i < k->rows; i++)
        for (int64_t c = 0; c < p->width; c++)
            k->more[i * p->width + c] =
                moe_int_sight_got(p, k->row[i], c) - moe_int_sight_want(p, k->row[i], c);
    k->d2 = moe_int_inner(k->more, k->more, k->rows * p->width);
    return true;
}

/* Loads the candidate's row for row i. False: there is none. */
static bool load(const extra *k, const candidate *of, int64_t i, int64_t by) {
    const moe_int_sight *p = k->p;
    const int64_t r = k->row[i], count = moe_tensor_count(of->t) / p->stride;
    const int64_t own = of->of_token ? moe_int_sight_token(p, r)
                        : p->layout.by == MOE_INT_BY_TOKEN
                            ? moe_int_sight_token(p, r)
                            : moe_int_sight_flat(p, r, 0) / p->stride;
    if (own + by < 0 || own + by >= count)
        return false;
    for (int64_t c = 0; c < p->width; c++) {
        const int64_t column = p->only_column ? p->only_column[c] : c;
        k->room[c] = moe_load(of->t->data, of->t->dtype, (size_t)((own + by) * p->stride + column));
    }
    return true;
}

/* What is left when one number of times the candidate is taken away. */
static double left_with(const extra *k, const candidate *of, int64_t by, double *factor) {
    const int64_t width = k->p->width;
    double mt = 0, tt = 0;
    for (int64_t i = 0; i < k->rows; i++) {
        if (!load(k, of, i, by))
            continue;
        mt += moe_int_inner(k->more + i * width, k->room, width);
        tt += moe_int_inner(k->room, k->room, width);
    }
    *factor = tt > 0 ? mt / tt : 0;
    return k->d2 - *factor * mt;
}

/* A gradient's parameter, for weight decay; else -1. */
static int parameter_of(moe_tensor_id id) {
    switch ((int)id) { /* gradients that have one of their shape */
    case MOE_T_DW1:
        return MOE_T_W1;
    case MOE_T_DW2:
        return MOE_T_W2;
    case MOE_T_DW_R:
        return MOE_T_W_R;
    }
    return -1;
}

/* The tensors whose rows are as wide: `ret` has room for MOE_T_COUNT. */
static int64_t candidates(const moe_int_sight *p, candidate *ret) {
    static const moe_tensor_id tokens[] = {MOE_T_X, MOE_T_DO, MOE_T_O, MOE_T_DX};
    static const moe_tensor_id pairs[] = {MOE_T_H, MOE_T_A, MOE_T_Y, MOE_T_DH, MOE_T_DXP};
    const moe_int_evidence *e = p->e;
    const bool by_pair = p->layout.by == MOE_INT_BY_PAIR,
               by_token = p->layout.by == MOE_INT_BY_TOKEN;
    int64_t count = 0;
    for (size_t i = 0; (by_pair || by_token) && i < sizeof tokens / sizeof *tokens; i++) {
        const moe_tensor *in = &e->problem->in.t[tokens[i]];
        const moe_tensor *t = in->data ? in : moe_int_local_operand(e, tokens[i]);
        if (t && tokens[i] != p->id && p->stride == e->problem->layer.d)
            ret[count++] = (candidate){t, tokens[i], by_pair};
    }
    for (size_t i = 0; by_pair && i < sizeof pairs / sizeof *pairs; i++) {
        const moe_tensor *t = moe_int_local_operand(e, pairs[i]);
        if (t && pairs[i] != p->id && t->shape[1] == p->stride)
            ret[count++] = (candidate){t, pairs[i], false};
    }
    const int of = parameter_of(p->id);
    if (of >= 0)
        ret[count++] = (candidate){&e->problem->in.t[of], (moe_tensor_id)of, false};
    return count;
}

bool moe_int_local_added_tensor(const moe_int_local *l, moe_int_finding *f) {
    static const int64_t beside[WAYS] = {0, 1, -1};
    candidate list[MOE_T_COUNT];
    extra k;
    bool found = false;
    const bool made = extra_make(l->p, &k);
    const int64_t count = made ? candidates(l->p, list) : 0;
    for (int64_t n = 0; !found && n < count * WAYS; n++) {
        double factor;
        const candidate *of = &list[n % count];
        const int64_t by = beside[n / count];
        const double left = left_with(&k, of, by, &factor);
        found = left <= moe_int_local_limit(l->p->e, l->p->id, k.d2);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, k.d2, f);
        moe_int_finding_say(f, ": %.4g times %s", factor, moe_tensor_name(of->id));
        if (by)
            moe_int_finding_say(f, " of the row %s it", by > 0 ? "after" : "before");
        moe_int_finding_param(f, "factor", factor);
    }
    free(k.more);
    return found;
}

/* Row q as it should be, or as the subject has it: what is left in a buffer is that. */
static double other(const extra *k, bool stale, int64_t q, int64_t c) {
    return stale ? moe_int_sight_got(k->p, q, c) : moe_int_sight_want(k->p, q, c);
}

/* The row that is most of what row i has too much; -1: none is. */
static int64_t most_alike(const extra *k, bool stale, int64_t i) {
    const int64_t width = k->p->width, rows = k->p->rows < MOST_ROWS ? k->p->rows : MOST_ROWS;
    const double *more = k->more + i * width, *first = k->room;
    double best = 0;
    int64_t is = -1;
    double own[3] = {0}; /* of the row itself: with more, its square */
    for (int64_t c = 0; c < width; c++) {
        const double w = moe_int_sight_want(k->p, k->row[i], c);
        k->room[c] = w;
        own[0] += w * more[c];
        own[1] += w * w;
    }
    for (int64_t q = 0; q < rows && own[1] > 0; q++) {
        double qq = 0, qm = 0, qw = 0;
        for (int64_t c = 0; q != k->row[i] && c < width; c++) {
            const double w = other(k, stale, q, c);
            qq += w * w;
            qm += w * more[c];
            qw += w * first[c];
        }
        /* Beside what the row itself takes. */
        const double rest = qq - qw * qw / own[1], part = qm - qw * own[0] / own[1];
        if (rest > 1e-9 * qq && part * part / rest > best) {
            best = part * part / rest;
            is = q;
        }
    }
    return is;
}

/* Row i as a sum of itself and row q; returns what is left. */
static double fit_two(const extra *k, bool stale, int64_t i, int64_t q, double *terms,
                      double ret[2]) {
    const int64_t width = k->p->width;
    for (int64_t c = 0; c < width; c++) {
        terms[c] = moe_int_sight_want(k->p, k->row[i], c);
        terms[width + c] = other(k, stale, q, c);
        k->room[c] = moe_int_sight_got(k->p, k->row[i], c);
    }
    return moe_int_fit(terms, 2, width, k->room, ret);
}

/* Rows that are all such sums: how many, what is left, and the first one's. */
typedef struct mixed {
    int64_t known, has, shift;
    double part[2], left;
    bool same; /* all have the row so far on */
} mixed;

static bool mix(const extra *k, bool stale, double *terms, mixed *ret) {
    *ret = (mixed){.has = -1, .same = true};
    for (int64_t i = 0; i < k->rows; i++) {
        const int64_t q = most_alike(k, stale, i), width = k->p->width;
        const double *more = k->more + i * width, d2 = moe_int_inner(more, more, width);
        double part[2] = {0, 0};
        const double rest = q < 0 ? -1 : fit_two(k, stale, i, q, terms, part);
        if (rest < 0 || rest > moe_int_local_limit(k->p->e, k->p->id, d2) || fabs(part[1]) < 0.02)
            return false;
        ret->same &= ret->known == 0 || q - k->row[i] == ret->shift;
        ret->shift = q - k->row[i];
        if (ret->known++ == 0) {
            ret->has = q;
            memcpy(ret->part, part, sizeof part);
        }
        ret->left += rest;
    }
    return ret->known > 0;
}

bool moe_int_local_rows_mixed(const moe_int_local *l, moe_int_finding *f) {
    extra k;
    mixed m;
    const bool made = extra_make(l->p, &k) && l->p->width >= 8 && l->p->rows > 1;
    double *terms = made ? malloc(2 * (size_t)l->p->width * sizeof *terms) : NULL;
    const bool found = terms && (mix(&k, false, terms, &m) || mix(&k, true, terms, &m));
    if (found) {
        moe_int_local_residuals(l->p, m.left, k.d2, f);
        moe_int_finding_say(f, ": row %lld is %.3g of itself and %.3g of row %lld, added or stale",
                            (long long)k.row[0], m.part[0], m.part[1], (long long)m.has);
        if (m.same && m.known > 1)
            moe_int_finding_say(f, "; each has the row %lld %s it", llabs(m.shift),
                                m.shift > 0 ? "after" : "before");
        moe_int_finding_param(f, "row", (double)k.row[0]);
        moe_int_finding_param(f, "has", (double)m.has);
    }
    free(terms);
    free(k.more);
    return found;
}
