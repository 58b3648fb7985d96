/* The layer description: defaults, validation, operation counts. */
#include "layer/traits.h"

#include <math.h>
#include <string.h>

/* Limits that keep every product of sizes below 2^62 and every token index inside int32_t. */
static const int64_t max_tokens = INT64_C(1) << 31;
static const int64_t max_width = INT64_C(1) << 24;
static const int64_t max_experts = INT64_C(1) << 20;
static const int64_t max_elements = INT64_C(1) << 48;

void moe_layer_desc_init(moe_layer_desc *desc) {
    memset(desc, 0, sizeof *desc);
    desc->act_alpha = 1.702;
    desc->act_limit = 7.0;
    desc->router.scale = 1.0;
    desc->router.groups = 1;
    desc->router.topk_groups = 1;
    desc->router.tile = 128;
    desc->router.capacity = 1;
    desc->router.jitter = 0.01;
}

int moe_act_is_gated(int32_t act) {
    return (uint32_t)act < MOE_ACT_COUNT && moe_int_acts[act].gated;
}

int64_t moe_h_width(const moe_layer_desc *desc, int64_t n) {
    return moe_act_is_gated(desc->act) ? 2 * n : n;
}

double moe_layer_flops(const moe_layer_desc *desc, int64_t tokens, int64_t pairs, int backward) {
    double per_row = 2.0 * (double)desc->d * (moe_act_is_gated(desc->act) ? 3.0 : 2.0);
    double rows_times_width =
        (double)pairs * (double)desc->n + (double)tokens * (double)desc->n_shared;
    return per_row * rows_times_width * (backward ? 2.0 : 1.0);
}

static moe_status check_range(const char *name, int64_t value, int64_t low, int64_t high,
                              const moe_log *log) {
    if (value >= low && value <= high)
        return MOE_OK;
    return moe_fail(log, MOE_E_INVALID, "%s = %lld is outside %lld..%lld", name, (long long)value,
                    (long long)low, (long long)high);
}

static moe_status check_sizes(const moe_layer_desc *desc, int64_t tokens, const moe_log *log) {
    struct {
        const char *name;
        int64_t value, low, high;
    } rows[] = {
        {"T", tokens, 1, max_tokens - 1},
        {"d", desc->d, 1, max_width},
        {"n", desc->n, 1, max_width},
        {"E", desc->E, 1, max_experts},
        {"zero", desc->n_zero, 0, max_experts},
        {"shared", desc->n_shared, 0, max_width},
        {"shared_gate", desc->shared_gate, 0, desc->n_shared > 0},
        {"act", desc->act, 0, MOE_ACT_COUNT - 1},
        {"glu", desc->glu_layout, 0, MOE_GLU_COUNT - 1},
        {"bias", desc->expert_bias, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_status status =
            check_range(rows[i].name, rows[i].value, rows[i].low, rows[i].high, log);
        if (status)
            return status;
    }
    /* only now is their sum known to be a number */
    return check_range("K", desc->K, 1, desc->E + desc->n_zero, log);
}

static moe_status check_groups(const moe_layer_desc *desc, const moe_log *log) {
    const moe_router_desc *r = &desc->router;
    int64_t experts = desc->E + desc->n_zero;
    moe_status status = check_range("groups", r->groups, 1, experts, log);
    if (!status)
        status = check_range("topk_groups", r->topk_groups, 1, r->groups, log);
    if (status)
        return status;
    if (experts % r->groups)
        return moe_fail(log, MOE_E_INVALID, "groups = %d does not divide the %lld experts",
                        r->groups, (long long)experts);
    int64_t inside = experts / r->groups * r->topk_groups;
    if (desc->K > inside)
        return moe_fail(log, MOE_E_INVALID,
                        "K = %lld exceeds the %lld experts of the %d kept groups",
                        (long long)desc->K, (long long)inside, r->topk_groups);
    return MOE_OK;
}

static moe_status check_router(const moe_layer_desc *desc, const moe_log *log) {
    const moe_router_desc *r = &desc->router;
    struct {
        const char *name;
        int64_t value, low, high;
    } rows[] = {
        {"score", r->score, 0, MOE_SCORE_COUNT - 1},
        {"select", r->select, 0, MOE_SELECT_COUNT - 1},
        {"on", r->weight_on, 0, MOE_WEIGHT_ON_COUNT - 1},
        {"rounding", r->rounding, 0, MOE_ROUND_COUNT - 1},
        {"router_bias", r->bias, 0, 1},
        {"select_bias", r->select_bias, 0, 1},
        {"renorm", r->renorm, 0, 1},
        {"tile", r->tile, 1, INT32_MAX},
        {"capacity", r->capacity, 1, max_tokens},
        {"capacity_group", r->capacity_group, 0, max_tokens},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_status status =
            check_range(rows[i].name, rows[i].value, rows[i].low, rows[i].high, log);
        if (status)
            return status;
    }
    if (!isfinite(r->scale) || !isfinite(r->renorm_eps) || r->renorm_eps < 0)
        return moe_fail(log, MOE_E_INVALID, "scale and eps must be finite, eps not negative");
    if (r->score == MOE_SCORE_SPARSEMIXER) {
        if (!(r->jitter >= 0) || !isfinite(r->jitter))
            return moe_fail(log, MOE_E_INVALID, "jitter must be a finite number, not negative");
        if (r->select != MOE_SELECT_TOPK || r->select_bias)
            return moe_fail(log, MOE_E_INVALID,
                            "score=sparsemixer makes its own choice: select=topk, no select_bias");
    }
    /* Weights there are normalised over all K that a token chose. Those that were dropped since are
     * no part of the plan, and are found again by the logits alone, which a bias does not follow.
     */
    if (r->select_bias &&
        (r->select == MOE_SELECT_CAPACITY || r->select == MOE_SELECT_TOKEN_ROUNDING))
        return moe_fail(log, MOE_E_INVALID,
                        "select=%s takes no select_bias: its weights are normalised over the K "
                        "best logits, dropped ones too, and a bias would choose others",
                        r->select == MOE_SELECT_CAPACITY ? "capacity" : "token_rounding");
    if (r->select == MOE_SELECT_TOKEN_ROUNDING && r->score != MOE_SCORE_SOFTMAX)
        return moe_fail(log, MOE_E_INVALID, "select=token_rounding needs score=softmax");
    if (r->score == MOE_SCORE_SIGMOID_CAP && (!(r->jitter > 0) || !isfinite(r->jitter)))
        return moe_fail(log, MOE_E_INVALID, "jitter must be finite and above 0: it is the cap");
    return moe_int_has_groups(r->select) ? check_groups(desc, log) : MOE_OK;
}

/* Tokens times experts per token bounds the pairs of a router; where K is not their number, all
 * experts are. */
static moe_status check_elements(const moe_layer_desc *desc, int64_t tokens, const moe_log *log) {
    int64_t experts = desc->E + desc->n_zero;
    bool fixed = moe_int_select_rules[desc->router.select].pairs == MOE_INT_PAIRS_PER_TOKEN;
    double pairs = (double)tokens * (double)(fixed ? desc->K : experts);
    double wide = 2.0 * (double)desc->n > (double)desc->d ? 2.0 * (double)desc->n : (double)desc->d;
    double largest = pairs * wide;
    double weights = 2.0 * (double)desc->E * (double)desc->d * (double)desc->n;
    if (weights > largest)
        largest = weights;
    if (largest > (double)max_elements)
        return moe_fail(log, MOE_E_INVALID,
                        "the layer's largest tensor would have %.3g elements (limit %.3g)", largest,
                        (double)max_elements);
    return MOE_OK;
}

/* A limit or cap of 0 leaves no expert an output; a cap is divided by, too. */
static moe_status check_act(const moe_layer_desc *desc, const moe_log *log) {
    const bool caps = desc->act == MOE_ACT_SWIGLU_SOFTCAP;
    const bool limits =
        desc->act == MOE_ACT_SWIGLU_LIMIT || desc->act == MOE_ACT_SWIGLU_LIMIT_AFTER;
    if (desc->act == MOE_ACT_SWIGLU_CLAMP && !(isfinite(desc->act_alpha) && desc->act_limit > 0))
        return moe_fail(log, MOE_E_INVALID, "act=swiglu_clamp needs a finite alpha and limit > 0");
    if ((limits || caps) && !(desc->act_limit > 0))
        return moe_fail(log, MOE_E_INVALID, "act=%s needs limit > 0", moe_int_acts[desc->act].name);
    if ((caps || (limits && desc->n_shared)) && !(desc->act_alpha > 0))
        return moe_fail(log, MOE_E_INVALID, "act=%s needs alpha > 0: it is the %s",
                        moe_int_acts[desc->act].name,
                        caps ? "gate's cap" : "shared expert's own limit");
    return MOE_OK;
}

moe_status moe_layer_desc_check(const moe_layer_desc *desc, int64_t tokens, const moe_log *log) {
    moe_status status = check_sizes(desc, tokens, log);
    if (!status)
        status = check_router(desc, log);
    if (!status)
        status = check_act(desc, log);
    return status ? status : check_elements(desc, tokens, log);
}
