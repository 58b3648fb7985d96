/* The block around a layer. Its own part is computed here in float64, whatever the subject: what is
 * judged is that the subject's experts, put where the family's code has them, give what that code
 * gives. Without golden values the truth is the same block around the reference's experts. */
#include "check/block.h"
#include "block/block.h"
#include "check/verdict/result.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One result of a block under judgement. */
typedef struct pair {
    const char *name;
    moe_tensor_id kind; /* whose gate is its own */
    const moe_tensor *got, *golden, *oracle;
} pair;

/* Sums of one row's squares. */
typedef struct row_sums {
    double error, norm;
} row_sums;

/* Row `row` of `want` against the first columns of got's. */
static row_sums sum_row(const moe_tensor *got, const moe_tensor *want, int64_t row,
                        moe_tensor_verdict *v) {
    const int64_t columns = want->shape[want->ndim - 1], stride = got->shape[got->ndim - 1];
    const double *g = (const double *)got->data + row * stride;
    const double *w = (const double *)want->data + row * columns;
    row_sums sum = {0, 0};
    for (int64_t i = 0; i < columns; i++) {
        const double d = fabs(g[i] - w[i]);
        sum.error += d * d;
        sum.norm += w[i] * w[i];
        v->nonzero += w[i] != 0;
        if (d > v->max_abs) {
            v->max_abs = d;
            v->got = g[i];
            v->want = w[i];
        }
    }
    return sum;
}

/* NMSE of the whole, and the largest error of a row over its own norm or, as rows may be next to 0
 * because large terms cancel, over a row's mean norm. */
static void measure(const moe_tensor *got, const moe_tensor *want, moe_tensor_verdict *v) {
    const int64_t columns = want->shape[want->ndim - 1];
    const int64_t rows = columns ? moe_tensor_count(want) / columns : 0;
    row_sums all = {0, 0};
    for (int64_t r = 0; r < rows; r++) {
        const row_sums row = sum_row(got, want, r, v);
        all.error += row.error;
        all.norm += row.norm;
    }
    v->nmse = all.error == 0 ? 0 : all.error / all.norm;
    for (int64_t r = 0; r < rows; r++) {
        moe_tensor_verdict again = {0};
        const row_sums row = sum_row(got, want, r, &again);
        const double of_row =
            row.error == 0 ? 0 : row.error / fmax(row.norm, all.norm / (double)rows);
        if (!(of_row <= v->worst_group_nmse)) {
            v->worst_group_nmse = of_row;
            v->worst_group = r;
        }
    }
}

/* The gate of rounded sums where the arithmetic is narrow: router and norms stay in float64, so
 * only what the experts' results went into errs. */
static void judge_pair(const pair *p, moe_dtype arithmetic, moe_check_result *r) {
    const moe_tensor *want = p->golden && p->golden->data ? p->golden : p->oracle;
    if (!p->got->data || !want || !want->data)
        return;
    moe_tensor_verdict *v = moe_int_result_entry(r, p->name);
    v->truth = want == p->golden ? "golden" : "oracle";
    v->worst_expert = -1;
    const moe_gate gate = moe_gate_for(p->kind, arithmetic);
    v->gate.nmse = gate.nmse;
    v->gate.group_nmse = gate.group_nmse;
    measure(p->got, want, v);
    r->checked_elements += moe_tensor_count(want);
    if (!(v->nmse < gate.nmse))
        moe_int_entry_fail(v, "NMSE %.3g, limit %.3g", v->nmse, gate.nmse);
    else if (gate.group_nmse > 0 && !(v->worst_group_nmse < gate.group_nmse))
        moe_int_entry_fail(v, "row %lld: NMSE %.3g, limit %.3g", (long long)v->worst_group,
                           v->worst_group_nmse, gate.group_nmse);
    else
        return;
    moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s", p->name, v->why);
}

static void judge_chain(const moe_block *b, int place, const moe_int_block_result *got,
                        const moe_int_block_result *oracle, moe_dtype arithmetic,
                        moe_check_result *r) {
    static const char *const places[MOE_INT_PLACE_COUNT] = {"router", "before", "pair", "after",
                                                            "out"};
    for (int i = 0; i < b->chain[place].n; i++) {
        const moe_int_chain_gradients *g = &got->chain[place], *want = &b->want.chain[place];
        const moe_int_chain_gradients *o = &oracle->chain[place];
        char name[24];
        snprintf(name, sizeof name, "block dw_%s%d", places[place], i + 1);
        judge_pair(&(pair){name, MOE_T_DW_R, &g->w[i], &want->w[i], &o->w[i]}, arithmetic, r);
        snprintf(name, sizeof name, "block db_%s%d", places[place], i + 1);
        judge_pair(&(pair){name, MOE_T_DB_R, &g->b[i], &want->b[i], &o->b[i]}, arithmetic, r);
    }
}

static void judge_results(const moe_block *b, const moe_int_block_result *got,
                          const moe_int_block_result *oracle, moe_dtype arithmetic,
                          moe_check_result *r) {
    const moe_int_block_result *want = &b->want;
    const pair pairs[] = {
        {"block router_logits", MOE_T_LOGITS, &got->logits, &want->logits, &oracle->logits},
        {"block topk_weight", MOE_T_S, &got->weight, &want->weight, &oracle->weight},
        {"block router_state", MOE_T_LOGITS, &got->state, &want->state, &oracle->state},
        {"block O", MOE_T_O, &got->O, &want->O, &oracle->O},
        {"block dX", MOE_T_DX, &got->dX, &want->dX, &oracle->dX},
        {"block dscale", MOE_T_DW_R, &got->dscale, &want->dscale, &oracle->dscale},
        {"block dW1_shared", MOE_T_DW1_SHARED, &got->shared.t[MOE_T_DW1_SHARED],
         &want->shared.t[MOE_T_DW1_SHARED], &oracle->shared.t[MOE_T_DW1_SHARED]},
        {"block dW2_shared", MOE_T_DW2_SHARED, &got->shared.t[MOE_T_DW2_SHARED],
         &want->shared.t[MOE_T_DW2_SHARED], &oracle->shared.t[MOE_T_DW2_SHARED]},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        judge_pair(&pairs[i], arithmetic, r);
    for (int place = 0; place < MOE_INT_PLACE_COUNT; place++)
        judge_chain(b, place, got, oracle, arithmetic, r);
}

/* Results that a block starts from; those of a failed or partial run are not put into one. */
static bool has_results(const moe_int_subject *s) {
    const bool backward = (s->problem->pass & MOE_PASS_BWD) != 0;
    return s->got.t[MOE_T_O].data &&
           (!backward || (s->got.t[MOE_T_DX].data && s->got.t[MOE_T_DS].data));
}

moe_status moe_int_judge_block(const moe_int_subject *s, const moe_log *log,
                               moe_check_result *result) {
    const moe_problem *problem = s->problem;
    moe_int_block_result got = {0}, oracle = {0};
    moe_reference_result *experts = NULL;
    if (!problem->block || result->verdict >= MOE_VERDICT_FAIL ||
        result->verdict == MOE_VERDICT_SKIP || !has_results(s))
        return MOE_OK;
    moe_status status = moe_int_block_leave(problem->block, problem, &s->got, log, &got);
    if (!status)
        status = moe_reference_problem(problem, 0, log, &experts);
    if (!status)
        status = moe_int_block_leave(problem->block, problem, &experts->out, log, &oracle);
    if (!status)
        judge_results(problem->block, &got, &oracle, s->arithmetic, result);
    moe_int_block_result_destroy(&got);
    moe_int_block_result_destroy(&oracle);
    moe_reference_result_destroy(&experts);
    return status;
}
