/* A block is linear in small errors of its experts' O, dX and dS. The error model knows the
 * variance of each; so many times all of them err by their sigma, with drawn signs, and the block
 * goes on from there. The mean square of what comes out is the expected square of its error,
 * exactly where a row hangs on one of them, within 35 % (one sigma of 16 draws) where on many. */
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

/* to = exact +- sigma */
static void err(const moe_problem *problem, const start *from_here, uint64_t draw,
                moe_tensors *to) {
    for (int k = 0; k < FROM_COUNT; k++) {
        const double *v = from_here->exact.t[from[k]].data, *s = from_here->sigma.t[from[k]].data;
        double *w = to->t[from[k]].data;
        const int64_t count = w ? moe_tensor_count(&to->t[from[k]]) : 0;
        for (int64_t i = 0; i < count; i++) {
            const uint64_t at = ((draw * FROM_COUNT + (uint64_t)k) << 40) + (uint64_t)i;
            const bool down = moe_rng_bits(problem->seed, MOE_INT_STREAM_SAMPLE, at) & 1;
            w[i] = v[i] + (s ? (down ? -s[i] : s[i]) : 0);
        }
    }
}

/* ret[i][row] += the row's squared error, in the mean of all draws */
static void add_errors(const moe_int_block_list *drawn, const moe_int_block_list *oracle,
                       double *ret[MOE_INT_BLOCK_RESULTS_MAX]) {
    for (int i = 0; i < oracle->n; i++) {
        const double *a = drawn->of[i].t->data, *b = oracle->of[i].t->data;
        const int64_t rows = ret[i] ? moe_int_block_rows(oracle->of[i].t) : 0;
        for (int64_t r = 0; r < rows; r++) {
            const int64_t columns = oracle->of[i].t->shape[oracle->of[i].t->ndim - 1];
            for (int64_t c = r * columns; c < (r + 1) * columns; c++)
                ret[i][r] += (a[c] - b[c]) * (a[c] - b[c]) / DRAWS;
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

moe_status moe_int_block_due_make(const moe_problem *problem, const moe_int_rounding *rounding,
                                  const moe_tensors *got, moe_reference_result *experts,
                                  const moe_int_block_list *oracle, const moe_log *log,
                                  moe_int_block_due *ret) {
    start s = {0};
    moe_status status = make_start(problem, rounding, got, experts, &s);
    for (int i = 0; !status && i < oracle->n; i++) {
        const int64_t rows = moe_int_block_rows(oracle->of[i].t);
        ret->expected[i] = rows ? calloc((size_t)rows, sizeof **ret->expected) : NULL;
        status = rows && !ret->expected[i] ? MOE_E_NOMEM : MOE_OK;
    }
    if (!status)
        status = draw_all(problem, &s, oracle, log, ret->expected);
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
