/* The forward pass of a rank.
 *
 *     products  | route | chunk 0 | chunk 1 | chunk 2 | sum O, the last chunk's rows
 *     copies    | X       | Y of chunk 0 | 1 |           from where they were made | */
#include "chunks.h"
#include "steps.h"

namespace {

moe_status begin_forward(const At &at) {
    at.p->backward.cost.clear();
    at.p->links[true].cost.clear();
    return begin_pass(at, false);
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
    if (err == cudaSuccess)
        err = exchange_send_pairs(&at.p->exchange, at.g->dev.sms, stream);
    moe_status status = checked(at, err, "dispatch");
    if (!status)
        status = tell_all(at, PHASE_PAIRS, stream);
    if (!status)
        status = send_chosen(at, false);
    mark(at, &at.p->forward, MOE_STAGE_METADATA);
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

moe_status start_experts(const At &at) {
    moe_status status = wait_for(at, PHASE_PAIRS, PHASE_DISPATCH);
    mark(at, &at.p->forward, MOE_STAGE_DISPATCH);
    return status ? status : follow(at, at.g->beside.stream, at.g->dev.stream);
}

/* Chunks take turns on two streams, so that the first tiles of one fill what the last of another
 * leave idle. Each chunk's end is an event. Portable kernels know no part of the experts. */
moe_status run_chunk(const At &at) {
    const int own = at.p->owner->routed.rows.E, chunks = at.p->exchange.chunks;
    const Experts *x = &at.p->owner->routed;
    const bool is_part = x->hopper && x->hw != x->n;
    Device *turn = is_part && at.chunk % 2 ? &at.g->beside : &at.g->dev;
    moe_status status = MOE_OK;
    at.p->owner->dev = turn;
    if (is_part)
        status = multiply(at, ep_chunk_begin(own, chunks, at.chunk),
                          ep_chunk_begin(own, chunks, at.chunk + 1));
    else if (at.chunk == 0)
        status = multiply(at, 0, own);
    at.p->owner->dev = &at.g->dev;
    return status ? status
                  : checked(at, cudaEventRecord(at.g->made[at.chunk], turn->stream), "an event");
}

moe_status end_experts(const At &at) {
    moe_status status = follow(at, at.g->dev.stream, at.g->beside.stream);
    if (!status)
        status = tell_all(at, PHASE_ROWS, at.g->dev.stream);
    set_range(&at.p->owner->routed, 0, at.p->owner->routed.rows.E);
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

} // namespace

const Step forward_steps[] = {{begin_forward}, {route},           {dispatch},
                              {start_experts}, {run_chunk, true}, {end_experts},
                              {bring_output},  {sum_output},      {}};
