#include "check/bits/stages.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a stage follows from others. */
typedef enum kind {
    PRODUCT,    /* chains */
    ACTIVATION, /* A */
    SLOPE,      /* dH, of chains that are stored nowhere */
    WEIGHTED,   /* dW2, of s*A, likewise */
    PAIRS       /* sums of a token's rows */
} kind;

/* A stage; what it starts from, MOE_T_COUNT: inputs alone. A new one is a row. */
typedef struct stage {
    moe_tensor_id id, from;
    kind kind;
} stage;

static const stage stages[] = {{MOE_T_LOGITS, MOE_T_COUNT, PRODUCT},
                               {MOE_T_H, MOE_T_COUNT, PRODUCT},
                               {MOE_T_A, MOE_T_H, ACTIVATION},
                               {MOE_T_Y, MOE_T_A, PRODUCT},
                               {MOE_T_O, MOE_T_Y, PAIRS},
                               {MOE_T_DH, MOE_T_H, SLOPE},
                               {MOE_T_DXP, MOE_T_DH, PRODUCT},
                               {MOE_T_DX, MOE_T_DXP, PAIRS},
                               {MOE_T_DW1, MOE_T_DH, PRODUCT},
                               {MOE_T_DW2, MOE_T_H, WEIGHTED}};
_Static_assert(sizeof stages / sizeof *stages == MOE_BITS_STAGES, "the record has room for all");

/* What is compared on one stage. */
typedef struct trial {
    const stage *stage;
    moe_tensor got, start;
    moe_int_chain *chains; /* [count], a copy */
    size_t count;
    moe_int_bits_outcome *o; /* [count] */
    bool finds;
} trial;

static void name_of(const stage *s, const moe_int_chain *chain, char *ret, size_t size) {
    char unit[96];
    const moe_arithmetic *how = &chain->how;
    switch (s->kind) {
    case PAIRS:
        snprintf(ret, size, "fp32 sums of pairs%s", how->fused ? ", fused" : "");
        return;
    case ACTIVATION:
        snprintf(ret, size, "the exact function within its span");
        return;
    case SLOPE:
        moe_arithmetic_name(how, unit, sizeof unit);
        snprintf(ret, size, "%.50s, the exact slope within its span", unit);
        return;
    case PRODUCT:
    case WEIGHTED:
        moe_arithmetic_name(how, ret, size);
    }
}

static void fail(const moe_int_bits_run *c, const moe_bits_stage *s) {
    moe_tensor_verdict *v = moe_int_result_entry(c->result, s->name);
    moe_int_entry_fail(v, "not the bits of %s in %lld of %lld elements", s->arithmetic,
                       (long long)s->differ, (long long)s->elements);
    moe_int_result_set(c->result, MOE_VERDICT_FAIL, "%s: %s", s->name, v->why);
    char *first = c->result->first_wrong_stage;
    if (!first[0])
        snprintf(first, sizeof c->result->first_wrong_stage, "%s", s->name);
}

/* Of the chains' outcomes to the record: the one with fewest differences. */
static moe_status record(moe_int_bits_run *c, const trial *t) {
    moe_bits *bits = &c->result->bits;
    moe_bits_stage *s = &bits->stage[bits->n_stages++];
    moe_status status = MOE_OK;
    size_t best = 0;
    for (size_t a = 0; a < t->count; a++) {
        s->explained_by += t->finds && t->count > 1 && t->o[a].differ == 0;
        best = t->o[a].differ < t->o[best].differ ? a : best;
    }
    snprintf(s->name, sizeof s->name, "%s", moe_tensor_name(t->stage->id));
    name_of(t->stage, &t->chains[best], s->arithmetic, sizeof s->arithmetic);
    s->total = t->o[best].total;
    s->elements = t->o[best].elements;
    s->differ = t->o[best].differ;
    s->undecided = t->o[best].undecided;
    if (s->differ == 0)
        return MOE_OK;
    if (t->stage->kind == PRODUCT)
        status = moe_int_bits_lay_out(c, t->stage->id, &t->got, &t->chains[best], &t->o[best], s);
    else
        moe_int_bits_lay_out_plain(&t->got, &t->o[best], s);
    if (!t->finds)
        fail(c, s);
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

/* A shared expert, the router and identity experts add to sums what no stage tells, and no stage
 * tells in which order a router of the backend's own has chosen a token's experts, which is the
 * order of the sum. */
static bool applies(const moe_int_bits_run *c, const stage *s) {
    const moe_problem *p = c->subject->problem;
    if (s->kind == PAIRS && (p->layer.n_shared || (!p->plan && p->layer.K > 1)))
        return false;
    if (s->id == MOE_T_DX && (!p->plan || p->layer.n_zero))
        return false;
    return moe_tensor_exists(&p->layer, s->id, p->plan != NULL) &&
           (!moe_tensor_is_backward(s->id) || (p->pass & MOE_PASS_BWD));
}

static moe_status compare(moe_int_bits_run *c, const trial *t, moe_int_bits_outcome *ret) {
    switch (t->stage->kind) {
    case PRODUCT:
        return moe_int_bits_compare(c, t->stage->id, &t->got, t->chains, t->count, ret);
    case ACTIVATION:
    case SLOPE:
        return moe_int_bits_activations(c, t->stage->id, &t->got, t->chains, t->count, ret);
    case WEIGHTED:
        return moe_int_bits_weighted(c, &t->got, t->chains, t->count, ret);
    case PAIRS:
        moe_int_bits_sums(c, t->stage->id, &t->got, &t->start, t->chains, t->count, ret);
    }
    return MOE_OK;
}

/* Weights on the input: the rows that H or dW1 is made of, in one of the two ways. */
static moe_status compare_weighted(moe_int_bits_run *c, const trial *t, bool weighs_sums,
                                   moe_int_bits_outcome *ret) {
    const moe_layer_desc *desc = &c->subject->problem->layer;
    const int64_t hw = moe_h_width(desc, desc->n);
    uint16_t *rows = NULL;
    if (!weighs_sums)
        rows = moe_int_weighted_rows(&c->source, NULL, c->source.X, desc->d, c->dtype);
    else if (t->stage->id == MOE_T_DW1)
        rows = moe_int_weighted_rows(&c->source, c->source.from, NULL, hw, c->dtype);
    if (!rows && !(weighs_sums && t->stage->id == MOE_T_H))
        return MOE_E_NOMEM;
    c->source.weighted = rows;
    c->source.weighs_sums = weighs_sums;
    moe_status status = compare(c, t, ret);
    c->source.weighted = NULL;
    c->source.weighs_sums = false;
    free(rows);
    return status;
}

/* The way that is asked for, or the better one. */
static moe_status compare_either(moe_int_bits_run *c, const trial *t) {
    if (!t->finds)
        return compare_weighted(c, t, t->chains->how.weighs_sums, t->o);
    moe_int_bits_outcome *other = calloc(t->count, sizeof *other);
    moe_status status = other ? compare_weighted(c, t, false, t->o) : MOE_E_NOMEM;
    for (size_t a = 0; a < t->count; a++)
        t->chains[a].how.fused = 1; /* a bias is added to weighted sums */
    if (!status)
        status = compare_weighted(c, t, true, other);
    for (size_t a = 0; !status && a < t->count; a++)
        if (other[a].differ < t->o[a].differ)
            t->o[a] = other[a];
    free(other);
    return status;
}

/* Sums of pairs know two ways whatever multiplies, and nothing is multiplied for A. */
static void narrow(trial *t) {
    if (t->stage->kind == ACTIVATION)
        t->count = 1;
    if (t->stage->kind != PAIRS || !t->finds)
        return;
    t->count = 2;
    t->chains[0].how.fused = 0;
    t->chains[1].how.fused = 1;
}

static moe_status compare_stage(moe_int_bits_run *c, trial *t) {
    const bool on_input = c->subject->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    moe_int_codes codes = {NULL};
    moe_status status = MOE_OK;
    if (t->start.data && t->stage->kind != PAIRS)
        status = moe_int_codes_of(&t->start, c->dtype, &codes);
    c->source.from = codes.at;
    narrow(t);
    if (!status)
        status = on_input && (t->stage->id == MOE_T_H || t->stage->id == MOE_T_DW1)
                     ? compare_either(c, t)
                     : compare(c, t, t->o);
    if (!status && t->o->elements)
        status = record(c, t);
    c->source.from = NULL;
    free(codes.at);
    return status;
}

static moe_status check_stage(moe_int_bits_run *c, const stage *s, const moe_int_chain *chains,
                              size_t count) {
    bool got_owned = false, start_owned = false;
    trial t = {.stage = s,
               .chains = calloc(count, sizeof *chains),
               .count = count,
               .o = calloc(count, sizeof *t.o),
               .finds = count > 1};
    moe_status status = t.o && t.chains ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        memcpy(t.chains, chains, count * sizeof *chains);
    if (!status && take(c, s->id, &t.got, &got_owned) &&
        (s->from == MOE_T_COUNT || take(c, s->from, &t.start, &start_owned)))
        status = compare_stage(c, &t);
    if (got_owned)
        moe_tensor_destroy(&t.got);
    if (start_owned)
        moe_tensor_destroy(&t.start);
    free(t.chains);
    free(t.o);
    return status;
}

moe_status moe_int_bits_stages(moe_int_bits_run *c, const moe_int_chain *chains, size_t count) {
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < MOE_BITS_STAGES; i++)
        if (applies(c, &stages[i]))
            status = check_stage(c, &stages[i], chains, count);
    return status;
}
