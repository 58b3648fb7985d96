/* Every allocation refused in turn: one answer, "no memory", and nothing leaks. Before that, every
 * block with a fence behind it: nothing beyond its end is touched. The linker sends the library's
 * calls of malloc and its kin here (meson.build). */
#include "drawn.h"
#include "fence.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **ret, size_t alignment, size_t size);
void __real_free(void *at);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *at);

static atomic_long asked, held; /* allocations so far, and those not yet released */
static atomic_long overruns;    /* bytes written beyond a block's end */
static long refused;            /* number of the one that is refused, from 1; 0: none */
static bool fenced;             /* blocks are fence.h's */

/* Nor does anybody get a block of no bytes, which C allows: it must not be taken for refused. */
static bool refuse(size_t size) {
    return ++asked == refused || size == 0;
}

/* A block ends with its size, mixed with MAGIC; what lies between is FILL. */
#define MAGIC 0x5bd1e995a5c396e1u
#define FILL  0xa5

static uint64_t *end_of(void *block) {
    return (uint64_t *)((char *)block + malloc_usable_size(block) / 8 * 8) - 1;
}

static void *marked(void *block, size_t size) {
    if (!block)
        return NULL;
    held++;
    memset((char *)block + size, FILL, (size_t)((char *)end_of(block) - (char *)block) - size);
    *end_of(block) = size ^ MAGIC;
    return block;
}

/* Of a block that the library is done with. */
static void unmark(void *block) {
    if (!block)
        return;
    held--;
    const uint64_t size = *end_of(block) ^ MAGIC;
    const unsigned char *at = block, *end = (unsigned char *)end_of(block);
    overruns += size > (uint64_t)(end - at);
    for (uint64_t i = size; i < (uint64_t)(end - at); i++)
        overruns += at[i] != FILL;
}

void *__wrap_malloc(size_t size) {
    if (fenced)
        return fence_take(size, FILL);
    return refuse(size) ? NULL : marked(__real_malloc(size + 16), size);
}

void *__wrap_calloc(size_t n, size_t size) {
    if (fenced)
        return fence_take(n * size, 0);
    return refuse(n * size) ? NULL : marked(__real_calloc(1, n * size + 16), n * size);
}

static void *fenced_again(void *at, size_t size) {
    const fence_block *old = fence_find(at);
    const size_t kept = !old ? 0 : old->size < size ? old->size : size;
    void *block = fence_take(size, FILL);
    if (block && kept)
        memcpy(block, at, kept);
    fence_release(at);
    return block;
}

void *__wrap_realloc(void *at, size_t size) {
    if (fenced)
        return fenced_again(at, size);
    if (refuse(size))
        return NULL;
    unmark(at);
    return marked(__real_realloc(at, size + 16), size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return refuse(size) ? NULL : marked(__real_aligned_alloc(alignment, size + alignment), size);
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size) {
    const int error = refuse(size) ? ENOMEM : __real_posix_memalign(ret, alignment, size + 16);
    if (!error)
        marked(*ret, size);
    return error;
}

char *__wrap_strdup(const char *text) {
    const size_t size = strlen(text) + 1;
    char *copy = __wrap_malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void __wrap_free(void *at) {
    if (fence_release(at))
        return;
    unmark(at);
    __real_free(at);
}

/* One call of the library; returns whether it answered "no memory". `context` is its input. */
typedef bool (*call)(const void *context);

static void refuse_each(const char *name, call run, const void *context) {
    fenced = true;
    cr_assert_not(run(context), "%s", name);
    fenced = false;
    cr_expect_eq(fence_count, 0, "%s: %zu blocks leaked", name, fence_count);
    asked = held = overruns = refused = 0;
    cr_assert_not(run(context), "%s", name);
    const long total = asked;
    cr_expect_eq(held, 0, "%s: %ld leaked", name, (long)held);
    cr_expect_gt(total, 3, "%s", name);
    for (long i = 1; i <= total; i++) {
        asked = held = 0;
        refused = i;
        const bool said = run(context);
        refused = 0;
        cr_expect(said, "%s: allocation %ld of %ld", name, i, total);
        cr_expect_eq(held, 0, "%s: %ld leaked, allocation %ld of %ld", name, (long)held, i, total);
    }
    cr_expect_eq(overruns, 0, "%s", name);
}

static const char *const lines[] = {
    "T=9 d=8 n=4 E=3 K=2 bias=1 router_bias=1 shared=4 shared_gate=1",
    "T=9 d=8 n=4 E=4 K=2 score=sigmoid renorm=1 select=group_topk groups=2 select_bias=1",
    "T=9 d=8 n=4 E=3 K=2 select=expert_choice score=softmax",
    "T=9 d=8 n=4 E=3 K=2 select=capacity capacity=3",
    "T=9 d=8 n=4 E=3 K=2 select=token_rounding tile=4 score=softmax",
    "T=9 d=8 n=4 E=3 K=1 score=sparsemixer",
    "T=9 d=8 n=4 E=3 K=1 score=sigmoid on=input",
    "T=9 d=8 n=4 E=3 K=2 act=relu route=uniform",
    "T=2 d=8 n=4 E=7 K=1 bias=1",
};

static bool run_reference(const void *context) {
    const moe_problem *p = context;
    moe_reference_result *result = NULL;
    moe_reference_params params = {
        .tokens = p->T, .threads = 1, .plan = p->plan, .plan_given = p->plan != NULL};
    moe_status status = moe_reference_run(&p->layer, &p->in, &params, NULL, &result);
    cr_expect(status == MOE_OK || status == MOE_E_NOMEM, "%s", moe_status_str(status));
    cr_expect_eq(status == MOE_OK, result != NULL);
    moe_reference_result_destroy(&result);
    return status == MOE_E_NOMEM;
}

static bool run_reference_fp32(const void *context) {
    const moe_problem *p = context;
    moe_reference_result *result = NULL;
    moe_reference_params params = {.tokens = p->T,
                                   .precision = MOE_F32,
                                   .threads = 1,
                                   .plan = p->plan,
                                   .plan_given = p->plan != NULL};
    moe_status status = moe_reference_run(&p->layer, &p->in, &params, NULL, &result);
    moe_reference_result_destroy(&result);
    return status == MOE_E_NOMEM;
}

static bool run_route(const void *context) {
    const moe_problem *p = context;
    double *logits = NULL;
    moe_plan *plan = NULL;
    moe_reference_params params = {.tokens = p->T, .threads = 1};
    moe_status status = moe_reference_route(&p->layer, &p->in, &params, NULL, &logits, &plan);
    cr_expect_eq(status == MOE_OK, plan != NULL);
    __wrap_free(logits);
    moe_plan_destroy(&plan);
    return status == MOE_E_NOMEM;
}

static void each_line(const char *name, call run) {
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *problem = drawn(lines[i]);
        refuse_each(name, run, problem);
        moe_problem_destroy(&problem);
    }
}

Test(memory_refused, reference) {
    each_line("moe_reference_run", run_reference);
    each_line("moe_reference_run in fp32", run_reference_fp32);
}

Test(memory_refused, route) {
    moe_problem *problem = drawn(lines[0]);
    refuse_each("moe_reference_route", run_route, problem);
    moe_problem_destroy(&problem);
}

/* A problem, the backend that it is checked on, and whether the oracle is sampled. */
typedef struct checked {
    moe_backend *backend;
    const moe_problem *problem;
    int64_t sample_above;
} checked;

static bool run_check(const void *context) {
    const checked *c = context;
    moe_check_result *result = NULL;
    moe_check_params params = {.sample_above_flops = c->sample_above, .threads = 1, .repeats = 1};
    moe_status status = moe_check_backend(c->backend, c->problem, &params, NULL, &result);
    cr_expect(status == MOE_OK || status == MOE_E_NOMEM, "%s", moe_status_str(status));
    bool said = status == MOE_E_NOMEM ||
                (result->verdict == MOE_VERDICT_ERROR && strstr(result->why, "memory"));
    cr_expect(said || result->verdict == MOE_VERDICT_PASS, "%s: %s",
              moe_verdict_str(result->verdict), result->why);
    moe_check_result_destroy(&result);
    return said;
}

static void check_each(int64_t sample_above) {
    moe_backends *all = NULL;
    checked c = {.sample_above = sample_above};
    moe_open_params open = {.threads = 1};
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, "reference", &open, NULL, &c.backend), MOE_OK);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *problem = drawn(lines[i]);
        c.problem = problem;
        refuse_each("moe_check_backend", run_check, &c);
        moe_problem_destroy(&problem);
    }
    moe_backend_close(&c.backend);
    moe_backends_destroy(&all);
}

Test(memory_refused, check) {
    check_each(-1);
}

Test(memory_refused, sampled_check) {
    check_each(1);
}

/* A file of outputs, with the routing that it chose: every token goes to both experts. */
enum { OUTPUTS_T = 5, OUTPUTS_K = 2 };
typedef struct outputs {
    const moe_problem *problem;
    char path[TEMPORARY_BYTES];
} outputs;

static bool run_outputs(const void *context) {
    const outputs *c = context;
    moe_check_result *result = NULL;
    moe_check_params params = {.threads = 1};
    moe_status status = moe_check_outputs(c->path, c->problem, -1, &params, NULL, &result);
    cr_expect(status == MOE_OK || status == MOE_E_NOMEM, "%s", moe_status_str(status));
    if (status == MOE_OK)
        cr_expect(result->verdict == MOE_VERDICT_PASS || strstr(result->why, "memory"), "%s: %s",
                  moe_verdict_str(result->verdict), result->why);
    bool said = status == MOE_E_NOMEM || result->verdict == MOE_VERDICT_ERROR;
    for (size_t i = 0; !said && i < result->n_tensors; i++)
        if (strcmp(result->tensor[i].name, "dS") == 0)
            cr_expect_eq(result->tensor[i].verdict, MOE_VERDICT_PASS, "dS was not judged");
    moe_check_result_destroy(&result);
    return said;
}

static void write_outputs(const moe_problem *problem, const char *path) {
    int32_t index[OUTPUTS_T * OUTPUTS_K];
    double weight[OUTPUTS_T * OUTPUTS_K], dS[OUTPUTS_T * OUTPUTS_K];
    moe_reference_result *right = NULL;
    moe_reference_params params = {.tokens = problem->T, .threads = 1};
    cr_assert_eq(moe_reference_run(&problem->layer, &problem->in, &params, NULL, &right), MOE_OK);
    for (int t = 0; t < OUTPUTS_T; t++)
        for (int e = 0; e < OUTPUTS_K; e++) {
            const int slot = t * OUTPUTS_K + e, row = e * OUTPUTS_T + t;
            index[slot] = e;
            weight[slot] = right->plan->weight[row];
            dS[slot] = ((const double *)right->out.t[MOE_T_DS].data)[row];
        }
    const moe_named_tensor list[] = {
        {"O", right->out.t[MOE_T_O]},
        {"dX", right->out.t[MOE_T_DX]},
        {"topk_index", {index, MOE_I32, 2, {OUTPUTS_T, OUTPUTS_K}}},
        {"topk_weight", {weight, MOE_F64, 2, {OUTPUTS_T, OUTPUTS_K}}},
        {"dS", {dS, MOE_F64, 2, {OUTPUTS_T, OUTPUTS_K}}},
    };
    cr_assert_eq(moe_safetensors_write(path, list, sizeof list / sizeof *list, NULL, 0, NULL),
                 MOE_OK);
    moe_reference_result_destroy(&right);
}

Test(memory_refused, outputs) {
    moe_problem *problem = drawn("T=5 d=8 n=4 E=2 K=2 dtype=fp32 seed=4");
    outputs c = {.problem = problem};
    temporary_file(c.path, ".safetensors", NULL, 0);
    write_outputs(problem, c.path);
    refuse_each("moe_check_outputs", run_outputs, &c);
    temporary_remove(c.path);
    moe_problem_destroy(&problem);
}
