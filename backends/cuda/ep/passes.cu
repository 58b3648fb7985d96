/* The two passes over ranks. One thread puts all ranks' work on their streams, step by step: what
 * waits for others is launched after whatever it waits for, so that nothing but a device that does
 * not come can keep it waiting.
 *
 * Forward, in chunks of experts. In backward nothing is chunked: dX is summed while dW2 and dW1 are
 * made.
 *
 *     products  | send X | chunk 0 | chunk 1 | chunk 2 | sum O, last chunk's rows from where they
 *     rows                         | bring 0 | bring 1 |                               were made |
 */
#include "chunks.h"
#include "parts.h"

#include <algorithm>
#include <string.h>

namespace {

/* One rank in one pass. */
struct At {
    RanksLayer *l;
    RankPart *p;
    GroupRank *g;
    int r;
};

At at_rank(RanksLayer *l, int r) {
    return {l, &l->part[r], &l->dev->group->rank[r], r};
}

typedef moe_status (*Step)(const At &at);

/* The step on all ranks. */
moe_status on_all(RanksLayer *l, Step step) {
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++) {
        const At at = at_rank(l, r);
        const OnDevice current(&at.g->dev);
        status = current.status ? current.status : step(at);
    }
    return status;
}

moe_status checked(const At &at, cudaError_t err, const char *what) {
    return device_check(at.l->dev, err, what);
}

bool overlaps(const RanksLayer *l) {
    return l->dev->group->words.ranks > 1 && l->dev->group->words.chunks > 1;
}

bool has_shared(const At &at) {
    return at.p->home && at.l->desc.n_shared;
}

moe_status begin(const At &at, Timer *timer) {
    at.p->exchange.pass = at.l->dev->group->pass;
    cudaError_t err = cudaMemsetAsync(at.g->broken, 0, sizeof *at.g->broken, at.g->dev.stream);
    timer_start(timer, at.g->dev.stream);
    return checked(at, err, "starting a pass");
}

void mark(const At &at, Timer *timer, moe_stage stage) {
    timer_mark(timer, nullptr, stage, 0, at.g->dev.stream);
}

/* What the stream of rows does from now on follows what the stream of products has done, and the
 * other way round. */
moe_status rows_follow(const At &at) {
    cudaError_t err = cudaEventRecord(at.g->made, at.g->dev.stream);
    if (err == cudaSuccess)
        err = cudaStreamWaitEvent(at.g->comm.stream, at.g->made, 0);
    return checked(at, err, "ordering streams");
}

moe_status products_follow(const At &at) {
    cudaError_t err = cudaEventRecord(at.g->moved, at.g->comm.stream);
    if (err == cudaSuccess)
        err = cudaStreamWaitEvent(at.g->dev.stream, at.g->moved, 0);
    return checked(at, err, "ordering streams");
}

moe_status wait_for(const At &at, Phase phase, cudaStream_t stream) {
    return checked(at, exchange_wait(&at.p->exchange, phase, stream), "waiting for ranks");
}

moe_status tell_all(const At &at, Phase phase) {
    return checked(at, exchange_signal(&at.p->exchange, phase, at.g->dev.stream),
                   "signalling to ranks");
}

/* ---- forward ---- */

moe_status route(const At &at) {
    moe_status status = begin(at, &at.p->forward);
    at.p->backward.cost.clear();
    if (!status && at.p->home)
        status = layer_route(at.p->home);
    if (!status && at.p->home)
        status = layer_shared_gate(at.p->home);
    return status ? status
                  : checked(at, exchange_tell(&at.p->exchange, at.g->dev.stream), "counts");
}

moe_status dispatch(const At &at) {
    const Stream &stream = at.g->dev.stream;
    cudaError_t err = exchange_place(&at.p->exchange, stream);
    if (err == cudaSuccess)
        err = list_tiles(&at.p->owner->routed.rows, stream);
    mark(at, &at.p->forward, MOE_STAGE_METADATA);
    if (err == cudaSuccess)
        err = exchange_send(&at.p->exchange, false, at.g->dev.sms, stream);
    moe_status status = checked(at, err, "dispatch");
    Layer *home = at.p->home;
    if (!status && has_shared(at))
        status = experts_up(home, &home->shared, nullptr);
    if (!status && has_shared(at))
        status = experts_down(home, &home->shared, nullptr);
    return status;
}

void set_range(Experts *x, int first, int end) {
    for (HopperOp op : {HOPPER_UP_ACT, HOPPER_DOWN}) {
        x->op[op].first = first;
        x->op[op].E = end;
    }
}

/* The products of experts first ... end - 1 alone. */
moe_status multiply(const At &at, int first, int end) {
    Layer *owner = at.p->owner;
    Experts *x = &owner->routed;
    set_range(x, first, end);
    moe_status status = experts_up(owner, x, nullptr);
    return status ? status : experts_down(owner, x, nullptr);
}

/* Portable kernels know no part of the experts. */
int chunks_of(const At &at) {
    const Experts *x = &at.p->owner->routed;
    return x->hopper && x->hw != x->n && overlaps(at.l) ? at.p->exchange.chunks : 1;
}

/* After the products that made them; the last to be brought are told of. */
moe_status bring(const At &at, int first, int end, bool last) {
    moe_status status = rows_follow(at);
    return status ? status
                  : checked(at,
                            exchange_bring(&at.p->exchange, first, end, last,
                                           at.l->dev->group->words.sms, at.g->comm.stream),
                            "bringing rows home");
}

moe_status run_chunks(const At &at) {
    const int own = at.p->owner->routed.rows.E, chunks = chunks_of(at);
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < chunks; i++) {
        const int first = ep_chunk_begin(own, chunks, i), end = ep_chunk_begin(own, chunks, i + 1);
        at.p->owner->dev = i ? &at.g->few : &at.g->dev;
        status = multiply(at, first, end);
        if (!status && i + 1 < chunks)
            status = bring(at, first, end, i + 2 == chunks);
    }
    if (!status && chunks == 1 &&
        at.p->exchange.chunks > 1) /* all at once, what is to be brought */
        status = bring(at, 0, ep_chunk_begin(own, at.p->exchange.chunks, at.p->exchange.chunks - 1),
                       true);
    set_range(&at.p->owner->routed, 0, own);
    at.p->owner->dev = &at.g->dev;
    return status;
}

moe_status run_experts(const At &at) {
    moe_status status = wait_for(at, PHASE_DISPATCH, at.g->dev.stream);
    mark(at, &at.p->forward, MOE_STAGE_DISPATCH);
    if (!status)
        status = run_chunks(at);
    if (!status)
        status = tell_all(at, PHASE_ROWS);
    mark(at, &at.p->forward, MOE_STAGE_EXPERTS);
    return status;
}

moe_status sum_output(const At &at) {
    RankPart *p = at.p;
    moe_status status = wait_for(at, PHASE_ROWS, at.g->dev.stream);
    if (!status && p->exchange.chunks > 1)
        status = wait_for(at, PHASE_STAGED, at.g->dev.stream);
    if (!status)
        status = products_follow(at);
    p->place.row_at = p->exchange.made_at;
    p->place.blocks = 0;
    if (!status && p->home)
        status = layer_combine_output(p->home);
    mark(at, &p->forward, MOE_STAGE_O);
    return status;
}

/* ---- backward ---- */

moe_status dispatch_back(const At &at) {
    Layer *home = at.p->home;
    moe_status status = begin(at, &at.p->backward);
    if (!status)
        status = checked(at, exchange_send(&at.p->exchange, true, at.g->dev.sms, at.g->dev.stream),
                         "dispatch of dO");
    if (!status && has_shared(at))
        status = experts_backward(home, &home->shared, nullptr);
    return status;
}

moe_status run_rows_back(const At &at) {
    Layer *owner = at.p->owner;
    Experts *x = &owner->routed;
    moe_status status = wait_for(at, PHASE_DISPATCH, at.g->dev.stream);
    mark(at, &at.p->backward, MOE_STAGE_DISPATCH_BACK);
    if (!status)
        status = experts_dh(owner, x, nullptr);
    mark(at, &at.p->backward, MOE_STAGE_DH);
    if (!status)
        status = experts_dxp(owner, x, nullptr);
    if (!status)
        status = experts_input_weight(owner, x, nullptr);
    if (!status)
        status = tell_all(at, PHASE_WEIGHTS);
    if (!status)
        status = tell_all(at, PHASE_ROWS);
    mark(at, &at.p->backward, MOE_STAGE_DXP);
    return status;
}

/* dS of zero experts is made at home. */
cudaError_t zero_experts_ds(const At &at) {
    Layer *home = at.p->home;
    DsArgs args = {};
    args.dout = home->dout;
    args.x = home->x;
    args.d = (int)at.l->desc.d;
    args.ds = home->routed.ds;
    return home->routed.rows.bins > home->routed.rows.E
               ? finish_ds(home->dtype, &home->routed.rows, &args, at.g->dev.stream)
               : cudaSuccess;
}

moe_status take_ds(const At &at) {
    Layer *home = at.p->home;
    moe_status status = wait_for(at, PHASE_WEIGHTS, at.g->dev.stream);
    if (status || !home)
        return status;
    cudaError_t err = exchange_take_ds(&at.p->exchange, at.g->dev.sms, at.g->dev.stream);
    if (err == cudaSuccess)
        err = zero_experts_ds(at);
    status = checked(at, err, "dS of this rank's pairs");
    if (!status)
        status = layer_route_backward(home);
    return status ? status : layer_gate_gradient(home);
}

/* On a stream of its own where others multiply meanwhile. */
moe_status sum_gradient(const At &at) {
    RankPart *p = at.p;
    const bool apart = overlaps(at.l);
    GroupRank *g = at.g;
    moe_status status = apart ? rows_follow(at) : MOE_OK;
    if (!status)
        status = wait_for(at, PHASE_ROWS, apart ? g->comm.stream : g->dev.stream);
    if (status || !p->home)
        return status;
    p->place.row_at = p->exchange.back_at;
    p->place.blocks = apart ? at.l->dev->group->words.sms : 0;
    p->home->dev = apart ? &g->comm : &g->dev;
    status = layer_combine_gradient(p->home);
    p->home->dev = &g->dev;
    return status;
}

moe_status run_weights(const At &at) {
    Layer *owner = at.p->owner;
    moe_status status = take_ds(at);
    mark(at, &at.p->backward, MOE_STAGE_DS);
    if (!status)
        status = sum_gradient(at);
    if (!overlaps(at.l))
        mark(at, &at.p->backward, MOE_STAGE_DX);
    owner->dev = overlaps(at.l) ? &at.g->few : &at.g->dev;
    if (!status)
        status = experts_dw2(owner, &owner->routed, nullptr);
    mark(at, &at.p->backward, MOE_STAGE_DW2);
    if (!status)
        status = experts_dw1(owner, &owner->routed, nullptr);
    owner->dev = &at.g->dev;
    mark(at, &at.p->backward, MOE_STAGE_DW1);
    if (!status)
        status = products_follow(at);
    if (overlaps(at.l))
        mark(at, &at.p->backward, MOE_STAGE_DX);
    return status;
}

/* ---- both ---- */

moe_status run(RanksLayer *l, const Step *steps, const char *what) {
    Group *g = l->dev->group;
    g->pass++;
    memset(g->late, 0, (size_t)g->words.ranks * sizeof *g->late);
    moe_status status = MOE_OK;
    for (; !status && *steps; steps++)
        status = on_all(l, *steps);
    const moe_status waited = group_wait(l->dev, what);
    if (!status)
        status = waited;
    return status ? status : group_check(l->dev);
}

} // namespace

moe_status ranks_forward(RanksLayer *l) {
    static const Step steps[] = {route, dispatch, run_experts, sum_output, nullptr};
    moe_status status = run(l, steps, "forward over ranks");
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++)
        timer_finish(&l->part[r].forward);
    moe_plan_destroy(&l->plan);
    return status;
}

moe_status ranks_backward(RanksLayer *l) {
    static const Step steps[] = {dispatch_back, run_rows_back, run_weights, nullptr};
    moe_status status = run(l, steps, "backward over ranks");
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++)
        timer_finish(&l->part[r].backward);
    return status;
}

/* Of each stage the slowest rank's. */
size_t ranks_timings(const RanksLayer *l, moe_cost *ret, size_t capacity) {
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        const Timer *first = pass ? &l->part[0].backward : &l->part[0].forward;
        for (size_t i = 0; i < first->cost.size(); i++, count++) {
            moe_cost cost = first->cost[i];
            for (int r = 1; r < l->dev->group->words.ranks; r++) {
                const Timer *t = pass ? &l->part[r].backward : &l->part[r].forward;
                if (i < t->cost.size())
                    cost.us = std::max(cost.us, t->cost[i].us);
            }
            if (count < capacity)
                ret[count] = cost;
        }
    }
    return count;
}
