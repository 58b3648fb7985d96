/* Families whose block has more than a layer: the block around the reference's experts gives what
 * Transformers gave, and a fault anywhere in it shows. */
#include "block/block.h"
#include "entry.h"
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

static double square_of(const moe_tensor *t, int64_t row) {
    const double *v = t->data;
    double sum = 0;
    for (int64_t i = row * t->shape[1]; i < (row + 1) * t->shape[1]; i++)
        sum += v[i] * v[i];
    return sum;
}

/* The smallest row that is not 0. */
static int64_t smallest_row(const moe_tensor *t) {
    int64_t ret = 0;
    for (int64_t row = 1; row < t->shape[0]; row++)
        if (square_of(t, row) > 0 &&
            (square_of(t, ret) == 0 || square_of(t, row) < square_of(t, ret)))
            ret = row;
    return ret;
}

static void expect_scaled_fails(moe_problem *problem, moe_tensor *t, int64_t first, int64_t last,
                                double factor, const char *family) {
    moe_check_result *r = NULL;
    scale_rows(t, first, last, factor);
    cr_expect_eq(verdict_as("reference:bf16", problem, &r), MOE_VERDICT_FAIL,
                 "%s: rows %lld-%lld times %g", family, (long long)first, (long long)last - 1,
                 factor);
    scale_rows(t, first, last, 1 / factor);
    moe_check_result_destroy(&r);
}

/* And hides no error: 3 % of all of O or dX, 10 % of any row, however small beside the others. */
ParameterizedTestParameters(golden_hf_block, shows_faults_when_rounded) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_block, shows_faults_when_rounded) {
    moe_problem *problem = load(family->text);
    moe_tensor *const results[] = {problem->block ? &problem->block->want.O : NULL,
                                   problem->block ? &problem->block->want.dX : NULL};
    for (int k = 0; k < 2; k++) {
        moe_tensor *t = results[k];
        const int64_t rows = t && t->data ? t->shape[0] : 0;
        if (!rows)
            continue;
        const int64_t least = smallest_row(t);
        expect_scaled_fails(problem, t, 0, rows, 1.03, family->text);
        expect_scaled_fails(problem, t, least, least + 1, 1.1, family->text);
        for (int64_t row = 0; row < rows; row += 1 + rows / 8)
            if (square_of(t, row) > 0)
                expect_scaled_fails(problem, t, row, row + 1, 1.1, family->text);
    }
    moe_problem_destroy(&problem);
}

/* A token whose gradient is 2^-8 of the others': its row of dX is, too, and what Transformers gave
 * for it is that much smaller, exactly. */
static void shrink(moe_problem *problem, int64_t row) {
    moe_block *b = problem->block;
    const int64_t width = problem->in.t[MOE_T_DO].shape[1];
    const double least = 0x1p-8;
    scale_rows(&b->dO, row, row + 1, least);
    scale_rows(&b->want.dX, row, row + 1, least);
    moe_tensor *dO = &problem->in.t[MOE_T_DO];
    for (int64_t i = row * width; i < (row + 1) * width; i++)
        moe_store(dO->data, dO->dtype, (size_t)i, least * moe_load(dO->data, dO->dtype, (size_t)i));
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_tensor_destroy(&problem->expected.t[id]); /* they were of the larger gradient */
}

static bool has_right_dX(const moe_problem *problem) {
    moe_check_result *r = NULL;
    verdict_as("reference:bf16", problem, &r);
    const moe_tensor_verdict *v = entry(r, "block dX");
    cr_assert(v, "%s", r->why);
    const bool right = v->verdict == MOE_VERDICT_PASS;
    moe_check_result_destroy(&r);
    return right;
}

/* A row is judged by its own size and by what rounding makes of it, not by how large others are. */
ParameterizedTestParameters(golden_hf_block, shows_faults_of_small_rows) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_block, shows_faults_of_small_rows) {
    const int64_t row = 3;
    moe_problem *problem = load(family->text);
    const moe_block *b = problem->block;
    /* Of product keys a token's row has other tokens' logits (Doge's view of them). */
    if (b && b->want.dX.data && b->T == problem->T && b->choice != MOE_INT_CHOICE_PRODUCT_KEYS &&
        square_of(&b->want.dX, row) > 0) {
        shrink(problem, row);
        cr_expect(has_right_dX(problem), "%s: a small row", family->text);
        scale_rows(&problem->block->want.dX, row, row + 1, 1.25);
        cr_expect(!has_right_dX(problem), "%s: a quarter more", family->text);
    }
    moe_problem_destroy(&problem);
}
