/* Hypotheses about the activation. */
#include "check/explain/bank.h"
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

static double sigmoid(double g) {
    return 1 / (1 + exp(-g));
}
static double softplus(double g) {
    return fmax(g, 0) + log1p(exp(-fabs(g)));
}
static double mish(double g) {
    return g * tanh(softplus(g));
}
static double hard_swish(double g) {
    return g * fmin(fmax(g / 6 + 0.5, 0), 1);
}
static double elu(double g) {
    return g > 0 ? g : expm1(g);
}
static double silu_of_alpha(double g) {
    return g * sigmoid(1.702 * g);
}
static double squared_silu(double g) {
    return pow(g * sigmoid(g), 2);
}
static double silu_twice(double g) {
    return g * sigmoid(g) * sigmoid(g * sigmoid(g));
}

bool moe_int_change_activation_function(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    static const moe_int_phi functions[] = {
        {sigmoid, "sigmoid(g), without its g"},
        {silu_of_alpha, "g sigmoid(1.702 g), quick gelu"},
        {tanh, "tanh(g)"},
        {softplus, "softplus(g)"},
        {mish, "g tanh(softplus(g)), mish"},
        {hard_swish, "g min(max(g + 3, 0), 6) / 6, hard swish"},
        {elu, "elu(g)"},
        {fabs, "|g|"},
        {exp, "exp(g)"},
        {squared_silu, "silu(g) squared"},
        {silu_twice, "silu(silu(g))"},
    };
    if (trial >= (int64_t)(sizeof functions / sizeof *functions))
        return false;
    c->phi = &functions[trial];
    moe_int_finding_say(f, ": %s", c->phi->words);
    return s->evidence->first != MOE_INT_CHOICE;
}

bool moe_int_change_up_otherwise(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    c->act = trial ? MOE_INT_ACT_UP_ADDED : MOE_INT_ACT_UP_RAISED;
    moe_int_finding_say(f, trial ? ": it is added to phi(g)" : ": 1 is added to it before");
    return trial < 2 && moe_int_scene_is_gated(s) && !moe_int_acts[c->desc.act].clamps;
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
