#include "check/bundle/bundle.h"
#include "layer/problem.h"

#include <string.h>

/* Results under `prefix` that can be judged. */
static moe_status read_results(const moe_int_bundle *b, const char *path, const char *prefix,
                               const moe_log *log, moe_tensors *ret) {
    moe_int_prefixed stored = {b->file, path, prefix};
    for (int id = MOE_T_LOGITS; id < MOE_T_COUNT; id++) {
        const char *name = moe_tensor_name((moe_tensor_id)id);
        moe_tensor t;
        moe_status status = moe_int_prefixed_get(&stored, name, &t);
        if (status == MOE_E_NOTFOUND)
            continue;
        if (status || moe_dtype_roundoff(t.dtype) == 0)
            return moe_fail(log, MOE_E_FORMAT, "%s: %s%s is not of a floating type", path, prefix,
                            name);
        ret->t[id] = t;
    }
    return MOE_OK;
}

static moe_status read_problem(moe_int_bundle *b, const char *path, const moe_log *log) {
    moe_int_prefixed in = {b->file, path, MOE_INT_BUNDLE_IN};
    const char *layer = moe_safetensors_metadata(b->file, "layer");
    const char *arithmetic = moe_safetensors_metadata(b->file, "arithmetic");
    moe_case c;
    if (!layer || !arithmetic || moe_dtype_parse(arithmetic, &b->subject.arithmetic))
        return moe_fail(log, MOE_E_FORMAT,
                        "%s is not what check --dump-on-fail writes: its metadata has no layer and "
                        "arithmetic",
                        path);
    moe_status status = moe_case_parse(layer, log, &c);
    if (status)
        return status;
    status = moe_int_problem_stored(&in, &c, log, &b->problem);
    moe_case_destroy(&c);
    return status;
}

/* Who fetches a stage may rely on its shape, which is that of the pairs. */
static moe_status fetch_kept(void *user, moe_tensor_id id, moe_check_result *result,
                             moe_tensor *ret) {
    const moe_int_bundle *b = user;
    const moe_plan *plan = b->problem->plan ? b->problem->plan : b->plan;
    const moe_layer_desc *desc = &b->problem->layer;
    const moe_tensor *kept = &b->stages.t[id];
    moe_tensor due = {0};
    (void)result;
    if (!kept->data || !plan)
        return MOE_E_UNSUPPORTED;
    moe_tensor_shape(desc, id, b->problem->T, plan->offsets[desc->E], plan->n_pairs, &due);
    return moe_tensor_same_shape(kept, &due) ? moe_tensor_cast(kept, kept->dtype, ret)
                                             : MOE_E_UNSUPPORTED;
}

/* The backend's own choice, where the problem left it one. */
static moe_status read_plan(moe_int_bundle *b, const char *path, const moe_log *log) {
    moe_int_prefixed got = {b->file, path, MOE_INT_BUNDLE_GOT};
    const moe_problem *p = b->problem;
    if (p->plan || !moe_int_stored_has_plan(&got))
        return MOE_OK;
    return moe_int_stored_plan(&got, p->T, p->layer.E + p->layer.n_zero, log, &b->plan);
}

moe_status moe_int_bundle_read(const char *path, const moe_log *log, moe_int_bundle *b) {
    memset(b, 0, sizeof *b);
    moe_status status = moe_safetensors_open(path, log, &b->file);
    if (!status)
        status = read_problem(b, path, log);
    if (!status)
        status = read_plan(b, path, log);
    if (!status)
        status = read_results(b, path, MOE_INT_BUNDLE_GOT, log, &b->subject.got);
    if (!status)
        status = read_results(b, path, MOE_INT_BUNDLE_STAGE, log, &b->stages);
    for (int i = 0; !status && i < MOE_INT_AGAIN_COUNT; i++)
        status = read_results(b, path, moe_int_bundle_again[i], log, &b->subject.again[i]);
    if (status)
        return status;
    const char *of_run = moe_safetensors_metadata(b->file, "of_run");
    b->verdict = moe_safetensors_metadata(b->file, "why");
    b->of_run = b->verdict && of_run && strcmp(of_run, "yes") == 0;
    b->subject.problem = b->problem;
    b->subject.plan = b->plan;
    b->subject.fetch = fetch_kept;
    b->subject.user = b;
    return MOE_OK;
}

void moe_int_bundle_destroy(moe_int_bundle *b) {
    moe_problem_destroy(&b->problem);
    moe_plan_destroy(&b->plan);
    moe_safetensors_close(&b->file);
}
