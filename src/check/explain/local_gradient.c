/* What is wrong with a sum over rows: a weight gradient is sum_r left_r (x) right_r. From it follow
 * how often each row counts, its neighbours in other experts' rows included; or, where one operand
 * is right, what the other one was. */
#include "check/explain/bank.h"
#include "check/explain/outer.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* left_r^T m right_r */
static double between(const moe_int_outer *k, const double *m, int64_t r) {
    double sum = 0;
    for (int64_t i = 0; i < k->a; i++)
        sum += k->left[r * k->a + i] * moe_int_inner(m + i * k->b, k->right + r * k->b, k->b);
    return sum;
}

/* Writes how many more times than it should each row counts; returns what is left, or -1. */
static double count_rows(const moe_int_outer *k, double *ret) {
    double left = k->d2;
    if (k->expert < 0 && 4 * k->rows > 3 * k->a * k->b) /* too few elements to tell */
        return -1;
    double *g = calloc((size_t)(k->rows * k->rows + k->rows), sizeof *g);
    if (!g)
        return -1;
    double *rhs = g + k->rows * k->rows;
    for (int64_t r = 0; r < k->rows; r++) {
        rhs[r] = ret[r] = between(k, k->error, r);
        for (int64_t s = 0; s <= r; s++)
            g[r * k->rows + s] = moe_int_inner(k->left + r * k->a, k->left + s * k->a, k->a) *
                                 moe_int_inner(k->right + r * k->b, k->right + s * k->b, k->b);
        g[r * k->rows + r] *= 1 + 1e-9; /* rows without a gradient */
        g[r * k->rows + r] += 1e-300;
    }
    if (moe_int_solve(g, k->rows, ret, 1))
        for (int64_t r = 0; r < k->rows; r++)
            left -= ret[r] * rhs[r];
    else
        left = -1;
    free(g);
    return left;
}

/* The rows whose factor is `off` from what it should be: how many, the first and the last. */
typedef struct marked {
    int64_t count, first, last;
} marked;

static marked mark(const double *off, int64_t from, int64_t end, double value) {
    marked m = {0, -1, -1};
    for (int64_t r = from; r < end; r++) {
        if (fabs(off[r] - value) > 0.05)
            continue;
        m.first = m.count++ == 0 ? r - from : m.first;
        m.last = r - from;
    }
    return m;
}

static bool say_marked(const marked *m, int64_t of, const char *what, moe_int_finding *f) {
    if (m->count == 0)
        return false;
    moe_int_finding_say(f, "; rows %s: ", what);
    if (m->count == m->last - m->first + 1)
        moe_int_finding_say(f, "%lld to %lld of %lld", (long long)m->first, (long long)m->last,
                            (long long)of);
    else
        moe_int_finding_say(f, "%lld of %lld, from %lld to %lld", (long long)m->count,
                            (long long)of, (long long)m->first, (long long)m->last);
    moe_int_finding_param(f, "first_row", (double)m->first);
    moe_int_finding_param(f, "last_row", (double)m->last);
    return true;
}

static void say_whose(const moe_int_outer *k, moe_int_finding *f) {
    if (k->expert < 0)
        moe_int_finding_say(f, ": of all tokens");
    else
        moe_int_finding_say(f, ": of expert %lld's rows", (long long)k->expert);
    if (k->expert >= 0)
        moe_int_finding_param(f, "expert", (double)k->expert);
}

static void say_row_factors(const moe_int_outer *k, const double *off, moe_int_finding *f) {
    int64_t *pair = malloc((size_t)k->own * sizeof *pair);
    double *factor = malloc((size_t)k->own * sizeof *factor);
    for (int64_t r = 0; pair && factor && r < k->own; r++) {
        pair[r] = k->first + k->before + r;
        factor[r] = 1 + off[k->before + r];
    }
    if (pair && factor) {
        moe_int_finding_say(f, "; each row has a factor");
        moe_int_say_factors(k->e, pair, factor, k->own, f);
    }
    free(pair);
    free(factor);
}

static void say_counts(const moe_int_outer *k, const double *off, moe_int_finding *f) {
    const int64_t from = k->before, end = k->before + k->own;
    const marked out = mark(off, from, end, -1), twice = mark(off, from, end, 1);
    const marked earlier = mark(off, 0, from, 1), later = mark(off, end, k->rows, 1);
    int64_t off_rows = 0;
    for (int64_t r = 0; r < k->rows; r++)
        off_rows += fabs(off[r]) > 0.02;
    /* Two rows of one token cannot be told apart in db2: most of them will do. */
    const int64_t known = out.count + twice.count + earlier.count + later.count;
    bool said = false;
    say_whose(k, f);
    if (3 * known < 2 * off_rows && k->expert >= 0) {
        say_row_factors(k, off, f);
        return;
    }
    said |= say_marked(&out, k->own, k->expert < 0 ? "(tokens) left out" : "left out", f);
    said |= say_marked(&twice, k->own, "that count twice", f);
    said |= say_marked(&earlier, from, "of the expert before, which do not belong", f);
    said |= say_marked(&later, k->rows - end, "of the next expert, beyond its end", f);
    if (!said)
        moe_int_finding_say(f, "; %lld rows count otherwise", (long long)off_rows);
}

bool moe_int_local_gradient_rows(const moe_int_local *l, moe_int_finding *f) {
    moe_int_outer k;
    bool found = moe_int_outer_make(l, &k);
    double *off = found ? calloc((size_t)k.rows, sizeof *off) : NULL;
    const double left = off ? count_rows(&k, off) : -1;
    found = found && off && left >= -1e-6 * k.d2 && left <= moe_int_local_limit(k.e, k.id, k.d2);
    if (found) {
        moe_int_local_residuals(l->p, left, k.d2, f);
        say_counts(&k, off, f);
    }
    free(off);
    free(k.left);
    return found;
}

/* What the other operand was: own rows of `known` [a] give it back from the gradient turned so that
 * it is [a][b]. ret [own][b]. False: not so, as some of the gradient is left. */
static bool recover(const moe_int_outer *k, const double *known, int64_t a, const double *m,
                    int64_t b, double *ret, double *left) {
    const int64_t R = k->own;
    double *g = malloc((size_t)(R * R) * sizeof *g);
    if (!g || R > a) {
        free(g);
        return false;
    }
    memset(ret, 0, (size_t)(R * b) * sizeof *ret);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t s = 0; s <= r; s++)
            g[r * R + s] = moe_int_inner(known + r * a, known + s * a, a);
        for (int64_t i = 0; i < a; i++)
            for (int64_t j = 0; j < b; j++)
                ret[r * b + j] += known[r * a + i] * m[i * b + j];
    }
    const bool done = moe_int_solve(g, R, ret, b);
    free(g);
    *left = 0;
    for (int64_t i = 0; done && i < a; i++)
        for (int64_t j = 0; j < b; j++) {
            double v = m[i * b + j];
            for (int64_t r = 0; r < R; r++)
                v -= known[r * a + i] * ret[r * b + j];
            *left += v * v;
        }
    return done && *left <= moe_int_local_limit(k->e, k->id, k->d2);
}

/* The row of `t` [count][b] that row `v` is nearest to, up to a factor of its own. */
static int64_t nearest(const moe_tensor *t, int64_t count, int64_t b, const double *v, double *room,
                       double *factor) {
    double best = 0.9; /* of v's square */
    int64_t is = -1;
    const double vv = moe_int_inner(v, v, b);
    for (int64_t q = 0; q < count; q++) {
        moe_int_load(t, q * b, b, room);
        const double xx = moe_int_inner(room, room, b), xv = moe_int_inner(room, v, b);
        if (xx > 0 && xv * xv > best * xx * vv) {
            best = xv * xv / (xx * vv);
            *factor = xv / xx;
            is = q;
        }
    }
    return is;
}

/* Says which rows of `t` were taken for the own ones, if most of them are rows of it. */
static bool say_operand(const moe_int_outer *k, const char *name, const moe_tensor *t, int64_t b,
                        const double *rows, bool tokens, moe_int_finding *f) {
    const moe_plan *plan = k->e->routing->plan;
    moe_int_moved *moved = malloc((size_t)k->own * sizeof *moved);
    double *room = malloc((size_t)b * sizeof *room);
    int64_t count = 0, known = 0;
    for (int64_t r = 0; moved && room && t && r < k->own; r++) {
        double factor;
        const int64_t pair = k->first + k->before + r, own = tokens ? plan->token[pair] : pair;
        const int64_t has = nearest(t, moe_tensor_count(t) / b, b, rows + r * b, room, &factor);
        known += has >= 0;
        if (has >= 0 && has != own)
            moved[count++] = (moe_int_moved){pair, own, has};
    }
    const bool found = count > 0 && 5 * known >= 4 * k->own;
    if (found) {
        moe_int_finding_say(f, ": rows of %s", name);
        moe_int_say_moved(k->e, moved, count, tokens, f);
    }
    free(moved);
    free(room);
    return found;
}

bool moe_int_local_gradient_operand(const moe_int_local *l, moe_int_finding *f) {
    moe_int_outer k;
    double left = 0;
    bool found = false, made = moe_int_outer_make(l, &k) && k.expert >= 0 && k.b > 1;
    const int64_t a = k.a, b = k.b;
    double *turned = made ? malloc((size_t)(a * b + k.own * (a + b)) * sizeof *turned) : NULL;
    if (turned) {
        const moe_tensor *in = k.e->problem->in.t;
        double *rows = turned + a * b;
        const bool first = k.id == MOE_T_DW1;
        moe_int_transpose(turned, k.got, sizeof *turned, 1, a, b);
        if (recover(&k, k.left + k.before * a, a, k.got, b, rows, &left))
            found = say_operand(&k, k.right_name,
                                first ? &in[MOE_T_X] : moe_int_local_operand(k.e, MOE_T_A), b, rows,
                                first, f);
        if (!found && recover(&k, k.right + k.before * b, b, turned, a, rows, &left))
            found = say_operand(&k, k.left_name,
                                first ? moe_int_local_operand(k.e, MOE_T_DH) : &in[MOE_T_DO], a,
                                rows, !first, f);
    }
    if (found)
        moe_int_local_residuals(l->p, left, k.d2, f);
    free(turned);
    free(k.left);
    return found;
}

/* The gradient if row r's right operand is that of row r + by, round the end; what is left. */
static double left_shifted(const moe_int_outer *k, int64_t by, double *sum) {
    const int64_t whole = k->a * k->b, R = k->own;
    memcpy(sum, k->got, (size_t)whole * sizeof *sum);
    for (int64_t r = 0; r < R; r++) {
        const double *left = k->left + (k->before + r) * k->a;
        const double *right = k->right + (k->before + moe_int_around(r + by, R)) * k->b;
        for (int64_t i = 0; i < k->a; i++)
            for (int64_t j = 0; j < k->b; j++)
                sum[i * k->b + j] -= left[i] * right[j];
    }
    return moe_int_inner(sum, sum, whole);
}

bool moe_int_local_gradient_shifted(const moe_int_local *l, moe_int_finding *f) {
    static const int64_t shifts[] = {1, -1, 2, -2};
    moe_int_outer k;
    const bool made = moe_int_outer_make(l, &k) && k.b > 1 && k.own > 2;
    double *sum = made ? malloc((size_t)(k.a * k.b) * sizeof *sum) : NULL;
    bool found = false;
    for (size_t i = 0; sum && !found && i < sizeof shifts / sizeof *shifts; i++) {
        const double left = left_shifted(&k, shifts[i], sum);
        /* The row at the end may come from beyond it. */
        found = left <= k.d2 * fmax(1.0 / 30, 3.0 / (double)k.own);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, k.d2, f);
        f->rough = true;
        moe_int_finding_say(f, ": %s of the %s %lld %s it", k.right_name,
                            k.expert < 0 ? "token" : "row", llabs(shifts[i]),
                            shifts[i] > 0 ? "after" : "before");
        moe_int_finding_param(f, "by", (double)shifts[i]);
    }
    free(sum);
    free(k.left);
    return found;
}
