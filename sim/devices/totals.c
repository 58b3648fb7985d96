/* What a finished timeline adds up to. */
#include "sim/devices/devices.h"

#include <math.h>

void moe_int_devices_set_spread(moe_int_devices *x, moe_ep_prediction *p) {
    const int64_t group = x->group, ep = (int64_t)x->ep;
    double most = 0;
    for (x->group = 0; x->group < ep; x->group++) {
        const moe_int_local l = moe_int_devices_all(x, 1);
        const double us = moe_int_local_us(&l);
        p->mean_us += us / x->ep;
        most = fmax(most, us);
    }
    p->max_us += most;
    x->group = group;
}

/* Links take it off the rank: a task on the network may keep them busy too. */
static bool is_sent(const moe_ep_task *task) {
    static const moe_int_tl_row rows[] = {MOE_INT_TL_OUT, MOE_INT_TL_NETWORK};
    for (int i = 0; i < 2; i++)
        if (task->row == moe_int_tl_names[rows[i]] || task->also == moe_int_tl_names[rows[i]])
            return true;
    return false;
}

void moe_int_devices_finish(moe_int_devices *x, moe_ep_prediction *p) {
    p->tasks = x->t.tasks;
    p->n_tasks = x->t.count;
    p->total_us = x->t.end_us;
    p->serial_us = x->t.sum_us;
    p->comm_sms = x->comm_sms;
    p->exposed_us = fmax(0, p->total_us - x->t.busy_us[MOE_INT_TL_SMS]);
    for (int row = 0; row < MOE_INT_TL_COUNT; row++) {
        if (x->t.busy_us[row] > p->busiest_us) {
            p->busiest_us = x->t.busy_us[row];
            p->busiest = moe_int_tl_names[row];
        }
    }
    for (size_t i = 0; i < p->n_tasks; i++) {
        if (!is_sent(&p->tasks[i]))
            continue;
        p->sent_bytes += p->tasks[i].bytes;
        p->link_us += p->tasks[i].us;
    }
}
