/* Hypotheses about the activation. */
#include "check/explain/bank.h"
#include "check/explain/functions.h"
#include "layer/traits.h"

#include <math.h>

static bool clamps(const moe_int_scene *s) {
    return moe_int_layer_of(s)->act == MOE_ACT_SWIGLU_CLAMP;
}

bool moe_int_change_activation_other(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    if (trial >= MOE_ACT_COUNT)
        return false;
    if (moe_act_is_gated((int32_t)trial) == moe_act_is_gated(c->desc.act))
        c->desc.act = (int32_t)trial;
    moe_int_finding_say(f, ": %s, not %s", moe_int_acts[c->desc.act].name,
                        moe_int_acts[moe_int_layer_of(s)->act].name);
    moe_int_finding_param(f, "act", (double)c->desc.act);
    return true;
}

bool moe_int_change_gelu_approximated(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                      moe_int_finding *f) {
    c->act = trial ? MOE_INT_ACT_SIGMOID : MOE_INT_ACT_TANH;
    moe_int_finding_say(f, trial ? ": x sigmoid(1.702 x)" : ": by tanh");
    return trial < 2 &&
           (moe_int_layer_of(s)->act == MOE_ACT_GELU || moe_int_layer_of(s)->act == MOE_ACT_GEGLU);
}

bool moe_int_change_activation_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                       moe_int_finding *f) {
    (void)s;
    (void)f;
    c->act = MOE_INT_ACT_IDENTITY;
    return trial == 0;
}

bool moe_int_change_activation_function(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    const bool gated = moe_int_scene_is_gated(s);
    const int64_t forms = gated ? MOE_INT_FORMS : 1;
    if (trial >= forms * MOE_INT_PHIS || s->evidence->first == MOE_INT_CHOICE)
        return false;
    c->formula = (moe_int_formula){&moe_int_phis[trial / forms], &moe_int_forms[trial % forms]};
    moe_int_finding_say(f, ": %s, where phi(x) is %s", gated ? c->formula.form->words : "phi(h)",
                        c->formula.phi->words);
    return true;
}

bool moe_int_change_relu_leaky(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    int32_t act = moe_int_layer_of(s)->act;
    (void)f;
    c->act = MOE_INT_ACT_LEAKY;
    return trial == 0 && (act == MOE_ACT_REGLU || act == MOE_ACT_RELU);
}

bool moe_int_change_up_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->act = MOE_INT_ACT_NO_UP;
    return trial == 0 && moe_int_scene_is_gated(s);
}

bool moe_int_change_clamp_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    static const struct {
        moe_int_act_fault act;
        const char *said;
    } parts[] = {{MOE_INT_ACT_RIGHT, "not at all"},
                 {MOE_INT_ACT_GATE_FREE, "the gate not"},
                 {MOE_INT_ACT_GATE_BELOW, "the gate from below too"},
                 {MOE_INT_ACT_UP_FREE, "the up not"},
                 {MOE_INT_ACT_UP_ABOVE, "the up from above alone"}};
    if (!clamps(s) || trial >= (int64_t)(sizeof parts / sizeof *parts))
        return false;
    c->act = parts[trial].act;
    if (trial == 0)
        c->desc.act_limit = INFINITY;
    moe_int_finding_say(f, ": %s", parts[trial].said);
    return true;
}

bool moe_int_change_clamp_after(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    (void)f;
    c->act = MOE_INT_ACT_CLAMP_AFTER;
    return trial == 0 && clamps(s);
}

bool moe_int_change_one_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    (void)f;
    c->act = MOE_INT_ACT_NO_ONE;
    return trial == 0 && clamps(s);
}

/* silu's and gpt-oss's. */
bool moe_int_change_alpha_other(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    static const double alpha[] = {1, 1.702};
    if (trial > 1 || !clamps(s))
        return false;
    c->desc.act_alpha = alpha[trial];
    moe_int_finding_say(f, ": %g, not %g", alpha[trial], moe_int_layer_of(s)->act_alpha);
    moe_int_finding_param(f, "alpha", alpha[trial]);
    return true;
}
