#include "check/state/mirror.h"
#include "check/compare/layout.h"
#include "check/routing/choice.h"
#include "check/subject/guard.h"
#include "layer/traits.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 1 << 20 }; /* elements, from which on threads gain */

static size_t row_bytes(const moe_tensor *t) {
    return t->shape[0] > 0 ? (size_t)(moe_tensor_bytes(t) / t->shape[0]) : 0;
}

static void copy_row(const moe_tensor *src, int64_t from, int64_t to, moe_tensor *dst) {
    size_t bytes = row_bytes(src);
    memcpy((char *)dst->data + (size_t)to * bytes, (const char *)src->data + (size_t)from * bytes,
           bytes);
}

/* Every sign bit, which stands in the last byte of any floating type. What was not written must
 * still look so, and a NaN must not begin to: the poison is the one with all bits set. */
static void negate(moe_tensor *t) {
    size_t size = moe_dtype_size(t->dtype);
    int64_t count = moe_tensor_count(t);
#pragma omp parallel for schedule(static) if (count >= MANY)
    for (int64_t i = 0; i < count; i++) {
        unsigned char *sign = (unsigned char *)t->data + (size_t)(i + 1) * size - 1;
        if ((*sign & 0x7f) == 0x7f && moe_int_is_poison(t, i))
            continue;
        *sign ^= 0x80;
        if (*sign == 0xff && moe_int_is_poison(t, i))
            *sign ^= 0x80;
    }
}

static moe_status mirror_rows(const moe_int_mirror *m, const moe_tensor *src, moe_tensor *ret) {
    *ret = (moe_tensor){0};
    if (!src->data)
        return MOE_OK;
    moe_status status = moe_tensor_alloc(src->dtype, src->ndim, src->shape, ret);
    for (int64_t i = 0; !status && i < m->problem.T; i++)
        copy_row(src, m->order[i], i, ret);
    return status;
}

moe_status moe_int_mirror_make(const moe_problem *problem, const moe_log *log,
                               moe_int_mirror *ret) {
    bool stay = !problem->plan && moe_int_select_rules[problem->layer.router.select].other_tokens;
    int64_t T = problem->T;
    *ret = (moe_int_mirror){.problem = *problem, .order = malloc((size_t)T * sizeof *ret->order)};
    ret->problem.expected_plan = NULL;
    ret->problem.plan = NULL;
    ret->problem.in.t[MOE_T_X] = ret->problem.in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status = ret->order ? MOE_OK : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < T; i++)
        ret->order[i] = stay ? i : T - 1 - i;
    if (!status)
        status = mirror_rows(ret, &problem->in.t[MOE_T_X], &ret->problem.in.t[MOE_T_X]);
    if (!status && (problem->pass & MOE_PASS_BWD))
        status = mirror_rows(ret, &problem->in.t[MOE_T_DO], &ret->problem.in.t[MOE_T_DO]);
    if (!status && ret->problem.in.t[MOE_T_DO].data)
        negate(&ret->problem.in.t[MOE_T_DO]);
    if (!status && problem->plan)
        status = moe_plan_subset(problem->plan, ret->order, T, &ret->problem.plan);
    if (!status)
        return MOE_OK;
    moe_int_mirror_destroy(ret);
    return moe_fail(log, status, "no memory for a second input");
}

void moe_int_mirror_destroy(moe_int_mirror *m) {
    moe_tensor_destroy(&m->problem.in.t[MOE_T_X]);
    moe_tensor_destroy(&m->problem.in.t[MOE_T_DO]);
    moe_plan_destroy(&m->problem.plan);
    free(m->order);
    memset(m, 0, sizeof *m);
}

bool moe_int_mirror_differs(const moe_int_mirror *m) {
    return m->order[0] != 0 || m->problem.in.t[MOE_T_DO].data;
}

/* The pair of mirrored token i that has the same expert as pair `from` of the original's. */
static int64_t pair_of(const moe_plan *mirrored, int64_t i, int64_t k) {
    return mirrored->pair_of_token[mirrored->token_offsets[i] + k];
}

bool moe_int_mirror_same_choice(const moe_int_mirror *m, const moe_plan *plan,
                                const moe_plan *mirrored) {
    for (int64_t i = 0; i < m->problem.T; i++) {
        int64_t t = m->order[i], count = moe_int_experts_of(plan, t);
        if (moe_int_experts_of(mirrored, i) != count)
            return false;
        for (int64_t k = 0; k < count; k++)
            if (moe_int_plan_expert_of(mirrored, pair_of(mirrored, i, k)) !=
                moe_int_plan_expert_of(plan, plan->pair_of_token[plan->token_offsets[t] + k]))
                return false;
    }
    return true;
}

static moe_status undo_rows(const moe_int_mirror *m, const moe_int_layout *layout,
                            const moe_tensor *src, const moe_plan *plan, const moe_plan *mirrored,
                            moe_int_guarded *ret) {
    moe_status status = moe_int_guard_alloc(src, src->dtype, ret);
    moe_tensor *dst = &ret->tensor;
    const int64_t T = status ? 0 : m->problem.T;
#pragma omp parallel for schedule(static) if (moe_tensor_count(src) >= MANY)
    for (int64_t i = 0; i < T; i++) {
        int64_t t = m->order[i];
        if (layout->by == MOE_INT_BY_TOKEN)
            copy_row(src, i, t, dst);
        for (int64_t k = 0; layout->by == MOE_INT_BY_PAIR && k < moe_int_experts_of(plan, t); k++)
            copy_row(src, pair_of(mirrored, i, k), plan->pair_of_token[plan->token_offsets[t] + k],
                     dst);
    }
    return status;
}

moe_status moe_int_mirror_undo(const moe_int_mirror *m, moe_int_run *run, const moe_plan *plan,
                               const moe_plan *mirrored, moe_int_guarded *ret) {
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        const moe_tensor *src = &run->first[id].tensor;
        moe_int_layout layout = moe_int_layout_of((moe_tensor_id)id, src);
        if (!src->data || (layout.by == MOE_INT_BY_PAIR && (!plan || !mirrored)))
            continue;
        if (layout.by == MOE_INT_BY_TOKEN || layout.by == MOE_INT_BY_PAIR)
            status = undo_rows(m, &layout, src, plan, mirrored, &ret[id]);
        else
            moe_int_guard_move(&run->first[id], &ret[id]);
        if (!status && moe_tensor_is_backward((moe_tensor_id)id))
            negate(&ret[id].tensor);
    }
    return status;
}
