/* Checking a file: results that any program wrote, and what was kept of a failure. */
#include "check/bundle/bundle.h"
#include "check/judge.h"
#include "check/subject/outputs.h"
#include "check/verdict/result.h"
#include "check/verdict/selector.h"
#include "core/shell.h"
#include "layer/problem.h"

#include <stdio.h>
#include <stdlib.h>

moe_status moe_check_tensors(const moe_safetensors *tensors, const char *name,
                             const moe_problem *problem, int32_t arithmetic,
                             const moe_check_params *params, const moe_log *log,
                             moe_check_result **ret) {
    static const moe_check_params defaults;
    moe_int_outputs f;
    moe_check_result *r = NULL;
    if (!params)
        params = &defaults;
    moe_status status = moe_int_outputs_read(tensors, name, problem, log, &f);
    if (!status)
        status =
            moe_int_result_named(problem, name, "--outputs", name, arithmetic, params, log, &r);
    if (!status) {
        if (arithmetic >= 0)
            snprintf(r->arithmetic_why, sizeof r->arithmetic_why, "--arithmetic");
        else
            moe_int_outputs_reason(&f, problem, r->arithmetic_why, sizeof r->arithmetic_why);
        moe_int_subject subject = {.problem = problem,
                                   .arithmetic = arithmetic >= 0
                                                     ? (moe_dtype)arithmetic
                                                     : moe_int_outputs_arithmetic(&f, problem),
                                   .got = f.got,
                                   .plan = f.plan};
        moe_int_outputs_report(&f, r);
        status = moe_int_judge(&subject, params, log, r);
    }
    if (!status)
        moe_int_outputs_list_absent(&f, problem, r);
    moe_int_outputs_destroy(&f);
    if (status)
        moe_check_result_destroy(&r);
    else
        *ret = r;
    return status;
}

moe_status moe_check_outputs(const char *path, const moe_problem *problem, int32_t arithmetic,
                             const moe_check_params *params, const moe_log *log,
                             moe_check_result **ret) {
    moe_safetensors *file = NULL;
    moe_status status = moe_safetensors_open(path, log, &file);
    if (!status)
        status = moe_check_tensors(file, path, problem, arithmetic, params, log, ret);
    moe_safetensors_close(&file);
    return status;
}

/* The record of a bundle's second judgement, under its first case's and backend's names. */
static moe_status bundle_result(const char *path, const moe_int_bundle *b, const moe_log *log,
                                moe_check_result **ret) {
    const char *backend = moe_safetensors_metadata(b->file, "backend");
    moe_status status = moe_int_result_create(b->problem, backend ? backend : path, "", log, ret);
    if (status)
        return status;
    free((*ret)->reproduce);
    snprintf((*ret)->arithmetic_why, sizeof(*ret)->arithmetic_why, "the file says so");
    char *word = moe_int_shell_word(path);
    (*ret)->reproduce = word ? moe_int_format("moeref diagnose %s", word) : NULL;
    free(word);
    return (*ret)->reproduce ? MOE_OK : moe_fail(log, MOE_E_NOMEM, "no memory for a result");
}

moe_status moe_check_bundle(const char *path, const moe_check_params *params, const moe_log *log,
                            moe_check_result **ret) {
    static const moe_check_params defaults;
    moe_int_bundle b;
    moe_check_result *r = NULL;
    moe_status status = moe_int_bundle_read(path, log, &b);
    if (!status)
        status = bundle_result(path, &b, log, &r);
    if (!status) {
        snprintf(r->arithmetic_why, sizeof r->arithmetic_why, "what was kept says so");
        status = moe_int_judge(&b.subject, params ? params : &defaults, log, r);
    }
    if (!status && b.of_run && r->verdict != MOE_VERDICT_FAIL)
        moe_int_result_set(r, MOE_VERDICT_FAIL, "%s; what the file holds of that run is right",
                           b.verdict);
    if (!status && b.verdict)
        moe_log_send(log, MOE_LOG_INFO, "%s: the verdict was \"%s\"", path, b.verdict);
    moe_int_bundle_destroy(&b);
    if (status)
        moe_check_result_destroy(&r);
    else
        *ret = r;
    return status;
}
