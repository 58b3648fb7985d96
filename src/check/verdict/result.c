/* Results: entries by tensor name, and the rule that the first reason for a verdict stays. */
#include "check/verdict/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *moe_verdict_str(moe_verdict verdict) {
    static const char *const words[] = {"pass", "ambiguous", "skip", "mistrusted", "fail", "error"};
    return (unsigned)verdict < sizeof words / sizeof *words ? words[verdict] : "?";
}

static char *copy(const char *text) {
    size_t size = strlen(text) + 1;
    char *out = malloc(size);
    return out ? memcpy(out, text, size) : NULL;
}

/* "moeref check SELECTOR --case ..." */
static char *reproduce_line(const char *selector, const char *problem) {
    size_t size = strlen(selector) + strlen(problem) + sizeof "moeref check  ";
    char *out = malloc(size);
    if (out)
        snprintf(out, size, "moeref check %s %s", selector, problem);
    return out;
}

moe_status moe_int_result_create(const moe_problem *problem, const char *backend,
                                 const char *selector, const moe_log *log, moe_check_result **ret) {
    moe_check_result *r = calloc(1, sizeof *r);
    if (r) {
        r->case_name = copy(problem->name);
        r->backend = copy(backend);
        r->reproduce = reproduce_line(selector, problem->reproduce ? problem->reproduce : "");
    }
    if (!r || !r->case_name || !r->backend || !r->reproduce) {
        moe_check_result_destroy(&r);
        return moe_fail(log, MOE_E_NOMEM, "no memory for a check's result");
    }
    *ret = r;
    return MOE_OK;
}

void moe_check_result_destroy(moe_check_result **result) {
    if (!result || !*result)
        return;
    free((*result)->case_name);
    free((*result)->backend);
    free((*result)->reproduce);
    free((*result)->map);
    free(*result);
    *result = NULL;
}

moe_tensor_verdict *moe_int_result_find(moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0)
            return &r->tensor[i];
    return NULL;
}

moe_tensor_verdict *moe_int_result_entry(moe_check_result *r, const char *name) {
    moe_tensor_verdict *v = moe_int_result_find(r, name);
    if (v)
        return v;
    v = &r->tensor[r->n_tensors++];
    memset(v, 0, sizeof *v);
    snprintf(v->name, sizeof v->name, "%s", name);
    v->truth = "";
    v->worst_expert = -1;
    return v;
}

void moe_int_result_drop_maps(moe_check_result *r, const char *tensor) {
    size_t kept = 0;
    for (size_t i = 0; i < r->n_maps; i++)
        if (strcmp(r->map[i].tensor, tensor) != 0)
            r->map[kept++] = r->map[i];
    r->n_maps = kept;
}

void moe_int_result_restore(moe_check_result *r, const moe_check_result *before) {
    moe_error_map *map = r->map; /* may have moved since, and grown */
    *r = *before;
    r->map = map;
}

moe_error_map *moe_int_result_add_map(moe_check_result *r, const char *tensor) {
    moe_error_map *more = realloc(r->map, (r->n_maps + 1) * sizeof *more);
    if (!more)
        return NULL;
    r->map = more;
    more += r->n_maps++;
    memset(more, 0, sizeof *more);
    snprintf(more->tensor, sizeof more->tensor, "%s", tensor);
    return more;
}

void moe_int_entry_fail(moe_tensor_verdict *v, const char *format, ...) {
    if (v->verdict == MOE_VERDICT_FAIL)
        return;
    v->verdict = MOE_VERDICT_FAIL;
    va_list args;
    va_start(args, format);
    vsnprintf(v->why, sizeof v->why, format, args);
    va_end(args);
}

void moe_int_result_set(moe_check_result *r, moe_verdict verdict, const char *format, ...) {
    if (verdict <= r->verdict)
        return;
    r->verdict = verdict;
    va_list args;
    va_start(args, format);
    vsnprintf(r->why, sizeof r->why, format, args);
    va_end(args);
}

/* What is asked of a slot is valid, and no file's: a backend that finds it is not has itself to
 * blame. Memory and devices may fail anybody. */
static bool is_its_own(moe_status status) {
    return status == MOE_E_INVALID || status == MOE_E_FORMAT || status == MOE_E_NOTFOUND ||
           status == MOE_E_ABI;
}

void moe_int_result_stopped(moe_check_result *r, const moe_backend *backend, const char *step,
                            moe_status status) {
    if (status == MOE_E_CONTRACT)
        moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s", moe_backend_name(backend),
                           moe_backend_fault(backend));
    else if (is_its_own(status))
        moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s fails on what is valid: %s",
                           moe_backend_name(backend), step, moe_status_str(status));
    else
        moe_int_result_set(r, MOE_VERDICT_ERROR, "%s: %s", step, moe_status_str(status));
}
