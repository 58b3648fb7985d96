/* The bank, and trying all of it. */
#include "check/explain/bank.h"
#include "check/explain/explain.h"
#include "check/explain/ground.h"
#include "check/explain/recover.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"

#include <stdio.h>
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

/* Does the best explanation leave nothing that is wrong, nor makes anything so; or is the search
 * at its end? */
static bool settled(const moe_int_evidence *e) {
    if (e->wait.ended)
        return true;
    int wrong = e->first == MOE_INT_CHOICE;
    for (int id = 0; id < MOE_T_COUNT; id++)
        wrong += e->wrong[id] && e->first != MOE_INT_CHOICE;
    return e->found && !e->best.place && !e->best.fitted &&
           e->best.contradicted + e->best.excused + e->best.partial == 0 &&
           e->best.explained >= wrong &&
           (e->first == MOE_INT_CHOICE || e->best.is.after <= e->gate[e->first]);
}

/* Is there no explanation but a place, or one that leaves far more than a right kernel would, and
 * is it still looked for? */
static bool is_open(const moe_int_evidence *e) {
    return !e->wait.ended && (!e->found || e->best.place ||
                              (!e->best.rough && e->best.is.after > 10 * e->gate[e->best.of]));
}

static void try_locals(moe_int_evidence *e, moe_tensor_id id, const moe_int_scene *s,
                       const moe_int_variant *base) {
    moe_int_sight p = {0};
    moe_int_sight_make(e, id, &p);
    const moe_int_local l = {&p, s, base};
    for (size_t i = 0; p.rows && is_open(e) && i < moe_int_bank_count; i++) {
        moe_int_finding f = moe_int_finding_start(&moe_int_bank[i], id);
        if (moe_int_bank[i].local && !moe_int_goes_on(e, i))
            break;
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
static void try_recovered(moe_int_evidence *e, const moe_int_ground *g) {
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
    moe_int_ground g;
    moe_status status = moe_int_ground_make(e, &g);
    /* Not one of tensors that no run makes can be explained. */
    for (size_t i = 0; !status && g.whole.error >= 0 && !settled(e) && i < moe_int_bank_count; i++)
        if (moe_int_bank[i].change && moe_int_goes_on(e, i))
            status = moe_int_ground_try(e, &g, &moe_int_bank[i]);
    /* dS and dH are both made of dA', which dH shows as a row. */
    if (!status && e->first != MOE_INT_CHOICE && is_open(e))
        try_locals(e, e->first == MOE_T_DS && e->wrong[MOE_T_DH] ? MOE_T_DH : e->first, &g.whole,
                   &g.base);
    if (!status && e->first != MOE_INT_CHOICE && is_open(e))
        try_recovered(e, &g);
    moe_int_ground_destroy(&g);
}

bool moe_int_is_cause(const moe_explanation *x) {
    for (size_t i = 0; i < moe_int_bank_count; i++)
        if (strcmp(moe_int_bank[i].kind, x->kind) == 0)
            return !moe_int_bank[i].place;
    return x->kind[0] != 0; /* told by two runs */
}

static void try_all(moe_int_evidence *e) {
    moe_int_try_looks(e, false);
    if (!e->wait.ended)
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

/* Of a type's gate that its rounding makes at least: right kernels make 0.3 to 0.6 of it. */
#define SHARE_OF_GATE 0.1

/* Where no step explains it and a narrower arithmetic does, that is the cause; after: as if its
 * roundings were taken away. */
static void take_arithmetic(const moe_int_evidence *e, moe_check_result *result) {
    moe_explanation *x = &result->explanation;
    const moe_dtype narrow = (moe_dtype)result->narrower;
    if (e->first == MOE_INT_CHOICE || !result->narrower)
        return;
    const moe_tensor_verdict *v = moe_int_result_find(result, moe_tensor_name(e->first));
    /* What is far better than that type's rounding would pass too, and was not made by it. */
    if (!v || v->nmse < SHARE_OF_GATE * moe_gate_for(e->first, narrow).nmse)
        return;
    *x = (moe_explanation){.before = v->nmse, .after = 0};
    snprintf(x->kind, sizeof x->kind, "arithmetic");
    snprintf(x->tensor, sizeof x->tensor, "%s", moe_tensor_name(e->first));
    snprintf(x->text, sizeof x->text,
             "stages are rounded to a narrower type: all is right for a kernel that computes in %s",
             moe_dtype_name(narrow));
}

void moe_int_explain(const moe_int_subject *subject, const moe_int_routing *routing,
                     const moe_int_truth *truth, const moe_check_params *params,
                     moe_check_result *result) {
    moe_int_evidence e;
    if (moe_int_evidence_make(subject, routing, truth, params, result, &e)) {
        try_all(&e);
        if (!e.found && !e.wait.ended && e.first == MOE_INT_CHOICE && take_first_wrong(&e))
            try_all(&e);
        if (e.found)
            result->explanation = e.best.is;
        else
            take_arithmetic(&e, result);
        const int64_t all = (int64_t)moe_int_bank_count;
        result->explanation.ended = e.wait.ended;
        result->explanation.tried =
            (int32_t)(e.wait.ended && e.wait.tried < all ? e.wait.tried : all);
    }
    moe_int_evidence_destroy(&e);
}
