#include "check/explain/factors.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const weight_words[MOE_INT_WEIGHTS] = {
    "",
    " times the combine weight",
    " times the combine weight squared",
    " times the weight of the expert's first row",
    " times the weight of the next row",
    " times the weight of the row before",
    " times the weight of the pair that has the row's number",
    " times 1 less the combine weight"};

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

static bool describe(moe_int_factors *k, moe_tensor_id id) {
    const moe_layer_desc *desc = &k->e->problem->layer;
    const int64_t hw = moe_h_width(desc, desc->n);
    const moe_int_row_weight in =
        desc->router.weight_on == MOE_WEIGHT_ON_INPUT ? MOE_INT_WEIGHT_ONCE : MOE_INT_WEIGHT_NONE;
    const moe_int_row_weight out = in ? MOE_INT_WEIGHT_NONE : MOE_INT_WEIGHT_ONCE;
    switch ((int)id) { /* those that are sums over pairs or tokens */
    case MOE_T_DW1:
        k->a = hw;
        k->b = desc->d;
        k->own =
            (moe_int_sum_of){.left = MOE_INT_VECTOR_DH, .right = MOE_INT_VECTOR_X, .weight = in};
        return true;
    case MOE_T_DW2:
        k->a = desc->d;
        k->b = desc->n;
        k->own =
            (moe_int_sum_of){.left = MOE_INT_VECTOR_DO, .right = MOE_INT_VECTOR_A, .weight = out};
        return true;
    case MOE_T_DB1:
        k->a = hw;
        k->b = 1;
        k->own = (moe_int_sum_of){
            .left = MOE_INT_VECTOR_DH, .right = MOE_INT_VECTOR_ONES, .weight = MOE_INT_WEIGHT_NONE};
        return true;
    case MOE_T_DB2:
        k->a = desc->d;
        k->b = 1;
        k->own = (moe_int_sum_of){
            .left = MOE_INT_VECTOR_DO, .right = MOE_INT_VECTOR_ONES, .weight = out};
        return true;
    case MOE_T_DW1_SHARED:
        k->a = moe_h_width(desc, desc->n_shared);
        k->b = desc->d;
        k->own = (moe_int_sum_of){.left = MOE_INT_VECTOR_SHARED_DH, .right = MOE_INT_VECTOR_X};
        return k->tokens = true;
    case MOE_T_DW2_SHARED:
        k->a = desc->d;
        k->b = desc->n_shared;
        k->own = (moe_int_sum_of){.left = MOE_INT_VECTOR_DO,
                                  .right = MOE_INT_VECTOR_SHARED_A,
                                  .weight = MOE_INT_WEIGHT_ONCE};
        return k->tokens = true;
    case MOE_T_DW_R:
        k->a = k->e->routing->plan->n_experts;
        k->b = desc->d;
        k->own = (moe_int_sum_of){.left = MOE_INT_VECTOR_DLOGITS,
                                  .right = MOE_INT_VECTOR_X,
                                  .weight = MOE_INT_WEIGHT_NONE};
        return k->tokens = true;
    }
    return false;
}

/* The shared expert's rows of a vector, and their width; NULL: it is none of its. */
static const double *shared_rows(const moe_int_factors *k, int which, int64_t *width) {
    const moe_int_stage_rows *s = &k->s;
    *width = which == MOE_INT_VECTOR_SHARED_A                                         ? s->n
             : which == MOE_INT_VECTOR_SHARED_Y || which == MOE_INT_VECTOR_SHARED_DXP ? s->d
                                                                                      : s->hw;
    return which == MOE_INT_VECTOR_SHARED_H     ? s->H
           : which == MOE_INT_VECTOR_SHARED_DH  ? s->dH
           : which == MOE_INT_VECTOR_SHARED_A   ? s->A
           : which == MOE_INT_VECTOR_SHARED_Y   ? s->Y
           : which == MOE_INT_VECTOR_SHARED_DXP ? s->dXp
                                                : NULL;
}

bool moe_int_factors_have(const moe_int_factors *k, int which, int64_t width) {
    int64_t own;
    if (which == MOE_INT_VECTOR_ONES)
        return width == 1;
    if (which >= MOE_INT_VECTOR_SHARED_H)
        return shared_rows(k, which, &own) != NULL && own == width;
    if (which >= MOE_INT_VECTOR_DLOGITS)
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

static double weight_at(const moe_int_factors *k, moe_int_row_weight which, int64_t r) {
    const double *w = k->s.block ? k->s.weight : k->e->routing->plan->weight + k->first;
    switch (which) {
    case MOE_INT_WEIGHT_NONE:
    case MOE_INT_WEIGHTS:
        break;
    case MOE_INT_WEIGHT_ONCE:
        return w[r];
    case MOE_INT_WEIGHT_TWICE:
        return w[r] * w[r];
    case MOE_INT_WEIGHT_FIRST_ROW:
        return w[0];
    case MOE_INT_WEIGHT_NEXT_ROW:
        return w[(r + 1) % k->rows];
    case MOE_INT_WEIGHT_LOCAL:
        return k->e->routing->plan->weight[r >= 0 ? r : 0];
    case MOE_INT_WEIGHT_REST:
        return 1 - w[r];
    case MOE_INT_WEIGHT_ROW_BEFORE:
        return w[(r + k->rows - 1) % k->rows];
    }
    return 1;
}

/* The row `by` on. */
static int64_t row_on(const moe_int_factors *k, int64_t r, int64_t by, bool round) {
    const int64_t all = k->tokens ? k->rows : k->e->routing->plan->offsets[k->e->problem->layer.E];
    const int64_t on = k->first + r + by, in = on < 0 ? 0 : on < all ? on : all - 1;
    return round ? moe_int_around(r + by, k->rows) : in - k->first;
}

static void load(const moe_int_factors *k, int which, int64_t r, double *ret) {
    int64_t width;
    const double *of_shared = shared_rows(k, which, &width);
    if (which == MOE_INT_VECTOR_ONES)
        ret[0] = 1;
    else if (of_shared)
        memcpy(ret, of_shared + r * width, (size_t)width * sizeof *ret);
    else if (which >= MOE_INT_VECTOR_DLOGITS)
        memcpy(ret, (which == MOE_INT_VECTOR_DLOGITS ? k->dz : k->z) + r * k->a,
               (size_t)k->a * sizeof *ret);
    else
        moe_int_vector_load(k->e, (moe_int_vector)which, k->first + r, k->tokens, ret);
}

/* Squared distance of the gradient from the sum, in the directions of the probes. */
double moe_int_factors_distance(const moe_int_factors *k, const moe_int_sum_of *s) {
    const int64_t probes = k->probes;
    memset(k->sum, 0, (size_t)(probes * k->seen) * sizeof *k->sum);
    for (int64_t r = 0; r < k->rows; r++) {
        const int64_t on = row_on(k, r, s->right_by, s->round);
        const double w = weight_at(k, s->weight, on);
        load(k, s->left, row_on(k, r, s->left_by, s->round), k->left);
        load(k, s->right, on, k->right);
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
static bool load_tokens(moe_int_factors *k) {
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

/* Is row i of expert e's gradient wrong? A bias's has one row an expert, whose columns they are. */
static bool wrong_row(const moe_int_sight *p, const moe_int_factors *k, int64_t e, int64_t i) {
    return k->b == 1 ? moe_int_sight_wrong_column(p, i) : p->row[e * k->a + i].wrong;
}

static void choose_rows(const moe_int_sight *p, moe_int_factors *k, int64_t e) {
    int64_t wrong = 0, passed = 0;
    for (int64_t i = 0; i < k->a; i++)
        wrong += wrong_row(p, k, e, i);
    const int64_t take = wrong < MOE_INT_FACTOR_ROWS ? wrong : MOE_INT_FACTOR_ROWS;
    for (int64_t i = 0; i < k->a; i++)
        if (wrong_row(p, k, e, i) && passed++ * take / wrong == k->seen && k->seen < take)
            k->at[k->seen++] = i;
}

static void choose_columns(const moe_int_sight *p, moe_int_factors *k) {
    for (int64_t j = 0; j < k->b; j++) {
        const bool wrong = k->b == 1 || moe_int_sight_wrong_column(p, j);
        for (int64_t q = 0; q < k->probes; q++)
            k->probe[q * k->b + j] = k->b == 1 ? 1 : wrong ? sign_of((uint64_t)(q * k->b + j)) : 0;
        k->first_column = wrong && k->columns == 0 ? j : k->first_column;
        k->last_column = wrong ? j : k->last_column;
        k->columns += wrong;
    }
}

static bool make_room(moe_int_factors *k) {
    enum { PROBES = 6 };
    const int64_t probes = k->probes = k->b == 1 ? 1 : PROBES;
    k->probe = malloc((size_t)(probes * (k->b + 2 * k->seen) + k->a + k->b) * sizeof *k->probe);
    if (!k->probe)
        return false;
    k->got = k->probe + probes * k->b;
    k->sum = k->got + probes * k->seen;
    k->left = k->sum + probes * k->seen;
    k->right = k->left + k->a;
    return true;
}

bool moe_int_factors_make(const moe_int_local *l, moe_int_factors *k) {
    enum { MOST_ROWS = 512, FEWEST = 8 /* wrong numbers: fewer are another sum's by chance */ };
    const moe_int_sight *p = l->p;
    *k = (moe_int_factors){.e = p->e, .id = p->id};
    if (!moe_int_sight_is_whole(p) || p->odd > 0 || !describe(k, p->id))
        return false;
    const int64_t e = k->tokens ? 0 : choose_expert(p, MOST_ROWS);
    if (e < 0 || (p->id == MOE_T_DW_R && !load_tokens(k)) ||
        (k->tokens && p->id != MOE_T_DW_R && !moe_int_shared_rows(l, &k->s)) ||
        !moe_int_factors_have(k, k->own.left, k->a) || !moe_int_factors_have(k, k->own.right, k->b))
        return false;
    choose_rows(p, k, e);
    if (!make_room(k))
        return false;
    choose_columns(p, k);
    if (k->seen * k->columns < FEWEST)
        return false;
    const int64_t *offset = k->e->routing->plan->offsets + e;
    k->first = k->tokens ? 0 : offset[0];
    k->rows = k->tokens ? k->e->problem->T : offset[1] - offset[0];
    for (int64_t i = 0; i < k->seen; i++) {
        moe_int_load(p->got, (e * k->a + k->at[i]) * k->b, k->b, k->right);
        for (int64_t q = 0; q < k->probes; q++)
            k->got[q * k->seen + i] = moe_int_inner(k->right, k->probe + q * k->b, k->b);
    }
    k->d2 = moe_int_factors_distance(k, &k->own);
    return k->d2 > 0;
}

void moe_int_factors_destroy(moe_int_factors *k) {
    free(k->probe);
    free(k->dz);
    free(k->s.block);
}

bool moe_int_factors_explain(const moe_int_factors *k, double left) {
    return left <= moe_int_local_limit(k->e, k->id, k->d2);
}

void moe_int_factors_say(const moe_int_sum_of *s, moe_int_finding *f) {
    static const char *const more[] = {"1",
                                       "dlogits",
                                       "logits",
                                       "the shared H",
                                       "the shared dH",
                                       "the shared A",
                                       "the shared Y",
                                       "the shared dX~"};
    const int left = s->left, right = s->right, first = MOE_INT_VECTOR_COUNT;
    moe_int_finding_say(f, "%s", left < first ? moe_int_vector_words[left] : more[left - first]);
    if (right != MOE_INT_VECTOR_ONES)
        moe_int_finding_say(f, " with %s",
                            right < first ? moe_int_vector_words[right] : more[right - first]);
    moe_int_finding_say(f, "%s", weight_words[s->weight]);
}

void moe_int_factors_say_part(const moe_int_factors *k, moe_int_finding *f) {
    if (k->columns < k->b)
        moe_int_finding_say(f, "; in %lld columns alone, from %lld to %lld of %lld",
                            (long long)k->columns, (long long)k->first_column,
                            (long long)k->last_column, (long long)k->b);
}
