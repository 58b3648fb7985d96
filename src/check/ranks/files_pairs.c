/* Numbers of pairs, dS and weights, that each rank's file has expert by expert: all experts' first,
 * and of each the ranks' in order, as one device has them. */
#include "check/ranks/files.h"
#include "moeref/reference.h"

#include <stdlib.h>
#include <string.h>

/* counts[r * experts + e] of a rank's ids [T_r][K], -1 in empty slots. */
static void count_ids(const moe_tensor *ids, int64_t experts, int64_t *counts) {
    for (int64_t i = 0, n = ids->data ? moe_tensor_count(ids) : 0; i < n; i++) {
        const int64_t e = (int64_t)moe_load(ids->data, ids->dtype, (size_t)i);
        if (e >= 0 && e < experts)
            counts[e]++;
    }
}

static void count_plan(const moe_plan *plan, const moe_int_file_ranks *who, int64_t *counts) {
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            int32_t r = 0;
            for (int64_t end = who->tokens[0]; r + 1 < who->ranks && plan->token[p] >= end;)
                end += who->tokens[++r];
            counts[r * plan->n_experts + e]++;
        }
}

/* Pairs of each rank for each expert: as the files choose, else as the case does. */
static moe_status count_pairs(const moe_tensor *ids, const moe_int_file_ranks *who,
                              const moe_problem *problem, const moe_log *log, int64_t experts,
                              int64_t *counts) {
    moe_plan *own = NULL;
    moe_status status = MOE_OK;
    bool told = false;
    for (int32_t r = 0; r < who->ranks; r++) {
        told |= ids[r].data != NULL;
        count_ids(&ids[r], experts, counts + r * experts);
    }
    if (told)
        return MOE_OK;
    if (!problem->plan) {
        const moe_reference_params params = {
            .tokens = problem->T, .precision = MOE_F64, .seed = problem->seed};
        status = moe_reference_route(&problem->layer, &problem->in, &params, log, NULL, &own);
    }
    if (!status)
        count_plan(problem->plan ? problem->plan : own, who, counts);
    moe_plan_destroy(&own);
    return status;
}

static moe_status check_counts(const moe_int_files *f, const moe_tensor *parts,
                               const int64_t *counts, int64_t experts, const char *name,
                               const moe_log *log) {
    char path[PATH_MAX], described[160];
    for (int32_t r = 0; r < f->count; r++) {
        int64_t due = 0;
        for (int64_t e = 0; e < experts; e++)
            due += counts[r * experts + e];
        const int64_t is = parts[r].data ? parts[r].shape[0] : 0;
        if (is == due)
            continue;
        moe_int_files_path(f, r, path);
        moe_int_files_describe(f, r, name, described, sizeof described);
        return moe_fail(log, MOE_E_INVALID, "%s: rank %d's %s %s, its tokens have %lld pairs", path,
                        (int)r, name, described, (long long)due);
    }
    return MOE_OK;
}

static void sort_pairs(const moe_tensor *parts, const moe_int_file_ranks *who,
                       const int64_t *counts, int64_t experts, char *to) {
    int64_t at[MOE_EP_MAX_RANKS] = {0};
    for (int64_t e = 0; e < experts; e++)
        for (int32_t r = 0; r < who->ranks; r++) {
            const size_t size = moe_dtype_size(parts[r].dtype);
            const size_t bytes = (size_t)counts[r * experts + e] * size;
            if (bytes)
                memcpy(to, (const char *)parts[r].data + (size_t)at[r] * size, bytes);
            at[r] += counts[r * experts + e];
            to += bytes;
        }
}

moe_status moe_int_files_join_pairs(const moe_int_files *f, const char *name, const moe_log *log,
                                    moe_tensor *ret) {
    moe_tensor parts[MOE_EP_MAX_RANKS] = {{0}}, ids[MOE_EP_MAX_RANKS] = {{0}};
    const moe_int_file_ranks *who = &f->who;
    const int64_t experts = f->problem->layer.E + f->problem->layer.n_zero;
    int64_t *counts = calloc((size_t)(who->ranks * experts + 1), sizeof *counts), all = 0;
    for (int32_t r = 0; r < f->count; r++) {
        parts[r] = moe_int_files_part(f, r, name);
        ids[r] = moe_int_files_part(f, r, "topk_index");
    }
    moe_status status =
        counts ? count_pairs(ids, who, f->problem, log, experts, counts) : MOE_E_NOMEM;
    if (!status)
        status = check_counts(f, parts, counts, experts, name, log);
    int32_t first = 0;
    while (first + 1 < who->ranks && !(parts[first].data && parts[first].shape[0]))
        first++;
    for (int32_t r = 0; r < who->ranks; r++)
        all += parts[r].data ? parts[r].shape[0] : 0;
    for (int32_t r = 0; !status && r < who->ranks; r++)
        if (parts[r].data && parts[r].shape[0] && parts[r].dtype != parts[first].dtype)
            status = moe_int_files_refuse(f, name, r, first, log);
    if (!status)
        status = moe_tensor_alloc(parts[first].data ? parts[first].dtype : MOE_F32, 1, &all, ret);
    if (!status)
        sort_pairs(parts, who, counts, experts, ret->data);
    free(counts);
    return status;
}
