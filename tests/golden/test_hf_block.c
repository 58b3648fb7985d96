/* Families whose block has more than a layer: the block around the reference's experts gives what
 * Transformers gave, and a fault anywhere in it shows. */
#include "block/block.h"
#include "golden.h"
#include "moeref/backend.h"
#include "moeref/check.h"

static moe_verdict verdict_as(const char *spec, const moe_problem *problem,
                              moe_check_result **ret) {
    moe_backends *all = NULL;
    moe_backend *reference = NULL;
    const moe_check_params params = {.no_explanation = true};
    cr_assert_eq(moe_backends_load(NULL, &to_stderr, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, spec, NULL, &to_stderr, &reference), MOE_OK);
    cr_assert_eq(moe_check_backend(reference, problem, &params, &to_stderr, ret), MOE_OK);
    moe_backend_close(&reference);
    moe_backends_destroy(&all);
    return (*ret)->verdict;
}

static moe_verdict verdict_of(const moe_problem *problem, moe_check_result **ret) {
    return verdict_as("reference", problem, ret);
}

static const moe_tensor_verdict *entry(const moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0)
            return &r->tensor[i];
    return NULL;
}

static bool is_golden(const moe_check_result *r, const char *name) {
    const moe_tensor_verdict *v = entry(r, name);
    return v && strcmp(v->truth, "golden") == 0 && v->nonzero > 0;
}

/* What every block has must be held to golden values, not to the reference's own. */
ParameterizedTestParameters(golden_hf_block, agrees) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_block, agrees) {
    static const char *const forward[] = {"block O", "block router_logits"};
    static const char *const backward[] = {"block dX", "dW1", "dW2"};
    moe_problem *problem = load(family->text);
    moe_check_result *r = NULL;
    if (problem->block) {
        cr_expect_eq(verdict_of(problem, &r), MOE_VERDICT_PASS, "%s: %s", family->text, r->why);
        for (size_t i = 0; i < sizeof forward / sizeof *forward; i++)
            cr_expect(is_golden(r, forward[i]), "%s: no %s", family->text, forward[i]);
        for (size_t i = 0; (problem->pass & MOE_PASS_BWD) && i < 3; i++)
            cr_expect(is_golden(r, backward[i]), "%s: no %s", family->text, backward[i]);
        for (size_t i = 0; i < r->n_tensors; i++)
            cr_expect(r->tensor[i].nmse < 1e-12, "%s: %s", family->text, r->tensor[i].name);
    }
    moe_check_result_destroy(&r);
    moe_problem_destroy(&problem);
}

/* Every number of a block, its parameters before all, must decide something. */
static void expect_failure(moe_problem *problem, moe_tensor *t, const char *family,
                           const char *what) {
    moe_check_result *r = NULL;
    double *v = t->data;
    if (!v)
        return;
    const double keep = v[0];
    v[0] = keep + 0.125;
    cr_expect_eq(verdict_of(problem, &r), MOE_VERDICT_FAIL, "%s: %s changed nothing", family, what);
    v[0] = keep;
    moe_check_result_destroy(&r);
}

ParameterizedTestParameters(golden_hf_block, shows_faults) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_block, shows_faults) {
    moe_problem *problem = load(family->text);
    moe_block *b = problem->block;
    const bool backward = b && (problem->pass & MOE_PASS_BWD); /* routing is done when it loads */
    for (int place = 0; backward && place < MOE_INT_PLACE_COUNT; place++) {
        for (int i = 0; i < b->chain[place].n; i++) {
            moe_int_chain_gradients *want = &b->want.chain[place];
            expect_failure(problem, &b->chain[place].op[i].w, family->text, "a map's parameter");
            expect_failure(problem, &want->w[i], family->text, "a map's gradient");
            expect_failure(problem, &want->b[i], family->text, "a bias's gradient");
        }
    }
    if (b) {
        expect_failure(problem, &b->want.O, family->text, "O");
        expect_failure(problem, &b->want.dX, family->text, "dX");
        expect_failure(problem, &b->want.weight, family->text, "a weight");
        expect_failure(problem, &b->want.logits, family->text, "a logit");
        expect_failure(problem, &b->want.dscale, family->text, "a scale's gradient");
        expect_failure(problem, &b->want.shared.t[MOE_T_DW1_SHARED], family->text, "dW1_shared");
        expect_failure(problem, &problem->expected.t[MOE_T_DW1], family->text, "dW1");
    }
    moe_problem_destroy(&problem);
}

/* What rounding makes of the experts' results is right behind them too: a kink of the activation,
 * or differences that the router's way back makes large. */
ParameterizedTestParameters(golden_hf_block, is_right_when_rounded) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_block, is_right_when_rounded) {
    static const char *const specs[] = {"reference:bf16", "reference:fp16", "reference:bf16.eager"};
    moe_problem *problem = load(family->text);
    for (int i = 0; i < 3; i++) {
        moe_check_result *r = NULL;
        const moe_verdict verdict = verdict_as(specs[i], problem, &r);
        cr_expect(verdict == MOE_VERDICT_PASS || verdict == MOE_VERDICT_AMBIGUOUS, "%s, %s: %s",
                  family->text, specs[i], r->why);
        moe_check_result_destroy(&r);
    }
    moe_problem_destroy(&problem);
}

static void scale_rows(moe_tensor *t, int64_t first, int64_t last, double factor) {
    const int64_t d = t->shape[1];
    for (int64_t i = first * d; i < last * d; i++)
        ((double *)t->data)[i] *= factor;
}

/* Sum of squares of rows first .. last - 1. */
static double squares(const moe_tensor *t, int64_t first, int64_t last) {
    const double *v = t->data;
    double sum = 0;
    for (int64_t i = first * t->shape[1]; i < last * t->shape[1]; i++)
        sum += v[i] * v[i];
    return sum;
}

/* And hides no error: 3 % of all of dX, 10 % of any row of at least the mean size. */
ParameterizedTestParameters(golden_hf_block, shows_faults_when_rounded) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_block, shows_faults_when_rounded) {
    moe_problem *problem = load(family->text);
    moe_tensor *dX = problem->block ? &problem->block->want.dX : NULL;
    const int64_t rows = dX && dX->data ? dX->shape[0] : 0;
    for (int64_t row = -1; rows && row < rows; row += 1 + rows / 8) {
        const int64_t first = row < 0 ? 0 : row, last = row < 0 ? rows : row + 1;
        const double factor = row < 0 ? 1.03 : 1.1;
        moe_check_result *r = NULL;
        if (squares(dX, first, last) * (double)rows < squares(dX, 0, rows) * (double)(last - first))
            continue;
        scale_rows(dX, first, last, factor);
        cr_expect_eq(verdict_as("reference:bf16", problem, &r), MOE_VERDICT_FAIL,
                     "%s: row %lld of dX", family->text, (long long)row);
        scale_rows(dX, first, last, 1 / factor);
        moe_check_result_destroy(&r);
    }
    moe_problem_destroy(&problem);
}
