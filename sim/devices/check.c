/* What can be asked about a spread layer. */
#include "moeref/ep.h"
#include "sim/devices/devices.h"

#include <math.h>

#define RANKS_MOST 4096
#define SMS_MOST   1024

/* What a method sends is its own: a word that would change nothing is an error. */
static bool says_what_is_sent(const moe_split *s) {
    return s->combine || s->wire != MOE_EP_WIRE_OWN || s->skew > 0 || s->tokens || s->replicas ||
           s->padding;
}

static moe_status check_options(const moe_ep_options *o, const moe_log *log) {
    const struct {
        const char *name;
        double value, least, most;
    } numbers[] = {
        {"ep", (double)o->ep, 1, RANKS_MOST},
        {"tp", (double)o->tp, 1, RANKS_MOST},
        {"chunks", (double)o->chunks, 0, MOE_INT_CHUNKS_MOST},
        {"communicating SMs", (double)o->comm_sms, 0, SMS_MOST},
        {"work beside, us,", o->beside_us, 0, HUGE_VAL},
        {"gradients beside, bytes,", o->beside_bytes, 0, HUGE_VAL},
        {"cached share", o->cached, 0, 1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const double value = numbers[i].value;
        if (!(value >= numbers[i].least && value <= numbers[i].most))
            return moe_fail(log, MOE_E_INVALID, "%s = %g is not from %g to %g", numbers[i].name,
                            value, numbers[i].least, numbers[i].most);
    }
    return MOE_OK;
}

/* As many GPUs as are asked for, and a network where they are on several hosts. */
static moe_status check_node(const moe_node *node, const moe_ep_options *o, const moe_log *log) {
    const double *p = node->p, ranks = (double)(o->ep * o->tp);
    if (ranks > p[MOE_INT_NP_GPUS] * p[MOE_INT_NP_HOSTS])
        return moe_fail(log, MOE_E_INVALID,
                        "ep=%lld times tp=%lld is more than the %.0f GPUs of %s", (long long)o->ep,
                        (long long)o->tp, p[MOE_INT_NP_GPUS] * p[MOE_INT_NP_HOSTS], node->name);
    if (ranks > p[MOE_INT_NP_GPUS] && p[MOE_INT_NP_INTER] <= 0)
        return moe_fail(log, MOE_E_INVALID,
                        "ep=%lld times tp=%lld is more than one host of %s has (%.0f GPUs), and it "
                        "has no network between hosts: say inter_gbps",
                        (long long)o->ep, (long long)o->tp, node->name, p[MOE_INT_NP_GPUS]);
    return MOE_OK;
}

moe_status moe_int_devices_check(const moe_node *node, const moe_case *c, const moe_ep_options *o,
                                 const moe_int_devices_method *m, const moe_log *log) {
    const int pass = c->pass ? c->pass : MOE_PASS_BOTH;
    moe_status status = check_options(o, log);
    if (!status)
        status = check_node(node, o, log);
    if (status)
        return status;
    if (c->T < 1)
        return moe_fail(log, MOE_E_INVALID, "a rank needs a token");
    if (says_what_is_sent(&c->split))
        return moe_fail(
            log, MOE_E_UNSUPPORTED,
            "combine=, wire=, skew=, tokens=, replicas= and padding= are words of check "
            "and bench: what a method sends is its own");
    if (m->forward_only && (pass & MOE_PASS_BWD))
        return moe_fail(log, MOE_E_UNSUPPORTED, "method %s has no backward pass; ask for pass=fwd",
                        o->method);
    if (m->whole && o->tp > 1)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "method %s has whole experts on each GPU; ask for tp=1 and a larger ep",
                        o->method);
    return moe_layer_desc_check(&c->layer, c->T, log);
}
