/* Hypotheses about the backward pass alone. */
#include "check/explain/bank.h"

static const moe_layer_desc *layer_of(const moe_int_scene *s) {
    return &s->evidence->problem->layer;
}

static bool routes(const moe_int_scene *s) {
    return s->dO && !s->evidence->problem->plan;
}

bool moe_int_change_slope_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    static const struct {
        moe_int_act_fault act;
        const char *said;
    } slopes[] = {{MOE_INT_ACT_SLOPE_ONE, "1 for phi'(g)"},
                  {MOE_INT_ACT_SLOPE_RATIO, "phi(g)/g for phi'(g)"},
                  {MOE_INT_ACT_CLAMP_SLOPE, "it passes through the clamp"},
                  {MOE_INT_ACT_UP_SLOPE, "g for phi(g) in that of up"}};
    if (!s->dO || trial >= (int64_t)(sizeof slopes / sizeof *slopes))
        return false;
    c->act = slopes[trial].act;
    moe_int_finding_say(f, ": %s", slopes[trial].said);
    return true;
}

bool moe_int_change_dh_weight(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    if (trial > 1 || !s->dO)
        return false;
    c->terms |= trial ? MOE_INT_DH_WEIGHT_TWICE : MOE_INT_NO_DH_WEIGHT;
    moe_int_finding_say(f, trial ? ": twice" : ": not at all");
    return true;
}

bool moe_int_change_dw2_weight(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    if (trial > 1 || !s->dO)
        return false;
    c->terms |= trial ? MOE_INT_DW2_WEIGHT_TWICE : MOE_INT_NO_DW2_WEIGHT;
    moe_int_finding_say(f, trial ? ": twice" : ": not at all");
    return true;
}

bool moe_int_change_db2_weight(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DB2_WEIGHT;
    return trial == 0 && s->dO && layer_of(s)->expert_bias;
}

bool moe_int_change_ds_weighted(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_DS_WEIGHTED;
    return trial == 0 && s->dO;
}

bool moe_int_change_ds_bias(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DS_B2;
    return trial == 0 && s->dO && layer_of(s)->expert_bias;
}

/* The sum of weights is taken for a constant, or for 1. */
bool moe_int_change_ds_norm(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    if (trial > 1 || !routes(s) || !layer_of(s)->router.renorm)
        return false;
    if (trial == 0)
        c->terms |= MOE_INT_NORM_CONSTANT;
    else
        c->back.router.renorm = 0;
    moe_int_finding_say(f, trial ? ", which it takes for none" : ", whose sum it takes for fixed");
    return true;
}

bool moe_int_change_dz_score(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    static const char *const names[MOE_SCORE_COUNT] = {"a softmax over all experts",
                                                       "a softmax over the chosen",
                                                       "a sigmoid",
                                                       "SparseMixer",
                                                       "a sigmoid of the chosen logits",
                                                       "sqrt(softplus)",
                                                       "a capped sigmoid"};
    if (trial >= MOE_SCORE_COUNT || !routes(s))
        return false;
    c->back.router.score = (int32_t)trial;
    moe_int_finding_say(f, ", %s", names[trial]);
    return true;
}

bool moe_int_change_dz_slope(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    static const char *const said[] = {"", "1", "s for s (1 - s)",
                                       "s (1 - s) without the other experts' share",
                                       "0 for logits not chosen"};
    if (!routes(s) || trial + 1 > MOE_INT_SLOPE_CHOSEN)
        return false;
    c->slope = (moe_int_slope_fault)(trial + 1);
    moe_int_finding_say(f, ": %s", said[trial + 1]);
    return true;
}

bool moe_int_change_dwr_tail(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    static const int64_t dropped[] = {1, 8, 16, 32, 64, 128};
    int64_t T = s->evidence->problem->T;
    if (!routes(s) || trial >= (int64_t)(sizeof dropped / sizeof *dropped) || dropped[trial] >= T)
        return false;
    c->tokens_dropped = dropped[trial];
    moe_int_finding_say(f, ": %lld of %lld", (long long)dropped[trial], (long long)T);
    moe_int_finding_param(f, "tokens", (double)dropped[trial]);
    return true;
}

bool moe_int_change_gate_slope(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_GATE_SLOPE;
    return trial == 0 && s->dO && layer_of(s)->shared_gate;
}

bool moe_int_change_dz_scale(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    (void)f;
    c->back.router.scale = 1;
    return trial == 0 && routes(s) && layer_of(s)->router.scale != 1;
}

bool moe_int_change_dx_router(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DX_ROUTER;
    return trial == 0 && routes(s);
}

bool moe_int_change_dx_shared(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DX_SHARED;
    return trial == 0 && s->dO && layer_of(s)->n_shared;
}

bool moe_int_change_dx_gate(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DX_GATE;
    return trial == 0 && s->dO && layer_of(s)->shared_gate;
}

static bool on_input(const moe_int_scene *s) {
    return s->dO && layer_of(s)->router.weight_on == MOE_WEIGHT_ON_INPUT;
}

bool moe_int_change_dx_scale(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    if (trial > 0 || !s->dO)
        return false;
    c->terms |= MOE_INT_DX_SCALE_OTHER;
    moe_int_finding_say(f, on_input(s) ? " without the experts' input weight" : " weighted again");
    return true;
}

bool moe_int_change_dw1_input(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_DW1_UNWEIGHTED_X;
    return trial == 0 && on_input(s);
}
