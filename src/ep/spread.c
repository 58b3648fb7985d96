/* From experts to slots: which rows a pair is in. */
#include "ep/rank.h"

#include <stdlib.h>

/* The row of a token's pair with an expert. */
static int64_t pair_of(const moe_plan *plan, int64_t expert, int32_t token) {
    for (int64_t k = plan->token_offsets[token]; k < plan->token_offsets[token + 1]; k++) {
        const int64_t p = plan->pair_of_token[k];
        if (p >= plan->offsets[expert] && p < plan->offsets[expert + 1])
            return p;
    }
    return -1;
}

static bool has_pair(const moe_plan *plan, int64_t slot, int32_t token) {
    return pair_of(plan, slot, token) >= 0;
}

/* What a fault makes of `sent`: pairs of experts with replicas are in two slots, the second being
 * the next one of theirs that there is. */
static moe_status feed_twice(moe_int_ep_rank *r) {
    const moe_ep_slots *s = &r->layer->slots;
    const moe_plan *sent = r->sent;
    const size_t room = 2 * (size_t)sent->n_pairs + 1;
    int32_t *token = malloc(room * sizeof *token), *slot = malloc(room * sizeof *slot);
    double *weight = malloc(room * sizeof *weight);
    moe_plan *twice = NULL;
    int64_t n = 0;
    moe_status status = token && slot && weight ? MOE_OK : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < s->count; i++)
        for (int64_t p = sent->offsets[i]; p < sent->offsets[i + 1]; p++) {
            int64_t to[2] = {i, -1};
            for (int64_t j = 0; j < s->count; j++)
                if (s->expert[j] == s->expert[i] && j != i && to[1] < i &&
                    !has_pair(sent, j, sent->token[p]))
                    to[1] = j;
            for (int k = 0; k < 2; k++)
                if (to[k] >= 0) {
                    token[n] = sent->token[p];
                    slot[n] = (int32_t)to[k];
                    weight[n++] = sent->weight[p];
                }
        }
    if (!status)
        status = moe_plan_create(sent->n_tokens, s->count, n, token, slot, weight, NULL, &twice);
    free(token);
    free(slot);
    free(weight);
    if (!status) {
        moe_plan_destroy(&r->sent);
        r->sent = twice;
    }
    return status;
}

static void note_row(moe_int_ep_rank *r, int64_t pair, int64_t row) {
    int64_t *at = r->row_of + pair * r->width;
    while (*at >= 0)
        at++;
    *at = row;
}

moe_status moe_int_ep_spread(moe_int_ep_rank *r) {
    const moe_int_ep_layer *l = r->layer;
    const bool twice = l->dev->fault == MOE_INT_EP_REPLICA_TWICE;
    moe_plan_destroy(&r->sent);
    moe_status status =
        moe_ep_slots_plan(&l->slots, r->plan, r->comm.rank, r->token, NULL, &r->sent);
    if (!status && twice)
        status = feed_twice(r);
    r->width = l->slots.tp * (twice ? 2 : 1);
    const int64_t count = moe_int_ep_real_pairs(r) * r->width;
    free(r->row_of);
    r->row_of = malloc((size_t)(count + 1) * sizeof *r->row_of);
    if (status || !r->row_of)
        return status ? status : MOE_E_NOMEM;
    for (int64_t i = 0; i < count; i++)
        r->row_of[i] = -1;
    for (int64_t s = 0; s < l->slots.count; s++)
        for (int64_t i = r->sent->offsets[s]; i < r->sent->offsets[s + 1]; i++)
            note_row(r, pair_of(r->plan, l->slots.expert[s], r->sent->token[i]), i);
    return MOE_OK;
}
