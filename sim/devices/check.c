/* What can be asked about a spread layer. */
#include "moeref/ep.h"
#include "sim/devices/devices.h"

/* What a method sends is its own: a word that would change nothing is an error. */
static bool says_what_is_sent(const moe_split *s) {
    return s->combine || s->wire != MOE_EP_WIRE_OWN || s->skew > 0 || s->tokens || s->replicas ||
           s->padding;
}

moe_status moe_int_devices_check(const moe_node *node, const moe_case *c, const moe_ep_options *o,
                                 const moe_int_devices_method *m, const moe_log *log) {
    const double gpus = node->p[MOE_INT_NP_GPUS] * node->p[MOE_INT_NP_HOSTS];
    const int pass = c->pass ? c->pass : MOE_PASS_BOTH;
    if (o->ep < 1 || o->tp < 1 || o->ep > 4096 || o->tp > 4096 || o->chunks < 0 ||
        o->comm_sms < 0 || o->chunks > MOE_INT_CHUNKS_MOST || o->comm_sms > 1024)
        return moe_fail(log, MOE_E_INVALID,
                        "ep, tp, chunks (at most %d) and communicating SMs are counts",
                        MOE_INT_CHUNKS_MOST);
    if ((double)(o->ep * o->tp) > gpus)
        return moe_fail(log, MOE_E_INVALID,
                        "ep=%lld times tp=%lld is more than the %.0f GPUs of %s", (long long)o->ep,
                        (long long)o->tp, gpus, node->name);
    if (c->T < 1)
        return moe_fail(log, MOE_E_INVALID, "a rank needs a token");
    if (!(o->beside_us >= 0) || !(o->beside_bytes >= 0) || !(o->cached >= 0 && o->cached <= 1))
        return moe_fail(log, MOE_E_INVALID,
                        "the work beside is a time and bytes, and the cached share lies between "
                        "0 and 1");
    if (says_what_is_sent(&c->split))
        return moe_fail(
            log, MOE_E_UNSUPPORTED,
            "combine=, wire=, skew=, tokens=, replicas= and padding= are words of check "
            "and bench: what a method sends is its own");
    if (m->forward_only && (pass & MOE_PASS_BWD))
        return moe_fail(log, MOE_E_UNSUPPORTED, "method %s has no backward pass; ask for pass=fwd",
                        o->method);
    return moe_layer_desc_check(&c->layer, c->T, log);
}
