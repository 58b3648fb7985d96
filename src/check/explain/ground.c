/* Trying changes: the layer is run again with each of them, and what the subject has is held
 * against that. */
#include "check/explain/ground.h"
#include "check/verdict/order.h"

#include <math.h>
#include <stdlib.h>

static moe_status change_init(const moe_int_evidence *e, moe_int_change *ret) {
    const moe_layer_desc *desc = &e->problem->layer;
    bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    *ret = (moe_int_change){.desc = *desc,
                            .back = *desc,
                            .logits = e->routing->logits,
                            .store = MOE_F64,
                            .dz_type = MOE_F64,
                            .terms = on_input ? MOE_INT_ON_INPUT : MOE_INT_ON_OUTPUT,
                            .shared_factor = 1,
                            .bias_factor = 1,
                            .skip_expert = -1};
    return moe_plan_copy(e->routing->plan, &ret->plan);
}

static void change_destroy(moe_int_change *c) {
    moe_plan_destroy(&c->plan);
    free(c->used);
    free(c->own_logits);
    free(c->owner1);
    free(c->owner2);
}

/* One pass's part of a finding. */
typedef struct tally {
    int explained, contradicted;
} tally;

/* How tensor `id` stands under the change: counts, and the residuals of the first wrong one. */
static void weigh(const moe_int_scene *s, const moe_int_variant *base,
                  const moe_int_variant *control, const moe_int_variant *run, moe_tensor_id id,
                  tally *t, moe_int_finding *f) {
    const moe_int_evidence *e = s->evidence;
    const double *right = base->value[id];
    double before = moe_int_scene_residual(s, id, control->value[id], right), gate;
    double after = run->partial ? moe_int_scene_mixed(s, id, run->value[id], right)
                                : moe_int_scene_residual(s, id, run->value[id], right);
    if (before < 0 || after < 0)
        return;
    gate = e->gate[id];
    if (id == e->first) {
        f->is.before = before;
        f->is.after = after;
    }
    if (e->wrong[id] && moe_int_explains(e, id, before, after)) {
        f->explains[id] = true;
        t->explained++;
    } else if (!e->wrong[id] && after > fmax(4 * gate, 10 * before)) {
        t->contradicted++;
    }
}

static void excuse(int pass, int contradicted, moe_int_finding *f) {
    moe_int_finding_say(f, pass ? "; the backward pass has it right"
                                : "; the forward pass has it right");
    f->excused += pass ? 0 : contradicted;
}

/* A change that explains nothing of a pass and contradicts it was made in the other pass alone. */
static void judge_change(moe_int_evidence *e, const moe_int_scene *s, const moe_int_variant *base,
                         const moe_int_variant *control, const moe_int_variant *run,
                         moe_int_finding *f) {
    tally pass[2] = {{0, 0}, {0, 0}};
    for (size_t i = 0; i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        weigh(s, base, control, run, id, &pass[moe_tensor_is_backward(id)], f);
    }
    for (int i = 0; i < 2; i++) {
        if (pass[i].explained == 0 && pass[i].contradicted > 0 && s->dO)
            excuse(i, pass[i].contradicted, f);
        else
            f->contradicted += pass[i].contradicted;
        f->explained += pass[i].explained;
    }
    if (run->partial) {
        moe_int_scene_say_mixed(s, e->first, run->value[e->first], base->value[e->first], f);
        f->partial = true;
    }
    moe_int_offer(e, f);
}

/* The choice of the router that nothing is changed in. */
static moe_plan *right_choice(const moe_int_scene *s) {
    moe_int_change c;
    moe_plan *ret = NULL;
    double *b = moe_int_selection_bias(s);
    if (!change_init(s->evidence, &c) && c.logits && moe_int_reroute(s, b, &c)) {
        ret = c.plan;
        c.plan = NULL;
    }
    change_destroy(&c);
    free(b);
    return ret;
}

static moe_status make_right(const moe_int_scene *s, moe_dtype store, const moe_int_variant *base,
                             moe_int_variant *ret) {
    moe_int_change c;
    moe_status status = change_init(s->evidence, &c);
    c.store = store;
    if (!status)
        status = moe_int_variant_make(s, &c, base, ret);
    change_destroy(&c);
    return status;
}

static moe_status make_probe(moe_int_ground *g) {
    const moe_tensor_id first = g->whole.evidence->first;
    const double *right = g->base.value[first];
    const int64_t groups = g->whole.spot[first].groups;
    g->whole.error = moe_int_scene_residual(&g->whole, first, right, right);
    if (g->whole.error < 0)
        return MOE_OK;
    g->whole.r2 = moe_int_scene_squares(&g->whole, first, 0, groups, right, right).r2;
    moe_status status = moe_int_scene_probe(&g->whole, right, &g->probe);
    return status ? status : make_right(&g->probe, MOE_F64, NULL, &g->probe_base);
}

/* What a change that rounds stages as they are stored is held against: their rounding is no part of
 * what it explains. */
static moe_status make_stored(moe_int_ground *g) {
    const moe_int_evidence *e = g->whole.evidence;
    moe_status status = make_right(&g->whole, e->arithmetic, &g->base, &g->stored);
    if (!status)
        g->whole.stored_error = g->probe.stored_error = moe_int_scene_residual(
            &g->whole, e->first, g->stored.value[e->first], g->base.value[e->first]);
    return status;
}

static moe_status run_change(moe_int_evidence *e, moe_int_ground *g, const moe_int_change *c,
                             moe_int_finding *f) {
    const bool stores = c->store != MOE_F64;
    moe_int_variant run = {0};
    moe_status status = stores && !g->stored.routed.block ? make_stored(g) : MOE_OK;
    if (!status)
        status = moe_int_variant_make(&g->probe, c, &g->probe_base, &run);
    const bool refuted = run.refuted;
    moe_int_variant_destroy(&run);
    if (status || refuted)
        return status;
    status = moe_int_variant_make(&g->whole, c, &g->base, &run);
    if (!status && !run.refuted)
        judge_change(e, &g->whole, &g->base, stores ? &g->stored : &g->base, &run, f);
    moe_int_variant_destroy(&run);
    return status;
}

moe_status moe_int_ground_try(moe_int_evidence *e, moe_int_ground *g, const moe_int_hypothesis *h) {
    moe_status status = MOE_OK;
    bool more = true;
    for (int64_t trial = 0; !status && more; trial++) {
        moe_int_finding f = moe_int_finding_start(h, e->first);
        moe_int_change c;
        status = change_init(e, &c);
        more = !status && h->change(&g->whole, trial, &c, &f);
        if (more && e->first == MOE_INT_CHOICE && c.rerouted)
            moe_int_judge_choice(e, c.plan, g->choice, &f);
        else if (more && e->first != MOE_INT_CHOICE)
            status = run_change(e, g, &c, &f);
        change_destroy(&c);
    }
    return status;
}

moe_status moe_int_ground_make(const moe_int_evidence *e, moe_int_ground *ret) {
    *ret = (moe_int_ground){.base = {.same_choice = true}, .stored = {.same_choice = true}};
    moe_status status = moe_int_scene_make(e, &ret->whole);
    if (!status)
        status = make_right(&ret->whole, MOE_F64, NULL, &ret->base);
    if (!status && e->first != MOE_INT_CHOICE)
        status = make_probe(ret);
    else if (!status)
        ret->choice = right_choice(&ret->whole);
    return status;
}

void moe_int_ground_destroy(moe_int_ground *g) {
    moe_int_variant_destroy(&g->base);
    moe_int_variant_destroy(&g->probe_base);
    moe_int_variant_destroy(&g->stored);
    moe_plan_destroy(&g->choice);
    moe_int_scene_destroy(&g->probe);
    moe_int_scene_destroy(&g->whole);
}
