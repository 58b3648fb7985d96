/* Hypotheses about the backward pass alone. */
#include "check/explain/bank.h"

static bool routes(const moe_int_scene *s) {
    return s->dO && !s->evidence->problem->plan;
}

bool moe_int_change_slope_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    enum { ALL, CLAMPED, SILU };
    static const struct {
        moe_int_act_fault act;
        int of;
        const char *said;
    } slopes[] = {
        {MOE_INT_ACT_SLOPE_ONE, ALL, "1 for phi'(g)"},
        {MOE_INT_ACT_SLOPE_RATIO, ALL, "phi(g)/g for phi'(g)"},
        {MOE_INT_ACT_CLAMP_SLOPE, CLAMPED, "it passes through the clamp"},
        {MOE_INT_ACT_EDGE_OUTSIDE, CLAMPED, "0 at the clamp's limit itself, which is inside"},
        {MOE_INT_ACT_SLOPE_SIGMOID, SILU, "that of the sigmoid, s (1 - s)"},
        {MOE_INT_ACT_SLOPE_SIGN, SILU, "s - g s (1 - s) for s + g s (1 - s)"},
        {MOE_INT_ACT_UP_SLOPE, ALL, "g for phi(g) in that of up"}};
    const int32_t act = moe_int_layer_of(s)->act;
    if (!s->dO || trial >= (int64_t)(sizeof slopes / sizeof *slopes))
        return false;
    const bool silu = act == MOE_ACT_SWIGLU || act == MOE_ACT_SILU;
    if (slopes[trial].of == ALL || (slopes[trial].of == SILU ? silu : act == MOE_ACT_SWIGLU_CLAMP))
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
    const bool gated = moe_int_layer_of(s)->shared_gate;
    if (trial > (gated ? 3 : 1) || !s->dO)
        return false;
    c->terms |= trial % 2 ? MOE_INT_DW2_WEIGHT_TWICE : MOE_INT_NO_DW2_WEIGHT;
    c->of_shared = trial > 1;
    moe_int_finding_say(f, trial % 2 ? ": twice" : ": not at all");
    if (c->of_shared)
        moe_int_finding_say(f, "; the shared expert's, which is its gate");
    return true;
}

bool moe_int_change_db2_weight(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DB2_WEIGHT;
    return trial == 0 && s->dO && moe_int_layer_of(s)->expert_bias;
}

bool moe_int_change_ds_weighted(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_DS_WEIGHTED;
    return trial == 0 && s->dO;
}

bool moe_int_change_ds_slope(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_DS_SLOPE;
    return trial == 0 && s->dO;
}

/* Of dW1, of dW2, of both: every expert's first row, its last, those after whole tiles. */
bool moe_int_change_dw_rows(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    static const char *const of[] = {"dW1", "dW2", "dW1 and dW2"};
    static const int64_t tiles[] = {0, 1, 128, 64, 32, 16, 8, 4};
    enum { TILES = sizeof tiles / sizeof *tiles };
    const int64_t tile = tiles[trial % TILES];
    if (!s->dO || trial >= 3 * (int64_t)TILES)
        return false;
    c->skip_dw = 1 + (unsigned)(trial / TILES);
    c->skip_first = tile == 0;
    c->skip_last = tile == 1;
    c->tail = tile > 1 ? tile : 0;
    if (tile > 1)
        moe_int_finding_say(f, ": %s, those after whole tiles of %lld", of[trial / TILES],
                            (long long)tile);
    else
        moe_int_finding_say(f, ": %s, every expert's %s", of[trial / TILES],
                            tile ? "last" : "first");
    moe_int_finding_param(f, "tile", (double)tile);
    return true;
}

bool moe_int_change_ds_bias(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DS_B2;
    return trial == 0 && s->dO && moe_int_layer_of(s)->expert_bias;
}

/* The sum of weights is taken for a constant, or for 1. */
bool moe_int_change_ds_norm(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    if (trial > 1 || !routes(s) || !moe_int_layer_of(s)->router.renorm)
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
    if (trial >= MOE_SCORE_COUNT || !routes(s))
        return false;
    c->back.router.score = (int32_t)trial;
    moe_int_finding_say(f, ", %s", moe_int_score_words[trial]);
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
    return trial == 0 && s->dO && moe_int_layer_of(s)->shared_gate;
}

bool moe_int_change_dz_scale(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    const double scale = moe_int_layer_of(s)->router.scale;
    c->back.router.scale = trial ? scale * scale : 1;
    moe_int_finding_say(f, trial ? ": it counts twice" : ": it is left out");
    return trial < 2 && routes(s) && scale != 1;
}

bool moe_int_change_dx_router(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    c->terms |= trial ? MOE_INT_DX_ROUTER_TWICE : MOE_INT_NO_DX_ROUTER;
    moe_int_finding_say(f, trial ? ": it is there twice" : ": it is missing");
    return trial < 2 && routes(s);
}

bool moe_int_change_dx_shared(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DX_SHARED;
    return trial == 0 && s->dO && moe_int_layer_of(s)->n_shared;
}

bool moe_int_change_dx_gate(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                            moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_DX_GATE;
    return trial == 0 && s->dO && moe_int_layer_of(s)->shared_gate;
}

static bool on_input(const moe_int_scene *s) {
    return s->dO && moe_int_layer_of(s)->router.weight_on == MOE_WEIGHT_ON_INPUT;
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
