#include "cli/input/layout.h"
#include "cli/input/messages.h"

#include <string.h>

#define ALL_HAVE_ALL "allreduce"

static moe_status check_method(const cli_layout *l) {
    const bool same = strcmp(l->o.method, ALL_HAVE_ALL) == 0;
    if (same == (l->replicas == 1))
        return MOE_OK;
    return moe_fail(cli_log(), MOE_E_INVALID,
                    same ? "method %s: all GPUs have the same tokens, but of %lld GPUs %lld share "
                           "attention; say --attention-tp %lld, or another method"
                         : "method %s exchanges tokens, but of %lld GPUs %lld share attention and "
                           "have the same; say --attention-tp 1 to %lld, or --method allreduce",
                    l->o.method, (long long)l->gpus, (long long)l->attention_tp,
                    (long long)(same ? l->gpus : l->gpus / 2));
}

moe_status cli_layout_of(const cli_spread_options *s, const moe_node *node, int64_t attention_tp,
                         const char *method, cli_layout *ret) {
    cli_layout l = {.node = node, .o = cli_spread_for(s, method)};
    if (l.o.ep < 1 || l.o.tp < 1 || l.o.ep > 4096 || l.o.tp > 4096 || attention_tp < 0)
        return moe_fail(cli_log(), MOE_E_INVALID, "--ep, --tp and --attention-tp are counts");
    l.gpus = l.o.ep * l.o.tp;
    l.attention_tp = attention_tp > 0 ? attention_tp : l.o.tp;
    if (l.gpus % l.attention_tp != 0)
        return moe_fail(cli_log(), MOE_E_INVALID, "--attention-tp %lld does not divide %lld GPUs",
                        (long long)l.attention_tp, (long long)l.gpus);
    l.replicas = l.gpus / l.attention_tp;
    if (!method)
        l.o.method = l.replicas == 1 ? ALL_HAVE_ALL : "ep_serial";
    if (!l.o.compute)
        l.o.compute = "grouped_mm";
    *ret = l;
    return check_method(&l);
}
