/* A case with its inputs and its truth. Routing goes by slots: [T][columns], -1 in empty ones. */
#include "python/binding/problem.h"
#include "cli/input/select.h"
#include "moeref/operator.h"
#include "moeref/reference.h"
#include "python/binding/binding.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS, EXPECTED, LISTS };

struct moe_py_problem {
    atomic_int holders;
    bool own;
    moe_problem *problem;
    moe_reference_result *truth;
    moe_named_tensor list[LISTS][MOE_T_COUNT + 4];
    int64_t count[LISTS];
    moe_tensor slots[LISTS], of_slot[LISTS][2]; /* owned; the weights, and their gradients */
};

const moe_problem *moe_py_problem_of(const moe_py_problem *p) {
    return p->problem;
}

bool moe_py_problem_is_own(const moe_py_problem *p) {
    return p->own;
}

static void add(moe_py_problem *p, int list, const char *name, moe_tensor tensor) {
    p->list[list][p->count[list]++] = (moe_named_tensor){name, tensor};
}

/* values [pairs] in plan order, put into the slots of `index` [T][columns]; 0 in empty ones. */
static moe_status to_slots(const moe_plan *plan, const moe_tensor *index, moe_dtype dtype,
                           const moe_tensor *values, moe_tensor *ret) {
    const moe_view slots = moe_view_of(index);
    moe_status status = moe_tensor_alloc(dtype, 2, index->shape, ret);
    if (status)
        return status;
    const moe_view to = moe_view_of(ret);
    return moe_plan_fill_slots(plan, &slots, values, &to, NULL);
}

/* topk_index and, of S, topk_weight; of dS, dS. */
static moe_status list_routing(moe_py_problem *p, int list, const moe_plan *plan,
                               const moe_tensor *s, const moe_tensor *ds) {
    const moe_dtype dtype = list == INPUTS ? MOE_F32 : MOE_F64;
    const int64_t K = p->problem->layer.K;
    moe_tensor *index = &p->slots[list], *of = p->of_slot[list];
    moe_status status =
        p->problem->plan ? moe_problem_slots(p->problem, K, index) : moe_plan_slots(plan, K, index);
    if (!status)
        status = to_slots(plan, index, dtype, s, &of[0]);
    if (!status && ds && ds->data)
        status = to_slots(plan, index, dtype, ds, &of[1]);
    if (status)
        return status;
    add(p, list, "topk_index", *index);
    add(p, list, moe_tensor_name(MOE_T_S), of[0]);
    if (of[1].data)
        add(p, list, moe_tensor_name(MOE_T_DS), of[1]);
    return MOE_OK;
}

static moe_status list_inputs(moe_py_problem *p) {
    const moe_plan *plan = p->problem->plan;
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (p->problem->in.t[id].data)
            add(p, INPUTS, moe_tensor_name((moe_tensor_id)id), p->problem->in.t[id]);
    if (p->problem->masked)
        add(p, INPUTS, "masked", (moe_tensor){p->problem->masked, MOE_U8, 1, {p->problem->T}});
    if (!plan)
        return MOE_OK;
    const moe_tensor s = {plan->weight, MOE_F64, 1, {plan->n_pairs}};
    return list_routing(p, INPUTS, plan, &s, NULL);
}

/* Checkpoints bring their own data; a case may have golden outputs beside the library. */
static moe_status open_problem(int kind, const char *text, int64_t number, const moe_log *log,
                               const moe_safetensors *own, moe_problem **ret) {
    const cli_selection selection = {.layer = number};
    cli_item item = {(char *)text, (char)kind};
    if (kind == 'o')
        return moe_problem_from_tensors(own, "inputs", *text ? text : NULL, log, ret);
    return cli_problem(&selection, &item, ret);
}

moe_status moe_py_problem_open(int kind, const char *text, int64_t number,
                               const moe_named_tensor *tensors, int64_t count, moe_py_said *said,
                               moe_py_problem **ret) {
    moe_py_ear ear;
    moe_safetensors *own = NULL;
    moe_py_listen(&ear, said);
    moe_py_problem *p = calloc(1, sizeof *p);
    moe_status status = p ? MOE_OK : moe_fail(&ear.log, MOE_E_NOMEM, "no memory for a case");
    if (p) {
        atomic_init(&p->holders, 1);
        p->own = kind != 'h';
    }
    if (!status && kind == 'o')
        status = moe_safetensors_of(tensors, (size_t)count, "inputs", &ear.log, &own);
    if (!status)
        status = open_problem(kind, text, number, &ear.log, own, &p->problem);
    if (!status)
        status = list_inputs(p);
    moe_safetensors_close(&own);
    moe_py_listen_end();
    if (status)
        moe_py_problem_close(p);
    else
        *ret = p;
    return status;
}

void moe_py_problem_hold(moe_py_problem *p) {
    atomic_fetch_add(&p->holders, 1);
}

void moe_py_problem_close(moe_py_problem *p) {
    if (!p || atomic_fetch_sub(&p->holders, 1) > 1)
        return;
    for (int list = 0; list < LISTS; list++) {
        moe_tensor_destroy(&p->slots[list]);
        for (int i = 0; i < 2; i++)
            moe_tensor_destroy(&p->of_slot[list][i]);
    }
    moe_reference_result_destroy(&p->truth);
    moe_problem_destroy(&p->problem);
    free(p);
}

const char *moe_py_problem_name(const moe_py_problem *p) {
    return p->problem->name;
}

char *moe_py_problem_facts(const moe_py_problem *p) {
    const moe_layer_desc *l = &p->problem->layer;
    json_t *root = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:s, s:b, s:s}", "T",
                             (json_int_t)p->problem->T, "d", (json_int_t)l->d, "n",
                             (json_int_t)l->n, "E", (json_int_t)l->E, "K", (json_int_t)l->K, "seed",
                             (json_int_t)p->problem->seed, "pass", (int)p->problem->pass, "dtype",
                             moe_dtype_name((moe_dtype)p->problem->dtype), "plan_given",
                             p->problem->plan != NULL, "reproduce", p->problem->reproduce);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

moe_status moe_py_problem_solve(moe_py_problem *p, int32_t threads, moe_py_said *said) {
    moe_py_ear ear;
    if (p->truth)
        return MOE_OK;
    moe_py_listen(&ear, said);
    moe_status status = moe_reference_problem(p->problem, threads, &ear.log, &p->truth);
    moe_py_listen_end();
    if (status)
        return status;
    const moe_tensor *out = p->truth->out.t;
    for (int id = MOE_T_LOGITS; id < MOE_T_COUNT; id++)
        if (out[id].data && id != MOE_T_S && id != MOE_T_DS)
            add(p, EXPECTED, moe_tensor_name((moe_tensor_id)id), out[id]);
    return list_routing(p, EXPECTED, p->truth->plan, &out[MOE_T_S], &out[MOE_T_DS]);
}

int moe_py_problem_tensor(const moe_py_problem *p, int expected, int64_t i, moe_named_tensor *ret) {
    const int list = expected ? EXPECTED : INPUTS;
    if (i < 0 || i >= p->count[list])
        return 0;
    *ret = p->list[list][i];
    return 1;
}
