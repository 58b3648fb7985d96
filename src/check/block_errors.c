/* A block is linear in small errors of its experts' O, dX and dS. The error model knows the
 * variance of each; so many times all of them err by their sigma, with drawn signs, and the block
 * goes on from there. The mean square of what comes out is the expected square of its error,
 * exactly where a row hangs on one of them, within 35 % (one sigma of 16 draws) where on many.
 *
 * The block's router is in float64, here and in the code that made golden values, and rounds all
 * the same. Its way back subtracts terms as large as weight x dS from each other; where they
 * cancel, their rounding is what is left: of one expert per token and renormalised weights, which
 * are 1 whatever the logits, all of the router's gradient. So the logits' gradient errs too, by the
 * sigma of those terms (errors/router.c). */
#include "check/block_errors.h"
#include "core/streams.h"
#include "moeref/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 16 };

static const moe_tensor_id from[] = {MOE_T_O, MOE_T_DX, MOE_T_DS};
enum { FROM_COUNT = sizeof from / sizeof *from };

static void append(moe_int_block_list *l, const char *name, moe_tensor_id kind,
                   const moe_tensor *t) {
    snprintf(l->of[l->n].name, sizeof l->of[l->n].name, "block %s", name);
    l->of[l->n].kind = kind;
    l->of[l->n++].t = t;
}

static void append_chain(const moe_block *b, int place, const moe_int_chain_gradients *g,
                         moe_int_block_list *l) {
    static const char *const places[MOE_INT_PLACE_COUNT] = {"router", "before", "pair", "after",
                                                            "out"};
    for (int i = 0; i < b->chain[place].n; i++) {
        char name[18];
        snprintf(name, sizeof name, "dw_%s%d", places[place], i + 1);
        append(l, name, MOE_T_DW_R, &g->w[i]);
        snprintf(name, sizeof name, "db_%s%d", places[place], i + 1);
        append(l, name, MOE_T_DB_R, &g->b[i]);
    }
}

void moe_int_block_list_make(const moe_block *b, const moe_int_block_result *r,
                             moe_int_block_list *ret) {
    ret->n = 0;
    append(ret, "router_logits", MOE_T_LOGITS, &r->logits);
    append(ret, "topk_weight", MOE_T_S, &r->weight);
    append(ret, "router_state", MOE_T_LOGITS, &r->state);
    append(ret, "O", MOE_T_O, &r->O);
    append(ret, "dX", MOE_T_DX, &r->dX);
    append(ret, "dscale", MOE_T_DW_R, &r->dscale);
    append(ret, "dW1_shared", MOE_T_DW1_SHARED, &r->shared.t[MOE_T_DW1_SHARED]);
    append(ret, "dW2_shared", MOE_T_DW2_SHARED, &r->shared.t[MOE_T_DW2_SHARED]);
    for (int place = 0; place < MOE_INT_PLACE_COUNT; place++)
        append_chain(b, place, &r->chain[place], ret);
}

/* What the draws start from. */
typedef struct start {
    moe_tensors exact, sigma, settled; /* O, dX and dS of the oracle; on the subject's sides */
} start;

static void start_destroy(start *s) {
    moe_tensors_destroy(&s->exact);
    moe_tensors_destroy(&s->sigma);
    moe_tensors_destroy(&s->settled);
}

static moe_status copy_results(const moe_tensors *results, moe_tensors *ret) {
    moe_status status = MOE_OK;
    for (int k = 0; !status && k < FROM_COUNT; k++)
        if (results->t[from[k]].data)
            status = moe_tensor_cast(&results->t[from[k]], MOE_F64, &ret->t[from[k]]);
    return status;
}

/* dX on the subject's sides of its kinks. Rows that the model could not judge, and blanked, are the
 * subject's own. */
static moe_status settle(const moe_int_rows *rows, const moe_tensor *got, const moe_tensor *blanked,
                         start *s) {
    moe_tensor *dX = &s->settled.t[MOE_T_DX];
    if (!dX->data)
        return MOE_OK;
    moe_tensor_destroy(dX);
    moe_status status =
        moe_int_rows_settle(rows, MOE_T_DX, got, &s->exact.t[MOE_T_DX], &s->sigma.t[MOE_T_DX], dX);
    const double *seen = blanked->data;
    double *v = dX->data;
    for (int64_t i = 0; !status && i < moe_tensor_count(dX); i++)
        if (!isfinite(seen[i]))
            v[i] = moe_load(got->data, got->dtype, (size_t)i);
    return status;
}

static void to_sigma(const moe_int_rounding *rounding, start *s) {
    for (int k = 0; k < FROM_COUNT; k++) {
        const double *v = s->exact.t[from[k]].data;
        double *variance = s->sigma.t[from[k]].data;
        for (int64_t i = 0; variance && i < moe_tensor_count(&s->exact.t[from[k]]); i++)
            variance[i] = sqrt(moe_int_result_variance(rounding, v[i], variance[i]));
    }
}

static moe_status make_start(const moe_problem *problem, const moe_int_rounding *rounding,
                             const moe_tensors *got, moe_reference_result *experts, start *s) {
    moe_int_rows rows = {0};
    moe_status status = copy_results(&experts->out, &s->exact);
    if (!status)
        status = copy_results(&experts->out, &s->settled);
    if (!status)
        status = moe_int_layer_errors(&problem->layer, &problem->in, rounding, 1, experts,
                                      &s->sigma, &rows);
    if (!status)
        status = settle(&rows, &got->t[MOE_T_DX], &experts->out.t[MOE_T_DX], s);
    if (!status)
        to_sigma(rounding, s);
    moe_int_rows_destroy(&rows);
    return status;
}

/* 1 or -1: element i of what is drawn, one of `from` or, after those, the logits' gradient. */
static double sign(const moe_problem *problem, uint64_t draw, int what, int64_t i) {
    const uint64_t at = ((draw * (FROM_COUNT + 1) + (uint64_t)what) << 40) + (uint64_t)i;
    return moe_rng_bits(problem->seed, MOE_INT_STREAM_SAMPLE, at) & 1 ? -1 : 1;
}

/* to = exact +- sigma */
static void err(const moe_problem *problem, const start *from_here, uint64_t draw,
                moe_tensors *to) {
    for (int k = 0; k < FROM_COUNT; k++) {
        const double *v = from_here->exact.t[from[k]].data, *s = from_here->sigma.t[from[k]].data;
        double *w = to->t[from[k]].data;
        const int64_t count = w ? moe_tensor_count(&to->t[from[k]]) : 0;
        for (int64_t i = 0; i < count; i++)
            w[i] = v[i] + (s ? sign(problem, draw, k, i) * s[i] : 0);
    }
}

/* ret[i][row] += the row's squared error, in the mean of all draws: of `drawn` from the oracle, or
 * of what is an error itself, without one. */
static void add_errors(const moe_int_block_list *drawn, const moe_int_block_list *oracle,
                       double *ret[MOE_INT_BLOCK_RESULTS_MAX]) {
    for (int i = 0; i < drawn->n; i++) {
        const moe_tensor *t = drawn->of[i].t;
        const double *a = t->data, *b = oracle ? oracle->of[i].t->data : NULL;
        const int64_t rows = a && ret[i] ? moe_int_block_rows(t) : 0;
        for (int64_t r = 0; r < rows; r++) {
            const int64_t columns = t->shape[t->ndim - 1];
            for (int64_t c = r * columns; c < (r + 1) * columns; c++) {
                const double d = b ? a[c] - b[c] : a[c];
                ret[i][r] += d * d / DRAWS;
            }
        }
    }
}

static moe_status draw_all(const moe_problem *problem, const start *s,
                           const moe_int_block_list *oracle, const moe_log *log,
                           double *ret[MOE_INT_BLOCK_RESULTS_MAX]) {
    moe_tensors core = {0};
    moe_status status = copy_results(&s->exact, &core);
    for (uint64_t draw = 0; !status && draw < DRAWS; draw++) {
        moe_int_block_result r = {0};
        moe_int_block_list drawn;
        err(problem, s, draw, &core);
        status = moe_int_block_leave(problem->block, problem, &core, log, &r);
        moe_int_block_list_make(problem->block, &r, &drawn);
        if (!status)
            add_errors(&drawn, oracle, ret);
        moe_int_block_result_destroy(&r);
    }
    moe_tensors_destroy(&core);
    return status;
}

/* Variance of the logits' gradient [T][columns], which the caller frees: weights and dS [all pairs]
 * are taken for right, and what they are made into is rounded. */
static moe_status router_variance(const moe_block *b, const double *dS, double **ret) {
    const size_t pairs = (size_t)b->plan->n_pairs + 1;
    const size_t count = (size_t)(b->T * moe_int_block_classes(b));
    moe_plan plan = *b->plan;
    moe_int_class_weights w = {0};
    double *right = calloc(pairs, sizeof *right), *dz = malloc(count * sizeof *dz);
    double *variance = malloc(count * sizeof *variance);
    moe_status status = right && dz && variance ? moe_int_block_unscale(b, dS, &w) : MOE_E_NOMEM;
    plan.weight = b->pair_weight;
    moe_reference_result oracle = {
        &plan, {.t = {[MOE_T_LOGITS] = {.data = w.logits}, [MOE_T_DS] = {.data = w.gradient}}}};
    moe_tensors v = {.t = {[MOE_T_DS] = {.data = right}}};
    const moe_int_error_run run = {.desc = &b->layer,
                                   .rounding = moe_int_rounding_of(MOE_F64),
                                   .oracle = &oracle,
                                   .v = &v,
                                   .T = b->T,
                                   .vweight = right};
    if (!status)
        status = moe_int_dz_errors(&run, dz, variance);
    for (size_t i = 0; !status && i < count; i++)
        variance[i] *= run.rounding.u2;
    if (!status)
        status = moe_int_block_to_columns(b, &variance);
    moe_int_class_weights_free(&w);
    free(right);
    free(dz);
    if (status)
        free(variance);
    else
        *ret = variance;
    return status;
}

/* What an error of the logits' gradient, sigma with drawn signs, becomes on its way to dX and the
 * router's parameters: into `err`. */
static moe_status err_in_router(const moe_problem *problem, const double *variance, uint64_t draw,
                                double *err, moe_int_block_result *ret) {
    const moe_block *b = problem->block;
    const moe_int_chain *router = &b->chain[MOE_INT_PLACE_ROUTER];
    double *dx = NULL;
    for (int64_t i = 0; i < b->T * moe_int_block_columns(b); i++)
        err[i] = sign(problem, draw, FROM_COUNT, i) * sqrt(variance[i]);
    moe_status status = moe_int_chain_backward(router, &b->router, err, b->layer.d, &dx,
                                               &ret->chain[MOE_INT_PLACE_ROUTER]);
    if (!status)
        ret->dX = (moe_tensor){dx, MOE_F64, 2, {b->T, b->layer.d}};
    return status;
}

static moe_status draw_router(const moe_problem *problem, const double *dS,
                              double *ret[MOE_INT_BLOCK_RESULTS_MAX]) {
    const moe_block *b = problem->block;
    double *variance = NULL;
    double *err = malloc((size_t)(b->T * moe_int_block_columns(b)) * sizeof *err);
    moe_status status = err ? router_variance(b, dS, &variance) : MOE_E_NOMEM;
    for (uint64_t draw = 0; !status && draw < DRAWS; draw++) {
        moe_int_block_result r = {0};
        moe_int_block_list drawn;
        status = err_in_router(problem, variance, draw, err, &r);
        moe_int_block_list_make(b, &r, &drawn);
        if (!status)
            add_errors(&drawn, NULL, ret);
        moe_int_block_result_destroy(&r);
    }
    free(variance);
    free(err);
    return status;
}

moe_status moe_int_block_due_make(const moe_problem *problem, const moe_int_rounding *rounding,
                                  const moe_tensors *got, moe_reference_result *experts,
                                  const moe_int_block_result *oracle, const moe_log *log,
                                  moe_int_block_due *ret) {
    start s = {0};
    moe_int_block_list of_oracle;
    moe_int_block_list_make(problem->block, oracle, &of_oracle);
    moe_status status = make_start(problem, rounding, got, experts, &s);
    for (int i = 0; !status && i < of_oracle.n; i++) {
        const int64_t rows = moe_int_block_rows(of_oracle.of[i].t);
        ret->expected[i] = rows ? calloc((size_t)rows, sizeof **ret->expected) : NULL;
        status = rows && !ret->expected[i] ? MOE_E_NOMEM : MOE_OK;
    }
    if (!status)
        status = draw_all(problem, &s, &of_oracle, log, ret->expected);
    if (!status && oracle->dS.data)
        status = draw_router(problem, oracle->dS.data, ret->expected);
    if (!status)
        status = moe_int_block_leave(problem->block, problem, &s.settled, log, &ret->settled);
    start_destroy(&s);
    return status;
}

void moe_int_block_due_destroy(moe_int_block_due *due) {
    for (int i = 0; i < MOE_INT_BLOCK_RESULTS_MAX; i++)
        free(due->expected[i]);
    moe_int_block_result_destroy(&due->settled);
}
