/* Hypotheses about the experts: what they read, and what they compute of it. */
#include "check/explain/bank.h"
#include "layer/traits.h"

#include <math.h>

static const moe_layer_desc *layer_of(const moe_int_scene *s) {
    return &s->evidence->problem->layer;
}

static bool gated(const moe_int_scene *s) {
    return moe_act_is_gated(layer_of(s)->act);
}

static bool clamps(const moe_int_scene *s) {
    return layer_of(s)->act == MOE_ACT_SWIGLU_CLAMP;
}

bool moe_int_change_gate_up_swapped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    (void)f;
    c->act_swapped = true;
    return trial == 0 && gated(s);
}

bool moe_int_change_w1_swapped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->rows1 = MOE_INT_ROWS_SWAPPED;
    return trial == 0 && gated(s);
}

bool moe_int_change_layout_read(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    bool concat = layer_of(s)->glu_layout == MOE_GLU_CONCAT;
    if (trial > 0 || !gated(s))
        return false;
    c->desc.glu_layout = concat ? MOE_GLU_INTERLEAVED : MOE_GLU_CONCAT;
    moe_int_finding_say(f, ": %s",
                        concat ? "interleaved for concatenated" : "concatenated for interleaved");
    return true;
}

bool moe_int_change_w1_layout(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    if (trial > 1 || !gated(s))
        return false;
    c->rows1 = trial ? MOE_INT_ROWS_APART : MOE_INT_ROWS_INTERLEAVED;
    moe_int_finding_say(f, ": %s", trial ? "taken apart" : "interleaved");
    return true;
}

bool moe_int_change_activation_other(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    if (trial >= MOE_ACT_COUNT)
        return false;
    if (moe_act_is_gated((int32_t)trial) == moe_act_is_gated(c->desc.act))
        c->desc.act = (int32_t)trial;
    moe_int_finding_say(f, ": %s, not %s", moe_int_acts[c->desc.act].name,
                        moe_int_acts[layer_of(s)->act].name);
    moe_int_finding_param(f, "act", (double)c->desc.act);
    return true;
}

bool moe_int_change_gelu_tanh(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    (void)f;
    c->act = MOE_INT_ACT_TANH;
    return trial == 0 && (layer_of(s)->act == MOE_ACT_GELU || layer_of(s)->act == MOE_ACT_GEGLU);
}

bool moe_int_change_up_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->act = MOE_INT_ACT_NO_UP;
    return trial == 0 && gated(s);
}

bool moe_int_change_clamp_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)f;
    c->desc.act_limit = INFINITY;
    return trial == 0 && clamps(s);
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
    moe_int_finding_say(f, ": %g, not %g", alpha[trial], layer_of(s)->act_alpha);
    moe_int_finding_param(f, "alpha", alpha[trial]);
    return true;
}

bool moe_int_change_b1_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_B1;
    return trial == 0 && layer_of(s)->expert_bias;
}

bool moe_int_change_b2_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_B2;
    return trial == 0 && layer_of(s)->expert_bias;
}

/* Expert e + 1's, or e - 1's. */
static bool shift(const moe_int_scene *s, int64_t trial, bool w1, bool w2, moe_int_change *c,
                  moe_int_finding *f) {
    int64_t E = layer_of(s)->E, by = trial ? E - 1 : 1;
    if (trial > 1 || E < 2)
        return false;
    c->shift1 = w1 ? by : 0;
    c->shift2 = w2 ? by : 0;
    moe_int_finding_say(f, ": expert e has those of e %s 1", trial ? "-" : "+");
    moe_int_finding_param(f, "shift", trial ? -1 : 1);
    return true;
}

bool moe_int_change_w1_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    return shift(s, trial, true, false, c, f);
}

bool moe_int_change_w2_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    return shift(s, trial, false, true, c, f);
}

bool moe_int_change_weights_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                      moe_int_finding *f) {
    return shift(s, trial, true, true, c, f);
}

bool moe_int_change_w1_transposed(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)s;
    (void)f;
    c->transposed1 = true;
    return trial == 0;
}

bool moe_int_change_w2_transposed(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)s;
    (void)f;
    c->transposed2 = true;
    return trial == 0;
}

/* The last 1, 8 ... 128 elements, or what a whole number of blocks of 8 ... 128 leaves. */
bool moe_int_change_k_block_dropped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    static const char *const product[] = {"H = x W1^T", "Y = A W2^T", "dA = dO W2", "dX~ = dH W1"};
    static const int64_t blocks[] = {1, 4, 8, 16, 32, 64, 128};
    enum { BLOCKS = sizeof blocks / sizeof *blocks };
    const moe_layer_desc *desc = layer_of(s);
    const int64_t length[] = {desc->d, desc->n, desc->d, moe_h_width(desc, desc->n)};
    int64_t of = trial / BLOCKS;
    if (of >= MOE_INT_PRODUCT_COUNT)
        return false;
    if (blocks[trial % BLOCKS] < length[of])
        c->drop[of] = blocks[trial % BLOCKS];
    moe_int_finding_say(f, ": the last %lld of %lld in %s", (long long)c->drop[of],
                        (long long)length[of], product[of]);
    moe_int_finding_param(f, "dropped", (double)c->drop[of]);
    return true;
}

bool moe_int_change_columns_repeated(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    static const int64_t periods[] = {1, 2, 4, 8, 16, 32, 64, 128};
    enum { PERIODS = sizeof periods / sizeof *periods };
    if (trial >= 2 * PERIODS)
        return false;
    c->from_start = trial >= PERIODS;
    if (periods[trial % PERIODS] < layer_of(s)->n)
        c->period = periods[trial % PERIODS];
    moe_int_finding_say(f, c->from_start ? " of %lld" : ": odd tiles of %lld are the even ones",
                        (long long)c->period);
    moe_int_finding_param(f, "period", (double)c->period);
    return true;
}

bool moe_int_change_operands_narrow(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    (void)s;
    if (trial > 1)
        return false;
    c->operand = trial ? MOE_F16 : MOE_BF16;
    moe_int_finding_say(f, ": %s", moe_dtype_name(c->operand));
    return true;
}

bool moe_int_change_shared_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_SHARED;
    return trial == 0 && layer_of(s)->n_shared > 0;
}

bool moe_int_change_shared_gate_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_SHARED_GATE;
    return trial == 0 && layer_of(s)->shared_gate;
}

/* One that the scene's tokens have. */
bool moe_int_change_expert_skipped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    if (trial >= c->plan->n_experts)
        return false;
    if (s->sub->offsets[trial + 1] > s->sub->offsets[trial])
        c->skip_expert = trial;
    moe_int_finding_say(f, ": expert %lld", (long long)trial);
    moe_int_finding_param(f, "expert", (double)trial);
    return true;
}

bool moe_int_change_tail_dropped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    static const int64_t tiles[] = {128, 64, 32, 16, 8, 4};
    (void)s;
    if (trial >= (int64_t)(sizeof tiles / sizeof *tiles))
        return false;
    c->tail = tiles[trial];
    moe_int_finding_say(f, " (tiles of %lld)", (long long)c->tail);
    moe_int_finding_param(f, "tile", (double)c->tail);
    return true;
}

bool moe_int_change_edge_row_dropped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    (void)s;
    if (trial > 1)
        return false;
    c->skip_first = trial == 0;
    c->skip_last = trial == 1;
    moe_int_finding_say(f, trial ? ": the last" : ": the first");
    return true;
}
