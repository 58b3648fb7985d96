#include "cli/input/devices.h"
#include "cli/input/messages.h"

moe_status cli_devices_open(cli_devices *d, int32_t count) {
    moe_status status = MOE_OK;
    for (; !status && d->count < count; d->count += !status) {
        d->params.device_index = d->count;
        status = moe_backend_open(d->all, d->spec, &d->params, cli_log(), &d->at[d->count]);
    }
    return status;
}

moe_status cli_devices_open_ranks(cli_devices *d, const cli_ranks *ranks,
                                  const moe_problem *problem, moe_ep_params *ret) {
    moe_status status = cli_ranks_params(ranks, problem, ret);
    const int32_t count = !status && ret->transport && ret->transport->devices ? ret->ranks : 1;
    return status ? status : cli_devices_open(d, count);
}

moe_status cli_devices_close(cli_devices *d) {
    moe_status worst = MOE_OK;
    for (int32_t i = 0; i < d->count; i++) {
        moe_status status = moe_backend_close(&d->at[i]);
        worst = status ? status : worst;
    }
    d->count = 0;
    return worst;
}
