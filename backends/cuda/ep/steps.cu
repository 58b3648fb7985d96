/* What the steps of both passes are made of. */
#include "steps.h"

#include "chunks.h"

namespace {

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

/* On purpose: it does not say that its tokens' rows are there. */
bool is_late(const At &at) {
    return at.p->exchange.late;
}

} // namespace

moe_status checked(const At &at, cudaError_t err, const char *what) {
    return device_check(&at.g->dev, err, what);
}

bool has_shared(const At &at) {
    return at.p->home && at.l->desc.n_shared;
}

void mark(const At &at, Timer *timer, moe_stage stage) {
    timer_mark(timer, nullptr, stage, 0, at.g->dev.stream);
}

moe_status follow(const At &at, cudaStream_t stream, cudaStream_t first) {
    cudaError_t err = cudaEventRecord(at.g->point, first);
    if (err == cudaSuccess)
        err = cudaStreamWaitEvent(stream, at.g->point, 0);
    return checked(at, err, "ordering streams");
}

moe_status wait_for(const At &at, Phase first, Phase last, const Stream &stream) {
    return checked(at, exchange_wait(&at.p->exchange, first, last, stream), "waiting for ranks");
}

moe_status tell_all(const At &at, Phase first, Phase last) {
    return checked(at, exchange_signal(&at.p->exchange, first, last, at.g->dev.stream),
                   "signalling to ranks");
}

moe_status meet_all(const At &at, Phase phase, Phase last) {
    return checked(at, exchange_meet(&at.p->exchange, phase, last, at.g->dev.stream),
                   "waiting for ranks");
}

moe_status tell_copied(const At &at, Phase phase) {
    return checked(at, exchange_write(&at.p->exchange, phase, at.g->copies), "signalling to ranks");
}

const int *tiles_of(const At &at, int expert) {
    return at.p->owner->routed.rows.tile_offsets + expert;
}

bool multiplies_parts(const At &at) {
    const Experts *x = &at.p->owner->routed;
    return x->hopper && x->hw != x->n;
}

bool is_early(const At &at) {
    return at.p->exchange.early_experts > 0;
}

void begin_pass(const At &at, bool backward) {
    Timer *timer = &at.p->links[backward];
    at.p->exchange.pass = at.l->dev->group->pass;
    timer_start(backward ? &at.p->backward : &at.p->forward, at.g->dev.stream);
    timer->is_off = !at.l->dev->group->words.links;
    timer_start(timer, at.g->copies);
}

moe_status send_all(const At &at, cudaEvent_t event, bool backward) {
    if (!sends_all(at))
        return MOE_OK;
    moe_status status = copy_behind(at, event, backward, backward ? "dO there" : "X there",
                                    [&] { return copy_tokens(at, backward); });
    return status || is_late(at) ? status : tell_copied(at, PHASE_DISPATCH);
}

moe_status send_chosen(const At &at, bool backward) {
    if (sends_all(at))
        return MOE_OK;
    cudaError_t err =
        exchange_send_rows(&at.p->exchange, backward, at.g->dev.sms, at.g->dev.stream);
    moe_status status = checked(at, err, "sending tokens' rows");
    return status || is_late(at) ? status : tell_all(at, PHASE_DISPATCH, PHASE_DISPATCH);
}

moe_status bring(const At &at, cudaEvent_t made, bool backward, int first, int end) {
    return copy_behind(at, made, backward, backward ? "dX~ home" : "Y home",
                       [&] { return copy_home(at, first, end); });
}
