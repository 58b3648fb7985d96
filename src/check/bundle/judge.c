/* Judging again what was kept of a failure. */
#include "check/judge.h"
#include "check/bundle/bundle.h"
#include "check/verdict/result.h"
#include "check/verdict/selector.h"
#include "core/shell.h"
#include "layer/problem.h"

#include <stdlib.h>

/* The record of a bundle's second judgement, under its first case's and backend's names. */
static moe_status bundle_result(const char *path, const moe_int_bundle *b, const moe_log *log,
                                moe_check_result **ret) {
    const char *backend = moe_safetensors_metadata(b->file, "backend");
    moe_status status = moe_int_result_create(b->problem, backend ? backend : path, "", log, ret);
    if (status)
        return status;
    free((*ret)->reproduce);
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
    if (!status)
        status = moe_int_judge(&b.subject, params ? params : &defaults, log, r);
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
