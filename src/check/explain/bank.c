/* The bank, and trying all of it. */
#include "check/explain/bank.h"
#include "check/explain/explain.h"
#include "check/explain/recover.h"
#include "check/verdict/order.h"
#include "core/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_ROW(kind, sentence)   {#kind, sentence, .look = moe_int_look_##kind},
#define CHANGE_ROW(kind, sentence) {#kind, sentence, .change = moe_int_change_##kind},
#define LOCAL_ROW(kind, sentence)  {#kind, sentence, .local = moe_int_local_##kind},
#define PLACE_ROW(kind, sentence)  {#kind, sentence, .look = moe_int_look_##kind, .place = true},
const moe_int_hypothesis moe_int_bank[] = {
    MOE_INT_HYPOTHESES(LOOK_ROW, CHANGE_ROW, LOCAL_ROW, PLACE_ROW)};
const size_t moe_int_bank_count = sizeof moe_int_bank / sizeof *moe_int_bank;

moe_int_finding moe_int_finding_start(const moe_int_hypothesis *h, moe_tensor_id id) {
    moe_int_finding f = {.of = id, .place = h->place};
    snprintf(f.is.kind, sizeof f.is.kind, "%s", h->kind);
    snprintf(f.is.tensor, sizeof f.is.tensor, "%s",
             id == MOE_INT_CHOICE ? "topk_index" : moe_tensor_name(id));
    if (h->change)
        moe_int_finding_say(&f, "%s", h->sentence);
    else
        snprintf(f.is.text, sizeof f.is.text, h->sentence, f.is.tensor);
    return f;
}

/* Changes --------------------------------------------------------------------------------------
 */

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

/* Where changes are tried: the scene, and first its worst place alone. */
typedef struct ground {
    moe_int_scene whole, probe;
    moe_int_variant base, probe_base; /* the right layer there */
    moe_int_variant stored;           /* and with stages rounded as the kernel stores them */
    moe_plan *choice; /* the right one, where that is what is wrong; NULL: unknown */
} ground;

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

static moe_status make_probe(ground *g) {
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
static moe_status make_stored(ground *g) {
    const moe_int_evidence *e = g->whole.evidence;
    moe_status status = make_right(&g->whole, e->arithmetic, &g->base, &g->stored);
    if (!status)
        g->whole.stored_error = g->probe.stored_error = moe_int_scene_residual(
            &g->whole, e->first, g->stored.value[e->first], g->base.value[e->first]);
    return status;
}

static moe_status run_change(moe_int_evidence *e, ground *g, const moe_int_change *c,
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

static moe_status try_change(moe_int_evidence *e, ground *g, const moe_int_hypothesis *h) {
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

/* Does the best explanation leave nothing that is wrong, nor makes anything so? */
static bool settled(const moe_int_evidence *e) {
    int wrong = e->first == MOE_INT_CHOICE;
    for (int id = 0; id < MOE_T_COUNT; id++)
        wrong += e->wrong[id] && e->first != MOE_INT_CHOICE;
    return e->found && !e->best.place &&
           e->best.contradicted + e->best.excused + e->best.partial == 0 &&
           e->best.explained >= wrong &&
           (e->first == MOE_INT_CHOICE || e->best.is.after <= e->gate[e->first]);
}

/* Steps ------------------------------------------------------------------------------------------
 */

/* Is there no explanation but a place, or one that leaves far more than a right kernel would? */
static bool is_open(const moe_int_evidence *e) {
    return !e->found || e->best.place ||
           (!e->best.rough && e->best.is.after > 10 * e->gate[e->best.of]);
}

static void try_locals(moe_int_evidence *e, moe_tensor_id id, const moe_int_scene *s,
                       const moe_int_variant *base) {
    moe_int_sight p = {0};
    moe_int_sight_make(e, id, &p);
    const moe_int_local l = {&p, s, base};
    for (size_t i = 0; p.rows && is_open(e) && i < moe_int_bank_count; i++) {
        moe_int_finding f = moe_int_finding_start(&moe_int_bank[i], id);
        moe_int_progress(e->progress, "explanation", (int64_t)i, (int64_t)moe_int_bank_count);
        if (moe_int_bank[i].local == moe_int_local_own_formula)
            moe_int_try_parts(e, &l); /* whatever is exact comes before what is interpolated */
        if (!moe_int_bank[i].local || !is_open(e) || !moe_int_bank[i].local(&l, &f))
            continue;
        f.explains[id] = true;
        f.explained = 1;
        moe_int_offer(e, &f);
    }
    if (p.rows && is_open(e))
        moe_int_try_smooth_parts(e, &l);
    moe_int_sight_destroy(&p);
}

/* Of stages as weight gradients have them, which nobody offers; of dH where A is right. */
static void try_recovered(moe_int_evidence *e, const ground *g) {
    static const moe_tensor_id stages[] = {MOE_T_A, MOE_T_DH}, of[] = {MOE_T_DW2, MOE_T_DW1};
    const moe_tensor_id first = e->first;
    int64_t light = 0;
    for (int i = 0; i < 2 && is_open(e); i++) {
        if ((i == 1 && (e->wrong[MOE_T_O] || e->wrong[MOE_T_DW2])) ||
            !moe_int_recover(e, stages[i], &light))
            continue;
        e->first = stages[i];
        try_locals(e, stages[i], &g->whole, &g->base);
        if (e->found && e->best.of == stages[i]) {
            moe_int_finding_say(&e->best, "; by the %s that %s must be made of",
                                moe_tensor_name(stages[i]), moe_tensor_name(of[i]));
            if (light > 0)
                moe_int_finding_say(&e->best,
                                    ", but for %lld rows, whose combine weight is next "
                                    "to 0",
                                    (long long)light);
        }
        e->first = first;
    }
}

static void try_changes(moe_int_evidence *e) {
    ground g = {.base = {.same_choice = true}, .stored = {.same_choice = true}};
    moe_status status = moe_int_scene_make(e, &g.whole);
    if (!status)
        status = make_right(&g.whole, MOE_F64, NULL, &g.base);
    if (!status && e->first != MOE_INT_CHOICE)
        status = make_probe(&g);
    else if (!status)
        g.choice = right_choice(&g.whole);
    /* Not one of tensors that no run makes can be explained. */
    for (size_t i = 0; !status && g.whole.error >= 0 && !settled(e) && i < moe_int_bank_count; i++)
        if (moe_int_bank[i].change) {
            moe_int_progress(e->progress, "explanation", (int64_t)i, (int64_t)moe_int_bank_count);
            status = try_change(e, &g, &moe_int_bank[i]);
        }
    /* dS and dH are both made of dA', which dH shows as a row. */
    if (!status && e->first != MOE_INT_CHOICE && is_open(e))
        try_locals(e, e->first == MOE_T_DS && e->wrong[MOE_T_DH] ? MOE_T_DH : e->first, &g.whole,
                   &g.base);
    if (!status && e->first != MOE_INT_CHOICE && is_open(e))
        try_recovered(e, &g);
    moe_int_variant_destroy(&g.base);
    moe_int_variant_destroy(&g.probe_base);
    moe_int_variant_destroy(&g.stored);
    moe_plan_destroy(&g.choice);
    moe_int_scene_destroy(&g.probe);
    moe_int_scene_destroy(&g.whole);
}

bool moe_int_is_cause(const moe_explanation *x) {
    for (size_t i = 0; i < moe_int_bank_count; i++)
        if (strcmp(moe_int_bank[i].kind, x->kind) == 0)
            return !moe_int_bank[i].place;
    return x->kind[0] != 0; /* told by two runs */
}

static void try_all(moe_int_evidence *e) {
    moe_int_try_looks(e, false);
    try_changes(e);
    if (!e->found)
        moe_int_try_looks(e, true);
}

/* A few tokens that chose otherwise, by no rule, may come of what makes all others wrong too. */
static bool take_first_wrong(moe_int_evidence *e) {
    const moe_tensor_id was = e->first;
    for (size_t i = moe_int_order_count; i-- > 0;)
        if (e->wrong[moe_int_order[i]])
            e->first = moe_int_order[i];
    return e->first != was;
}

void moe_int_explain(const moe_int_subject *subject, const moe_int_routing *routing,
                     const moe_int_truth *truth, const moe_check_params *params,
                     moe_check_result *result) {
    moe_int_evidence e;
    if (moe_int_evidence_make(subject, routing, truth, params, result, &e)) {
        try_all(&e);
        if (!e.found && e.first == MOE_INT_CHOICE && take_first_wrong(&e))
            try_all(&e);
        if (e.found)
            result->explanation = e.best.is;
        result->explanation.tried = (int32_t)moe_int_bank_count;
    }
    moe_int_evidence_destroy(&e);
}
