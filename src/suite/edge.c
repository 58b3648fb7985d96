#include "block/tape/tape.h"
#include "check/compare/compare.h"
#include "check/verdict/result.h"
#include "layer/stored_plan.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "moeref/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void file_path(const char *dir, size_t i, char *ret, size_t size) {
    snprintf(ret, size, "%s/%s.safetensors", dir, moe_suite_name(i));
}

/* Intermediate results are left out: they follow from the rest and would fill most of a file. */
static bool is_stored(moe_tensor_id id) {
    moe_tensor_role role = moe_tensor_role_of(id);
    return role == MOE_ROLE_FORWARD || role == MOE_ROLE_BACKWARD || id == MOE_T_LOGITS ||
           id == MOE_T_S;
}

/* The problem of suite line i with the oracle's results, and its block's values. */
static moe_status run_case(size_t i, const moe_log *log, moe_problem **ret,
                           moe_reference_result **ret_oracle, moe_block_values *ret_block) {
    size_t count;
    moe_case c;
    moe_status status = moe_case_parse(moe_suite(&count)[i], log, &c);
    if (status)
        return status;
    status = moe_problem_from_case(&c, log, ret);
    if (!status)
        status = moe_block_values_make(&c, log, ret_block);
    moe_case_destroy(&c);
    if (!status)
        status = moe_reference_problem(*ret, 0, log, ret_oracle);
    if (status) {
        moe_problem_destroy(ret);
        moe_block_values_destroy(ret_block);
    }
    return status;
}

/* Whether a NaN is written with a sign is the machine's and the compiler's: here none has one, so
 * that a file is the same wherever it is made. */
static void unsign_nan(const moe_tensor *t) {
    float *x = t->data;
    for (int64_t i = 0, count = x ? moe_tensor_count(t) : 0; i < count; i++)
        if (isnan(x[i]))
            x[i] = NAN;
}

/* Of a block's values its output and gradients are stored; the rest is drawn. */
static bool is_result(const char *name) {
    return strcmp(name, "block.O") == 0 || strncmp(name, "block.grad.", 11) == 0;
}

/* Rounds the block's results to float32, and adds them to the list. */
static moe_status add_block(moe_block_values *block, moe_named_tensor *list, size_t *n) {
    for (size_t i = 0; i < block->count; i++) {
        moe_named_tensor *v = &block->at[i];
        moe_tensor narrow = {0};
        if (!is_result(v->name))
            continue;
        const moe_status status = moe_tensor_cast(&v->tensor, MOE_F32, &narrow);
        if (status)
            return status;
        moe_tensor_destroy(&v->tensor);
        v->tensor = narrow;
        list[(*n)++] = *v;
    }
    return MOE_OK;
}

static moe_status write_case(const char *path, const moe_problem *p,
                             const moe_reference_result *oracle, moe_block_values *block,
                             const moe_log *log) {
    moe_named_tensor list[MOE_T_COUNT + 3 + MOE_INT_PARAMETERS_MAX];
    moe_tensors rounded = {0};
    const moe_plan *plan = oracle->plan;
    moe_status status = MOE_OK;
    size_t n = 0;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        if (!oracle->out.t[id].data || !is_stored((moe_tensor_id)id))
            continue;
        status = moe_tensor_cast(&oracle->out.t[id], MOE_F32, &rounded.t[id]);
        if (!status)
            unsign_nan(&rounded.t[id]);
        list[n++] = (moe_named_tensor){moe_tensor_name((moe_tensor_id)id), rounded.t[id]};
    }
    list[n++] =
        (moe_named_tensor){"plan_offsets", {plan->offsets, MOE_I64, 1, {plan->n_experts + 1}}};
    list[n++] = (moe_named_tensor){"plan_token", {plan->token, MOE_I32, 1, {plan->n_pairs}}};
    if (!status)
        status = add_block(block, list, &n);
    const char *const metadata[][2] = {{"case", p->name}, {"format", "moeref-edge-1"}};
    if (!status)
        status = moe_safetensors_write(path, list, n, metadata, 2, log);
    moe_tensors_destroy(&rounded);
    return status;
}

moe_status moe_suite_write(const char *dir, const moe_log *log, size_t *ret_files) {
    size_t count, files = 0;
    moe_status status = MOE_OK;
    moe_suite(&count);
    for (size_t i = 0; !status && i < count; i++) {
        char path[4096];
        moe_problem *p = NULL;
        moe_reference_result *oracle = NULL;
        moe_block_values block = {0};
        if (!moe_suite_is_stored(i))
            continue;
        file_path(dir, i, path, sizeof path);
        status = run_case(i, log, &p, &oracle, &block);
        if (!status)
            status = write_case(path, p, oracle, &block, log);
        files += !status;
        moe_block_values_destroy(&block);
        moe_reference_result_destroy(&oracle);
        moe_problem_destroy(&p);
    }
    *ret_files = files;
    return status;
}

static moe_status read_expected(const moe_safetensors *file, const char *path, const moe_log *log,
                                moe_problem *p) {
    moe_status status = MOE_OK;
    moe_int_prefixed stored = {file, path, ""};
    if (!p->plan)
        status = moe_int_stored_plan(&stored, p->T, p->layer.E + p->layer.n_zero, log,
                                     &p->expected_plan);
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        moe_tensor t;
        if (is_stored((moe_tensor_id)id) &&
            moe_safetensors_get(file, moe_tensor_name((moe_tensor_id)id), &t) == MOE_OK)
            status = moe_tensor_cast(&t, t.dtype, &p->expected.t[id]);
    }
    return status;
}

static moe_status attach(const char *dir, size_t i, const moe_log *log, moe_problem *p) {
    char path[4096];
    moe_safetensors *file = NULL;
    file_path(dir, i, path, sizeof path);
    moe_status status = moe_safetensors_open(path, log, &file);
    if (status)
        return status;
    const char *line = moe_safetensors_metadata(file, "case");
    if (!line || strcmp(line, p->name) != 0)
        status = moe_fail(log, MOE_E_INVALID,
                          "%s holds case '%s', the suite has '%s'; moeref golden "
                          "--write makes the files again",
                          path, line ? line : "", p->name);
    if (!status)
        status = read_expected(file, path, log, p);
    moe_safetensors_close(&file);
    return status;
}

/* Do two lines name the same seed? Nearly all lines of the suite differ there, and parsing each of
 * them for every problem would take longer than most problems. */
static bool same_seed(const char *a, const char *b) {
    const char *x = strstr(a, "seed="), *y = strstr(b, "seed=");
    size_t length = x ? strcspn(x, " ") : 0;
    return x && y ? length == strcspn(y, " ") && strncmp(x, y, length) == 0 : x == y;
}

/* Suite line whose canonical text is `name`, or -1. */
static long find_case(const char *name, const moe_log *log) {
    size_t count;
    const char *const *lines = moe_suite(&count);
    for (size_t i = 0; i < count; i++) {
        char text[1024];
        moe_case c;
        if (!moe_suite_is_stored(i) || !same_seed(lines[i], name) ||
            moe_case_parse(lines[i], log, &c))
            continue;
        moe_case_print(&c, text, sizeof text);
        moe_case_destroy(&c);
        if (strcmp(text, name) == 0)
            return (long)i;
    }
    return -1;
}

moe_status moe_suite_attach(const char *dir, const moe_log *log, moe_problem *problem) {
    long i = find_case(problem->name, log);
    return i < 0 ? MOE_OK : attach(dir, (size_t)i, log, problem);
}

/* Stored values against the oracle's. What is not finite in one is not compared with it, so where
 * that is so the other is asked too. */
static void compare_stored(moe_tensor_id id, const moe_problem *p,
                           const moe_reference_result *oracle, moe_tensor_verdict *ret) {
    const moe_tensor *stored = &p->expected.t[id], *made = &oracle->out.t[id];
    if (!stored->data || !made->data) {
        if (made->data)
            moe_int_entry_fail(ret, "is missing");
        else if (stored->data)
            moe_int_entry_fail(ret, "is no result of this case");
        return;
    }
    moe_compare(id, MOE_F64, &p->layer, made, stored, NULL, oracle->plan, ret);
    if (ret->verdict != MOE_VERDICT_FAIL && ret->not_compared > 0)
        moe_compare(id, MOE_F64, &p->layer, stored, made, NULL, oracle->plan, ret);
}

static moe_status compare_case(const char *name, const moe_problem *p,
                               const moe_reference_result *oracle, const moe_log *log) {
    moe_status status = MOE_OK;
    for (int i = 0; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        moe_tensor_verdict v = {0};
        if (is_stored(id))
            compare_stored(id, p, oracle, &v);
        if (v.verdict == MOE_VERDICT_FAIL)
            status = moe_fail(log, MOE_E_INVALID, "golden/edge/%s.safetensors: %s: %s", name,
                              moe_tensor_name(id), v.why);
    }
    const moe_plan *want = p->expected_plan, *got = oracle->plan;
    if (want &&
        (want->n_pairs != got->n_pairs ||
         memcmp(want->token, got->token, (size_t)got->n_pairs * sizeof *got->token) ||
         memcmp(want->offsets, got->offsets, (size_t)(got->n_experts + 1) * sizeof *got->offsets)))
        status = moe_fail(log, MOE_E_INVALID,
                          "golden/edge/%s.safetensors: other experts are chosen", name);
    return status;
}

/* Does `stored` differ from `made` by more than its own rounding? What is next to 0 is so by
 * cancelling: there the last places of sums count, 1e-12 of the largest element being many. */
static bool block_differs(const moe_tensor *made, const moe_tensor *stored) {
    const double *x = made->data;
    const float *y = stored->data;
    double most = 0;
    if (stored->dtype != MOE_F32 || moe_tensor_count(stored) != moe_tensor_count(made))
        return true;
    for (int64_t i = 0; i < moe_tensor_count(made); i++)
        most = fmax(most, fabs(x[i]));
    for (int64_t i = 0; i < moe_tensor_count(made); i++)
        if (!(fabs(x[i] - (double)y[i]) <= 0x1p-23 * fabs(x[i]) + 1e-12 * most))
            return true;
    return false;
}

static moe_status compare_block(const char *dir, size_t i, const moe_block_values *block,
                                const moe_log *log) {
    char path[4096];
    moe_safetensors *file = NULL;
    file_path(dir, i, path, sizeof path);
    moe_status status = block->count ? moe_safetensors_open(path, log, &file) : MOE_OK;
    for (size_t k = 0; !status && k < block->count; k++) {
        const moe_named_tensor *v = &block->at[k];
        moe_tensor stored;
        if (!is_result(v->name))
            continue;
        if (moe_safetensors_get(file, v->name, &stored))
            status = moe_fail(log, MOE_E_INVALID, "%s: %s is missing", path, v->name);
        else if (block_differs(&v->tensor, &stored))
            status = moe_fail(log, MOE_E_INVALID, "%s: %s differs", path, v->name);
    }
    moe_safetensors_close(&file);
    return status;
}

moe_status moe_suite_verify(const char *dir, const moe_log *log, size_t *ret_files) {
    size_t count, files = 0;
    moe_status worst = MOE_OK;
    moe_suite(&count);
    for (size_t i = 0; i < count; i++) {
        moe_problem *p = NULL;
        moe_reference_result *oracle = NULL;
        moe_block_values block = {0};
        if (!moe_suite_is_stored(i))
            continue;
        moe_status status = run_case(i, log, &p, &oracle, &block);
        if (!status)
            status = attach(dir, i, log, p);
        if (!status)
            status = compare_case(moe_suite_name(i), p, oracle, log);
        if (!status)
            status = compare_block(dir, i, &block, log);
        moe_block_values_destroy(&block);
        files += !status;
        if (status)
            worst = status;
        moe_reference_result_destroy(&oracle);
        moe_problem_destroy(&p);
    }
    *ret_files = files;
    return worst;
}
