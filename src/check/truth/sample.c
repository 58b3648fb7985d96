/* The sampled oracle's choice: which tokens and experts, and the reference run on those tokens. */
#include "check/truth/truth.h"
#include "core/samples.h"
#include "core/streams.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLE_TOKENS = 32 };

uint64_t moe_int_sample_bits(const moe_problem *problem, uint64_t index) {
    return moe_rng_bits(problem->seed, MOE_INT_STREAM_SAMPLE, index);
}

static void add_once(int64_t value, int64_t *list, int64_t *count, int64_t room) {
    for (int64_t i = 0; i < *count; i++)
        /* The first *count are set.
         * NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
        if (list[i] == value)
            return;
    if (*count < room)
        list[(*count)++] = value;
}

static int64_t rows_of(const moe_plan *plan, int64_t e) {
    return plan->offsets[e + 1] - plan->offsets[e];
}

int64_t moe_int_sample_experts(const moe_problem *problem, const moe_plan *plan, int64_t want,
                               int64_t *ret) {
    int64_t E = problem->layer.E, count = 0, empty = -1, small = -1, large = 0;
    for (int64_t e = 0; e < E; e++) {
        if (rows_of(plan, e) == 0)
            empty = e;
        else if (small < 0 || rows_of(plan, e) < rows_of(plan, small))
            small = e;
        if (rows_of(plan, e) > rows_of(plan, large))
            large = e;
    }
    if (empty >= 0)
        add_once(empty, ret, &count, want);
    if (small >= 0)
        add_once(small, ret, &count, want);
    add_once(large, ret, &count, want);
    add_once(0, ret, &count, want);
    add_once(E - 1, ret, &count, want);
    for (uint64_t i = 0; count < want && count < E && i < 64; i++)
        add_once((int64_t)(moe_int_sample_bits(problem, i) % (uint64_t)E), ret, &count, want);
    return count;
}

/* The first and last token of an expert: the ends of its tiles. */
static void add_ends(const moe_plan *plan, int64_t e, int64_t *tokens, int64_t *count) {
    if (rows_of(plan, e) == 0)
        return;
    add_once(plan->token[plan->offsets[e]], tokens, count, SAMPLE_TOKENS);
    add_once(plan->token[plan->offsets[e + 1] - 1], tokens, count, SAMPLE_TOKENS);
}

static moe_status choose_tokens(const moe_problem *problem, const moe_plan *plan,
                                const moe_tensors *seen, moe_int_truth *t) {
    int64_t experts[8], odd[MOE_INT_ODD], n_odd = 0;
    const moe_status status = seen ? moe_int_odd_tokens(plan, seen, odd, &n_odd) : MOE_OK;
    if (status)
        return status;
    int64_t n = moe_int_sample_experts(problem, plan, 8, experts);
    t->tokens = malloc(SAMPLE_TOKENS * sizeof *t->tokens);
    if (!t->tokens)
        return MOE_E_NOMEM;
    add_once(0, t->tokens, &t->n_tokens, SAMPLE_TOKENS);
    add_once(problem->T - 1, t->tokens, &t->n_tokens, SAMPLE_TOKENS);
    for (int64_t i = 0; i < n; i++)
        add_ends(plan, experts[i], t->tokens, &t->n_tokens);
    for (int64_t i = 0; i < n_odd; i++)
        add_once(odd[i], t->tokens, &t->n_tokens, SAMPLE_TOKENS);
    for (uint64_t i = 64; t->n_tokens < SAMPLE_TOKENS && i < 64 + 8 * SAMPLE_TOKENS; i++)
        add_once((int64_t)(moe_int_sample_bits(problem, i) % (uint64_t)problem->T), t->tokens,
                 &t->n_tokens, SAMPLE_TOKENS);
    qsort(t->tokens, (size_t)t->n_tokens, sizeof *t->tokens, moe_int_compare_int64);
    return MOE_OK;
}

static moe_status gather_rows(const moe_tensor *src, const int64_t *tokens, int64_t n,
                              moe_tensor *ret) {
    *ret = (moe_tensor){0};
    if (!src->data)
        return MOE_OK;
    int64_t shape[2] = {n, src->shape[1]};
    size_t bytes = (size_t)src->shape[1] * moe_dtype_size(src->dtype);
    moe_status status = moe_tensor_alloc(src->dtype, 2, shape, ret);
    for (int64_t i = 0; !status && i < n; i++)
        memcpy((char *)ret->data + (size_t)i * bytes,
               (const char *)src->data + (size_t)tokens[i] * bytes, bytes);
    return status;
}

/* A row of the oracle's sub-problem in the whole one: sub row p is full row ret[p]. The pairs of a
 * token ascend by expert in both plans. */
static void map_pairs(const moe_plan *sub, const moe_plan *full, const int64_t *tokens,
                      int64_t *ret) {
    for (int64_t i = 0; i < sub->n_tokens; i++) {
        int64_t from = full->token_offsets[tokens[i]], to = sub->token_offsets[i];
        for (int64_t k = 0; to + k < sub->token_offsets[i + 1]; k++)
            ret[sub->pair_of_token[to + k]] = full->pair_of_token[from + k];
    }
}

/* The part of tensor `id` that the oracle's result is. */
static moe_status make_part(moe_tensor_id id, const moe_int_truth *t, const moe_plan *full,
                            const int64_t *row_of_pair, moe_int_part *ret) {
    const moe_tensor *want = &t->oracle->out.t[id];
    const moe_tensor *variance = &t->variance.t[id];
    moe_int_layout l = moe_int_layout_of(id, want);
    if (!want->data || (l.by != MOE_INT_BY_TOKEN && l.by != MOE_INT_BY_PAIR))
        return MOE_OK;
    moe_status status = moe_int_part_alloc(id, l.groups, l.width, variance->data != NULL, ret);
    if (status)
        return status;
    memcpy(ret->want.data, want->data, (size_t)moe_tensor_bytes(want));
    if (variance->data)
        memcpy(ret->variance.data, variance->data, (size_t)moe_tensor_bytes(want));
    ret->layout.by = l.by;
    for (int64_t g = 0; g < l.groups; g++) {
        int64_t row = l.by == MOE_INT_BY_TOKEN ? t->tokens[g] : row_of_pair[g];
        ret->base[g] = row * l.width;
        ret->expert[g] = l.by == MOE_INT_BY_TOKEN ? -1 : moe_int_plan_expert_of(full, row);
    }
    return MOE_OK;
}

static moe_status run_on_tokens(const moe_problem *problem, const moe_plan *sub, int threads,
                                const moe_log *log, moe_int_truth *t) {
    moe_reference_params params = {.tokens = t->n_tokens,
                                   .precision = MOE_F64,
                                   .threads = threads,
                                   .plan = sub,
                                   .plan_given = problem->plan != NULL,
                                   .skip_weight_gradients = 1};
    return moe_reference_run(&problem->layer, &t->in, &params, log, &t->oracle);
}

/* The rows of a sample are copies. */
static bool same_input(const moe_tensor *a, const moe_tensor *b, bool copied) {
    if (!copied || !a->data || !b->data)
        return a->data == b->data;
    return moe_tensor_same_shape(a, b) && a->dtype == b->dtype &&
           memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)) == 0;
}

/* Is the oracle of `known` that of the same tokens? Not where its error model has put NaN into it,
 * at kinks. */
static bool can_borrow(const moe_problem *problem, const moe_plan *sub, const moe_int_truth *known,
                       const moe_int_truth *t) {
    bool same = known && known->sampled && known->oracle && !moe_int_has_kinks(&problem->layer) &&
                moe_int_same_pairs(known->oracle->plan, sub);
    for (int id = 0; same && id < MOE_T_COUNT; id++)
        same = same_input(&known->in.t[id], &t->in.t[id], id == MOE_T_X || id == MOE_T_DO);
    return same;
}

/* The oracle of the sampled tokens, and how its results may err. */
static moe_status make_oracle(const moe_problem *problem, const moe_plan *sub,
                              const moe_int_rounding *rounding, int threads,
                              const moe_int_truth *known, const moe_log *log, moe_int_truth *t) {
    t->arithmetic = rounding->arithmetic;
    t->points = rounding->points;
    t->borrowed = can_borrow(problem, sub, known, t);
    t->borrowed_errors =
        t->borrowed && known->arithmetic == t->arithmetic && known->points == t->points;
    if (t->borrowed)
        t->oracle = known->oracle;
    if (t->borrowed_errors) {
        t->variance = known->variance;
        t->rows = known->rows;
        return MOE_OK;
    }
    moe_status status = t->borrowed ? MOE_OK : run_on_tokens(problem, sub, threads, log, t);
    return status ? status
                  : moe_int_layer_errors(&problem->layer, &t->in, rounding, threads, t->oracle,
                                         &t->variance, &t->rows);
}

moe_status moe_int_sample_tokens(const moe_problem *problem, const moe_int_routing *routing,
                                 const moe_int_rounding *rounding, int threads,
                                 const moe_int_truth *known, const moe_tensors *seen,
                                 const moe_log *log, moe_int_truth *t) {
    moe_plan *sub = NULL;
    int64_t *row_of_pair = NULL;
    moe_tensor X = t->in.t[MOE_T_X], dO = t->in.t[MOE_T_DO];
    t->in.t[MOE_T_X] = t->in.t[MOE_T_DO] = (moe_tensor){0}; /* from here on copies, owned */
    moe_status status = t->tokens ? MOE_OK : choose_tokens(problem, routing->plan, seen, t);
    if (!status)
        status = gather_rows(&X, t->tokens, t->n_tokens, &t->in.t[MOE_T_X]);
    if (!status)
        status = gather_rows(&dO, t->tokens, t->n_tokens, &t->in.t[MOE_T_DO]);
    if (!status)
        status = moe_plan_subset(routing->plan, t->tokens, t->n_tokens, &sub);
    if (!status)
        status = make_oracle(problem, sub, rounding, threads, known, log, t);
    if (!status) {
        row_of_pair = malloc((size_t)(sub->n_pairs + 1) * sizeof *row_of_pair);
        status = row_of_pair ? MOE_OK : MOE_E_NOMEM;
    }
    if (!status)
        map_pairs(sub, routing->plan, t->tokens, row_of_pair);
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        status = make_part((moe_tensor_id)id, t, routing->plan, row_of_pair, &t->part[id]);
    moe_plan_destroy(&sub);
    free(row_of_pair);
    return status;
}
