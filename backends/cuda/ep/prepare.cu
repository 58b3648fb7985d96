/* Preparing a layer over ranks: each rank's two layers, and what they know of each other's memory.
 */
#include "../supports.h"
#include "chunks.h"
#include "parts.h"

#include <algorithm>
#include <new>
#include <stdio.h>

namespace {

int ranks_of(const RanksLayer *l) {
    return l->dev->group->words.ranks;
}

/* The experts of one rank as a layer whose plan is given. */
moe_layer_desc owner_desc(const RanksLayer *l, int own) {
    moe_layer_desc d = l->desc;
    d.E = own;
    d.K = std::min<int64_t>(d.K, own);
    d.n_zero = 0;
    d.n_shared = 0;
    d.shared_gate = 0;
    return d;
}

/* `count` blocks of a parameter from `first` on. */
moe_tensor slice(const moe_tensor *all, int64_t first, int64_t count) {
    moe_tensor part = *all;
    if (!all->data)
        return part;
    const int64_t bytes = moe_tensor_bytes(all) / all->shape[0];
    part.data = static_cast<char *>(all->data) + first * bytes;
    part.shape[0] = count;
    return part;
}

moe_status make_owner(RanksLayer *l, int r, const moe_tensors *params) {
    RankPart *p = &l->part[r];
    const int E = (int)l->desc.E, R = ranks_of(l);
    const int own = ep_first_expert(E, R, r + 1) - p->first_expert;
    const moe_layer_desc desc = owner_desc(l, own);
    const moe_use use = {R * l->room, l->use.dtype, l->use.pass, 1};
    moe_tensors mine = {};
    for (moe_tensor_id id : {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2})
        mine.t[id] = slice(&params->t[id], p->first_expert, own);
    p->owner = new (std::nothrow) Layer();
    if (!p->owner)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "cuda: no memory for a layer");
    layer_describe(p->owner, &l->dev->group->rank[r].dev, &desc, &use);
    p->owner->forward_timer.is_off = p->owner->backward_timer.is_off = true;
    return layer_prepare_all(p->owner, &mine);
}

moe_status make_home(RanksLayer *l, int r, const moe_tensors *params) {
    RankPart *p = &l->part[r];
    const int64_t slot = r * l->room * l->desc.d * 2;
    const moe_use use = {p->tokens, l->use.dtype, l->use.pass, l->use.plan_given};
    if (!p->tokens)
        return MOE_OK;
    p->home = new (std::nothrow) Layer();
    if (!p->home)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "cuda: no memory for a layer");
    p->place.x = static_cast<char *>(p->owner->x) + slot;
    p->place.dout = p->owner->dout ? static_cast<char *>(p->owner->dout) + slot : nullptr;
    p->place.broken = l->dev->group->rank[r].broken;
    layer_describe(p->home, &l->dev->group->rank[r].dev, &l->desc, &use);
    p->home->home = &p->place;
    p->home->forward_timer.is_off = p->home->backward_timer.is_off = true;
    return layer_prepare_all(p->home, params);
}

/* Zeroed, of the owner's layer. */
template <class P> moe_status zeros(RankPart *p, int64_t count, P **ret) {
    void *data = nullptr;
    const size_t bytes = (size_t)std::max<int64_t>(count, 1) * sizeof **ret;
    moe_status status = layer_alloc(p->owner, bytes, BUFFER_WORK, &data);
    if (!status)
        status = device_check(p->owner->dev, cudaMemset(data, 0, bytes), "clearing memory");
    *ret = static_cast<P *>(data);
    return status;
}

/* Of experts whose pairs are as many as in the mean. */
int early_experts(const RanksLayer *l, const RankPart *p) {
    const Experts *x = &p->owner->routed;
    const int R = ranks_of(l), K = (int)l->desc.K, asked = l->dev->group->words.early;
    if (!x->hopper || x->hw == x->n || !ep_sends_all(R, K))
        return 0;
    return ep_early_experts(x->rows.E, p->exchange.chunks,
                            asked >= 0 ? asked : ep_early_waves(R, p->tokens), p->owner->dev->sms,
                            (int)(p->tokens * K / l->desc.E / BUFFER_TILE_ROWS),
                            (x->n + BUFFER_TILE_ROWS - 1) / BUFFER_TILE_ROWS);
}

/* What does not depend on the numbers of pairs. */
moe_status make_exchange(RanksLayer *l, int r) {
    RankPart *p = &l->part[r];
    Exchange *x = &p->exchange;
    int *none = nullptr;
    *x = {};
    x->s = group_signals(l->dev->group, r);
    x->tokens = (int)p->tokens;
    x->room = (int)l->room;
    x->d = (int)l->desc.d;
    x->E = (int)l->desc.E;
    x->chunks = l->dev->group->words.chunks
                    ? l->dev->group->words.chunks
                    : ep_chunks(x->s.ranks, l->use.tokens * l->desc.K, x->E, 2 * l->desc.d);
    x->early_experts = early_experts(l, p);
    const size_t counts = (size_t)x->s.ranks * (size_t)(x->E + 1);
    moe_status status = zeros(p, (int64_t)counts, &x->peer[r].counts);
    if (!status)
        status = device_check(
            l->dev, cudaHostAlloc(&x->table, counts * sizeof *x->table, cudaHostAllocPortable),
            "memory for what goes where");
    if (!status)
        status = zeros(p, 1, &x->early_tiles);
    if (!status)
        status = zeros(p, 1, &x->blocks_done);
    if (!status && !p->home)
        status = zeros(p, x->E + 2, &none);
    if (p->home) {
        x->token_offsets = p->home->token_offsets;
        x->offsets = p->home->routed.rows.offsets;
    } else {
        x->token_offsets = x->offsets = none;
    }
    return status;
}

moe_status make_part(RanksLayer *l, int r, const moe_tensors *params) {
    RankPart *p = &l->part[r];
    const OnDevice current(&l->dev->group->rank[r].dev);
    p->first_token = r * l->use.tokens / ranks_of(l);
    p->tokens = (r + 1) * l->use.tokens / ranks_of(l) - p->first_token;
    p->first_expert = ep_first_expert((int)l->desc.E, ranks_of(l), r);
    moe_status status = current.status ? current.status : make_owner(l, r, params);
    if (!status)
        status = make_home(l, r, params);
    return status ? status : make_exchange(l, r);
}

void drop(Layer *layer, void *data) {
    if (data)
        layer_free(layer, data);
}

/* What depends on them: `sent` pairs of this rank, `received` ones of its experts. */
moe_status make_rows(RanksLayer *l, int r, int64_t sent, int64_t received) {
    RankPart *p = &l->part[r];
    Exchange *x = &p->exchange;
    const OnDevice current(p->owner->dev);
    moe_status status = current.status
                            ? current.status
                            : experts_alloc_rows(p->owner, &p->owner->routed, (int)received);
    for (void *old : {(void *)x->row, (void *)x->made_at, (void *)x->back_at, (void *)x->staging})
        drop(p->owner, old);
    if (!status)
        status = zeros(p, sent, &x->row);
    if (!status)
        status = zeros(p, sent, &x->made_at);
    if (!status)
        status = zeros(p, sent, &x->back_at);
    if (!status && x->chunks > 1)
        status = zeros(p, sent * x->d * 2, &x->staging);
    return status;
}

/* Where everybody's memory is. */
void meet(RanksLayer *l, int r) {
    RankPart *p = &l->part[r];
    Exchange *x = &p->exchange;
    x->own = p->owner->routed.rows;
    x->late = l->dev->group->words.late && r == x->s.ranks - 1;
    if (p->home) {
        x->token = p->home->routed.rows.token;
        x->weight = p->home->routed.rows.weight;
        x->pair_of_token = p->home->pair_of_token;
        x->ds = p->home->routed.ds;
    }
    for (int q = 0; q < x->s.ranks; q++) {
        const RankPart *other = &l->part[q];
        const Experts *e = &other->owner->routed;
        const PeerMemory *theirs = &other->exchange.peer[q];
        x->peer[q] = {static_cast<char *>(other->owner->x),
                      static_cast<char *>(other->owner->dout),
                      static_cast<char *>(e->y),
                      e->rows.token,
                      e->rows.weight,
                      e->ds,
                      theirs->counts};
    }
}

/* The most that a rank can send, and get if everybody sends it all. */
moe_status make_most_rows(RanksLayer *l) {
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < ranks_of(l); r++) {
        const RankPart *p = &l->part[r];
        const int64_t K = std::min<int64_t>(l->desc.K, p->owner->desc.E);
        status = make_rows(l, r, p->tokens * l->desc.K, l->use.tokens * K);
    }
    for (int r = 0; !status && r < ranks_of(l); r++)
        meet(l, r);
    return status;
}

moe_status subset_of(const RanksLayer *l, const moe_plan *all, int r, moe_plan **ret) {
    const RankPart *p = &l->part[r];
    std::vector<int64_t> tokens((size_t)p->tokens);
    for (int64_t t = 0; t < p->tokens; t++)
        tokens[(size_t)t] = p->first_token + t;
    return moe_plan_subset(all, tokens.data(), p->tokens, ret);
}

moe_tensor rows_of(const moe_tensor *all, const RankPart *p) {
    moe_tensor part = *all;
    if (!all->data)
        return part;
    part.data = static_cast<char *>(all->data) + p->first_token * all->shape[1] * 2;
    part.shape[0] = p->tokens;
    return part;
}

moe_status set_part(RanksLayer *l, int r, const moe_input *input) {
    RankPart *p = &l->part[r];
    moe_plan *plan = nullptr;
    if (!p->home)
        return MOE_OK;
    moe_status status = input->plan ? subset_of(l, input->plan, r, &plan) : MOE_OK;
    const moe_input mine = {p->tokens, rows_of(&input->X, p), rows_of(&input->dO, p), plan,
                            input->seed};
    if (!status)
        status = layer_set_input(p->home, &mine);
    p->home->given = nullptr;
    moe_plan_destroy(&plan);
    return status;
}

/* Pairs of a plan with tokens of a rank, zero experts' included. */
int64_t pairs_of(const moe_plan *plan, const RankPart *p) {
    return plan->token_offsets[p->first_token + p->tokens] - plan->token_offsets[p->first_token];
}

} // namespace

moe_status ranks_supports(const Device *dev, const moe_layer_desc *desc, const moe_use *use,
                          char *reason, size_t size) {
    const int R = dev->group->words.ranks;
    const char *why = nullptr;
    if (desc->E < R)
        why = "fewer experts than ranks";
    else if (!use->plan_given && !moe_int_cuda_routes(&desc->router))
        why = "over ranks this router needs its plan given";
    if (why)
        snprintf(reason, size, "%s", why);
    return why ? MOE_E_UNSUPPORTED : MOE_OK;
}

moe_status ranks_prepare(Device *dev, const moe_layer_desc *desc, const moe_use *use,
                         const moe_tensors *params, void **ret) {
    const int R = dev->group->words.ranks;
    RanksLayer *l = new (std::nothrow) RanksLayer();
    Layer *handle = new (std::nothrow) Layer();
    if (l)
        l->part = new (std::nothrow) RankPart[(size_t)R]();
    if (!l || !handle || !l->part) {
        delete handle;
        delete l;
        return moe_fail(dev->log, MOE_E_NOMEM, "cuda: no memory for a layer");
    }
    l->dev = dev;
    l->desc = *desc;
    l->use = *use;
    l->room = (use->tokens + R - 1) / R;
    handle->ranks = l;
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < R; r++)
        status = make_part(l, r, params);
    if (!status && !use->plan_given)
        status = make_most_rows(l);
    if (status) {
        ranks_release(l);
        delete handle;
    } else {
        *ret = handle;
    }
    return status;
}

void ranks_release(RanksLayer *l) {
    for (int r = 0; r < ranks_of(l); r++) {
        RankPart *p = &l->part[r];
        const OnDevice current(&l->dev->group->rank[r].dev);
        layer_release(p->home);
        layer_release(p->owner);
        cudaFreeHost(p->exchange.table);
        for (Timer *timer : {&p->forward, &p->backward, &p->links[0], &p->links[1]})
            timer_destroy(timer);
    }
    moe_plan_destroy(&l->plan);
    delete[] l->part;
    delete l;
}

moe_status ranks_set_input(RanksLayer *l, const moe_input *input) {
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < ranks_of(l); r++)
        status = set_part(l, r, input);
    for (int r = 0; !status && input->plan && r < ranks_of(l); r++) {
        const RankPart *p = &l->part[r];
        const int64_t *offsets = input->plan->offsets + p->first_expert;
        status = make_rows(l, r, pairs_of(input->plan, p), offsets[p->owner->desc.E] - offsets[0]);
    }
    for (int r = 0; !status && r < ranks_of(l); r++)
        meet(l, r);
    return status;
}
