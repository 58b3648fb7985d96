/* Reading a file: the results of a program that knows nothing of moeref. */
#include "check/subject/outputs.h"
#include "check/routing/reading.h"
#include "check/subject/guard.h"
#include "check/verdict/result.h"
#include "core/elements.h"
#include "layer/problem.h"
#include "layer/stored_plan.h"
#include "moeref/operator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void moe_int_outputs_destroy(moe_int_outputs *f) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (f->owned[id])
            moe_tensor_destroy(&f->got.t[id]);
    for (int id = 0; id < MOE_T_COUNT; id++)
        free(f->why[id]);
    moe_plan_destroy(&f->plan);
    moe_tensor_destroy(&f->index);
}

static moe_status out_of_memory(const char *path, const moe_log *log) {
    return moe_fail(log, MOE_E_NOMEM, "%s: no memory for its slots", path);
}

/* Is it a number for each slot, not in plan order? */
static bool is_by_slots(const moe_problem *problem, moe_tensor_id id, const moe_tensor *t) {
    return (id == MOE_T_S || id == MOE_T_DS) && t->ndim == 2 && t->shape[0] == problem->T;
}

/* A given plan's slots are those of the problem: its ids need not be in the file again. */
static moe_status take_given_slots(moe_int_outputs *f, const moe_problem *problem, const char *path,
                                   const moe_log *log) {
    static const moe_tensor_id ids[] = {MOE_T_S, MOE_T_DS};
    moe_tensor t;
    for (int i = 0; i < 2; i++)
        if (moe_safetensors_get(f->file, moe_tensor_name(ids[i]), &t) == MOE_OK &&
            is_by_slots(problem, ids[i], &t))
            return moe_problem_slots(problem, t.shape[1], &f->index) ? out_of_memory(path, log)
                                                                     : MOE_OK;
    return MOE_OK;
}

/* Reads topk_index and topk_weight, both [T][K]. Ids that are none leave the choice untold. */
static moe_status read_routing(moe_int_outputs *f, const moe_problem *problem, const char *path,
                               const moe_log *log) {
    moe_tensor index = {0}, weight = {0}; /* `index` stays so where its type cannot be read */
    if (moe_safetensors_get(f->file, "topk_index", &index) == MOE_E_NOTFOUND)
        return problem->plan ? take_given_slots(f, problem, path, log) : MOE_OK;
    moe_int_ids_check(&index, problem, &f->bad_ids);
    if (f->bad_ids.why[0]) {
        f->found++;
        return MOE_OK;
    }
    if (!moe_safetensors_get(f->file, "topk_weight", &weight) &&
        !moe_tensor_same_shape(&weight, &index))
        weight.data = NULL; /* already in plan order: an ordinary tensor of the table */
    if (moe_tensor_cast(&index, MOE_I64, &f->index))
        return out_of_memory(path, log);
    const moe_view slots = moe_view_of(&f->index), weights = moe_view_of(&weight);
    return moe_plan_of_slots(&slots, &weights, problem->layer.E + problem->layer.n_zero, log,
                             &f->plan);
}

/* A per-pair vector that came as [T][K], put into plan order. */
static moe_status reorder(moe_int_outputs *f, const moe_problem *problem, moe_tensor_id id,
                          const moe_tensor *values, const moe_log *log) {
    const moe_plan *rows = problem->plan ? problem->plan : f->plan;
    const moe_view index = moe_view_of(&f->index), slots = moe_view_of(values);
    moe_status status = moe_tensor_alloc(MOE_F64, 1, &rows->n_pairs, &f->got.t[id]);
    f->owned[id] = !status;
    return status ? status : moe_plan_take_slots(rows, &index, &slots, &f->got.t[id], log);
}

/* Slots that cannot be read. */
static bool is_lost(const moe_int_outputs *f, const moe_problem *problem, moe_tensor_id id,
                    const moe_tensor *t) {
    return f->bad_ids.why[0] && is_by_slots(problem, id, t);
}

/* Of a choice that is not told nobody knows how many pairs there are. */
static bool has_known_shape(const moe_plan *plan, moe_tensor_id id) {
    return plan || !moe_tensor_is_of_pairs(id);
}

/* Another shape that would do. */
static void hint_at_slots(const moe_int_outputs *f, const moe_tensor *t, const moe_tensor *want,
                          char *ret, size_t size) {
    char slots[48];
    const bool near = t->ndim == 2 && want->ndim == 1;
    if (near && f->index.data)
        snprintf(ret, size, ", or by slots %s",
                 moe_tensor_shape_str(&f->index, slots, sizeof slots));
    else
        snprintf(ret, size, "%s", near ? ", or topk_index beside it, whose slots they are" : "");
}

static moe_status refuse_shape(moe_int_outputs *f, const moe_plan *plan, moe_tensor_id id,
                               const moe_tensor *t, const moe_tensor *want, const char *path,
                               const moe_log *log) {
    char is[96], should[96], hint[64];
    moe_tensor_shape_str(t, is, sizeof is);
    moe_tensor_shape_str(want, should, sizeof should);
    hint_at_slots(f, t, want, hint, sizeof hint);
    if (!has_known_shape(plan, id))
        return moe_fail(log, MOE_E_INVALID, "%s: %s has shape %s, the case needs %s%s", path,
                        moe_tensor_name(id), is, should, hint);
    f->why[id] = moe_int_format("has shape %s, the case needs %s%s", is, should, hint);
    return f->why[id] ? MOE_OK : MOE_E_NOMEM;
}

static moe_status refuse_integers(moe_int_outputs *f, moe_tensor_id id, const moe_tensor *t) {
    f->why[id] = moe_int_format("is of integers (%s)", moe_dtype_name(t->dtype));
    return f->why[id] ? MOE_OK : MOE_E_NOMEM;
}

/* Nobody has poisoned the memory that a file's results lie in: a NaN of set bits alone is a NaN. */
static moe_status plain_nans(moe_int_outputs *f, moe_tensor_id id) {
    moe_tensor copy, *t = &f->got.t[id];
    const int64_t count = moe_tensor_count(t);
    int64_t at = 0;
    while (at < count && !moe_int_is_poison(t, at))
        at++;
    if (at == count)
        return MOE_OK;
    moe_status status = moe_tensor_cast(t, t->dtype, &copy);
    if (status)
        return status;
    moe_int_plain_nans(copy.dtype, copy.data, count);
    *t = copy;
    f->owned[id] = true;
    return MOE_OK;
}

static moe_status read_tensor(moe_int_outputs *f, const moe_problem *problem, moe_tensor_id id,
                              const char *path, const moe_log *log) {
    const moe_plan *plan = problem->plan ? problem->plan : f->plan;
    moe_tensor t, want = {0};
    moe_status status = moe_safetensors_get(f->file, moe_tensor_name(id), &t);
    if (status == MOE_E_NOTFOUND)
        return MOE_OK;
    if (status)
        return moe_fail(log, status, "%s: %s has an element type that cannot be judged", path,
                        moe_tensor_name(id));
    f->found++;
    f->lost[id] = is_lost(f, problem, id, &t);
    if (f->lost[id])
        return MOE_OK;
    if (moe_dtype_roundoff(t.dtype) == 0)
        return refuse_integers(f, id, &t);
    if (is_by_slots(problem, id, &t) && moe_tensor_same_shape(&t, &f->index))
        return reorder(f, problem, id, &t, log);
    int64_t pairs = plan ? plan->offsets[problem->layer.E] : problem->T * problem->layer.K;
    moe_tensor_shape(&problem->layer, id, problem->T, pairs,
                     plan ? plan->n_pairs : problem->T * problem->layer.K, &want);
    if (!moe_tensor_same_shape(&t, &want))
        return refuse_shape(f, plan, id, &t, &want, path, log);
    f->got.t[id] = t;
    return plain_nans(f, id);
}

/* Does the case make it? Gradients of a forward pass are nothing that could be judged. */
static bool is_made(const moe_problem *problem, moe_tensor_id id) {
    return moe_tensor_exists(&problem->layer, id, problem->plan != NULL) &&
           (!moe_tensor_is_backward(id) || (problem->pass & MOE_PASS_BWD));
}

/* A misspelt result is judged by nobody, and must not look as if it had passed. */
static void warn_of_unknown(const moe_safetensors *file, const char *path, const moe_log *log) {
    char more[48];
    const char *name = moe_int_stored_unknown(file, more, sizeof more);
    if (name)
        moe_log_send(log, MOE_LOG_WARN, "%s: no layer has a \"%s\"%s: it is not judged", path, name,
                     more);
}

/* Why the case makes no such result; NULL: it is the given plan's own. */
static const char *why_unmade(const moe_problem *problem, moe_tensor_id id) {
    const bool given = problem->plan != NULL;
    if (!moe_tensor_exists(&problem->layer, id, false))
        return "the layer of the case has none";
    if (moe_tensor_exists(&problem->layer, id, given))
        return "the case has pass=fwd";
    return id == MOE_T_S ? NULL : "the case gives the routing";
}

/* Nor must a result that nothing can be held to. */
static void warn_of_unmade(const moe_safetensors *file, const char *path,
                           const moe_problem *problem, const moe_log *log) {
    for (int i = MOE_T_LOGITS; i < MOE_T_COUNT; i++) {
        const moe_tensor_id id = (moe_tensor_id)i;
        moe_tensor t;
        if (is_made(problem, id) ||
            moe_safetensors_get(file, moe_tensor_name(id), &t) == MOE_E_NOTFOUND)
            continue;
        const char *why = why_unmade(problem, id);
        if (why)
            moe_log_send(log, MOE_LOG_WARN, "%s: %s is not judged: %s", path, moe_tensor_name(id),
                         why);
    }
}

/* The names that could have been there, and one that is. */
static moe_status refuse_all(const moe_safetensors *file, const char *path,
                             const moe_problem *problem, const moe_log *log) {
    const char *name = moe_safetensors_name(file, 0);
    char made[512] = "";
    for (int i = MOE_T_LOGITS; i < MOE_T_COUNT; i++) {
        const size_t used = strlen(made);
        if (is_made(problem, (moe_tensor_id)i))
            snprintf(made + used, sizeof made - used, "%s%s", used ? ", " : "",
                     moe_tensor_name((moe_tensor_id)i));
    }
    return moe_fail(log, MOE_E_NOTFOUND,
                    "%s has none of the tensors that can be judged (topk_index, %s)%s%s%s", path,
                    made, name ? ", but \"" : "", name ? name : "", name ? "\"" : "");
}

moe_status moe_int_outputs_read(const moe_safetensors *file, const char *path,
                                const moe_problem *problem, const moe_log *log,
                                moe_int_outputs *f) {
    *f = (moe_int_outputs){.file = file};
    moe_status status = read_routing(f, problem, path, log);
    for (int i = MOE_T_LOGITS; !status && i < MOE_T_COUNT; i++)
        if (is_made(problem, (moe_tensor_id)i))
            status = read_tensor(f, problem, (moe_tensor_id)i, path, log);
    if (!status && !f->found)
        return refuse_all(file, path, problem, log);
    if (!status) {
        warn_of_unknown(file, path, log);
        warn_of_unmade(file, path, problem, log);
    }
    return status;
}

/* Weights, their gradients and logits are fp32 in 16-bit kernels too: that type tells nothing. */
static bool tells(const moe_int_outputs *f, int id) {
    const moe_tensor *t = &f->got.t[id];
    const bool always = id == MOE_T_LOGITS || id == MOE_T_S || id == MOE_T_DS;
    return t->data && !f->owned[id] && !(always && t->dtype == MOE_F32);
}

/* The tensor whose type is taken for the program's arithmetic; -1: none has its own type. */
static int telling(const moe_int_outputs *f) {
    if (f->got.t[MOE_T_O].data)
        return MOE_T_O;
    int id = MOE_T_COUNT - 1;
    while (id >= 0 && !tells(f, id))
        id--;
    return id;
}

moe_dtype moe_int_outputs_arithmetic(const moe_int_outputs *f, const moe_problem *problem) {
    const int id = telling(f);
    const moe_dtype own = problem->in.t[MOE_T_X].dtype;
    return id >= 0 ? f->got.t[id].dtype : moe_int_is_low(own) ? own : MOE_F32;
}

void moe_int_outputs_reason(const moe_int_outputs *f, const moe_problem *problem, char *ret,
                            size_t size) {
    const int id = telling(f);
    const moe_dtype dtype = moe_int_outputs_arithmetic(f, problem);
    const char *word = dtype == MOE_F64    ? "float64"
                       : dtype == MOE_F32  ? "float32"
                       : dtype == MOE_F16  ? "float16"
                       : dtype == MOE_BF16 ? "bfloat16"
                                           : moe_dtype_name(dtype);
    if (id >= 0)
        snprintf(ret, size, "%s is stored as %s", moe_tensor_name((moe_tensor_id)id), word);
    else if (moe_int_is_low(dtype))
        snprintf(ret, size, "X is %s, and nothing tells another", word);
    else
        snprintf(ret, size, "nothing tells another");
}

void moe_int_outputs_report(const moe_int_outputs *f, moe_check_result *r) {
    moe_int_ids_report(&f->bad_ids, r);
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (f->why[id])
            moe_int_entry_fail(moe_int_result_entry(r, moe_tensor_name((moe_tensor_id)id)), "%s",
                               f->why[id]);
}

static void note_lost(const moe_int_outputs *f, moe_check_result *r) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!f->lost[id])
            continue;
        moe_tensor_verdict *v = moe_int_result_entry(r, moe_tensor_name((moe_tensor_id)id));
        v->verdict = MOE_VERDICT_SKIP;
        snprintf(v->why, sizeof v->why, "its slots are those of topk_index, which is wrong");
    }
}

void moe_int_outputs_list_absent(const moe_int_outputs *f, const moe_problem *problem,
                                 moe_check_result *r) {
    note_lost(f, r);
    for (int i = MOE_T_O; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        moe_tensor_role role = moe_tensor_role_of(id);
        bool final = role == MOE_ROLE_FORWARD || role == MOE_ROLE_BACKWARD;
        if (!final || f->got.t[id].data || !is_made(problem, id))
            continue;
        moe_tensor_verdict *v = moe_int_result_entry(r, moe_tensor_name(id));
        if (v->why[0])
            continue;
        v->verdict = MOE_VERDICT_SKIP;
        snprintf(v->why, sizeof v->why, "not given");
    }
}
