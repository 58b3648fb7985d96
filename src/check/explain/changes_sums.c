/* Hypotheses about what is added: shared expert, zero experts, experts and rows left out. */
#include "check/explain/bank.h"

bool moe_int_change_shared_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_SHARED;
    return trial == 0 && moe_int_layer_of(s)->n_shared > 0;
}

bool moe_int_change_shared_twice(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    (void)f;
    c->shared_factor = 2;
    return trial == 0 && moe_int_layer_of(s)->n_shared > 0;
}

bool moe_int_change_shared_gate_linear(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                       moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_GATE_LINEAR;
    return trial == 0 && moe_int_layer_of(s)->shared_gate;
}

bool moe_int_change_shared_layout(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_SHARED_INTERLEAVED;
    return trial == 0 && moe_int_layer_of(s)->n_shared > 0 && moe_int_scene_is_gated(s);
}

bool moe_int_change_zero_experts(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    c->terms |= trial ? MOE_INT_ZERO_UNWEIGHTED : MOE_INT_NO_ZERO;
    moe_int_finding_say(f, trial ? ": without a weight" : ": not at all");
    return trial < 2 && moe_int_layer_of(s)->n_zero > 0;
}

bool moe_int_change_shared_gate_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_SHARED_GATE;
    return trial == 0 && moe_int_layer_of(s)->shared_gate;
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
