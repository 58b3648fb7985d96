/* Causes between ranks of which nothing is known but the files that they wrote. */
#include "check/ranks/cause.h"
#include "check/ranks/files.h"
#include "check/ranks/ranks.h"
#include "check/routing/reading.h"
#include "check/subject/outputs.h"
#include "check/truth/truth.h"
#include "reference/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As many experts on each rank as the files have: what moe_ep_layout_make says of even ones, as far
 * as causes ask; of experts in parts, or with replicas, they ask for tokens alone. */
static moe_status layout_of(const moe_plan *all, const moe_int_file_ranks *who, int64_t experts,
                            moe_ep_layout *ret) {
    const int32_t R = who->ranks;
    moe_ep_layout l = {.ranks = R, .combine = MOE_EP_PAIRS, .slots = experts};
    l.first = calloc((size_t)R + 1, sizeof *l.first);
    l.tokens = calloc((size_t)R + 1, sizeof *l.tokens);
    l.counts = calloc((size_t)(R * experts + 1), sizeof *l.counts);
    *ret = l;
    if (!l.first || !l.tokens || !l.counts)
        return MOE_E_NOMEM;
    for (int32_t r = 0; r < R; r++) {
        l.first[r + 1] = l.first[r] + who->experts[r];
        l.tokens[r] = who->tokens[r];
    }
    for (int64_t e = 0; e < experts; e++)
        for (int64_t p = all->offsets[e]; p < all->offsets[e + 1]; p++)
            l.counts[moe_int_ranks_home_of(&l, all->token[p]) * experts + e]++;
    return MOE_OK;
}

/* Do experts lie whole, and once? */
static bool is_plain(const moe_problem *problem) {
    return problem->split.tp <= 1 && !problem->split.n_replicas;
}

static bool is_whole(const moe_int_file_ranks *who, const moe_problem *problem) {
    int64_t tokens = 0, experts = 0;
    for (int32_t r = 0; r < who->ranks; r++) {
        tokens += who->tokens[r];
        experts += who->experts[r];
    }
    return tokens == problem->T && (experts == problem->layer.E || !is_plain(problem));
}

/* Results of a choice that is right, or else the choice. */
static void look(const moe_int_outputs *f, const moe_reference_result *right,
                 const moe_ep_layout *layout, const moe_problem *problem,
                 moe_check_result *result) {
    const moe_plan *plan = problem->plan ? problem->plan : right->plan;
    const moe_tensor *logits = &right->out.t[MOE_T_LOGITS];
    const int32_t tp = problem->split.tp;
    if (!f->plan || problem->plan || moe_int_same_pairs(f->plan, plan)) {
        const moe_int_compared c = {.problem = problem,
                                    .layout = layout,
                                    .plan = plan,
                                    .got = &f->got,
                                    .right = &right->out,
                                    .tp = tp > 1 ? tp : 1,
                                    .plain = is_plain(problem),
                                    .low = moe_int_is_low((moe_dtype)result->arithmetic)};
        moe_int_ranks_cause(&c, result);
    } else if (logits->data && problem->layer.router.select == MOE_SELECT_TOPK) {
        const moe_int_chosen c = {problem, layout, f->plan, logits->data, is_plain(problem)};
        moe_int_ranks_choice(&c, &result->explanation);
    }
}

/* On whose token or expert is the worst of a failing tensor? `plan`, NULL: not known, says whose a
 * pair is. */
static void name_worst(const moe_int_file_ranks *who, bool plain, const moe_plan *plan,
                       moe_tensor_verdict *v) {
    const size_t used = strlen(v->why);
    int64_t first = 0, at = v->worst_index[0];
    int32_t r = 0;
    moe_tensor_id id;
    const bool ids = strcmp(v->name, "topk_index") == 0;
    if (v->verdict != MOE_VERDICT_FAIL || v->worst_ndim < 1 ||
        (moe_tensor_id_parse(v->name, &id) && !ids))
        return;
    const moe_ep_placed placed = ids ? MOE_EP_OF_TOKENS : moe_ep_placed_of(id);
    const bool expert = placed == MOE_EP_OF_EXPERTS && plain;
    const bool pair = placed == MOE_EP_OF_PAIRS && plan && at >= 0 && at < plan->n_pairs;
    if (placed != MOE_EP_OF_TOKENS && !expert && !pair)
        return;
    at = pair ? plan->token[at] : at;
    const int64_t *count = expert ? who->experts : who->tokens;
    while (r + 1 < who->ranks && at >= first + count[r])
        first += count[r++];
    snprintf(v->why + used, sizeof v->why - used, "; worst: %s %lld of rank %d",
             expert ? "expert" : "token", (long long)(at - first), (int)r);
}

static void name_all(const moe_int_file_ranks *who, const moe_problem *problem,
                     const moe_plan *plan, moe_check_result *result) {
    for (size_t i = 0; i < result->n_tensors; i++)
        name_worst(who, is_plain(problem), plan, &result->tensor[i]);
}

void moe_int_files_cause(const moe_safetensors *all, const char *name,
                         const moe_int_file_ranks *who, const moe_problem *problem,
                         const moe_check_params *params, moe_check_result *result) {
    static const moe_check_params defaults;
    moe_int_outputs f;
    moe_reference_result *right = NULL;
    if (!params)
        params = &defaults;
    if (result->verdict != MOE_VERDICT_FAIL || !is_whole(who, problem))
        return;
    moe_status status = moe_int_outputs_read(all, name, problem, NULL, &f);
    const moe_plan *plan = problem->plan ? problem->plan : f.plan;
    name_all(who, problem, plan, result);
    if (params->no_explanation) {
        moe_int_outputs_destroy(&f);
        return;
    }
    /* of a layer that is judged by a sample the truth is not known */
    if (!status && !(plan && moe_int_wants_sample(problem, plan, params)))
        status =
            moe_reference_problem(problem, moe_int_thread_count(params->threads), NULL, &right);
    if (!status && right) {
        moe_ep_layout layout;
        status =
            layout_of(problem->plan ? problem->plan : right->plan, who, problem->layer.E, &layout);
        if (!status)
            look(&f, right, &layout, problem, result);
        moe_ep_layout_destroy(&layout);
    }
    moe_reference_result_destroy(&right);
    moe_int_outputs_destroy(&f);
}
