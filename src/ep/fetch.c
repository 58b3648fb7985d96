/* Results of a layer over ranks, as one device would have them: nearly all are the ranks' results
 * one after the other. */
#include "ep/rank.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

static int32_t ranks_of(const moe_int_ep_layer *l) {
    return l->dev->params.ranks;
}

static bool is_here(const moe_int_ep_layer *l) {
    return l->dev->count == ranks_of(l);
}

/* Everybody's `mine` [count of rank] elements of `dtype`, in rank order. In one process they are
 * put there by each_rank. */
typedef struct pieces {
    moe_int_ep_layer *l;
    moe_dtype dtype;
    int64_t count[MOE_EP_MAX_RANKS]; /* elements of each rank */
    char *all;
} pieces;

static int64_t offset_of(const pieces *p, int32_t rank) {
    int64_t first = 0;
    for (int32_t q = 0; q < rank; q++)
        first += p->count[q];
    return first;
}

/* Where the rank that is `i`-th in this process puts its piece. */
static char *place_of(const pieces *p, int32_t i) {
    return p->all + offset_of(p, p->l->dev->first + i) * (int64_t)moe_dtype_size(p->dtype);
}

/* Pieces of this process are in place; those of others come from them. */
static moe_status share(const pieces *p) {
    int64_t bytes[MOE_EP_MAX_RANKS] = {0};
    const int32_t R = ranks_of(p->l);
    if (is_here(p->l))
        return MOE_OK;
    const int64_t size = (int64_t)moe_dtype_size(p->dtype);
    char *mine = place_of(p, 0), *copy;
    for (int32_t q = 0; q < R; q++)
        bytes[q] = p->count[q] * size;
    copy = malloc((size_t)bytes[p->l->dev->first] + 1);
    if (!copy)
        return MOE_E_NOMEM;
    memcpy(copy, mine, (size_t)bytes[p->l->dev->first]);
    moe_status status =
        moe_int_comm_gather(&p->l->rank[0].comm, MOE_EP_RESULTS, copy, p->all, bytes);
    free(copy);
    return status;
}

/* ---- the plan of all tokens ---- */

static moe_status gather_pairs(moe_int_ep_layer *l, pieces *p, int64_t *ret_pairs) {
    const int32_t R = ranks_of(l);
    int64_t counts[MOE_EP_MAX_RANKS] = {0};
    pieces number = {.l = l, .dtype = MOE_I64, .all = (char *)counts};
    for (int32_t q = 0; q < R; q++)
        number.count[q] = 1;
    for (int32_t i = 0; i < l->dev->count; i++)
        counts[l->dev->first + i] = l->rank[i].plan->n_pairs;
    moe_status status = share(&number);
    *ret_pairs = 0;
    for (int32_t q = 0; q < R; q++) {
        p->count[q] = counts[q];
        *ret_pairs += counts[q];
    }
    return status;
}

/* One array of every rank's pairs. */
static moe_status gather_array(const pieces *base, moe_dtype dtype, void *all,
                               void (*fill)(const moe_plan *plan, void *ret)) {
    pieces p = *base;
    p.dtype = dtype;
    p.all = all;
    for (int32_t i = 0; i < p.l->dev->count; i++)
        fill(p.l->rank[i].plan, place_of(&p, i));
    return share(&p);
}

static void fill_token(const moe_plan *plan, void *ret) {
    memcpy(ret, plan->token, (size_t)plan->n_pairs * sizeof *plan->token);
}

static void fill_expert(const moe_plan *plan, void *ret) {
    int32_t *expert = ret;
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++)
            expert[p] = (int32_t)e;
}

static void fill_weight(const moe_plan *plan, void *ret) {
    memcpy(ret, plan->weight, (size_t)plan->n_pairs * sizeof *plan->weight);
}

/* Each rank's plan again, and the one of all tokens, from pairs that lie rank by rank. */
static moe_status make_plans(moe_int_ep_layer *l, const pieces *p, int64_t pairs, int32_t *token,
                             const int32_t *expert, const double *weight) {
    const int64_t n = l->desc.E + l->desc.n_zero;
    moe_status status = MOE_OK;
    for (int32_t q = 0; !status && q < ranks_of(l); q++) {
        const int64_t at = offset_of(p, q), first = moe_int_ep_first_token(l, q);
        moe_plan_destroy(&l->plans[q]);
        status = moe_plan_create(moe_int_ep_first_token(l, q + 1) - first, n, p->count[q],
                                 token + at, expert + at, weight + at, NULL, &l->plans[q]);
        for (int64_t i = 0; i < p->count[q]; i++)
            token[at + i] += (int32_t)first;
    }
    moe_plan_destroy(&l->plan);
    return status ? status
                  : moe_plan_create(l->use.tokens, n, pairs, token, expert, weight, NULL, &l->plan);
}

moe_status moe_int_ep_gather_plan(moe_int_ep_layer *l) {
    pieces p = {.l = l};
    int64_t pairs;
    moe_status status = gather_pairs(l, &p, &pairs);
    if (status)
        return status;
    int32_t *token = malloc(((size_t)pairs + 1) * sizeof *token);
    int32_t *expert = malloc(((size_t)pairs + 1) * sizeof *expert);
    double *weight = malloc(((size_t)pairs + 1) * sizeof *weight);
    status = token && expert && weight ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = gather_array(&p, MOE_I32, token, fill_token);
    if (!status)
        status = gather_array(&p, MOE_I32, expert, fill_expert);
    if (!status)
        status = gather_array(&p, MOE_F64, weight, fill_weight);
    if (!status)
        status = make_plans(l, &p, pairs, token, expert, weight);
    free(token);
    free(expert);
    free(weight);
    return status;
}

/* ---- tensors ---- */

static int64_t rows_of_rank(const moe_int_ep_layer *l, moe_ep_placed kind, int32_t q) {
    const int64_t first = moe_ep_first_expert(l->desc.E, ranks_of(l), q);
    const int64_t end = moe_ep_first_expert(l->desc.E, ranks_of(l), q + 1);
    switch (kind) {
    case MOE_EP_OF_TOKENS:
        return moe_int_ep_first_token(l, q + 1) - moe_int_ep_first_token(l, q);
    case MOE_EP_OF_PAIRS:
        return l->plans[q]->n_pairs;
    case MOE_EP_OF_EXPERTS:
        return end - first;
    case MOE_EP_OF_ROWS:
        return l->plan->offsets[end] - l->plan->offsets[first];
    case MOE_EP_OF_ALL:
        break;
    }
    return 0;
}

static const double *home_result(const moe_int_ep_rank *r, moe_tensor_id id) {
    switch ((int)id) {
    case MOE_T_LOGITS:
        return r->logits;
    case MOE_T_O:
        return r->O;
    case MOE_T_DX:
        return r->dX;
    case MOE_T_S:
        return r->plan->weight;
    default:
        return r->dS;
    }
}

static const moe_tensor *own_gradient(const moe_int_ep_rank *r, moe_tensor_id id) {
    int i = 0;
    while (moe_int_ep_expert_gradients[i] != id)
        i++;
    return &r->dW[i];
}

/* Somebody's rows: a slot's first ones. */
static void take_rows(const moe_int_handle *h, const moe_tensor *rows, char *ret) {
    const size_t size = moe_dtype_size(rows->dtype) * (size_t)rows->shape[1];
    for (int64_t e = 0; e < h->own; e++) {
        const size_t bytes = (size_t)moe_int_handle_rows(h, e) * size;
        memcpy(ret, (const char *)rows->data + (size_t)h->plan->offsets[e] * size, bytes);
        ret += bytes;
    }
}

/* Rows that went home are what came there: of a wire that is narrower than their stage, rounded. */
static moe_dtype went_home_as(const moe_int_ep_layer *l, moe_tensor_id id, moe_dtype dtype) {
    const bool went = l->dev->params.combine == MOE_EP_PAIRS && (id == MOE_T_Y || id == MOE_T_DXP);
    return went ? (moe_dtype)l->wire.output : dtype;
}

static moe_status fill_piece(moe_int_ep_rank *r, moe_tensor_id id, moe_dtype dtype, int64_t count,
                             char *ret) {
    const moe_ep_placed kind = moe_ep_placed_of(id);
    if (kind == MOE_EP_OF_TOKENS || kind == MOE_EP_OF_PAIRS) {
        if (count)
            moe_convert(ret, dtype, home_result(r, id), MOE_F64, (size_t)count);
        return MOE_OK;
    }
    if (kind == MOE_EP_OF_EXPERTS) {
        const moe_tensor *mine = own_gradient(r, id);
        if (count)
            moe_convert(ret, dtype, mine->data, mine->dtype, (size_t)count);
        return MOE_OK;
    }
    moe_tensor made = {0}, rows = {0};
    if (!r->handle.plan)
        return MOE_OK;
    moe_status status = moe_int_ep_made(r, id, went_home_as(r->layer, id, dtype), &made);
    if (!status)
        status = moe_tensor_cast(&made, dtype, &rows);
    if (!status)
        take_rows(&r->handle, &rows, ret);
    moe_tensor_destroy(&made);
    moe_tensor_destroy(&rows);
    return status;
}

/* Pairs lie rank by rank: to the rows of the plan of all tokens, in which an expert's pairs of rank
 * q follow those of the ranks before. */
static void sort_pairs(const moe_int_ep_layer *l, const char *from, size_t size, char *to) {
    for (int64_t e = 0; e < l->plan->n_experts; e++) {
        int64_t row = l->plan->offsets[e], first = 0;
        for (int32_t q = 0; q < ranks_of(l); q++) {
            const moe_plan *plan = l->plans[q];
            const size_t count = (size_t)(plan->offsets[e + 1] - plan->offsets[e]);
            memcpy(to + (size_t)row * size, from + (size_t)(first + plan->offsets[e]) * size,
                   count * size);
            row += (int64_t)count;
            first += plan->n_pairs;
        }
    }
}

static moe_status fetch_pieces(moe_int_ep_layer *l, moe_tensor_id id, moe_tensor *dst) {
    const moe_ep_placed kind = moe_ep_placed_of(id);
    const int64_t rows = dst->shape[0] > 0 ? dst->shape[0] : 1;
    pieces p = {.l = l, .dtype = dst->dtype, .all = dst->data};
    char *unsorted = NULL;
    moe_status status = MOE_OK;
    if (kind == MOE_EP_OF_PAIRS)
        p.all = unsorted = malloc((size_t)moe_tensor_bytes(dst) + 1);
    if (!p.all)
        return MOE_E_NOMEM;
    for (int32_t q = 0; q < ranks_of(l); q++)
        p.count[q] = rows_of_rank(l, kind, q) * (moe_tensor_count(dst) / rows);
    for (int32_t i = 0; !status && i < l->dev->count; i++)
        status = fill_piece(&l->rank[i], id, p.dtype, p.count[l->dev->first + i], place_of(&p, i));
    if (!status)
        status = share(&p);
    if (!status && unsorted)
        sort_pairs(l, unsorted, moe_dtype_size(p.dtype), dst->data);
    free(unsorted);
    return status;
}

/* Gradients of parts and replicas, slot by slot, become those of experts. */
static moe_status fetch_parts(moe_int_ep_layer *l, moe_tensor_id id, moe_tensor *dst) {
    pieces p = {.l = l, .dtype = l->held};
    const size_t count = (size_t)moe_tensor_count(dst);
    for (int32_t q = 0; q < ranks_of(l); q++)
        p.count[q] =
            (l->slots.first[q + 1] - l->slots.first[q]) * moe_int_ep_slot_elements(l, id, q);
    double *sum = calloc(count + 1, sizeof *sum);
    p.all = malloc((size_t)offset_of(&p, ranks_of(l)) * moe_dtype_size(p.dtype) + 1);
    moe_status status = sum && p.all ? MOE_OK : MOE_E_NOMEM;
    for (int32_t i = 0; !status && i < l->dev->count; i++)
        memcpy(place_of(&p, i), own_gradient(&l->rank[i], id)->data,
               (size_t)p.count[l->dev->first + i] * moe_dtype_size(p.dtype));
    if (!status)
        status = share(&p);
    if (!status) {
        moe_int_ep_join(l, id, p.all, sum);
        moe_convert(dst->data, dst->dtype, sum, MOE_F64, count);
    }
    free(sum);
    free(p.all);
    return status;
}

moe_status moe_int_ep_layer_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    moe_int_ep_layer *l = self;
    const moe_ep_placed kind = moe_ep_placed_of(id);
    int64_t first;
    if (!moe_int_ep_is_plain(&l->slots) && kind == MOE_EP_OF_ROWS)
        return MOE_E_UNSUPPORTED; /* of experts that lie nowhere as a whole */
    if (!moe_int_ep_is_plain(&l->slots) && kind == MOE_EP_OF_EXPERTS)
        return fetch_parts(l, id, dst);
    if (kind != MOE_EP_OF_ALL)
        return fetch_pieces(l, id, dst);
    const int64_t count = moe_int_ep_sum_of(l, id, &first);
    moe_convert(dst->data, dst->dtype, l->rank[0].sums + first, MOE_F64, (size_t)count);
    return MOE_OK;
}
