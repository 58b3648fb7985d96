/* A gradient that is a sum over rows of two vectors' products, of other vectors than its own, with
 * another weight, or of vectors of few bits. Beside a few random directions, in which such a sum
 * costs no more than its rows. */
#include "check/explain/bank.h"
#include "check/explain/vectors.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROBES = 6, MOST_SEEN = 96 };

/* What multiplies row r of an expert's. */
typedef enum row_weight { NONE, ONCE, TWICE, FIRST_ROW, NEXT_ROW, ROW_BEFORE, WEIGHTS } row_weight;

static const char *const weight_words[WEIGHTS] = {"",
                                                  " times the combine weight",
                                                  " times the combine weight squared",
                                                  " times the weight of the expert's first row",
                                                  " times the weight of the next row",
                                                  " times the weight of the row before"};

/* One sum: its two vectors, and how they enter it. ONES: there is no right one, a bias's. */
enum { ONES = MOE_INT_VECTOR_COUNT, DLOGITS, LOGITS };

typedef struct sum_of {
    int left, right;
    row_weight weight;
    int left_bits, right_bits; /* 0: all */
} sum_of;

typedef struct factors {
    const moe_int_local *l;
    const moe_int_evidence *e;
    int64_t a, b, first, rows; /* the gradient is [a][b]; pairs, or tokens */
    bool tokens;
    sum_of own;
    int64_t seen, at[MOST_SEEN]; /* rows of the gradient that are looked at */
    double *probe;               /* [PROBES][b] */
    double *got, *sum;           /* [PROBES][seen] */
    double *left, *right;        /* [a], [b] */
    double *dz, *z;              /* [T][R] where `tokens` */
    double d2;
} factors;

static int64_t probes_of(const factors *k) {
    return k->b == 1 ? 1 : PROBES;
}

/* The wrong expert with the most rows of up to `most`, else any wrong one's. */
static int64_t choose_expert(const moe_int_sight *p, int64_t most) {
    const moe_plan *plan = p->e->routing->plan;
    int64_t best = -1, rows_best = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t e = moe_int_sight_expert(p, r);
        const int64_t rows = e < 0 ? 0 : plan->offsets[e + 1] - plan->offsets[e];
        if (p->row[r].wrong && rows > 0 && (best < 0 || (rows > rows_best && rows <= most))) {
            best = e;
            rows_best = rows;
        }
    }
    return best;
}

static bool describe(factors *k, moe_tensor_id id) {
    const moe_layer_desc *desc = &k->e->problem->layer;
    const int64_t hw = moe_h_width(desc, desc->n);
    const row_weight in = desc->router.weight_on == MOE_WEIGHT_ON_INPUT ? ONCE : NONE;
    const row_weight out = in ? NONE : ONCE;
    switch ((int)id) { /* those that are sums over pairs or tokens */
    case MOE_T_DW1:
        k->a = hw;
        k->b = desc->d;
        k->own = (sum_of){MOE_INT_VECTOR_DH, MOE_INT_VECTOR_X, in, 0, 0};
        return true;
    case MOE_T_DW2:
        k->a = desc->d;
        k->b = desc->n;
        k->own = (sum_of){MOE_INT_VECTOR_DO, MOE_INT_VECTOR_A, out, 0, 0};
        return true;
    case MOE_T_DB1:
        k->a = hw;
        k->b = 1;
        k->own = (sum_of){MOE_INT_VECTOR_DH, ONES, NONE, 0, 0};
        return true;
    case MOE_T_DB2:
        k->a = desc->d;
        k->b = 1;
        k->own = (sum_of){MOE_INT_VECTOR_DO, ONES, out, 0, 0};
        return true;
    case MOE_T_DW_R:
        k->a = k->e->routing->plan->n_experts;
        k->b = desc->d;
        k->own = (sum_of){DLOGITS, MOE_INT_VECTOR_X, NONE, 0, 0};
        return k->tokens = true;
    }
    return false;
}

static bool exists(const factors *k, int which, int64_t width) {
    if (which == ONES)
        return width == 1;
    if (which >= DLOGITS)
        return k->dz != NULL && width == k->a;
    return (!k->tokens || moe_int_vector_of_token((moe_int_vector)which)) &&
           moe_int_vector_exists(k->e, (moe_int_vector)which, width);
}

static void to_bits(int bits, double *v, int64_t count) {
    for (int64_t i = 0; bits && i < count; i++) {
        int power;
        const double part = frexp(v[i], &power);
        v[i] = ldexp(rint(ldexp(part, bits)), power - bits);
    }
}

static double weight_at(const factors *k, row_weight which, int64_t r) {
    const double *w = k->e->routing->plan->weight + k->first;
    switch (which) {
    case NONE:
    case WEIGHTS:
        break;
    case ONCE:
        return w[r];
    case TWICE:
        return w[r] * w[r];
    case FIRST_ROW:
        return w[0];
    case NEXT_ROW:
        return w[(r + 1) % k->rows];
    case ROW_BEFORE:
        return w[(r + k->rows - 1) % k->rows];
    }
    return 1;
}

static void load(const factors *k, int which, int64_t r, double *ret) {
    if (which == ONES)
        ret[0] = 1;
    else if (which >= DLOGITS)
        memcpy(ret, (which == DLOGITS ? k->dz : k->z) + r * k->a, (size_t)k->a * sizeof *ret);
    else
        moe_int_vector_load(k->e, (moe_int_vector)which, k->first + r, k->tokens, ret);
}

/* Squared distance of the gradient from the sum, in the directions of the probes. */
static double distance(const factors *k, const sum_of *s) {
    const int64_t probes = probes_of(k);
    memset(k->sum, 0, (size_t)(probes * k->seen) * sizeof *k->sum);
    for (int64_t r = 0; r < k->rows; r++) {
        const double w = weight_at(k, s->weight, r);
        load(k, s->left, r, k->left);
        load(k, s->right, r, k->right);
        for (int64_t j = 0; j < k->b; j++)
            k->right[j] *= w;
        to_bits(s->left_bits, k->left, k->a);
        to_bits(s->right_bits, k->right, k->b);
        for (int64_t p = 0; p < probes; p++) {
            const double along = moe_int_inner(k->right, k->probe + p * k->b, k->b);
            for (int64_t i = 0; i < k->seen; i++)
                k->sum[p * k->seen + i] += k->left[k->at[i]] * along;
        }
    }
    double sum = 0;
    for (int64_t i = 0; i < probes * k->seen; i++)
        sum += (k->got[i] - k->sum[i]) * (k->got[i] - k->sum[i]);
    return sum;
}

/* The gradients of the logits that the subject's own dS makes, and the logits. */
static bool load_tokens(factors *k) {
    const moe_int_evidence *e = k->e;
    const moe_tensor *dS = &e->got.t[MOE_T_DS];
    const moe_plan *plan = e->routing->plan;
    const int64_t count = plan->n_tokens * plan->n_experts;
    if (!dS->data || !e->routing->logits || moe_tensor_count(dS) != plan->n_pairs)
        return false;
    double *ds = moe_int_doubles(dS, 0, plan->n_pairs);
    k->dz = calloc((size_t)(2 * count), sizeof *k->dz);
    const bool done =
        ds && k->dz && !moe_route_backward(&e->problem->layer, e->routing->logits, plan, ds, k->dz);
    free(ds);
    k->z = k->dz ? k->dz + count : NULL;
    if (done)
        memcpy(k->z, e->routing->logits, (size_t)count * sizeof *k->z);
    return done;
}

static double sign_of(uint64_t i) {
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i ^= i >> 29;
    return (i * 0xbf58476d1ce4e5b9u) >> 63 ? 1 : -1;
}

static bool make_room(factors *k) {
    const int64_t probes = probes_of(k);
    k->seen = k->a < MOST_SEEN ? k->a : MOST_SEEN;
    for (int64_t i = 0; i < k->seen; i++)
        k->at[i] = i * k->a / k->seen;
    k->probe = malloc((size_t)(probes * (k->b + 2 * k->seen) + k->a + k->b) * sizeof *k->probe);
    if (!k->probe)
        return false;
    k->got = k->probe + probes * k->b;
    k->sum = k->got + probes * k->seen;
    k->left = k->sum + probes * k->seen;
    k->right = k->left + k->a;
    for (int64_t i = 0; i < probes * k->b; i++)
        k->probe[i] = k->b == 1 ? 1 : sign_of((uint64_t)i);
    return true;
}

static bool factors_make(const moe_int_local *l, factors *k) {
    enum { MOST_ROWS = 512 };
    const moe_int_sight *p = l->p;
    *k = (factors){.l = l, .e = p->e};
    if (!moe_int_sight_is_whole(p) || p->odd > 0 || !describe(k, p->id))
        return false;
    const int64_t e = k->tokens ? 0 : choose_expert(p, MOST_ROWS);
    if (e < 0 || (k->tokens && !load_tokens(k)) || !exists(k, k->own.left, k->a) ||
        !exists(k, k->own.right, k->b) || !make_room(k))
        return false;
    const int64_t *offset = k->e->routing->plan->offsets + e;
    k->first = k->tokens ? 0 : offset[0];
    k->rows = k->tokens ? k->e->problem->T : offset[1] - offset[0];
    for (int64_t i = 0; i < k->seen; i++) {
        moe_int_load(p->got, (e * k->a + k->at[i]) * k->b, k->b, k->right);
        for (int64_t q = 0; q < probes_of(k); q++)
            k->got[q * k->seen + i] = moe_int_inner(k->right, k->probe + q * k->b, k->b);
    }
    k->d2 = distance(k, &k->own);
    return k->d2 > 0;
}

static void factors_destroy(factors *k) {
    free(k->probe);
    free(k->dz);
}

static void say_sum(const factors *k, const sum_of *s, moe_int_finding *f) {
    static const char *const more[] = {"1", "dlogits", "logits"};
    const char *left = s->left < ONES ? moe_int_vector_words[s->left] : more[s->left - ONES];
    const char *right = s->right < ONES ? moe_int_vector_words[s->right] : more[s->right - ONES];
    if (k->b == 1)
        moe_int_finding_say(f, "%s%s", left, weight_words[s->weight]);
    else
        moe_int_finding_say(f, "%s with %s%s", left, right, weight_words[s->weight]);
}

/* One of the two vectors is another, with whatever weight; or the weight alone is. */
static bool trial_of(const factors *k, int n, sum_of *ret) {
    const int ways = WEIGHTS * (LOGITS + 1), which = n / WEIGHTS % (LOGITS + 1);
    *ret = k->own;
    ret->weight = (row_weight)(n % WEIGHTS);
    if (k->tokens && ret->weight)
        return false;
    if (n < ways)
        ret->left = which;
    else
        ret->right = which;
    return n < ways ? exists(k, which, k->a) && which != ONES : exists(k, which, k->b);
}

bool moe_int_local_gradient_tensor(const moe_int_local *l, moe_int_finding *f) {
    factors k;
    double least = INFINITY;
    sum_of best = {0};
    const bool made = factors_make(l, &k);
    for (int n = 0; made && n < 2 * WEIGHTS * (LOGITS + 1); n++) {
        sum_of s;
        const double left = trial_of(&k, n, &s) ? distance(&k, &s) : INFINITY;
        if (left < least)
            best = s;
        least = fmin(least, left);
    }
    const bool found = made && least <= moe_int_local_limit(k.e, l->p->id, k.d2);
    if (found) {
        moe_int_local_residuals(l->p, least, k.d2, f);
        moe_int_finding_say(f, ": ");
        say_sum(&k, &best, f);
        moe_int_finding_say(f, "; should be ");
        say_sum(&k, &k.own, f);
    }
    factors_destroy(&k);
    return found;
}

bool moe_int_local_gradient_bits(const moe_int_local *l, moe_int_finding *f) {
    enum { LEFT = 1, RIGHT = 2, FEWEST = 2, MOST = 10 };
    factors k;
    bool found = false;
    const bool made = factors_make(l, &k);
    for (int n = 0; made && !found && n < 3 * (MOST - FEWEST); n++) {
        sum_of s = k.own;
        const int which = n % 3 + 1, bits = FEWEST + n / 3;
        s.left_bits = which & LEFT ? bits : 0;
        s.right_bits = which & RIGHT ? bits : 0;
        const double left = distance(&k, &s);
        found = left <= moe_int_local_limit(k.e, l->p->id, k.d2);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, k.d2, f);
        moe_int_finding_say(f, ": ");
        say_sum(&k, &s, f);
        moe_int_finding_say(f, ", %s rounded to %d bits, a narrower type's",
                            which == LEFT    ? "the first"
                            : which == RIGHT ? "the second"
                                             : "both",
                            bits);
        moe_int_finding_param(f, "bits", bits);
    }
    factors_destroy(&k);
    return found;
}
