/* Outputs that ranks wrote, each into a file of its own: put together as one device's, and judged
 * as those. */
#include "check/ranks/files.h"
#include "check/verdict/result.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char marker[] = "%d";

typedef struct files {
    moe_safetensors *file[MOE_EP_MAX_RANKS];
    int32_t count;
    moe_named_tensor *tensor; /* [n], data owned */
    size_t n;
    char differs[64]; /* the first gradient that ranks have of different bits; "" */
    int32_t rank;     /* the first whose are not rank 0's */
    moe_int_file_ranks who;
} files;

static void name_file(const char *pattern, int32_t rank, char *ret) {
    const char *at = strstr(pattern, marker);
    snprintf(ret, PATH_MAX, "%.*s%d%s", (int)(at - pattern), pattern, (int)rank,
             at + sizeof marker - 1);
}

static moe_status open_all(const char *pattern, int32_t ranks, const moe_log *log, files *f) {
    char path[PATH_MAX];
    moe_status status = MOE_OK;
    while (!status && f->count < (ranks ? ranks : MOE_EP_MAX_RANKS)) {
        name_file(pattern, f->count, path);
        if (!ranks && f->count && access(path, F_OK) != 0)
            break;
        status = moe_safetensors_open(path, log, &f->file[f->count]);
        f->count += !status;
    }
    return status;
}

/* What every rank has in full: the router's gradients and the shared expert's. */
static bool is_everybodys(const char *name) {
    moe_tensor_id id;
    if (moe_tensor_id_parse(name, &id))
        return false;
    return moe_ep_placed_of(id) == MOE_EP_OF_ALL;
}

/* A rank's part; one without rows may leave a tensor out. */
static moe_tensor part_of(const files *f, int32_t rank, const char *name) {
    moe_tensor t = {0};
    moe_safetensors_get(f->file[rank], name, &t);
    return t;
}

static bool same_bits(const moe_tensor *a, const moe_tensor *b) {
    return a->data && b->data && a->dtype == b->dtype && moe_tensor_same_shape(a, b) &&
           moe_tensor_count(a) > 0 && memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)) == 0;
}

static void compare_ranks(files *f, const char *name) {
    const moe_tensor first = part_of(f, 0, name);
    for (int32_t r = 1; r < f->count && !f->differs[0]; r++) {
        const moe_tensor t = part_of(f, r, name);
        if (same_bits(&t, &first))
            continue;
        snprintf(f->differs, sizeof f->differs, "%s", name);
        f->rank = r;
    }
}

/* Can t's rows follow those of the others? */
static bool goes_with(const moe_tensor *all, const moe_tensor *t) {
    bool same = all->dtype == t->dtype && all->ndim == t->ndim;
    for (int i = 1; same && i < t->ndim; i++)
        same = all->shape[i] == t->shape[i];
    return same;
}

/* The ranks' rows one after the other; everybody's gradients are rank 0's. */
static moe_status join(files *f, const char *name, const moe_log *log, moe_tensor *ret) {
    moe_tensor shape = {0};
    const int32_t last = is_everybodys(name) ? 1 : f->count;
    for (int32_t r = 0; r < last; r++) {
        const moe_tensor t = part_of(f, r, name);
        if (!t.data || t.ndim < 1)
            continue;
        if (shape.ndim && !goes_with(&shape, &t))
            return moe_fail(log, MOE_E_INVALID, "%s of rank %d has another type or width", name,
                            (int)r);
        const int64_t before = shape.ndim ? shape.shape[0] : 0;
        shape = t;
        shape.shape[0] += before;
    }
    moe_status status = moe_tensor_alloc(shape.dtype, shape.ndim, shape.shape, ret);
    char *to = status ? NULL : ret->data;
    for (int32_t r = 0; !status && r < last; r++) {
        const moe_tensor t = part_of(f, r, name);
        const size_t bytes = t.data && t.ndim >= 1 ? (size_t)moe_tensor_bytes(&t) : 0;
        if (!to || !bytes)
            continue;
        memcpy(to, t.data, bytes);
        to += bytes;
    }
    return status;
}

static bool is_listed(const files *f, const char *name) {
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].name && strcmp(f->tensor[i].name, name) == 0)
            return true;
    return false;
}

/* Rows that a rank has of the first of these that is in any file; false: none is. */
static bool count_rows(const files *f, const char *const *names, size_t n, int64_t *ret) {
    int64_t sum = 0;
    for (size_t i = 0; i < n && sum == 0; i++)
        for (int32_t r = 0; r < f->count; r++) {
            const moe_tensor t = part_of(f, r, names[i]);
            ret[r] = t.data && t.ndim >= 2 ? t.shape[0] : 0;
            sum += ret[r];
        }
    return sum > 0;
}

/* Whose tokens and experts are whose: by what the files hold, else by the case. */
static void share_out(const files *f, const moe_problem *problem, moe_int_file_ranks *ret) {
    static const char *const of_tokens[] = {"O", "dX", "topk_index", "topk_weight",
                                            "router_logits"};
    static const char *const of_experts[] = {"dW1", "dW2", "db1", "db2"};
    const moe_split *split = &problem->split;
    const int32_t R = ret->ranks = f->count;
    const bool told = split->tokens && split->n_tokens == R;
    if (!count_rows(f, of_tokens, sizeof of_tokens / sizeof *of_tokens, ret->tokens))
        for (int32_t r = 0; r < R; r++)
            ret->tokens[r] =
                told ? split->tokens[r] : (r + 1) * problem->T / R - r * problem->T / R;
    if (!count_rows(f, of_experts, sizeof of_experts / sizeof *of_experts, ret->experts))
        for (int32_t r = 0; r < R; r++)
            ret->experts[r] = moe_ep_first_expert(problem->layer.E, R, r + 1) -
                              moe_ep_first_expert(problem->layer.E, R, r);
}

static void parts_of(const files *f, const char *name, moe_tensor *ret) {
    for (int32_t r = 0; r < f->count; r++)
        ret[r] = part_of(f, r, name);
}

/* Numbers of pairs that do not lie by slots. */
static bool is_of_pairs(const moe_tensor *parts, int32_t ranks, moe_tensor_id id) {
    bool flat = moe_ep_placed_of(id) == MOE_EP_OF_PAIRS;
    for (int32_t r = 0; r < ranks; r++)
        flat = flat && (!parts[r].data || parts[r].ndim == 1);
    return flat;
}

static moe_status join_any(files *f, const char *name, const moe_problem *problem,
                           const moe_log *log, moe_tensor *ret) {
    moe_tensor parts[MOE_EP_MAX_RANKS], ids[MOE_EP_MAX_RANKS];
    moe_tensor_id id;
    if (is_everybodys(name))
        compare_ranks(f, name);
    if (moe_tensor_id_parse(name, &id))
        return join(f, name, log, ret);
    parts_of(f, name, parts);
    if (moe_int_files_in_parts(problem, id))
        return moe_int_files_join(parts, id, problem, log, ret);
    if (!is_of_pairs(parts, f->count, id))
        return join(f, name, log, ret);
    parts_of(f, "topk_index", ids);
    return moe_int_files_join_pairs(parts, ids, name, &f->who, problem, log, ret);
}

static moe_status join_all(files *f, const moe_problem *problem, const moe_log *log) {
    size_t room = 0;
    for (int32_t r = 0; r < f->count; r++)
        room += moe_safetensors_count(f->file[r]);
    f->tensor = calloc(room + 1, sizeof *f->tensor);
    moe_status status = f->tensor ? MOE_OK : MOE_E_NOMEM;
    for (int32_t r = 0; r < f->count; r++)
        for (size_t i = 0; !status && i < moe_safetensors_count(f->file[r]); i++) {
            const char *name = moe_safetensors_name(f->file[r], i);
            if (is_listed(f, name))
                continue;
            f->tensor[f->n].name = name;
            status = join_any(f, name, problem, log, &f->tensor[f->n].tensor);
            f->n += !status;
        }
    return status;
}

static void destroy(files *f) {
    for (size_t i = 0; i < f->n; i++)
        moe_tensor_destroy(&f->tensor[i].tensor);
    free(f->tensor);
    for (int32_t r = 0; r < f->count; r++)
        moe_safetensors_close(&f->file[r]);
}

static void judge_copies(const files *f, moe_check_result *r) {
    if (!f->differs[0])
        return;
    moe_int_entry_fail(moe_int_result_entry(r, f->differs),
                       "rank %d has another one than rank 0: it is not summed over ranks",
                       (int)f->rank);
    moe_int_result_set(r, MOE_VERDICT_FAIL,
                       "%s: rank %d has another one than rank 0: it is not summed over ranks",
                       f->differs, (int)f->rank);
}

/* Another part of the same experts does not have the same bits. */
static void judge_parts(const files *f, int32_t tp, moe_check_result *r) {
    for (size_t i = 0; i < r->n_tensors; i++) {
        moe_tensor_verdict *v = &r->tensor[i];
        moe_tensor_id id;
        if (v->verdict != MOE_VERDICT_FAIL || moe_tensor_id_parse(v->name, &id) ||
            moe_ep_placed_of(id) != MOE_EP_OF_EXPERTS || id == MOE_T_DB2)
            continue;
        for (int32_t q = 1; q < f->count; q++) {
            const moe_tensor own = part_of(f, q, v->name), other = part_of(f, q - 1, v->name);
            const size_t used = strlen(v->why);
            if (q % tp == 0 || !same_bits(&own, &other))
                continue;
            snprintf(v->why + used, sizeof v->why - used,
                     "; rank %d has rank %d's, which is another part of the same experts", (int)q,
                     (int)q - 1);
            break;
        }
    }
}

/* Rows of a narrower type on their way home: its gates apply, as to a backend over such a wire. */
static int32_t arithmetic_of(const files *f, const moe_problem *problem) {
    const int32_t wire = problem->split.wire;
    const moe_tensor O = part_of(f, 0, "O");
    const bool narrower = problem->split.ranks && wire >= 0 && wire != MOE_EP_WIRE_E4M3 && O.data &&
                          moe_dtype_roundoff((moe_dtype)wire) > moe_dtype_roundoff(O.dtype);
    return narrower ? wire : -1;
}

moe_status moe_check_rank_outputs(const char *pattern, const moe_problem *problem,
                                  int32_t arithmetic, const moe_check_params *params,
                                  const moe_log *log, moe_check_result **ret) {
    files f = {.count = 0};
    moe_safetensors *all = NULL;
    moe_check_result *r = NULL;
    if (!strstr(pattern, marker) || strlen(pattern) > PATH_MAX - 16)
        return moe_fail(log, MOE_E_INVALID, "'%s' has no %%d for the rank", pattern);
    moe_status status = open_all(pattern, moe_split_ranks(&problem->split), log, &f);
    const int32_t wire = status ? -1 : arithmetic_of(&f, problem);
    if (!status) {
        share_out(&f, problem, &f.who);
        status = join_all(&f, problem, log);
    }
    if (!status)
        status = moe_safetensors_of(f.tensor, f.n, pattern, log, &all);
    if (!status)
        status = moe_check_tensors(all, pattern, problem, arithmetic < 0 ? wire : arithmetic,
                                   params, log, &r);
    if (!status && arithmetic < 0 && wire >= 0)
        snprintf(r->arithmetic_why, sizeof r->arithmetic_why, "wire=%s",
                 moe_dtype_name((moe_dtype)wire));
    if (!status) {
        moe_int_files_cause(all, pattern, &f.who, problem, params, r);
        if (problem->split.tp > 1)
            judge_parts(&f, problem->split.tp, r);
        judge_copies(&f, r);
        *ret = r;
    }
    moe_safetensors_close(&all);
    destroy(&f);
    return status;
}
