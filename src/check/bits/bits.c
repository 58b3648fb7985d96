#include "check/bits/bits.h"
#include "check/bits/compare.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "reference/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    moe_tensor_id id, from;
} stages[] = {{MOE_T_LOGITS, MOE_T_COUNT},
              {MOE_T_H, MOE_T_COUNT},
              {MOE_T_Y, MOE_T_A},
              {MOE_T_DXP, MOE_T_DH},
              {MOE_T_DW1, MOE_T_DH}};
_Static_assert(sizeof stages / sizeof *stages == MOE_BITS_STAGES, "the record has room for all");

/* Of the chains' outcomes to the record: the one with fewest differences. */
static moe_status record(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                         const moe_int_chain *chains, size_t count, const moe_int_bits_outcome *o) {
    moe_bits *bits = &c->result->bits;
    moe_bits_stage *s = &bits->stage[bits->n_stages++];
    size_t best = 0;
    for (size_t a = 0; a < count; a++) {
        s->explained_by += count > 1 && o[a].differ == 0;
        best = o[a].differ < o[best].differ ? a : best;
    }
    snprintf(s->name, sizeof s->name, "%s", moe_tensor_name(id));
    moe_arithmetic_name(&chains[best].how, s->arithmetic, sizeof s->arithmetic);
    s->total = o[best].total;
    s->elements = o[best].elements;
    s->differ = o[best].differ;
    if (s->differ == 0)
        return MOE_OK;
    moe_status status = moe_int_bits_lay_out(c, id, got, &chains[best], &o[best], s);
    if (count > 1)
        return status;
    moe_tensor_verdict *v = moe_int_result_entry(c->result, s->name);
    moe_int_entry_fail(v, "not the bits of %s in %lld of %lld elements", s->arithmetic,
                       (long long)s->differ, (long long)s->elements);
    moe_int_result_set(c->result, MOE_VERDICT_FAIL, "%s: %s", s->name, v->why);
    char *first = c->result->first_wrong_stage;
    if (!first[0])
        snprintf(first, sizeof c->result->first_wrong_stage, "%s", s->name);
    return status;
}

/* The subject's own tensor; *owned: the caller frees it. */
static bool take(const moe_int_bits_run *c, moe_tensor_id id, moe_tensor *ret, bool *owned) {
    const moe_int_subject *s = c->subject;
    *ret = s->got.t[id];
    *owned = !ret->data && s->fetch && !s->drifts && moe_int_is_inner_stage(id) &&
             s->fetch(s->user, id, c->result, ret) == MOE_OK;
    return ret->data != NULL;
}

static bool applies(const moe_int_bits_run *c, moe_tensor_id id) {
    const moe_problem *p = c->subject->problem;
    const bool on_input = p->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    return moe_tensor_exists(&p->layer, id, p->plan != NULL) &&
           (!moe_tensor_is_backward(id) || (p->pass & MOE_PASS_BWD)) &&
           !(on_input && (id == MOE_T_H || id == MOE_T_DW1));
}

static moe_status check_stage(moe_int_bits_run *c, moe_tensor_id id, moe_tensor_id from,
                              const moe_int_chain *chains, size_t count) {
    moe_tensor got = {0}, start = {0};
    moe_int_codes codes = {NULL};
    bool got_owned = false, start_owned = false;
    moe_int_bits_outcome *o = calloc(count, sizeof *o);
    moe_status status = o ? MOE_OK : MOE_E_NOMEM;
    if (!status && take(c, id, &got, &got_owned) &&
        (from == MOE_T_COUNT || take(c, from, &start, &start_owned))) {
        if (start.data)
            status = moe_int_codes_of(&start, c->dtype, &codes);
        c->source.from = codes.at;
        if (!status)
            status = moe_int_bits_compare(c, id, &got, chains, count, o);
        if (!status && o->elements)
            status = record(c, id, &got, chains, count, o);
    }
    if (got_owned)
        moe_tensor_destroy(&got);
    if (start_owned)
        moe_tensor_destroy(&start);
    free(codes.at);
    free(o);
    return status;
}

/* The arithmetics to try as chains; the caller frees *ret. */
static moe_status chains_of(const moe_check_params *params, moe_int_format format,
                            moe_int_chain **ret, size_t *count) {
    moe_arithmetic asked;
    const moe_arithmetic *bank = &asked;
    moe_status status = MOE_OK;
    *count = 1;
    if (strcmp(params->bits, "find") == 0)
        *count = moe_arithmetics(&bank);
    else
        status = moe_arithmetic_parse(params->bits, &asked);
    if (status)
        return status;
    *ret = calloc(*count, sizeof **ret);
    status = *ret ? MOE_OK : MOE_E_NOMEM;
    for (size_t i = 0; !status && i < *count; i++)
        status = moe_int_chain_make(&bank[i], format, &(*ret)[i]);
    return status;
}

/* Interleaved layers in the order of concat ones. */
static moe_status order_hidden(moe_int_bits_run *c, const moe_arithmetic *how) {
    const moe_layer_desc *desc = &c->subject->problem->layer;
    const int64_t n = desc->n, hw = moe_h_width(desc, n);
    if (!how->gates_first || desc->glu_layout != MOE_GLU_INTERLEAVED || hw == n)
        return MOE_OK;
    c->gates_first = malloc((size_t)hw * sizeof *c->gates_first);
    if (!c->gates_first)
        return MOE_E_NOMEM;
    for (int64_t k = 0; k < hw; k++)
        c->gates_first[k] = (int32_t)(k < n ? 2 * k : 2 * (k - n) + 1);
    c->source.gates_first = c->gates_first;
    return MOE_OK;
}

static const uint16_t *input(const moe_problem *problem, moe_tensor_id id) {
    return problem->in.t[id].data;
}

/* Why nothing can be compared, or NULL. */
static const char *why_not(const moe_int_subject *s, const moe_plan *plan) {
    if (s->arithmetic != MOE_BF16 && s->arithmetic != MOE_F16)
        return "only bf16 and fp16 have an exact arithmetic";
    if (s->problem->dtype != (int32_t)s->arithmetic)
        return "the inputs have another type than the arithmetic";
    return plan ? NULL : "the choice of experts is not known";
}

/* Who asks for equality is not told of a pass where nothing was held to it. */
static void nothing_compared(moe_check_result *result) {
    moe_bits *bits = &result->bits;
    if (!bits->why[0])
        snprintf(bits->why, sizeof bits->why, "the backend offers no stage that could be");
    if (result->verdict == MOE_VERDICT_PASS)
        moe_int_result_set(result, MOE_VERDICT_MISTRUSTED, "--bits compared nothing: %s",
                           bits->why);
}

moe_status moe_int_bits(const moe_int_subject *subject, const moe_plan *plan,
                        const moe_check_params *params, moe_check_result *result) {
    const moe_problem *p = subject->problem;
    const char *why = why_not(subject, plan);
    const moe_int_format format =
        subject->arithmetic == MOE_BF16 ? MOE_INT_FORMAT_BF16 : MOE_INT_FORMAT_FP16;
    moe_int_bits_run c = {.subject = subject,
                          .dtype = subject->arithmetic,
                          .threads = moe_int_thread_count(params->threads),
                          .source = {p, plan, input(p, MOE_T_X), input(p, MOE_T_W1),
                                     input(p, MOE_T_W2), input(p, MOE_T_W_R), NULL, NULL},
                          .result = result};
    moe_int_chain *chains = NULL;
    size_t count = 0;
    result->bits.asked = true;
    snprintf(result->bits.why, sizeof result->bits.why, "%s", why ? why : "");
    moe_status status = why ? MOE_OK : chains_of(params, format, &chains, &count);
    if (!status && !why)
        status = order_hidden(&c, &chains->how);
    for (size_t i = 0; !status && !why && i < MOE_BITS_STAGES; i++)
        if (applies(&c, stages[i].id))
            status = check_stage(&c, stages[i].id, stages[i].from, chains, count);
    if (!status && result->bits.n_stages == 0)
        nothing_compared(result);
    free(c.gates_first);
    free(chains);
    return status;
}
