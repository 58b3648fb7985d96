/* The forward pass of a rank.
 *
 *     products  | route | own tokens | chunk 0 | chunk 1 | chunk 2 | sum O, the last chunk's rows
 *     copies        | X       |            | Y of chunk 0 | 1 |       from where they were made |
 */
#include "chunks.h"
#include "steps.h"

namespace {

moe_status begin_forward(const At &at) {
    at.p->backward.cost.clear();
    at.p->links[true].cost.clear();
    begin_pass(at, false);
    return is_early(at) ? MOE_OK : send_all(at, nullptr, false);
}

moe_status route(const At &at) {
    moe_status status = at.p->home ? layer_route(at.p->home) : MOE_OK;
    if (!status && at.p->home)
        status = layer_shared_gate(at.p->home);
    return status;
}

moe_status tell_counts(const At &at) {
    return checked(at, exchange_counts(&at.p->exchange, at.g->dev.stream), "counts");
}

/* Products of a part of the tiles, on a stream. */
moe_status multiply_up(const At &at, const int *from, const int *to, Device *dev) {
    Layer *owner = at.p->owner;
    const TilesOf tiles(owner, HOPPER_UP_ACT, from, to, dev);
    return experts_up(owner, &owner->routed, nullptr);
}

moe_status multiply_down(const At &at, const int *from, const int *to, Device *dev) {
    Layer *owner = at.p->owner;
    const TilesOf tiles(owner, HOPPER_DOWN, from, to, dev);
    return experts_down(owner, &owner->routed, nullptr);
}

moe_status place(const At &at) {
    return checked(at, exchange_place(&at.p->exchange, at.g->dev.sms, at.g->dev.stream),
                   "dispatch");
}

/* Tiles of own tokens alone, while others' tokens come. */
moe_status multiply_early(const At &at) {
    moe_status status = checked(at, cudaEventRecord(at.g->placed, at.g->dev.stream), "an event");
    mark(at, &at.p->forward, MOE_STAGE_METADATA);
    if (!status && is_early(at))
        status = multiply_up(at, tiles_of(at, 0), at.p->exchange.early_tiles, &at.g->but_one);
    return status;
}

moe_status multiply_shared(const At &at) {
    moe_status status = send_chosen(at, false);
    Layer *home = at.p->home;
    if (!status && has_shared(at))
        status = experts_up(home, &home->shared, nullptr);
    if (!status && has_shared(at))
        status = experts_down(home, &home->shared, nullptr);
    return status;
}

/* Others' tokens come beside the early tiles: copies that began before the ranks' last flags would
 * keep these waiting. */
moe_status start_beside(const At &at) {
    cudaStream_t beside = at.g->beside.stream;
    moe_status status = send_all(at, at.g->placed, false);
    if (!status)
        status = checked(at, cudaStreamWaitEvent(beside, at.g->placed, 0), "ordering streams");
    if (!status)
        status = wait_for(at, PHASE_DISPATCH, PHASE_DISPATCH, beside);
    return status ? status : follow(at, at.g->dev.stream, beside);
}

moe_status start_experts(const At &at) {
    if (is_early(at))
        return start_beside(at);
    moe_status status = wait_for(at, PHASE_DISPATCH, PHASE_DISPATCH, at.g->dev.stream);
    mark(at, &at.p->forward, MOE_STAGE_DISPATCH);
    return status ? status : follow(at, at.g->beside.stream, at.g->dev.stream);
}

/* Chunks take turns on two streams, so that the first tiles of one fill what the last of another
 * leave idle. Early tiles had the first turn. */
moe_status run_part(const At &at, Device *turn) {
    const int own = at.p->owner->routed.rows.E, chunks = at.p->exchange.chunks;
    const int *from = tiles_of(at, ep_chunk_begin(own, chunks, at.chunk));
    const int *to = tiles_of(at, ep_chunk_begin(own, chunks, at.chunk + 1));
    const bool waits = is_early(at) && at.chunk == 0;
    moe_status status = multiply_up(at, waits ? at.p->exchange.early_tiles : from, to, turn);
    if (!status && waits)
        status = follow(at, turn->stream, at.g->dev.stream);
    return status ? status : multiply_down(at, from, to, turn);
}

/* Portable kernels know no part of the experts. */
moe_status run_whole(const At &at) {
    Layer *owner = at.p->owner;
    const moe_status status = experts_up(owner, &owner->routed, nullptr);
    return status ? status : experts_down(owner, &owner->routed, nullptr);
}

/* Each chunk's end is an event. */
moe_status run_chunk(const At &at) {
    const bool parts = multiplies_parts(at), beside = parts && (at.chunk + is_early(at)) % 2;
    Device *turn = beside ? &at.g->beside : &at.g->dev;
    moe_status status = MOE_OK;
    if (parts)
        status = run_part(at, turn);
    else if (at.chunk == 0)
        status = run_whole(at);
    return status ? status
                  : checked(at, cudaEventRecord(at.g->made[at.chunk], turn->stream), "an event");
}

moe_status end_experts(const At &at) {
    const moe_status status = follow(at, at.g->dev.stream, at.g->beside.stream);
    return status ? status : meet_all(at, PHASE_ROWS, PHASE_STAGED);
}

/* All chunks but the last: O's sum reads that from where it was made. */
moe_status bring_output(const At &at) {
    const int own = at.p->owner->routed.rows.E, chunks = at.p->exchange.chunks;
    moe_status status =
        chunks > 1 ? checked(at, cudaEventSynchronize(at.g->placed), "waiting for counts") : MOE_OK;
    for (int i = 0; !status && i + 1 < chunks; i++)
        status = bring(at, at.g->made[i], false, ep_chunk_begin(own, chunks, i),
                       ep_chunk_begin(own, chunks, i + 1));
    return status ? status : tell_copied(at, PHASE_STAGED);
}

moe_status sum_output(const At &at) {
    RankPart *p = at.p;
    mark(at, &p->forward, MOE_STAGE_EXPERTS);
    p->place.row_at = p->exchange.made_at;
    const moe_status status = p->home ? layer_combine_output(p->home) : MOE_OK;
    mark(at, &p->forward, MOE_STAGE_O);
    return status;
}

} // namespace

const Step forward_steps[] = {{begin_forward}, {route},           {tell_counts},
                              {place},         {multiply_early},  {multiply_shared},
                              {start_experts}, {run_chunk, true}, {end_experts},
                              {bring_output},  {sum_output},      {}};
