/* What is wrong with one rank's file, said with its rank, its name and the tensor's. */
#include "check/ranks/files.h"
#include "check/verdict/result.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char marker[] = "%d";

void moe_int_files_path(const moe_int_files *f, int32_t rank, char ret[PATH_MAX]) {
    const char *at = strstr(f->pattern, marker);
    snprintf(ret, PATH_MAX, "%.*s%d%s", (int)(at - f->pattern), f->pattern, (int)rank,
             at + sizeof marker - 1);
}

moe_tensor moe_int_files_part(const moe_int_files *f, int32_t rank, const char *name) {
    moe_tensor t = {0};
    if (moe_safetensors_get(f->file[rank], name, &t))
        t = (moe_tensor){0};
    return t;
}

static int64_t rows_of(const moe_int_files *f, int32_t rank, const char *name) {
    const moe_tensor t = moe_int_files_part(f, rank, name);
    return t.data && t.ndim >= 1 ? t.shape[0] : 0;
}

/* "is [40, 63] of float32". */
void moe_int_files_describe(const moe_int_files *f, int32_t rank, const char *name, char *ret,
                            size_t size) {
    char shape[96];
    moe_tensor t = {0};
    const moe_status status = moe_safetensors_get(f->file[rank], name, &t);
    if (status == MOE_E_NOTFOUND)
        snprintf(ret, size, "is not there");
    else if (status)
        snprintf(ret, size, "is of a type that cannot be read");
    else
        snprintf(ret, size, "is %s of %s", moe_tensor_shape_str(&t, shape, sizeof shape),
                 moe_dtype_name(t.dtype));
}

moe_status moe_int_files_refuse(const moe_int_files *f, const char *name, int32_t rank,
                                int32_t other, const moe_log *log) {
    char path[PATH_MAX], is[160], are[160];
    moe_int_files_path(f, rank, path);
    moe_int_files_describe(f, rank, name, is, sizeof is);
    moe_int_files_describe(f, other, name, are, sizeof are);
    return moe_fail(log, MOE_E_INVALID, "%s: rank %d's %s %s, but rank %d's %s", path, (int)rank,
                    name, is, (int)other, are);
}

/* ---- rows ---- */

/* Is it one row a token? Numbers of pairs may lie by slots. */
static bool is_of_tokens(const moe_int_files *f, const char *name) {
    moe_tensor_id id;
    if (moe_tensor_id_parse(name, &id))
        return strncmp(name, "topk_", 5) == 0;
    if (moe_ep_placed_of(id) != MOE_EP_OF_PAIRS)
        return moe_ep_placed_of(id) == MOE_EP_OF_TOKENS;
    for (int32_t r = 0; r < f->count; r++)
        if (moe_int_files_part(f, r, name).ndim == 2)
            return true;
    return false;
}

static bool is_of_whole_experts(const moe_int_files *f, const char *name) {
    moe_tensor_id id;
    return !moe_tensor_id_parse(name, &id) && moe_ep_placed_of(id) == MOE_EP_OF_EXPERTS &&
           !moe_int_files_in_parts(f->problem, id);
}

static int64_t all_rows(const moe_int_files *f, const char *name) {
    int64_t sum = 0;
    for (int32_t r = 0; r < f->count; r++)
        sum += rows_of(f, r, name);
    return sum;
}

/* Has one rank all of it, and no other any? Where the case says nothing of tokens, whoever gathers
 * what all ranks know may write it there. */
static bool is_gathered(const moe_int_files *f, const char *name) {
    int32_t with = 0;
    for (int32_t r = 0; r < f->count; r++)
        with += rows_of(f, r, name) > 0;
    return with == 1;
}

/* The first rank that has not as many rows as tokens, or experts; "" where all have. */
static void say_rows(const moe_int_files *f, const char *name, char *ret, size_t size) {
    const bool tokens = is_of_tokens(f, name);
    const int64_t *due = tokens ? f->due : f->who.experts;
    const int64_t all = tokens ? f->problem->T : f->problem->layer.E;
    char is[160];
    ret[0] = '\0';
    if (!(tokens || is_of_whole_experts(f, name)) || !all_rows(f, name) ||
        (all_rows(f, name) == all && !(tokens && f->stated) && is_gathered(f, name)))
        return;
    for (int32_t r = 0; r < f->count; r++) {
        if (rows_of(f, r, name) == due[r])
            continue;
        moe_int_files_describe(f, r, name, is, sizeof is);
        snprintf(ret, size, "rank %d's %s %s, for %lld %s", (int)r, name, is, (long long)due[r],
                 tokens ? "tokens" : "experts");
        return;
    }
}

moe_status moe_int_files_check_slots(const moe_int_files *f, const char *name, const moe_log *log) {
    char rows[256];
    moe_tensor_id id;
    if (moe_tensor_id_parse(name, &id) || moe_ep_placed_of(id) != MOE_EP_OF_PAIRS ||
        !is_of_tokens(f, name) || all_rows(f, name) == f->problem->T ||
        all_rows(f, "topk_index") == f->problem->T)
        return MOE_OK;
    say_rows(f, name, rows, sizeof rows);
    return rows[0] ? moe_fail(log, MOE_E_INVALID, "%s: %s", f->pattern, rows) : MOE_OK;
}

/* ---- beside verdicts ---- */

static void add(moe_tensor_verdict *v, const char *format, ...) MOE_PRINTF(2, 3);
static void add(moe_tensor_verdict *v, const char *format, ...) {
    const size_t used = strlen(v->why);
    va_list args;
    va_start(args, format);
    vsnprintf(v->why + used, sizeof v->why - used, format, args);
    va_end(args);
}

/* Rows that are right one after the other are wrong where they lie if a rank has another's. */
static void judge_rows(const moe_int_files *f, moe_tensor_verdict *v, moe_check_result *result) {
    char rows[256], path[PATH_MAX];
    const size_t used = strlen(result->why), name = strlen(v->name);
    say_rows(f, v->name, rows, sizeof rows);
    if (!rows[0])
        return;
    if (v->verdict != MOE_VERDICT_FAIL) {
        moe_int_entry_fail(v, "%s", rows);
        moe_int_result_set(result, MOE_VERDICT_FAIL, "%s: %s", v->name, rows);
        return;
    }
    add(v, "; %s", rows);
    if (strncmp(result->why, v->name, name) == 0 && result->why[name] == ':')
        snprintf(result->why + used, sizeof result->why - used, "; %s", rows);
    moe_int_files_path(f, f->count, path);
    if (moe_split_ranks(&f->problem->split) == 0)
        add(v, "; %d files were read, %s is not there", (int)f->count, path);
}

static bool same_bits(const moe_tensor *a, const moe_tensor *b) {
    return a->data && b->data && a->dtype == b->dtype && moe_tensor_same_shape(a, b) &&
           memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)) == 0;
}

static bool is_zero(const moe_tensor *t) {
    const char *bytes = t->data;
    for (int64_t i = 0; i < moe_tensor_bytes(t); i++)
        if (bytes[i])
            return false;
    return true;
}

/* Other tokens, experts, or other parts of them, do not have the same bits. */
static void add_twins(const moe_int_files *f, moe_tensor_verdict *v) {
    moe_tensor_id id;
    const bool known = !moe_tensor_id_parse(v->name, &id);
    const bool experts = known && moe_ep_placed_of(id) == MOE_EP_OF_EXPERTS;
    const bool replicas = experts && (f->problem->split.n_replicas || id == MOE_T_DB2);
    const int32_t tp = f->problem->split.tp > 1 ? f->problem->split.tp : 1;
    for (int32_t q = 1; q < f->count && !replicas; q++)
        for (int32_t r = 0; r < q; r++) {
            const moe_tensor a = moe_int_files_part(f, r, v->name);
            const moe_tensor b = moe_int_files_part(f, q, v->name);
            if (moe_tensor_bytes(&b) == 0 || !same_bits(&a, &b) || is_zero(&a))
                continue;
            add(v, "; rank %d's is rank %d's, bit for bit%s", (int)q, (int)r,
                experts && q / tp == r / tp ? ", which has another part of the same experts" : "");
            return;
        }
}

/* Of parts of experts the worst element does not say whose it is: who has one that is no number? */
static void add_not_finite(const moe_int_files *f, moe_tensor_verdict *v) {
    moe_tensor_id id;
    if (moe_tensor_id_parse(v->name, &id) || !moe_int_files_in_parts(f->problem, id))
        return;
    for (int32_t r = 0; r < f->count; r++) {
        const moe_tensor t = moe_int_files_part(f, r, v->name);
        for (int64_t i = 0, n = t.data ? moe_tensor_count(&t) : 0; i < n; i++)
            if (!isfinite(moe_load(t.data, t.dtype, (size_t)i))) {
                add(v, "; rank %d's is not finite", (int)r);
                return;
            }
    }
}

/* What every rank has in full is the same on all. */
static void judge_copies(const moe_int_files *f, const char *name, moe_check_result *result) {
    char is[160], are[160], why[400];
    const moe_tensor first = moe_int_files_part(f, 0, name);
    for (int32_t r = 1; r < f->count; r++) {
        const moe_tensor t = moe_int_files_part(f, r, name);
        if (same_bits(&t, &first))
            continue;
        moe_int_files_describe(f, r, name, is, sizeof is);
        moe_int_files_describe(f, 0, name, are, sizeof are);
        if (t.data && first.data && strcmp(is, are) == 0)
            snprintf(why, sizeof why,
                     "rank %d has another one than rank 0: it is not summed over ranks", (int)r);
        else
            snprintf(why, sizeof why, "rank %d's %s, rank 0's %s", (int)r, is, are);
        moe_tensor_verdict *v = moe_int_result_entry(result, name);
        if (v->verdict == MOE_VERDICT_FAIL)
            add(v, "; %s", why);
        moe_int_entry_fail(v, "%s", why);
        moe_int_result_set(result, MOE_VERDICT_FAIL, "%s: %s", name, why);
        return;
    }
}

void moe_int_files_say(const moe_int_files *f, moe_check_result *result) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const char *name = moe_tensor_name((moe_tensor_id)id);
        bool there = false;
        for (int32_t r = 0; r < f->count; r++)
            there = there || moe_int_files_part(f, r, name).data;
        if (there && moe_ep_placed_of((moe_tensor_id)id) == MOE_EP_OF_ALL)
            judge_copies(f, name, result);
    }
    for (size_t i = 0; i < result->n_tensors; i++) {
        moe_tensor_verdict *v = &result->tensor[i];
        moe_tensor_id id;
        const bool all =
            !moe_tensor_id_parse(v->name, &id) && moe_ep_placed_of(id) == MOE_EP_OF_ALL;
        if (!all)
            judge_rows(f, v, result);
        if (v->verdict != MOE_VERDICT_FAIL || all)
            continue;
        add_twins(f, v);
        add_not_finite(f, v);
    }
}
