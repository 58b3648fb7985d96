/* The two passes over ranks. One thread puts all ranks' work on their streams, step by step: what
 * waits for others is launched after whatever it waits for, so that nothing but a device that does
 * not come can keep it waiting.
 *
 *     forward   products  | route | chunk 0 | chunk 1 | chunk 2 | sum O, the last chunk's rows
 *               copies    | X       | Y of chunk 0 | 1 |           from where they were made |
 *     backward  products  | dH | dX~ | dW2 | dW1 | sum dX |
 *               copies   dO |        | dX~ | */
#include "chunks.h"
#include "parts.h"

#include <string.h>

namespace {

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

bool has_shared(const At &at) {
    return at.p->home && at.l->desc.n_shared;
}

void mark(const At &at, Timer *timer, moe_stage stage) {
    timer_mark(timer, nullptr, stage, 0, at.g->dev.stream);
}

/* What `stream` does from now on follows what `first` has been given so far. */
moe_status follow(const At &at, cudaStream_t stream, cudaStream_t first) {
    cudaError_t err = cudaEventRecord(at.g->point, first);
    if (err == cudaSuccess)
        err = cudaStreamWaitEvent(stream, at.g->point, 0);
    return checked(at, err, "ordering streams");
}

moe_status wait_for(const At &at, Phase first, Phase last) {
    return checked(at, exchange_wait(&at.p->exchange, first, last, at.g->dev.stream),
                   "waiting for ranks");
}

moe_status tell_all(const At &at, Phase phase, cudaStream_t stream) {
    return checked(at, exchange_signal(&at.p->exchange, phase, stream), "signalling to ranks");
}

/* ---- rows ---- */

bool sends_all(const At &at) {
    return ep_sends_all(at.p->exchange.s.ranks, (int)at.l->desc.K);
}

/* Copies behind an event, or at once. Timed, where that is asked for, without the wait. */
template <class Copies>
moe_status copy_behind(const At &at, cudaEvent_t event, bool backward, const char *name,
                       const Copies &copies) {
    Timer *timer = &at.p->links[backward];
    cudaError_t err = event ? cudaStreamWaitEvent(at.g->copies, event, 0) : cudaSuccess;
    timer_mark_as(timer, "", 0, at.g->copies);
    if (err == cudaSuccess)
        err = copies();
    timer_mark_as(timer, name, 0, at.g->copies);
    return checked(at, err, name);
}

/* The rows of tokens that go to all ranks alike, if they do. */
moe_status send_all(const At &at, bool backward) {
    return sends_all(at) ? copy_behind(at, nullptr, backward, backward ? "dO there" : "X there",
                                       [&] { return copy_tokens(at, backward); })
                         : MOE_OK;
}

/* The rows of tokens where it is known whose experts want them; then all are told. */
moe_status send_rest(const At &at, bool backward) {
    const Exchange *x = &at.p->exchange;
    moe_status status =
        sends_all(at)
            ? follow(at, at.g->dev.stream, at.g->copies)
            : checked(at, exchange_send_rows(x, backward, at.g->dev.sms, at.g->dev.stream),
                      "sending tokens' rows");
    return status || x->late ? status : tell_all(at, PHASE_DISPATCH, at.g->dev.stream);
}

/* Nothing of an earlier pass is under way: the host has waited for it. */
moe_status begin(const At &at, bool backward) {
    Timer *timer = &at.p->links[backward];
    at.p->exchange.pass = at.l->dev->group->pass;
    timer_start(backward ? &at.p->backward : &at.p->forward, at.g->dev.stream);
    timer->is_off = !at.l->dev->group->words.links;
    timer_start(timer, at.g->copies);
    return send_all(at, backward);
}

/* Rows that own experts first ... end - 1 have made, and then `made`. */
moe_status bring(const At &at, cudaEvent_t made, bool backward, int first, int end) {
    return copy_behind(at, made, backward, backward ? "dX~ home" : "Y home",
                       [&] { return copy_home(at, first, end); });
}

/* ---- forward ---- */

moe_status begin_forward(const At &at) {
    at.p->backward.cost.clear();
    at.p->links[true].cost.clear();
    return begin(at, false);
}

moe_status route(const At &at) {
    moe_status status = at.p->home ? layer_route(at.p->home) : MOE_OK;
    if (!status && at.p->home)
        status = layer_shared_gate(at.p->home);
    return status ? status
                  : checked(at, exchange_tell(&at.p->exchange, at.g->dev.stream), "counts");
}

moe_status dispatch(const At &at) {
    const Stream &stream = at.g->dev.stream;
    cudaError_t err = exchange_place(&at.p->exchange, stream);
    if (err == cudaSuccess)
        err = cudaEventRecord(at.g->placed, stream);
    if (err == cudaSuccess)
        err = list_tiles(&at.p->owner->routed.rows, stream);
    mark(at, &at.p->forward, MOE_STAGE_METADATA);
    if (err == cudaSuccess)
        err = exchange_send_pairs(&at.p->exchange, at.g->dev.sms, stream);
    moe_status status = checked(at, err, "dispatch");
    if (!status)
        status = send_rest(at, false);
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
bool is_chunked(const At &at) {
    const Experts *x = &at.p->owner->routed;
    return x->hopper && x->hw != x->n;
}

/* Chunks take turns on two streams, so that the first tiles of one fill what the last of another
 * leave idle. Each chunk's end is an event. */
moe_status run_chunks(const At &at) {
    const int own = at.p->owner->routed.rows.E, chunks = at.p->exchange.chunks;
    Device *const turns[] = {&at.g->dev, &at.g->beside};
    moe_status status = follow(at, at.g->beside.stream, at.g->dev.stream);
    if (!status && !is_chunked(at))
        status = multiply(at, 0, own);
    for (int i = 0; !status && i < chunks; i++) {
        at.p->owner->dev = turns[i & is_chunked(at)];
        if (is_chunked(at))
            status =
                multiply(at, ep_chunk_begin(own, chunks, i), ep_chunk_begin(own, chunks, i + 1));
        if (!status)
            status =
                checked(at, cudaEventRecord(at.g->made[i], at.p->owner->dev->stream), "an event");
    }
    at.p->owner->dev = &at.g->dev;
    set_range(&at.p->owner->routed, 0, own);
    return status ? status : follow(at, at.g->dev.stream, at.g->beside.stream);
}

moe_status run_experts(const At &at) {
    moe_status status = wait_for(at, PHASE_DISPATCH, PHASE_DISPATCH);
    mark(at, &at.p->forward, MOE_STAGE_DISPATCH);
    if (!status)
        status = run_chunks(at);
    if (!status)
        status = tell_all(at, PHASE_ROWS, at.g->dev.stream);
    mark(at, &at.p->forward, MOE_STAGE_EXPERTS);
    return status;
}

/* All chunks but the last: O's sum reads that from where it was made. */
moe_status bring_output(const At &at) {
    const int own = at.p->owner->routed.rows.E, chunks = at.p->exchange.chunks;
    moe_status status =
        chunks > 1 ? checked(at, cudaEventSynchronize(at.g->placed), "waiting for counts") : MOE_OK;
    for (int i = 0; !status && i + 1 < chunks; i++)
        status = bring(at, at.g->made[i], false, ep_chunk_begin(own, chunks, i),
                       ep_chunk_begin(own, chunks, i + 1));
    return status ? status : tell_all(at, PHASE_STAGED, at.g->copies);
}

moe_status sum_output(const At &at) {
    RankPart *p = at.p;
    moe_status status = wait_for(at, PHASE_ROWS, PHASE_STAGED);
    p->place.row_at = p->exchange.made_at;
    if (!status && p->home)
        status = layer_combine_output(p->home);
    mark(at, &p->forward, MOE_STAGE_O);
    return status;
}

/* ---- backward ---- */

moe_status dispatch_back(const At &at) {
    Layer *home = at.p->home;
    moe_status status = begin(at, true);
    if (!status)
        status = send_rest(at, true);
    if (!status && has_shared(at))
        status = experts_backward(home, &home->shared, nullptr);
    return status;
}

moe_status run_rows_back(const At &at) {
    Layer *owner = at.p->owner;
    Experts *x = &owner->routed;
    moe_status status = wait_for(at, PHASE_DISPATCH, PHASE_DISPATCH);
    mark(at, &at.p->backward, MOE_STAGE_DISPATCH_BACK);
    if (!status)
        status = experts_dh(owner, x, nullptr);
    mark(at, &at.p->backward, MOE_STAGE_DH);
    if (!status)
        status = experts_dxp(owner, x, nullptr);
    if (!status)
        status = experts_input_weight(owner, x, nullptr);
    if (!status)
        status = tell_all(at, PHASE_WEIGHTS, at.g->dev.stream);
    if (!status)
        status = tell_all(at, PHASE_ROWS, at.g->dev.stream);
    mark(at, &at.p->backward, MOE_STAGE_DXP);
    return status;
}

/* While the weights' gradients are made. */
moe_status bring_gradient(const At &at) {
    moe_status status = checked(at, cudaEventRecord(at.g->made[0], at.g->dev.stream), "an event");
    if (!status && at.p->exchange.chunks > 1)
        status = bring(at, at.g->made[0], true, 0, at.p->owner->routed.rows.E);
    return status ? status : tell_all(at, PHASE_STAGED, at.g->copies);
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
    moe_status status = wait_for(at, PHASE_WEIGHTS, PHASE_WEIGHTS);
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

moe_status run_weights(const At &at) {
    Layer *owner = at.p->owner;
    moe_status status = take_ds(at);
    mark(at, &at.p->backward, MOE_STAGE_DS);
    if (!status)
        status = experts_dw2(owner, &owner->routed, nullptr);
    mark(at, &at.p->backward, MOE_STAGE_DW2);
    if (!status)
        status = experts_dw1(owner, &owner->routed, nullptr);
    mark(at, &at.p->backward, MOE_STAGE_DW1);
    return status;
}

moe_status sum_gradient(const At &at) {
    RankPart *p = at.p;
    moe_status status = wait_for(at, PHASE_ROWS, PHASE_STAGED);
    p->place.row_at = p->exchange.back_at;
    if (!status && p->home)
        status = layer_combine_gradient(p->home);
    mark(at, &p->backward, MOE_STAGE_DX);
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
    static const Step steps[] = {begin_forward, route,      dispatch, run_experts,
                                 bring_output,  sum_output, nullptr};
    const moe_status status = run(l, steps, "forward over ranks");
    if (!status)
        finish_timers(l, false);
    moe_plan_destroy(&l->plan);
    return status;
}

moe_status ranks_backward(RanksLayer *l) {
    static const Step steps[] = {dispatch_back, run_rows_back, bring_gradient,
                                 run_weights,   sum_gradient,  nullptr};
    const moe_status status = run(l, steps, "backward over ranks");
    if (!status)
        finish_timers(l, true);
    return status;
}
