/* What is known of a failing subject, and which of the explanations is the best. */
#include "check/explain/bank.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/clock.h"
#include "core/progress.h"
#include "reference/run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The stages that the subject could be asked for, beside what it gave. */
static void fetch_stages(moe_int_evidence *e, moe_check_result *result) {
    const moe_int_subject *s = e->subject;
    for (size_t i = 0; s->fetch && i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        const moe_tensor_verdict *v = moe_int_result_find(result, moe_tensor_name(id));
        if (!moe_int_is_inner_stage(id) || e->got.t[id].data || !v)
            continue;
        e->owned[id] = s->fetch(s->user, id, result, &e->got.t[id]) == MOE_OK;
        if (!e->owned[id])
            e->got.t[id] = (moe_tensor){0};
    }
}

/* A tensor of another shape than the truth's has no values to explain. */
static void drop_odd_shapes(moe_int_evidence *e) {
    const moe_plan *plan = e->routing->plan;
    const moe_layer_desc *desc = &e->problem->layer;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor shape = {0};
        moe_tensor_shape(desc, (moe_tensor_id)id, e->problem->T, plan->offsets[desc->E],
                         plan->n_pairs, &shape);
        if (!e->got.t[id].data || moe_tensor_same_shape(&e->got.t[id], &shape))
            continue;
        if (e->owned[id])
            moe_tensor_destroy(&e->got.t[id]);
        e->owned[id] = false;
        e->got.t[id] = (moe_tensor){0};
    }
}

/* Where the first run's results are right and another's are not, that one's are the evidence. */
static void take_failing_run(const moe_int_subject *subject, moe_tensor_id id,
                             const moe_tensor_verdict *v, moe_int_evidence *ret) {
    for (int i = 0; i < MOE_INT_AGAIN_COUNT; i++) {
        const char *word = moe_int_again_word((moe_int_again)i);
        if (strncmp(v->why, word, strlen(word)) == 0 && subject->again[i].t[id].data)
            ret->got.t[id] = subject->again[i].t[id];
    }
}

/* As tensors were judged: logits and weights are fp32 beside 16-bit results. */
static void take_gates(const moe_check_result *result, moe_int_evidence *ret) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        ret->gate[id] = moe_gate_for((moe_tensor_id)id, ret->arithmetic).nmse;
    for (size_t i = 0; i < result->n_tensors; i++) {
        const moe_tensor_verdict *v = &result->tensor[i];
        for (int id = 0; id < MOE_T_COUNT; id++)
            if (strcmp(v->name, moe_tensor_name((moe_tensor_id)id)) == 0 && v->gate.nmse > 0)
                ret->gate[id] = v->gate.nmse;
    }
}

/* Of a sampled layer the search takes minutes. */
static void tell_failure(moe_int_evidence *e) {
    const double patience_us = e->truth->sampled ? 0 : 2e6;
    if (e->wait.told || !e->wait.who || moe_int_now_us() - e->wait.since_us < patience_us)
        return;
    e->wait.told = true;
    if (e->wait.who->failed)
        e->wait.who->failed(e->wait.who->user, e->wait.result);
}

bool moe_int_goes_on(moe_int_evidence *e, size_t i) {
    const moe_check_waiting *who = e->wait.who;
    moe_int_progress(e->progress, "explanation", (int64_t)i, (int64_t)moe_int_bank_count);
    tell_failure(e);
    e->wait.ended = e->wait.ended || (e->wait.told && who->enough && who->enough(who->user));
    e->wait.tried += !e->wait.ended;
    return !e->wait.ended;
}

bool moe_int_evidence_make(const moe_int_subject *subject, const moe_int_routing *routing,
                           const moe_int_truth *truth, const moe_check_params *params,
                           moe_check_result *result, moe_int_evidence *ret) {
    *ret = (moe_int_evidence){
        .subject = subject,
        .problem = subject->problem,
        .routing = routing,
        .truth = truth,
        .arithmetic = subject->arithmetic,
        .threads = moe_int_thread_count(params->threads),
        .progress = params->progress,
        .got = subject->got,
        .first = MOE_INT_CHOICE,
        .wait = {.who = params->waiting, .result = result, .since_us = moe_int_now_us()}};
    tell_failure(ret); /* fetching stages takes long, too */
    fetch_stages(ret, result);
    drop_odd_shapes(ret);
    take_gates(result, ret);
    bool any = false;
    for (size_t i = moe_int_order_count; i-- > 0;) {
        moe_tensor_id id = moe_int_order[i];
        const moe_tensor_verdict *v = moe_int_result_find(result, moe_tensor_name(id));
        if (!v || v->verdict != MOE_VERDICT_FAIL || !ret->got.t[id].data)
            continue;
        take_failing_run(subject, id, v, ret);
        ret->wrong[id] = any = true;
        ret->first = id;
    }
    const moe_tensor_verdict *choice = moe_int_result_find(result, "topk_index");
    if (choice && choice->verdict == MOE_VERDICT_FAIL && routing->foreign &&
        !ret->wrong[MOE_T_LOGITS]) { /* wrong logits come before what is chosen by them */
        any = true;
        ret->first = MOE_INT_CHOICE;
    }
    return any;
}

void moe_int_evidence_destroy(moe_int_evidence *e) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (e->owned[id])
            moe_tensor_destroy(&e->got.t[id]);
}

bool moe_int_explains(const moe_int_evidence *e, moe_tensor_id id, double before, double after) {
    bool wide = id < MOE_T_COUNT ? e->gate[id] < 1e-7
                                 : e->arithmetic == MOE_F32 || e->arithmetic == MOE_F64;
    before = fmin(before, 1); /* as far off as 0 is; no more is asked of what was farther off */
    if (!(after >= 0) || isinf(after))
        return false;
    if (id < MOE_T_COUNT && after <= e->gate[id] && after < before / 3)
        return true;
    return after < before / (wide ? 1e3 : 30);
}

static int score_of(const moe_int_finding *f) {
    return f->explained - f->contradicted - f->partial;
}

/* Of findings with the same score: does it leave far less than the best one, whose rest is more
 * than rounding; or as little, without a pass that has to be excused? */
static bool is_finer(const moe_int_evidence *e, const moe_int_finding *f) {
    const moe_int_finding *best = &e->best;
    const bool choice = e->first == MOE_INT_CHOICE;
    const double gate = choice ? 0 : e->gate[e->first];
    if (best->fitted != f->fitted)
        return best->fitted && f->is.after <= fmax(gate, 3 * best->is.after);
    if (best->is.after > gate && f->is.after < best->is.after / 30)
        return true;
    return f->excused < best->excused && (f->is.after <= gate || f->is.after <= best->is.after);
}

/* Whatever else it explains, what leaves far more than rounding is not the cause where another
 * finding leaves little of the same tensor. */
static bool is_coarse_beside(const moe_int_evidence *e, const moe_int_finding *f,
                             const moe_int_finding *other) {
    return f->of < MOE_INT_CHOICE && f->of == other->of && !other->rough &&
           f->is.after > 10 * e->gate[f->of] && other->is.after < f->is.after / 30;
}

void moe_int_offer(moe_int_evidence *e, const moe_int_finding *finding) {
    const moe_int_finding *best = &e->best;
    const bool explains =
        finding->rough ? finding->is.after < finding->is.before / 3
                       : moe_int_explains(e, finding->of, finding->is.before, finding->is.after);
    if (!explains || (finding->contradicted > 0 && finding->contradicted >= finding->explained))
        return;
    int gain = score_of(finding) - score_of(best);
    bool better =
        !e->found || (best->place && !finding->place) ||
        (best->place == finding->place && (gain > 0 || (gain == 0 && is_finer(e, finding))));
    if (e->found && is_coarse_beside(e, best, finding))
        better = true;
    if (e->found && !best->place && is_coarse_beside(e, finding, best))
        better = false;
    if (finding->place && e->found && !best->place)
        better = false;
    if (better) {
        e->best = *finding;
        e->found = true;
    }
}

void moe_int_finding_param(moe_int_finding *f, const char *name, double value) {
    if (f->is.n_params == sizeof f->is.param / sizeof *f->is.param)
        return;
    snprintf(f->is.param[f->is.n_params].name, sizeof f->is.param->name, "%s", name);
    f->is.param[f->is.n_params++].value = value;
}

void moe_int_finding_say(moe_int_finding *f, const char *format, ...) {
    size_t used = strlen(f->is.text);
    va_list args;
    va_start(args, format);
    vsnprintf(f->is.text + used, sizeof f->is.text - used, format, args);
    va_end(args);
}

void moe_int_finding_range(moe_int_finding *f, double low, double high) {
    char from[32], to[32];
    snprintf(from, sizeof from, "%.4g", low);
    snprintf(to, sizeof to, "%.4g", high);
    if (strcmp(from, to) == 0)
        moe_int_finding_say(f, " of %s", to);
    else
        moe_int_finding_say(f, " from %s to %s", from, to);
}
