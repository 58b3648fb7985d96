/* Which identities a layer has, and what of them the subject's results and stages allow. Stages
 * come one or two at a time: they are as large as the layer. */
#include "check/identity/identity.h"
#include "check/identity/elements.h"
#include "check/identity/operands.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/progress.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Products of one expert. `from` is the subject's own; MOE_T_COUNT: of inputs alone. */
static const struct {
    moe_tensor_id of, from;
} products[] = {
    {MOE_T_H, MOE_T_COUNT}, {MOE_T_Y, MOE_T_A},    {MOE_T_DW2, MOE_T_A},  {MOE_T_DB2, MOE_T_COUNT},
    {MOE_T_DXP, MOE_T_DH},  {MOE_T_DW1, MOE_T_DH}, {MOE_T_DB1, MOE_T_DH},
};

/* The subject's tensor, fetched where it is a stage; NULL: it has none of that shape. */
static const moe_tensor *need(moe_int_identities_of *k, moe_tensor_id id) {
    const moe_int_subject *s = k->subject;
    moe_tensor want = {0}, *t = &k->stage.t[id];
    if (!t->data && s->got.t[id].data)
        *t = s->got.t[id];
    else if (!t->data && s->fetch && moe_int_is_inner_stage(id) &&
             (!moe_tensor_is_backward(id) || (s->problem->pass & MOE_PASS_BWD)))
        k->owned[id] = s->fetch(s->user, id, k->result, t) == MOE_OK;
    moe_tensor_shape(k->desc, id, s->problem->T, k->plan->offsets[k->desc->E], k->plan->n_pairs,
                     &want);
    return t->data && moe_tensor_same_shape(t, &want) ? t : NULL;
}

static void drop(moe_int_identities_of *k, moe_tensor_id id) {
    if (k->owned[id])
        moe_tensor_destroy(&k->stage.t[id]);
    k->owned[id] = false;
    memset(&k->stage.t[id], 0, sizeof k->stage.t[id]);
}

static void fail(moe_int_identities_of *k, moe_tensor_id id, const char *place,
                 const moe_int_gap *gap) {
    moe_tensor_verdict *v = moe_int_result_entry(k->result, moe_tensor_name(id));
    bool product = strncmp(place, "expert", 6) == 0 && id != MOE_T_A;
    moe_int_entry_fail(v, "%s: %s %s %lld: %.6g, should be %.6g (z %.1f)", place,
                       product ? "the product with a random vector differs in" : "differs in",
                       gap->column || !product ? "column" : "row", (long long)gap->index, gap->got,
                       gap->want, gap->z);
}

/* The gates of single elements serve: a projection is one number with one variance. */
static bool is_wide(const moe_int_identities_of *k, moe_tensor_id id, const moe_int_gap *gap) {
    return gap->z > moe_gate_for(id, k->subject->arithmetic).max_z;
}

/* Do the weights enter? */
static bool is_weighed(const moe_int_identities_of *k, moe_tensor_id id) {
    bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    return on_input ? id == MOE_T_H || id == MOE_T_DW1 : id == MOE_T_DW2 || id == MOE_T_DB2;
}

/* The widest gap of expert e's product. Points of several recipes allow for either way to weigh. */
static moe_status check_product(const moe_int_identities_of *k, moe_tensor_id id, int64_t e,
                                moe_int_gap *ret) {
    const uint64_t key = (uint64_t)(id * k->desc->E + e);
    const bool stored_dO = id == MOE_T_DW2 && moe_int_at(&k->rounding, MOE_POINT_SDO, 1) > 0;
    const bool stored_A = moe_int_at(&k->rounding, MOE_POINT_SA, 1) > 0;
    moe_int_gap other = {0};
    moe_int_product p = moe_int_product_of(k, id, e, stored_dO);
    moe_status status = moe_int_product_check(&p, &k->rounding, key, ret);
    if (status || !stored_dO || !stored_A || !is_wide(k, id, ret))
        return status;
    p = moe_int_product_of(k, id, e, false);
    status = moe_int_product_check(&p, &k->rounding, key, &other);
    if (!status && other.z < ret->z)
        *ret = other;
    return status;
}

static moe_status check_products(moe_int_identities_of *k, moe_tensor_id id) {
    int64_t E = k->desc->E, worst = 0;
    moe_int_gap *gap = calloc((size_t)E, sizeof *gap);
    moe_status status = gap ? MOE_OK : MOE_E_NOMEM;
#pragma omp parallel for num_threads(k->threads) schedule(dynamic)
    for (int64_t e = 0; e < (gap ? E : 0); e++) {
        if (check_product(k, id, e, &gap[e])) {
#pragma omp atomic write
            status = MOE_E_NOMEM; /* nothing else can fail */
        }
    }
    for (int64_t e = 0; !status && e < E; e++)
        if (gap[e].z > gap[worst].z)
            worst = e;
    if (!status && is_wide(k, id, &gap[worst])) {
        char place[40];
        snprintf(place, sizeof place, "expert %lld", (long long)worst);
        fail(k, id, place, &gap[worst]);
    }
    k->covered[id] |= !status;
    free(gap);
    return status;
}

/* Row by row; `sum` NULL: activations. */
static moe_status check_rows(moe_int_identities_of *k, moe_tensor_id id,
                             const moe_int_token_sum *sum) {
    const moe_tensor *H = &k->stage.t[MOE_T_H], *A = &k->stage.t[MOE_T_A];
    int64_t rows = sum ? k->subject->problem->T : A->shape[0], worst = -1;
    moe_int_gap widest = {0};
    moe_status status = MOE_OK;
#pragma omp parallel for num_threads(k->threads) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        moe_int_gap gap = {0};
        bool lacks = sum ? moe_int_token_sum_check(sum, &k->rounding, i, &gap) != MOE_OK
                         : moe_int_activation_check(k->desc, &k->rounding, H, A, i, &gap) != MOE_OK;
#pragma omp critical(moe_int_identity_worst)
        {
            status = lacks ? MOE_E_NOMEM : status; /* nothing else can fail */
            if (gap.z > widest.z || (gap.z == widest.z && gap.z > 0 && i < worst)) {
                widest = gap;
                worst = i;
            }
        }
    }
    k->covered[id] |= !status;
    if (status || !is_wide(k, id, &widest))
        return status;
    char place[64];
    if (sum)
        snprintf(place, sizeof place, "token %lld", (long long)worst);
    else
        snprintf(place, sizeof place, "expert %lld, row %lld",
                 (long long)moe_int_plan_expert_of(k->plan, worst), (long long)worst);
    fail(k, id, place, &widest);
    return MOE_OK;
}

/* O from Y, or dX from dX~ where nothing else is in it. */
static moe_status check_sum(moe_int_identities_of *k, moe_tensor_id id, moe_tensor_id from,
                            bool weighed) {
    const moe_problem *problem = k->subject->problem;
    const moe_layer_desc *desc = k->desc;
    const bool backward = id == MOE_T_DX;
    if (desc->n_shared || (backward && !problem->plan) ||
        ((weighed || desc->n_zero) && !k->weight) || !need(k, id) || !need(k, from))
        return MOE_OK;
    moe_int_token_sum sum = {
        .plan = k->plan,
        .d = desc->d,
        .real = k->plan->offsets[desc->E],
        .weight = weighed ? k->weight : NULL,
        .zero = k->weight,
        .rows = &k->stage.t[from],
        .itself = &problem->in.t[backward ? MOE_T_DO : MOE_T_X],
        .out = &k->stage.t[id],
        .added_low =
            moe_int_at(&k->rounding, backward ? MOE_POINT_ADD_DX : MOE_POINT_ADD_O, 1) > 0};
    return check_rows(k, id, &sum);
}

static moe_status check_all(moe_int_identities_of *k) {
    const bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const bool backward = (k->subject->problem->pass & MOE_PASS_BWD) != 0;
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < sizeof products / sizeof *products; i++) {
        moe_tensor_id id = products[i].of, from = products[i].from;
        moe_int_progress(k->progress, "identities", (int64_t)i,
                         (int64_t)(sizeof products / sizeof *products));
        bool exists = moe_tensor_exists(k->desc, id, k->subject->problem->plan != NULL) &&
                      (backward || !moe_tensor_is_backward(id));
        if (exists && (k->weight || !is_weighed(k, id)) && need(k, id) &&
            (from == MOE_T_COUNT || need(k, from)))
            status = check_products(k, id);
        if (!status && id == MOE_T_H && need(k, MOE_T_H) && need(k, MOE_T_A))
            status = check_rows(k, MOE_T_A, NULL);
        if (!status && id == MOE_T_Y)
            status = check_sum(k, MOE_T_O, MOE_T_Y, !on_input);
        if (!status && id == MOE_T_DXP && backward)
            status = check_sum(k, MOE_T_DX, MOE_T_DXP, on_input);
        if (id == MOE_T_H || id == MOE_T_Y || id == MOE_T_DXP)
            drop(k, id);
    }
    return status;
}

/* "H, A, Y, O; not: dH, dX" */
static void describe(const moe_int_identities_of *k, moe_check_result *r) {
    char list[2][96] = {"", ""};
    const bool backward = (k->subject->problem->pass & MOE_PASS_BWD) != 0;
    for (int i = MOE_T_H; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        if (!moe_tensor_exists(k->desc, id, k->subject->problem->plan != NULL) ||
            (moe_tensor_is_backward(id) && !backward))
            continue;
        char *to = list[k->covered[id] ? 0 : 1];
        size_t used = strlen(to);
        snprintf(to + used, sizeof list[0] - used, "%s%s", used ? ", " : "", moe_tensor_name(id));
    }
    snprintf(r->identities, sizeof r->identities, "%s%s%s", list[0][0] ? list[0] : "none",
             list[1][0] ? "; not: " : "", list[1]);
}

/* Given weights, or those that the subject tells. */
static moe_status take_weights(moe_int_identities_of *k) {
    const moe_tensor *S = &k->subject->got.t[MOE_T_S];
    const double *given = k->subject->problem->plan ? k->plan->weight : NULL;
    int64_t count = k->plan->n_pairs;
    if (!given && (!S->data || moe_tensor_count(S) != count))
        return MOE_OK;
    k->weight = malloc((size_t)(count + 1) * sizeof *k->weight);
    if (!k->weight)
        return MOE_E_NOMEM;
    if (given)
        memcpy(k->weight, given, (size_t)count * sizeof *given);
    else
        moe_int_load(S, 0, count, k->weight);
    return MOE_OK;
}

moe_status moe_int_identities(const moe_int_subject *subject, const moe_int_rounding *rounding,
                              const moe_plan *plan, int threads, const moe_progress *progress,
                              moe_check_result *result) {
    moe_int_identities_of k = {.subject = subject,
                               .desc = &subject->problem->layer,
                               .plan = plan,
                               .rounding = *rounding,
                               .threads = threads,
                               .progress = progress,
                               .result = result};
    if (rounding->arithmetic == MOE_F64) /* the identities themselves err as much */
        return MOE_OK;
    moe_status status = take_weights(&k);
    if (!status)
        status = check_all(&k);
    if (!status)
        describe(&k, result);
    for (int id = 0; id < MOE_T_COUNT; id++)
        drop(&k, (moe_tensor_id)id);
    free(k.weight);
    return status;
}
