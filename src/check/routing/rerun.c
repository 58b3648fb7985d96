/* What O of some tokens would be with other sets of experts: every expert that occurs runs once for
 * a token, with weight 1, and a set's O is summed from that; where the weight is on the input,
 * every set runs. */
#include "check/routing/rerun.h"
#include "check/errors/errors.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t rows_of_token(const moe_int_rerun *r, int64_t i) {
    return r->on_input ? r->sets[i].count : 1;
}

/* The weights of a set as the router gives them, ascending by expert. */
static moe_status weigh(const moe_int_rerun *r, int64_t i, int64_t set, double *ret) {
    const moe_int_sets *s = &r->sets[i];
    const int32_t *expert = s->expert + set * s->most;
    int32_t *token = calloc((size_t)s->most + 1, sizeof *token);
    moe_plan *plan = NULL;
    moe_status status =
        token ? moe_plan_create(1, r->n, s->n[set], token, expert, NULL, NULL, &plan) : MOE_E_NOMEM;
    if (!status)
        status = moe_route_weigh(r->desc, r->logits + i * r->n, plan);
    if (!status)
        memcpy(ret, plan->weight, (size_t)s->n[set] * sizeof *ret);
    moe_plan_destroy(&plan);
    free(token);
    return status;
}

/* The pairs of all rows; arrays NULL: only counted. */
typedef struct pair_list {
    int32_t *token, *expert;
    double *weight;
    int64_t count;
} pair_list;

static void add_pair(pair_list *p, int64_t row, int64_t expert, double weight) {
    if (p->token) {
        p->token[p->count] = (int32_t)row;
        p->expert[p->count] = (int32_t)expert;
        p->weight[p->count] = weight;
    }
    p->count++;
}

/* Experts of any of token i's sets. */
static void mark_experts(const moe_int_rerun *r, int64_t i, unsigned char *ret) {
    const moe_int_sets *s = &r->sets[i];
    memset(ret, 0, (size_t)r->n);
    for (int64_t set = 0; set < s->count; set++)
        for (int64_t k = 0; k < s->n[set]; k++)
            ret[s->expert[set * s->most + k]] = 1;
}

static moe_status list_by_set(const moe_int_rerun *r, int64_t i, int64_t row, pair_list *p) {
    const moe_int_sets *s = &r->sets[i];
    double *w = calloc((size_t)s->most + 1, sizeof *w);
    moe_status status = w ? MOE_OK : MOE_E_NOMEM;
    for (int64_t set = 0; !status && set < s->count; set++) {
        if (p->token)
            status = weigh(r, i, set, w);
        for (int64_t k = 0; !status && k < s->n[set]; k++)
            add_pair(p, row + set, s->expert[set * s->most + k], w[k]);
    }
    free(w);
    return status;
}

static moe_status list_pairs(const moe_int_rerun *r, pair_list *p) {
    unsigned char *marked = malloc((size_t)r->n);
    moe_status status = marked ? MOE_OK : MOE_E_NOMEM;
    p->count = 0;
    for (int64_t i = 0, row = 0; !status && i < r->tokens; row += rows_of_token(r, i++)) {
        if (r->on_input) {
            status = list_by_set(r, i, row, p);
            continue;
        }
        mark_experts(r, i, marked);
        for (int64_t e = 0; e < r->n; e++)
            if (marked[e])
                add_pair(p, row, e, 1);
    }
    free(marked);
    return status;
}

double moe_int_rerun_flops(const moe_int_rerun *r) {
    pair_list p = {0};
    int64_t rows = 0;
    for (int64_t i = 0; i < r->tokens; i++)
        rows += rows_of_token(r, i);
    return list_pairs(r, &p) ? 0 : moe_layer_flops(r->desc, rows, p.count, 0);
}

static moe_status make_plan(const moe_int_rerun *r, int64_t rows, const moe_log *log,
                            moe_plan **ret) {
    pair_list p = {0};
    moe_status status = list_pairs(r, &p);
    size_t room = (size_t)p.count + 1;
    p.token = malloc(room * sizeof *p.token);
    p.expert = malloc(room * sizeof *p.expert);
    p.weight = malloc(room * sizeof *p.weight);
    if (!status && (!p.token || !p.expert || !p.weight))
        status = MOE_E_NOMEM;
    if (!status)
        status = list_pairs(r, &p);
    if (!status)
        status = moe_plan_create(rows, r->n, p.count, p.token, p.expert, p.weight, log, ret);
    free(p.token);
    free(p.expert);
    free(p.weight);
    return status;
}

/* X with a token's row for each of its sets. */
static moe_status repeat_rows(const moe_int_rerun *r, moe_tensor *ret) {
    const moe_tensor *x = &r->in->t[MOE_T_X];
    size_t bytes = (size_t)r->desc->d * moe_dtype_size(x->dtype);
    int64_t shape[] = {r->first[r->tokens], r->desc->d};
    moe_status status = moe_tensor_alloc(x->dtype, 2, shape, ret);
    for (int64_t i = 0; !status && i < r->tokens; i++)
        for (int64_t row = r->first[i]; row < r->first[i + 1]; row++)
            memcpy((char *)ret->data + (size_t)row * bytes,
                   (const char *)x->data + (size_t)i * bytes, bytes);
    return status;
}

/* The summand of O that pair row `pair` makes: scale * Y, of a zero expert scale * weight * x. */
static void load_summand(const moe_int_rerun *r, int64_t i, int64_t pair, double scale,
                         double *ret) {
    const moe_plan *plan = r->result->plan;
    int64_t d = r->desc->d;
    bool zero = pair >= plan->offsets[r->desc->E];
    if (zero)
        moe_int_load(&r->in->t[MOE_T_X], i * d, d, ret);
    else
        moe_int_load(&r->result->out.t[MOE_T_Y], pair * d, d, ret);
    for (int64_t c = 0; c < d; c++)
        ret[c] *= zero && r->on_input ? plan->weight[pair] : scale;
}

/* Pair row of expert e in a row of the plan; every set's experts are in it. */
static int64_t find_pair(const moe_plan *plan, int64_t row, int64_t e) {
    int64_t low = plan->offsets[e], high = plan->offsets[e + 1] - 1;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (plan->token[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void subtract(double *v, const double *from, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        v[i] -= from[i];
}

/* What O has beside the pairs of each row: the shared expert's part. */
static moe_status fill_rest(moe_int_rerun *r) {
    const moe_plan *plan = r->result->plan;
    int64_t d = r->desc->d, rows = r->first[r->tokens];
    double *work = malloc((size_t)d * sizeof *work);
    r->rest = malloc((size_t)(rows * d) * sizeof *r->rest);
    moe_status status = work && r->rest ? MOE_OK : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < r->tokens; i++) {
        for (int64_t row = r->first[i]; row < r->first[i + 1]; row++) {
            moe_int_load(&r->result->out.t[MOE_T_O], row * d, d, r->rest + row * d);
            for (int64_t k = plan->token_offsets[row]; k < plan->token_offsets[row + 1]; k++) {
                load_summand(r, i, plan->pair_of_token[k], 1, work);
                subtract(r->rest + row * d, work, d);
            }
        }
    }
    free(work);
    return status;
}

moe_status moe_int_rerun_make(moe_int_rerun *r, int threads, const moe_log *log) {
    moe_plan *plan = NULL;
    moe_tensors in = *r->in;
    in.t[MOE_T_X] = in.t[MOE_T_DO] = (moe_tensor){0};
    r->first = calloc((size_t)r->tokens + 1, sizeof *r->first);
    if (!r->first)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < r->tokens; i++)
        r->first[i + 1] = r->first[i] + rows_of_token(r, i);
    moe_status status = make_plan(r, r->first[r->tokens], log, &plan);
    if (!status)
        status = repeat_rows(r, &in.t[MOE_T_X]);
    moe_reference_params params = {.tokens = r->first[r->tokens],
                                   .precision = MOE_F64,
                                   .threads = threads,
                                   .plan = plan,
                                   .plan_given = 1};
    if (!status)
        status = moe_reference_run(r->desc, &in, &params, log, &r->result);
    if (!status)
        status = fill_rest(r);
    moe_tensor_destroy(&in.t[MOE_T_X]);
    moe_plan_destroy(&plan);
    return status;
}

void moe_int_rerun_destroy(moe_int_rerun *r) {
    free(r->first);
    free(r->rest);
    moe_reference_result_destroy(&r->result);
    r->first = NULL;
    r->rest = NULL;
}

static bool in_set(const moe_int_sets *s, int64_t set, int32_t expert) {
    for (int64_t k = 0; k < s->n[set]; k++)
        if (s->expert[set * s->most + k] == expert)
            return true;
    return false;
}

moe_status moe_int_rerun_fit(const moe_int_rerun *r, int64_t i, int64_t set, const double *got,
                             moe_int_fit *ret) {
    const moe_int_sets *s = &r->sets[i];
    int64_t d = r->desc->d, row = r->first[i] + (r->on_input ? set : 0);
    const double *rest = r->rest + row * d;
    double *left = malloc(3 * (size_t)d * sizeof *left);
    double *weight = malloc(((size_t)s->most + 1) * sizeof *weight);
    moe_status status = left && weight ? weigh(r, i, set, weight) : MOE_E_NOMEM;
    if (!status) {
        double *work = left + d, *added = left + 2 * d;
        bool news = false;
        memcpy(left, got, (size_t)d * sizeof *left);
        memset(added, 0, (size_t)d * sizeof *added);
        subtract(left, rest, d);
        ret->size = moe_int_norm2(rest, d);
        for (int64_t k = 0; k < s->n[set]; k++) {
            int32_t e = s->expert[set * s->most + k];
            load_summand(r, i, find_pair(r->result->plan, row, e), r->on_input ? 1 : weight[k],
                         work);
            ret->size += moe_int_norm2(work, d);
            bool old = in_set(s, 0, e);
            subtract(old ? left : added, work, d);
            news |= !old;
        }
        ret->without = news ? moe_int_norm2(left, d) : INFINITY;
        for (int64_t c = 0; c < d; c++)
            left[c] += added[c];
        ret->off = moe_int_norm2(left, d);
    }
    free(left);
    free(weight);
    return status;
}
