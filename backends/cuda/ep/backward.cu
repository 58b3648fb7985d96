/* The backward pass of a rank.
 *
 *     products       | dH | dX~ | dW2 | dW1 | sum dX |
 *     copies    | dO |          | dX~ | */
#include "steps.h"

namespace {

moe_status dispatch_back(const At &at) {
    Layer *home = at.p->home;
    begin_pass(at, true);
    moe_status status = send_all(at, nullptr, true);
    if (!status)
        status = send_chosen(at, true);
    if (!status && has_shared(at))
        status = experts_backward(home, &home->shared, nullptr);
    return status;
}

moe_status multiply_hidden(const At &at, const int *from, const int *to, Device *dev) {
    Layer *owner = at.p->owner;
    const TilesOf tiles(owner, HOPPER_DA_DACT, from, to, dev);
    return experts_dh_product(owner, &owner->routed);
}

/* dH of own tokens alone, while others' dO comes; then the rest. */
moe_status run_early_hidden(const At &at) {
    const int *early = at.p->exchange.early_tiles;
    const int own = at.p->owner->routed.rows.E;
    moe_status status = follow(at, at.g->beside.stream, at.g->dev.stream);
    if (!status)
        status = wait_for(at, PHASE_DISPATCH, PHASE_DISPATCH, at.g->beside.stream);
    if (!status)
        status = multiply_hidden(at, tiles_of(at, 0), early, &at.g->but_one);
    if (!status)
        status = multiply_hidden(at, early, tiles_of(at, own), &at.g->beside);
    return status ? status : follow(at, at.g->dev.stream, at.g->beside.stream);
}

moe_status run_hidden_back(const At &at) {
    Layer *owner = at.p->owner;
    moe_status status = MOE_OK;
    if (is_early(at)) {
        status = run_early_hidden(at);
    } else {
        status = wait_for(at, PHASE_DISPATCH, PHASE_DISPATCH, at.g->dev.stream);
        mark(at, &at.p->backward, MOE_STAGE_DISPATCH_BACK);
        if (!status)
            status = experts_dh_product(owner, &owner->routed);
    }
    return status ? status : experts_dh_sums(owner, &owner->routed, nullptr);
}

moe_status run_rows_back(const At &at) {
    Layer *owner = at.p->owner;
    Experts *x = &owner->routed;
    moe_status status = run_hidden_back(at);
    mark(at, &at.p->backward, MOE_STAGE_DH);
    if (!status)
        status = experts_dxp(owner, x, nullptr);
    if (!status)
        status = experts_input_weight(owner, x, nullptr);
    if (!status)
        status = tell_all(at, PHASE_WEIGHTS, PHASE_ROWS);
    mark(at, &at.p->backward, MOE_STAGE_DXP);
    return status;
}

/* While the weights' gradients are made. */
moe_status bring_gradient(const At &at) {
    moe_status status = checked(at, cudaEventRecord(at.g->made[0], at.g->dev.stream), "an event");
    if (!status && at.p->exchange.chunks > 1)
        status = bring(at, at.g->made[0], true, 0, at.p->owner->routed.rows.E);
    return status ? status : tell_copied(at, PHASE_STAGED);
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
    moe_status status = wait_for(at, PHASE_WEIGHTS, PHASE_WEIGHTS, at.g->dev.stream);
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
    moe_status status = wait_for(at, PHASE_ROWS, PHASE_STAGED, at.g->dev.stream);
    p->place.row_at = p->exchange.back_at;
    if (!status && p->home)
        status = layer_combine_gradient(p->home);
    mark(at, &p->backward, MOE_STAGE_DX);
    return status;
}

} // namespace

const Step backward_steps[] = {{dispatch_back}, {run_rows_back}, {bring_gradient},
                               {run_weights},   {sum_gradient},  {}};
