#include "check/apart.h"
#include "check/trial.h"
#include "check/verdict/result.h"

#include <string.h>

/* Is nothing of it compared, or not all, or is it too far off? */
static bool is_apart(const moe_int_apart *a, const moe_tensor_verdict *v) {
    return v->verdict == MOE_VERDICT_FAIL &&
           (v->bad_elements > 0 || v->worst_ndim == 0 || (a->far && a->far(v, a->whole->problem)));
}

static moe_check_result without(const moe_int_apart *a, const moe_check_result *r,
                                const moe_check_result *first) {
    moe_check_result ret = *r;
    ret.n_tensors = 0;
    for (size_t i = 0; i < r->n_tensors; i++) {
        bool apart = false;
        for (size_t k = 0; k < first->n_tensors; k++)
            apart |= is_apart(a, &first->tensor[k]) &&
                     strcmp(first->tensor[k].name, r->tensor[i].name) == 0;
        if (!apart)
            ret.tensor[ret.n_tensors++] = r->tensor[i];
    }
    return ret;
}

/* Stages that are apart are not there. */
static moe_status fetch_rest(void *user, moe_tensor_id id, moe_check_result *result,
                             moe_tensor *ret) {
    const moe_int_apart *a = user;
    return a->is[id] ? MOE_E_UNSUPPORTED : a->whole->fetch(a->whole->user, id, result, ret);
}

void moe_int_apart_make(const moe_int_subject *subject, const moe_check_result *before,
                        const moe_check_result *first,
                        bool (*far)(const moe_tensor_verdict *v, const moe_problem *problem),
                        moe_int_apart *ret) {
    *ret = (moe_int_apart){.whole = subject, .rest = *subject, .far = far};
    ret->before = without(ret, before, first);
    ret->found = without(ret, first, first);
    ret->count = first->n_tensors - ret->found.n_tensors;
    if (ret->rest.fetch) {
        ret->rest.fetch = fetch_rest;
        ret->rest.user = ret;
    }
    for (size_t i = 0; i < first->n_tensors; i++) {
        moe_tensor_id id;
        if (!is_apart(ret, &first->tensor[i]) || moe_tensor_id_parse(first->tensor[i].name, &id))
            continue;
        ret->is[id] = true;
        ret->rest.got.t[id] = (moe_tensor){0};
        for (int again = 0; again < MOE_INT_AGAIN_COUNT; again++)
            ret->rest.again[again].t[id] = (moe_tensor){0};
    }
}

void moe_int_apart_return(const moe_int_apart *a, const moe_check_result *first,
                          moe_check_result *result) {
    for (size_t i = 0; i < first->n_tensors; i++)
        if (is_apart(a, &first->tensor[i]))
            *moe_int_result_entry(result, first->tensor[i].name) = first->tensor[i];
    const moe_tensor_verdict *wrong = moe_int_first_failing(result);
    if (wrong)
        moe_int_result_set(result, MOE_VERDICT_FAIL, "%s: %s", wrong->name, wrong->why);
}
