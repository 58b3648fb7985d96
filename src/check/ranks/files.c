/* Outputs that ranks wrote, each into a file of its own: put together as one device's, and judged
 * as those. */
#include "check/ranks/files.h"
#include "check/verdict/result.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct files {
    moe_int_files f;
    moe_named_tensor *tensor; /* [n], data owned */
    size_t n;
} files;

static moe_status open_all(const moe_log *log, moe_int_files *f) {
    const int32_t ranks = moe_split_ranks(&f->problem->split);
    char path[PATH_MAX];
    moe_status status = MOE_OK;
    while (!status && f->count < (ranks ? ranks : MOE_EP_MAX_RANKS)) {
        moe_int_files_path(f, f->count, path);
        if (!ranks && f->count && access(path, F_OK) != 0)
            break;
        status = moe_safetensors_open(path, log, &f->file[f->count]);
        f->count += !status;
    }
    return status;
}

/* A file that nobody judges must not look as if it had passed. */
static void warn_of_more(const moe_int_files *f, const moe_log *log) {
    char path[PATH_MAX];
    moe_int_files_path(f, f->count, path);
    if (access(path, F_OK) == 0)
        moe_log_send(log, MOE_LOG_WARN, "%s is not judged: the case has %d ranks", path,
                     (int)f->count);
}

/* What every rank has in full: the router's gradients and the shared expert's. */
static bool is_everybodys(const char *name) {
    moe_tensor_id id;
    if (moe_tensor_id_parse(name, &id))
        return false;
    return moe_ep_placed_of(id) == MOE_EP_OF_ALL;
}

/* Can t's rows follow those of the others? */
static bool goes_with(const moe_tensor *all, const moe_tensor *t) {
    bool same = all->dtype == t->dtype && all->ndim == t->ndim;
    for (int i = 1; same && i < t->ndim; i++)
        same = all->shape[i] == t->shape[i];
    return same;
}

/* The first rank that has it, R: none has. */
static int32_t first_with(const moe_int_files *f, const char *name) {
    int32_t r = 0;
    while (r < f->count && !moe_int_files_part(f, r, name).data)
        r++;
    return r;
}

/* The ranks' rows one after the other; everybody's gradients are the first rank's. */
static moe_status join(const moe_int_files *f, const char *name, const moe_log *log,
                       moe_tensor *ret) {
    moe_tensor shape = {0};
    int32_t other = 0;
    const int32_t first = first_with(f, name);
    const int32_t last = is_everybodys(name) && first < f->count ? first + 1 : f->count;
    for (int32_t r = first; r < last; r++) {
        const moe_tensor t = moe_int_files_part(f, r, name);
        if (!t.data || t.ndim < 1)
            continue;
        if (shape.ndim && !goes_with(&shape, &t))
            return moe_int_files_refuse(f, name, r, other, log);
        const int64_t before = shape.ndim ? shape.shape[0] : 0;
        other = shape.ndim ? other : r;
        shape = t;
        shape.shape[0] += before;
    }
    moe_status status = moe_tensor_alloc(shape.dtype, shape.ndim, shape.shape, ret);
    char *to = status ? NULL : ret->data;
    for (int32_t r = first; !status && r < last; r++) {
        const moe_tensor t = moe_int_files_part(f, r, name);
        const size_t bytes = t.data && t.ndim >= 1 ? (size_t)moe_tensor_bytes(&t) : 0;
        if (!to || !bytes)
            continue;
        memcpy(to, t.data, bytes);
        to += bytes;
    }
    return status;
}

static bool is_listed(const files *k, const char *name) {
    for (size_t i = 0; i < k->n; i++)
        if (k->tensor[i].name && strcmp(k->tensor[i].name, name) == 0)
            return true;
    return false;
}

/* Rows that a rank has of the first of these that has `due` in all; false: none has. */
static bool count_rows(const moe_int_files *f, const char *const *names, size_t n, int64_t due,
                       int64_t *ret) {
    int64_t sum = 0;
    for (size_t i = 0; i < n && sum != due; i++) {
        sum = 0;
        for (int32_t r = 0; r < f->count; r++) {
            const moe_tensor t = moe_int_files_part(f, r, names[i]);
            ret[r] = t.data && t.ndim >= 2 ? t.shape[0] : 0;
            sum += ret[r];
        }
    }
    return sum == due;
}

/* Whose tokens and experts are whose: by what the files hold, else by the case. */
static void share_out(moe_int_files *f) {
    static const char *const of_tokens[] = {"O", "dX", "topk_index", "topk_weight",
                                            "router_logits"};
    static const char *const of_experts[] = {"dW1", "dW2", "db1", "db2"};
    const moe_split *split = &f->problem->split;
    const int64_t T = f->problem->T, E = f->problem->layer.E;
    moe_int_file_ranks *ret = &f->who;
    const int32_t R = ret->ranks = f->count;
    f->stated = split->tokens && split->n_tokens == R;
    if (!count_rows(f, of_tokens, sizeof of_tokens / sizeof *of_tokens, T, ret->tokens))
        for (int32_t r = 0; r < R; r++)
            ret->tokens[r] = f->stated ? split->tokens[r] : (r + 1) * T / R - r * T / R;
    for (int32_t r = 0; r < R; r++)
        f->due[r] = f->stated ? split->tokens[r] : ret->tokens[r];
    if (!count_rows(f, of_experts, sizeof of_experts / sizeof *of_experts, E, ret->experts))
        for (int32_t r = 0; r < R; r++)
            ret->experts[r] = moe_ep_first_expert(E, R, r + 1) - moe_ep_first_expert(E, R, r);
}

/* Numbers of pairs that do not lie by slots. */
static bool is_of_pairs(const moe_int_files *f, const char *name, moe_tensor_id id) {
    bool flat = moe_ep_placed_of(id) == MOE_EP_OF_PAIRS;
    for (int32_t r = 0; r < f->count; r++) {
        const moe_tensor t = moe_int_files_part(f, r, name);
        flat = flat && (!t.data || t.ndim == 1);
    }
    return flat;
}

static moe_status join_any(const moe_int_files *f, const char *name, const moe_log *log,
                           moe_tensor *ret) {
    moe_tensor_id id;
    if (moe_tensor_id_parse(name, &id))
        return join(f, name, log, ret);
    if (moe_int_files_in_parts(f->problem, id))
        return moe_int_files_join(f, id, log, ret);
    if (is_of_pairs(f, name, id))
        return moe_int_files_join_pairs(f, name, log, ret);
    const moe_status status = moe_int_files_check_slots(f, name, log);
    return status ? status : join(f, name, log, ret);
}

static moe_status join_all(files *k, const moe_log *log) {
    const moe_int_files *f = &k->f;
    size_t room = 0;
    for (int32_t r = 0; r < f->count; r++)
        room += moe_safetensors_count(f->file[r]);
    k->tensor = calloc(room + 1, sizeof *k->tensor);
    moe_status status = k->tensor ? MOE_OK : MOE_E_NOMEM;
    for (int32_t r = 0; r < f->count; r++)
        for (size_t i = 0; !status && i < moe_safetensors_count(f->file[r]); i++) {
            const char *name = moe_safetensors_name(f->file[r], i);
            if (is_listed(k, name))
                continue;
            k->tensor[k->n].name = name;
            status = join_any(f, name, log, &k->tensor[k->n].tensor);
            k->n += !status;
        }
    return status;
}

static void destroy(files *k) {
    for (size_t i = 0; i < k->n; i++)
        moe_tensor_destroy(&k->tensor[i].tensor);
    free(k->tensor);
    for (int32_t r = 0; r < k->f.count; r++)
        moe_safetensors_close(&k->f.file[r]);
}

/* Rows of a narrower type on their way home: its gates apply, as to a backend over such a wire. */
static int32_t arithmetic_of(const moe_int_files *f) {
    const moe_split *split = &f->problem->split;
    const int32_t wire = split->wire;
    const moe_tensor O = moe_int_files_part(f, 0, "O");
    const bool narrower = split->ranks && wire >= 0 && wire != MOE_EP_WIRE_E4M3 && O.data &&
                          moe_dtype_roundoff((moe_dtype)wire) > moe_dtype_roundoff(O.dtype);
    return narrower ? wire : -1;
}

moe_status moe_check_rank_outputs(const char *pattern, const moe_problem *problem,
                                  int32_t arithmetic, const moe_check_params *params,
                                  const moe_log *log, moe_check_result **ret) {
    files k = {.f = {.pattern = pattern, .problem = problem}};
    moe_int_files *f = &k.f;
    moe_safetensors *all = NULL;
    moe_check_result *r = NULL;
    if (!strstr(pattern, "%d") || strlen(pattern) > PATH_MAX - 16)
        return moe_fail(log, MOE_E_INVALID, "'%s' has no %%d for the rank", pattern);
    moe_status status = open_all(log, f);
    const int32_t wire = status ? -1 : arithmetic_of(f);
    if (!status) {
        warn_of_more(f, log);
        share_out(f);
        status = join_all(&k, log);
    }
    if (!status)
        status = moe_safetensors_of(k.tensor, k.n, pattern, log, &all);
    if (!status)
        status = moe_check_tensors(all, pattern, problem, arithmetic < 0 ? wire : arithmetic,
                                   params, log, &r);
    if (!status && arithmetic < 0 && wire >= 0)
        snprintf(r->arithmetic_why, sizeof r->arithmetic_why, "wire=%s",
                 moe_dtype_name((moe_dtype)wire));
    if (!status) {
        moe_int_files_cause(all, pattern, &f->who, problem, params, r);
        moe_int_files_say(f, r);
        *ret = r;
    }
    moe_safetensors_close(&all);
    destroy(&k);
    return status;
}
