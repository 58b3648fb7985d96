/* The two passes over ranks. One thread puts all ranks' work on their streams, step by step: what
 * waits for others is launched after whatever it waits for, so that nothing but a device that does
 * not come can keep it waiting. Short steps let the last rank begin early. */
#include "steps.h"

#include <string.h>

namespace {

/* The step on all ranks, of one chunk where it is a chunk's. */
moe_status on_all(RanksLayer *l, const Step &step, int chunk) {
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++) {
        const At at = {l, &l->part[r], &l->dev->group->rank[r], r, chunk};
        const OnDevice current(&at.g->dev);
        status = current.status ? current.status : step.run(at);
    }
    return status;
}

moe_status run_step(RanksLayer *l, const Step &step) {
    const int times = step.each_chunk ? l->part[0].exchange.chunks : 1;
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < times; i++)
        status = on_all(l, step, i);
    return status;
}

moe_status run(RanksLayer *l, const Step *steps, const char *what) {
    Group *g = l->dev->group;
    g->pass++;
    memset(g->late, 0, (size_t)g->words.ranks * sizeof *g->late);
    moe_status status = MOE_OK;
    for (; !status && steps->run; steps++)
        status = run_step(l, *steps);
    const moe_status waited = group_wait(l->dev, what);
    if (!status)
        status = waited;
    return status ? status : group_check(l->dev);
}

} // namespace

moe_status ranks_forward(RanksLayer *l) {
    const moe_status status = run(l, forward_steps, "forward over ranks");
    if (!status)
        finish_timers(l, false);
    moe_plan_destroy(&l->plan);
    return status;
}

moe_status ranks_backward(RanksLayer *l) {
    const moe_status status = run(l, backward_steps, "backward over ranks");
    if (!status)
        finish_timers(l, true);
    return status;
}
