/* Gradients of what every rank has, the router and the shared expert: summed over the ranks in
 * their order. The router's sum goes on from one rank to the next token by token, so that its bits
 * are one device's. */
#include "ep/rank.h"

#include <stdlib.h>

static const moe_tensor_id summed[] = {MOE_T_DW_R, MOE_T_DB_R, MOE_T_DW_GATE_SHARED,
                                       MOE_T_DW1_SHARED, MOE_T_DW2_SHARED};
enum { SUMMED = sizeof summed / sizeof *summed };

int64_t moe_int_ep_sum_of(const moe_int_ep_layer *l, moe_tensor_id id, int64_t *ret_first) {
    int64_t first = 0;
    for (int i = 0; i < SUMMED; i++) {
        moe_tensor shape = {0};
        if (!moe_tensor_exists(&l->desc, summed[i], l->use.plan_given))
            continue;
        moe_tensor_shape(&l->desc, summed[i], 1, 0, 0, &shape);
        const int64_t count = moe_tensor_count(&shape);
        if (summed[i] == id) {
            *ret_first = first;
            return count;
        }
        first += count;
    }
    *ret_first = first;
    return 0;
}

typedef struct part {
    const moe_int_ep_rank *r;
    const double *d_logits, *d_gate; /* [T][E+n_zero], [T] */
} part;

/* sum[n][d] += dz^T x, token by token. */
static void add_outer(const double *dz, int64_t n, const double *x, int64_t T, int64_t d,
                      double *sum) {
    for (int64_t t = 0; t < T; t++)
        for (int64_t e = 0; e < n; e++)
            for (int64_t i = 0; i < d; i++)
                sum[e * d + i] += dz[t * n + e] * x[t * d + i];
}

static void add_router(const part *k, double *sum) {
    const moe_int_ep_rank *r = k->r;
    const int64_t n = r->layer->desc.E + r->layer->desc.n_zero, d = r->layer->desc.d;
    int64_t first;
    if (moe_int_ep_sum_of(r->layer, MOE_T_DW_R, &first))
        add_outer(k->d_logits, n, r->x, r->T, d, sum + first);
    if (moe_int_ep_sum_of(r->layer, MOE_T_DB_R, &first))
        for (int64_t t = 0; t < r->T; t++)
            for (int64_t e = 0; e < n; e++)
                sum[first + e] += k->d_logits[t * n + e];
    if (moe_int_ep_sum_of(r->layer, MOE_T_DW_GATE_SHARED, &first))
        add_outer(k->d_gate, 1, r->x, r->T, d, sum + first);
}

static void add_own(void *user, double *sum) {
    const part *k = user;
    const moe_int_ep_fault fault = k->r->layer->dev->fault;
    const int32_t rank = k->r->comm.rank, last = k->r->comm.ranks - 1;
    if (fault != MOE_INT_EP_SUM_WITHOUT_LAST || rank != last)
        add_router(k, sum);
    if (fault == MOE_INT_EP_SUM_TWICE && rank == 0)
        add_router(k, sum);
    for (int i = 0; i < 2; i++) {
        const moe_tensor *mine = &k->r->dW_shared[i];
        int64_t first;
        const int64_t count =
            moe_int_ep_sum_of(k->r->layer, moe_int_ep_shared_gradients[i], &first);
        for (int64_t j = 0; mine->data && j < count; j++)
            sum[first + j] = moe_int_ep_step(
                k->r->layer, sum[first + j] + moe_load(mine->data, mine->dtype, (size_t)j));
    }
}

moe_status moe_int_ep_sum_gradients(moe_int_ep_rank *r, const double *d_logits,
                                    const double *d_gate) {
    part k = {r, d_logits, d_gate};
    int64_t count;
    moe_int_ep_sum_of(r->layer, MOE_T_COUNT, &count);
    if (count == 0)
        return MOE_OK;
    free(r->sums);
    r->sums = calloc((size_t)count, sizeof *r->sums);
    return r->sums ? moe_int_comm_ordered_sum(&r->comm, r->sums, count, add_own, &k) : MOE_E_NOMEM;
}
