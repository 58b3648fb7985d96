/* Keys that change nothing in a case: what a user wrote and no code reads is mostly a slip, such as
 * limit=7 without act=swiglu_clamp. It is said, and no error: a sweep's points share their words.
 */
#include "layer/blocks.h"
#include "layer/case_keys.h"
#include "layer/traits.h"
#include "moeref/ep.h"
#include "moeref/quant.h"

#include <string.h>

static bool routes(const moe_case *c) {
    return c->route == MOE_ROUTE_ROUTER;
}

static bool has_groups(const moe_case *c) {
    return moe_int_has_groups(c->layer.router.select);
}

static bool renorms(const moe_case *c) {
    return c->layer.router.renorm;
}

static bool reads_jitter(const moe_case *c) {
    return c->layer.router.score == MOE_SCORE_SPARSEMIXER ||
           c->layer.router.score == MOE_SCORE_SIGMOID_CAP;
}

static bool selects_capacity(const moe_case *c) {
    return c->layer.router.select == MOE_SELECT_CAPACITY;
}

static bool has_capacity(const moe_case *c) {
    return selects_capacity(c) || c->block == MOE_INT_BLOCK_depths ||
           c->block == MOE_INT_BLOCK_recursions;
}

static bool rounds_tokens(const moe_case *c) {
    return c->layer.router.select == MOE_SELECT_TOKEN_ROUNDING;
}

static bool limits(const moe_case *c) {
    return moe_int_acts[c->layer.act].clamps || c->layer.act == MOE_ACT_SWIGLU_SOFTCAP;
}

static bool selects_by_bias(const moe_case *c) {
    return c->layer.router.select_bias;
}

static bool quantises(const moe_case *c) {
    return c->quant != 0;
}

static bool nests(const moe_case *c) {
    return c->quant == 1 + MOE_QUANT_NESTED;
}

static bool repeats(const moe_case *c) {
    return c->block == MOE_INT_BLOCK_recursions || c->block == MOE_INT_BLOCK_chained ||
           c->block == MOE_INT_BLOCK_chained_skip || c->block == MOE_INT_BLOCK_recurrent ||
           c->block == MOE_INT_BLOCK_constants;
}

static bool has_ranks(const moe_case *c) {
    return c->split.ranks != 0;
}

static bool pads(const moe_case *c) {
    return c->split.padding == MOE_EP_PAD_OWNER || c->split.padding == MOE_EP_PAD_WIRE;
}

/* Who reads a key, and what a case then says. */
typedef struct reader {
    const char *key;
    bool (*reads)(const moe_case *c);
    const char *where;
} reader;

static const reader readers[] = {
    {"score", routes, "route=router"},
    {"select", routes, "route=router"},
    {"renorm", routes, "route=router"},
    {"router_bias", routes, "route=router"},
    {"select_bias", routes, "route=router"},
    {"scale", routes, "route=router"},
    {"r_scale", routes, "route=router"},
    {"groups", has_groups, "select=group_topk, group_max or group_zero"},
    {"topk_groups", has_groups, "select=group_topk, group_max or group_zero"},
    {"eps", renorms, "renorm=1"},
    {"jitter", reads_jitter, "score=sparsemixer or sigmoid_cap"},
    {"capacity", has_capacity, "select=capacity, block=depths or recursions"},
    {"capacity_group", selects_capacity, "select=capacity"},
    {"tile", rounds_tokens, "select=token_rounding"},
    {"rounding", rounds_tokens, "select=token_rounding"},
    {"alpha", limits, "act=swiglu_clamp, swiglu_limit, swiglu_limit_after or swiglu_softcap"},
    {"limit", limits, "act=swiglu_clamp, swiglu_limit, swiglu_limit_after or swiglu_softcap"},
    {"b_scale", selects_by_bias, "select_bias=1"},
    {"quant_rows", quantises, "quant="},
    {"quant_cols", quantises, "quant="},
    {"quant_bits", nests, "quant=nested"},
    {"layers", repeats, "block=recursions, chained, chained_skip, recurrent or constants"},
    {"combine", has_ranks, "ep="},
    {"wire", has_ranks, "ep="},
    {"skew", has_ranks, "ep="},
    {"tp", has_ranks, "ep="},
    {"padding", has_ranks, "ep="},
    {"pad", pads, "padding=owner or wire"},
};

void moe_int_case_tell_idle(const moe_case *c, const moe_log *log) {
    moe_case fallback;
    moe_case_init(&fallback);
    fallback.layer.router.renorm = moe_int_case_default_renorm(c);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        const reader *r = &readers[i];
        const moe_int_word name = {r->key, strlen(r->key)};
        const moe_int_case_key *key = moe_int_case_key_find(name);
        if (!r->reads(c) && !moe_int_case_is_default(key, c, &fallback))
            moe_log_send(log, MOE_LOG_WARN, "%s= changes nothing without %s", r->key, r->where);
    }
}
