/* The block around a layer. Its own part is computed here in float64, whatever the subject: what is
 * judged is that the subject's experts, put where the family's code has them, give what that code
 * gives. Without golden values the truth is the same block around the reference's experts. */
#include "check/block.h"
#include "block/block.h"
#include "check/block_errors.h"
#include "check/compare/compare.h"
#include "check/verdict/result.h"
#include "moeref/recipe.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdlib.h>

/* A block under judgement. */
typedef struct judging {
    const moe_problem *problem;
    moe_reference_result *experts; /* the oracle's */
    moe_int_rounding rounding;
    const moe_tensors *results; /* the subject's */
    const moe_int_block_result *behind_oracle;
    moe_int_block_list got, want, oracle;
    moe_int_block_due due;      /* once it is asked for */
    moe_int_block_list settled; /* of due */
    bool asked;
    const moe_log *log;
    moe_check_result *result;
} judging;

/* Sums of squares, of a row or of rows. */
typedef struct squares {
    double error, norm;
    double expected, expected2; /* of what errs by rounding, and of those squares */
} squares;

/* Row `row` of `want` against the first columns of got's. */
static squares sum_row(const moe_tensor *got, const moe_tensor *want, int64_t row,
                       const double *expected, moe_tensor_verdict *v) {
    const int64_t columns = want->shape[want->ndim - 1], stride = got->shape[got->ndim - 1];
    const double *g = (const double *)got->data + row * stride;
    const double *w = (const double *)want->data + row * columns;
    squares sum = {.expected = expected ? expected[row] : 0};
    sum.expected2 = sum.expected * sum.expected;
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

static void add(squares *all, const squares *row) {
    all->error += row->error;
    all->norm += row->norm;
    all->expected += row->expected;
    all->expected2 += row->expected2;
}

/* The limit of error over norm: the gate of rounded sums, or what rounding explains. So many
 * independent errors as the expected squares are spread over scatter as chi^2; by how much sigma
 * itself may be wrong, the gate of row rms says (gates.c). */
static double limit_of(double gate, double rms, const squares *s) {
    if (!(s->expected > 0))
        return gate;
    const double independent = s->expected * s->expected / s->expected2;
    const double most = rms * rms * moe_int_chi2_quantile(independent) * s->expected;
    return fmax(gate, most / (s->norm > 0 ? s->norm : s->expected));
}

/* Error over the norm, or, of what is 0, over the error that rounding explains. */
static double nmse_of(const squares *s) {
    return s->error == 0 ? 0 : s->error / (s->norm > 0 ? s->norm : s->expected);
}

/* NMSE of the whole, and of the row that is furthest beyond its limit: its error over its own norm.
 * Of what is next to 0 because large terms cancel, what rounding explains is the limit; of what is
 * 0 it is the size, too. */
static void measure(const moe_tensor *got, const moe_tensor *want, const double *expected,
                    const moe_gate *gate, moe_tensor_verdict *v) {
    const int64_t rows = moe_int_block_rows(want);
    squares all = {0};
    double worst = 0;
    for (int64_t r = 0; r < rows; r++) {
        const squares row = sum_row(got, want, r, expected, v);
        add(&all, &row);
    }
    v->nmse = nmse_of(&all);
    v->gate.nmse = limit_of(gate->nmse, gate->row_rms_z, &all);
    for (int64_t r = 0; gate->group_nmse > 0 && r < rows; r++) {
        moe_tensor_verdict again = {0};
        const squares row = sum_row(got, want, r, expected, &again);
        const double of_row = nmse_of(&row);
        const double limit = limit_of(gate->group_nmse, gate->row_rms_z, &row);
        if (!(of_row / limit <= worst)) {
            worst = of_row / limit;
            v->worst_group_nmse = of_row;
            v->worst_group = r;
            v->gate.group_nmse = limit;
        }
    }
}

/* The golden values, or the oracle's, and once it is known on the subject's sides of kinks: the
 * block adds dX as it is. *shifted is the caller's. */
static moe_status truth_of(const judging *j, int i, const moe_tensor **ret, moe_tensor *shifted) {
    const moe_tensor *golden = j->want.of[i].t, *oracle = j->oracle.of[i].t;
    *ret = golden->data ? golden : oracle;
    /* Golden logits may be of fewer outputs than the oracle's; they precede all kinks. */
    if (!j->asked || !(*ret)->data || !oracle->data || !j->settled.of[i].t->data ||
        moe_tensor_count(*ret) != moe_tensor_count(oracle))
        return MOE_OK;
    moe_status status = moe_tensor_cast(*ret, MOE_F64, shifted);
    const double *here = j->settled.of[i].t->data, *there = oracle->data;
    for (int64_t k = 0; !status && k < moe_tensor_count(oracle); k++)
        ((double *)shifted->data)[k] += here[k] - there[k];
    *ret = shifted;
    return status;
}

/* The gate of row rms. fp64 has none of its own and adds up as fp32 does. */
static double rms_of(moe_dtype arithmetic) {
    return moe_gate_for(MOE_T_DX, arithmetic == MOE_F64 ? MOE_F32 : arithmetic).row_rms_z;
}

/* Router and norms stay in float64 and only what the experts' results went into errs. */
static moe_status passes(const judging *j, int i, moe_tensor_verdict *v, bool *ret) {
    const moe_tensor_id kind = j->got.of[i].kind;
    const moe_tensor *want;
    moe_tensor shifted = {0};
    moe_gate gate = moe_gate_for(kind, j->rounding.arithmetic);
    gate.row_rms_z = rms_of(j->rounding.arithmetic);
    v->gate = (moe_gate){.nmse = gate.nmse, .group_nmse = gate.group_nmse};
    v->truth = j->want.of[i].t->data ? "golden" : "oracle";
    v->worst_expert = -1;
    v->max_abs = 0;
    v->nonzero = 0;
    moe_status status = truth_of(j, i, &want, &shifted);
    if (!status)
        measure(j->got.of[i].t, want, j->due.expected[i], &gate, v);
    *ret = v->nmse < v->gate.nmse &&
           (v->gate.group_nmse == 0 || v->worst_group_nmse < v->gate.group_nmse);
    moe_tensor_destroy(&shifted);
    return status;
}

/* What rounding explains is not asked before something is beyond the gates of correct kernels. */
static moe_status ask(judging *j) {
    moe_status status = MOE_OK;
    if (!j->asked)
        status = moe_int_block_due_make(j->problem, &j->rounding, j->results, j->experts,
                                        j->behind_oracle, j->log, &j->due);
    moe_int_block_list_make(j->problem->block, &j->due.settled, &j->settled);
    j->asked = status == MOE_OK;
    return status;
}

static void fail(const judging *j, int i, moe_tensor_verdict *v) {
    if (!(v->nmse < v->gate.nmse))
        moe_int_entry_fail(v, "NMSE %.3g, limit %.3g", v->nmse, v->gate.nmse);
    else
        moe_int_entry_fail(v, "row %lld: NMSE %.3g, limit %.3g", (long long)v->worst_group,
                           v->worst_group_nmse, v->gate.group_nmse);
    moe_int_result_set(j->result, MOE_VERDICT_FAIL, "%s: %s", j->got.of[i].name, v->why);
}

static moe_status judge(judging *j, int i) {
    const moe_tensor *got = j->got.of[i].t;
    bool right = true;
    if (!got->data || (!j->want.of[i].t->data && !j->oracle.of[i].t->data))
        return MOE_OK;
    moe_tensor_verdict *v = moe_int_result_entry(j->result, j->got.of[i].name);
    j->result->checked_elements += moe_tensor_count(got);
    moe_status status = passes(j, i, v, &right);
    if (!right && !status)
        status = ask(j);
    if (!right && !status)
        status = passes(j, i, v, &right);
    if (!right && !status)
        fail(j, i, v);
    return status;
}

static moe_int_rounding rounding_of(const moe_int_subject *s, const moe_check_result *r) {
    const moe_recipe *named = r->recipe[0] ? moe_recipe_find(r->recipe) : NULL;
    return named ? moe_int_rounding_at(s->arithmetic, named->points)
                 : moe_int_rounding_of(s->arithmetic);
}

/* Results that a block starts from; those of a failed or partial run are not put into one. */
static bool has_results(const moe_int_subject *s) {
    const bool backward = (s->problem->pass & MOE_PASS_BWD) != 0;
    return s->got.t[MOE_T_O].data &&
           (!backward || (s->got.t[MOE_T_DX].data && s->got.t[MOE_T_DS].data));
}

static moe_status judge_all(judging *j, const moe_int_subject *s) {
    const moe_block *block = j->problem->block;
    moe_int_block_result got = {0}, oracle = {0};
    moe_status status = moe_int_block_leave(block, j->problem, &s->got, j->log, &got);
    if (!status)
        status = moe_reference_problem(j->problem, 0, j->log, &j->experts);
    if (!status)
        status = moe_int_block_leave(block, j->problem, &j->experts->out, j->log, &oracle);
    j->behind_oracle = &oracle;
    moe_int_block_list_make(block, &got, &j->got);
    moe_int_block_list_make(block, &block->want, &j->want);
    moe_int_block_list_make(block, &oracle, &j->oracle);
    for (int i = 0; !status && i < j->got.n; i++)
        status = judge(j, i);
    moe_int_block_due_destroy(&j->due);
    moe_int_block_result_destroy(&got);
    moe_int_block_result_destroy(&oracle);
    moe_reference_result_destroy(&j->experts);
    return status;
}

moe_status moe_int_judge_block(const moe_int_subject *s, const moe_log *log,
                               moe_check_result *result) {
    if (!s->problem->block || result->verdict >= MOE_VERDICT_FAIL ||
        result->verdict == MOE_VERDICT_SKIP || !has_results(s))
        return MOE_OK;
    judging j = {.problem = s->problem,
                 .results = &s->got,
                 .rounding = rounding_of(s, result),
                 .log = log,
                 .result = result};
    return judge_all(&j, s);
}
