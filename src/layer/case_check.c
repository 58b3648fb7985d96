/* Rules of a case that go beyond the layer's: given routing, injected values, input types. */
#include "layer/blocks.h"
#include "layer/case_keys.h"
#include "layer/traits.h"
#include "moeref/ep.h"
#include "moeref/quant.h"

#include <math.h>

/* Steeper than this the last of 2^20 experts would have no representable probability. */
#define STEEPEST_ZIPF 20.0
#define STEEPEST_SKEW 20.0 /* likewise, of ranks' tokens */

enum { MOST_PAD = 1 << 20 };

/* What a tape's steps and parameters suffice for. */
enum { BLOCK_LAYERS_MAX = 6 };

static moe_status check_counts(const moe_case *c, const moe_log *log) {
    int64_t bins = c->layer.E + c->layer.n_zero, pairs = 0;
    if (c->n_counts != bins)
        return moe_fail(log, MOE_E_INVALID,
                        "route=counts gives %lld counts for %lld experts; one per expert is needed",
                        (long long)c->n_counts, (long long)bins);
    for (int64_t e = 0; e < bins; e++) {
        if (c->counts[e] < 0 || c->counts[e] > c->T)
            return moe_fail(log, MOE_E_INVALID,
                            "route=counts gives expert %lld %lld tokens, but there are T=%lld",
                            (long long)e, (long long)c->counts[e], (long long)c->T);
        pairs += c->counts[e];
    }
    /* The counts, not K, say how large H is: check the layer again as if K were their mean. */
    moe_layer_desc mean = c->layer;
    mean.K = (pairs + c->T - 1) / c->T;
    mean.router.select = MOE_SELECT_TOPK;
    if (mean.K == 0)
        mean.K = 1;
    return moe_layer_desc_check(&mean, c->T, log);
}

static moe_status check_route(const moe_case *c, const moe_log *log) {
    switch ((moe_route_kind)c->route) {
    case MOE_ROUTE_ROUTER:
    case MOE_ROUTE_UNIFORM:
    case MOE_ROUTE_BALANCED:
        return MOE_OK;
    case MOE_ROUTE_ZIPF:
        if (c->route_arg >= 0 && c->route_arg <= STEEPEST_ZIPF)
            return MOE_OK;
        return moe_fail(log, MOE_E_INVALID, "route=zipf:%g is outside 0..%g", c->route_arg,
                        STEEPEST_ZIPF);
    case MOE_ROUTE_COUNTS:
        return check_counts(c, log);
    case MOE_ROUTE_HOT:
        if (c->route_arg >= 0 && c->route_arg < (double)(c->layer.E + c->layer.n_zero))
            return MOE_OK;
        return moe_fail(log, MOE_E_INVALID, "route=hot:%.0f names an expert outside 0..%lld",
                        c->route_arg, (long long)(c->layer.E + c->layer.n_zero - 1));
    }
    return moe_fail(log, MOE_E_INVALID, "route kind %d is unknown", c->route);
}

/* What is left out must be there, and be known before a router has run. */
static moe_status check_empty(const moe_case *c, const moe_log *log) {
    moe_select select = (moe_select)c->layer.router.select;
    bool by_token = select == MOE_SELECT_TOPK || moe_int_has_groups(select);
    if (c->masked == 0 && c->drop == 0)
        return MOE_OK;
    if (c->masked < 0 || c->masked > c->T)
        return moe_fail(log, MOE_E_INVALID, "masked=%lld, but there are T=%lld tokens",
                        (long long)c->masked, (long long)c->T);
    const int64_t pairs = (c->T - c->masked) * c->layer.K;
    if (c->drop < 0 || c->drop > pairs)
        return moe_fail(log, MOE_E_INVALID, "drop=%lld, but there are %lld pairs",
                        (long long)c->drop, (long long)pairs);
    if (c->route == MOE_ROUTE_COUNTS)
        return moe_fail(log, MOE_E_INVALID,
                        "route=counts says how many tokens every expert has: no masked= or drop=");
    if (c->route == MOE_ROUTE_ROUTER && c->drop)
        return moe_fail(
            log, MOE_E_INVALID,
            "drop= goes with a given route, such as route=uniform: a router drops none");
    if (c->route == MOE_ROUTE_ROUTER && !by_token)
        return moe_fail(log, MOE_E_INVALID,
                        "masked= goes with a given route, or with a router that chooses token by "
                        "token");
    return MOE_OK;
}

/* A block gives the plan, out of experts that are all networks of one description. */
static moe_status check_block(const moe_case *c, const moe_log *log) {
    if (c->block < 0 || c->block >= MOE_INT_BLOCK_COUNT)
        return moe_fail(log, MOE_E_INVALID, "block %d is unknown", c->block);
    if (!c->block)
        return MOE_OK;
    if (c->layers < 1 || c->layers > BLOCK_LAYERS_MAX)
        return moe_fail(log, MOE_E_INVALID, "layers=%lld is outside 1..%d", (long long)c->layers,
                        BLOCK_LAYERS_MAX);
    if (c->route != MOE_ROUTE_ROUTER || c->masked || c->inject || c->layer.n_zero ||
        c->layer.n_shared || c->layer.expert_bias || c->layer.router.bias ||
        c->layer.router.select_bias || c->layer.router.weight_on != MOE_WEIGHT_ON_OUTPUT)
        return moe_fail(log, MOE_E_INVALID,
                        "block= goes with none of route=, masked=, inject=, zero=, shared=, bias=, "
                        "router_bias=, select_bias= and on=input");
    if (c->block == MOE_INT_BLOCK_modalities && c->layer.E < 2)
        return moe_fail(log, MOE_E_INVALID, "block=modalities needs two experts or more");
    return MOE_OK;
}

/* The layer of that width must be one too, but for its experts. */
static moe_status check_hidden(const moe_case *c, const moe_log *log) {
    moe_layer_desc outer = c->layer;
    if (c->hidden == 0)
        return MOE_OK;
    outer.d = c->hidden;
    outer.n = 1;
    if (c->hidden < 0 || moe_layer_desc_check(&outer, c->T, NULL))
        return moe_fail(log, MOE_E_INVALID, "hidden=%lld is no width of a layer",
                        (long long)c->hidden);
    return MOE_OK;
}

static moe_status check_split(const moe_case *c, const moe_log *log) {
    const moe_split *s = &c->split;
    int64_t sum = 0;
    if (s->ranks < 0 || !(s->skew >= 0 && s->skew <= STEEPEST_SKEW))
        return moe_fail(log, MOE_E_INVALID, "ep=%d skew=%g: skew is 0 to %g", (int)s->ranks,
                        s->skew, STEEPEST_SKEW);
    if (s->tp < 1 || (s->ranks && s->tp > INT32_MAX / s->ranks))
        return moe_fail(log, MOE_E_INVALID, "tp=%d: 1 or more", (int)s->tp);
    if (s->pad < 1 || s->pad > MOST_PAD)
        return moe_fail(log, MOE_E_INVALID, "pad=%lld is outside 1..%d", (long long)s->pad,
                        MOST_PAD);
    if (s->padding == MOE_EP_PAD_CAPACITY && s->combine != MOE_EP_PAIRS)
        return moe_fail(log, MOE_E_INVALID, "padding=capacity goes with combine=pairs");
    if (s->n_tokens && s->n_tokens != moe_split_ranks(s))
        return moe_fail(log, MOE_E_INVALID, "tokens= names %lld ranks, there are %d",
                        (long long)s->n_tokens, (int)moe_split_ranks(s));
    for (int64_t e = 0; e < s->n_replicas; e++)
        if (s->replicas[e] < 1 || s->replicas[e] > s->ranks)
            return moe_fail(log, MOE_E_INVALID, "replicas=: expert %lld %lld times on %d groups",
                            (long long)e, (long long)s->replicas[e], (int)s->ranks);
    for (int64_t r = 0; r < s->n_tokens; r++)
        sum += s->tokens[r];
    if (s->n_tokens && sum != c->T)
        return moe_fail(log, MOE_E_INVALID, "tokens= names %lld in all, but there are T=%lld",
                        (long long)sum, (long long)c->T);
    return MOE_OK;
}

moe_status moe_int_case_check(const moe_case *c, const moe_log *log) {
    moe_status status = moe_layer_desc_check(&c->layer, c->T, log);
    if (!status)
        status = check_route(c, log);
    if (!status)
        status = check_empty(c, log);
    if (!status)
        status = check_split(c, log);
    if (!status)
        status = check_hidden(c, log);
    if (status)
        return status;
    if (moe_dtype_roundoff((moe_dtype)c->dtype) == 0)
        return moe_fail(log, MOE_E_INVALID, "dtype %d is not a floating type", c->dtype);
    if (c->data < MOE_FILL_NORMAL || c->data > MOE_FILL_CANCEL)
        return moe_fail(log, MOE_E_INVALID, "data kind %d is unknown", c->data);
    if (c->pass < MOE_PASS_FWD || c->pass > MOE_PASS_BOTH)
        return moe_fail(log, MOE_E_INVALID, "pass %d is unknown", c->pass);
    if (!isfinite(c->x_scale) || !isfinite(c->r_scale) || !isfinite(c->b_scale))
        return moe_fail(log, MOE_E_INVALID, "x_scale, r_scale and b_scale must be finite");
    if (c->quant < 0 || c->quant > MOE_QUANT_COUNT || c->quant_bits < 2 || c->quant_bits > 4)
        return moe_fail(log, MOE_E_INVALID, "quant kind %d of %d bits is unknown", c->quant,
                        c->quant_bits);
    status = check_block(c, log);
    if (status)
        return status;
    if (c->inject < 0 || c->inject > 2)
        return moe_fail(log, MOE_E_INVALID, "inject kind %d is unknown", c->inject);
    if (c->inject && (c->inject_token < 0 || c->inject_token >= c->T))
        return moe_fail(log, MOE_E_INVALID, "inject names token %lld, but there are T=%lld",
                        (long long)c->inject_token, (long long)c->T);
    return MOE_OK;
}
