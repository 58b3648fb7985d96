/* A backend that is wrong in one chosen way: variant "FAULT", "bf16.FAULT" or "fp16.FAULT". Without
 * a fault it is the float32 (bf16, fp16) reference, and right. Faults are put into the inputs of
 * that reference (a wrong formula), or into what fetch hands out (a wrong store, broken_stores.c),
 * or into the calls (rules of the interface broken). The variant "board" is right and tells of a
 * made-up board. */
#include "broken_plugin.h"

#include <stdlib.h>
#include <string.h>

static moe_status broken_probe(char *reason, size_t size) {
    (void)reason;
    (void)size;
    return MOE_OK;
}

static moe_status broken_open(const moe_open_params *params, void **ret_device) {
    broken_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return MOE_E_NOMEM;
    const char *fault = params->variant ? params->variant : "";
    bool bf16 = strncmp(fault, "bf16.", 5) == 0, fp16 = strncmp(fault, "fp16.", 5) == 0;
    dev->precision = bf16 ? MOE_BF16 : fp16 ? MOE_F16 : MOE_F32;
    strncpy(dev->fault, bf16 || fp16 ? fault + 5 : fault, sizeof dev->fault - 1);
    dev->log = params->log;
    *ret_device = dev;
    return MOE_OK;
}

static void broken_close(void *dev) {
    free(dev);
}

static moe_status broken_supports(void *dev, const moe_layer_desc *desc, const moe_use *use,
                                  moe_support *ret) {
    (void)use;
    if (moe_refuse_unknown(desc, ret))
        return MOE_E_UNSUPPORTED;
    const char *fault = ((const broken_device *)dev)->fault;
    ret->arithmetic = (int32_t)((const broken_device *)dev)->precision;
    ret->deterministic = !strstr(fault, "_undeclared");
    if (strcmp(fault, "refuse") == 0) {
        strcpy(ret->reason, "refuses everything by order");
        return MOE_E_UNSUPPORTED;
    }
    return MOE_OK;
}

/* A private copy of input `id` that a fault may change. */
static float *own_copy(broken_layer *l, moe_tensor_id id) {
    moe_tensor_destroy(&l->own);
    if (moe_tensor_cast(&l->in.t[id], MOE_F32, &l->own))
        abort();
    l->in.t[id] = l->own;
    return l->own.data;
}

/* Gate and up rows of every expert trade places. */
static void swap_gate_up(broken_layer *l) {
    int64_t d = l->desc.d, n = l->desc.n;
    float *w = own_copy(l, MOE_T_W1);
    for (int64_t e = 0; e < l->desc.E; e++) {
        for (int64_t i = 0; i < n * d; i++) {
            float *gate = w + e * 2 * n * d + i, keep = *gate;
            *gate = gate[n * d];
            gate[n * d] = keep;
        }
    }
}

/* The last 8 of the d inputs of the up-projection are never read. */
static void drop_k_block(broken_layer *l) {
    int64_t d = l->desc.d, rows = l->desc.E * moe_h_width(&l->desc, l->desc.n);
    float *w = own_copy(l, MOE_T_W1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = d - 8; i < d; i++)
            w[r * d + i] = 0;
}

static moe_status broken_prepare(void *dev, const moe_layer_desc *desc, const moe_use *use,
                                 const moe_tensors *params, void **ret_layer) {
    (void)use;
    broken_layer *l = calloc(1, sizeof *l);
    if (!l)
        return MOE_E_NOMEM;
    l->dev = dev;
    l->desc = *desc;
    l->in = *params;
    if (has(l, "swap"))
        swap_gate_up(l);
    if (has(l, "k_block"))
        drop_k_block(l);
    if (has(l, "layout"))
        l->desc.glu_layout = !desc->glu_layout;
    if (has(l, "activation"))
        l->desc.act = MOE_ACT_GEGLU;
    if (has(l, "renorm"))
        l->desc.router.renorm = !desc->router.renorm;
    if (has(l, "on_input"))
        l->desc.router.weight_on = MOE_WEIGHT_ON_INPUT;
    if (has(l, "no_bias")) {
        float *bias = own_copy(l, MOE_T_B1);
        memset(bias, 0, (size_t)moe_tensor_bytes(&l->own));
    }
    *ret_layer = l;
    return MOE_OK;
}

static void broken_release(void *self) {
    broken_layer *l = self;
    moe_reference_result_destroy(&l->result);
    moe_plan_destroy(&l->plan);
    moe_plan_destroy(&l->lie);
    moe_plan_destroy(&l->none);
    moe_tensor_destroy(&l->own);
    free(l);
}

/* Every pair gets the weight of the next one. */
static void shift_weights(moe_plan *plan) {
    for (int64_t p = 0; p + 1 < plan->n_pairs; p++)
        plan->weight[p] = plan->weight[p + 1];
}

static moe_status broken_set_input(void *self, const moe_input *input) {
    broken_layer *l = self;
    if (has(l, "first_input") && l->in.t[MOE_T_X].data)
        return MOE_OK;
    l->in.t[MOE_T_X] = input->X;
    l->in.t[MOE_T_DO] = input->dO;
    l->seed = input->seed;
    moe_plan_destroy(&l->plan);
    if (input->plan && moe_plan_copy(input->plan, &l->plan))
        return MOE_E_NOMEM;
    if (has(l, "neighbour"))
        shift_weights(l->plan);
    if (has(l, "inputs")) /* an in-place kernel that writes what it was told not to */
        moe_store(input->X.data, input->X.dtype, 3, 0.125);
    if (has(l, "given_plan"))
        ((moe_plan *)input->plan)->weight[1] *= 2;
    return MOE_OK;
}

/* Token 1's first expert becomes one that it has not chosen; the last `dropped` pairs are lost. */
static moe_status change_choice(broken_layer *l, int64_t dropped) {
    const moe_plan *plan = l->result->plan;
    size_t n = (size_t)plan->n_pairs;
    int32_t *token = malloc(n * sizeof *token), *expert = malloc(n * sizeof *expert);
    int used[64] = {0}, moved = 0;
    if (!token || !expert)
        abort();
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            token[p] = plan->token[p];
            expert[p] = (int32_t)e;
            used[e] |= plan->token[p] == 1;
        }
    for (size_t p = 0; p < n && !moved; p++)
        for (int32_t e = 0; token[p] == 1 && e < plan->n_experts && !moved; e++)
            if (!used[e]) {
                expert[p] = e;
                moved = 1;
            }
    moe_plan_destroy(&l->lie);
    moe_status status = moe_plan_create(plan->n_tokens, plan->n_experts, plan->n_pairs - dropped,
                                        token, expert, NULL, l->dev->log, &l->lie);
    free(token);
    free(expert);
    return status;
}

/* What this run should make is there from an earlier one. */
static int is_made(const broken_layer *l, int backward) {
    return l->result && (!backward || l->result->out.t[MOE_T_DX].data);
}

static moe_status run(broken_layer *l, int backward) {
    moe_tensors in = l->in;
    if (has(l, "moody") || has(l, "dropping")) /* the lie of one run is none of the next one's */
        moe_plan_destroy(&l->lie);
    if (has(l, "lazy") && is_made(l, backward)) /* right, and faster than any hardware */
        return MOE_OK;
    if (!backward)
        in.t[MOE_T_DO] = (moe_tensor){0};
    moe_reference_params params = {.tokens = in.t[MOE_T_X].shape[0],
                                   .precision = (int32_t)l->dev->precision,
                                   .plan = l->plan ? l->plan : l->lie,
                                   .plan_given = l->plan != NULL,
                                   .seed = l->seed};
    moe_reference_result *result = NULL;
    moe_status status = moe_reference_run(&l->desc, &in, &params, l->dev->log, &result);
    if (status)
        return status;
    moe_reference_result_destroy(&l->result);
    l->result = result;
    if (has(l, "routing") && !l->lie) {
        status = change_choice(l, 0);
        return status ? status : run(l, backward);
    }
    return MOE_OK;
}

int broken_forwards;

static moe_status broken_forward(void *self) {
    broken_layer *l = self;
    l->runs++;
    broken_forwards++;
    board_wait(&l->dev->board);
    if (has(l, "forward"))
        return moe_fail(l->dev->log, MOE_E_DEVICE, "forward fails by order");
    return run(l, 0);
}

static moe_status broken_backward(void *self) {
    return run(self, 1);
}

static moe_status broken_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    broken_layer *l = self;
    const moe_tensor *src = &l->result->out.t[id];
    moe_tensor spoilt;
    if (!src->data)
        return MOE_E_UNSUPPORTED;
    moe_status status = moe_tensor_cast(src, MOE_F32, &spoilt);
    if (status)
        return status;
    int64_t count = moe_tensor_count(src);
    broken_spoil(l, id, spoilt.data, count);
    if (has(l, "unwritten") && id == MOE_T_DX) /* the last partial tile is forgotten */
        count -= 3;
    moe_convert(dst->data, dst->dtype, spoilt.data, MOE_F32, (size_t)count);
    broken_misplace(l, id, dst);
    moe_tensor_destroy(&spoilt);
    return MOE_OK;
}

#ifdef BROKEN_SILENT
#define broken_routing NULL
#else
/* Plans that contradict themselves. */
static moe_status spoil_plan(broken_layer *l) {
    bool backwards = has(l, "malformed"), twice = has(l, "twice");
    moe_plan_destroy(&l->none);
    if (!backwards && !twice && !has(l, "stranger"))
        return MOE_OK;
    moe_status status = moe_plan_copy(l->result->plan, &l->none);
    if (!status && backwards) /* offsets that do */
        l->none->offsets[1] = l->none->n_pairs + 7;
    else if (!status) /* a token again, or one that there is not */
        l->none->token[1] = twice ? l->none->token[0] : (int32_t)l->none->n_tokens;
    return status;
}

static moe_status broken_routing(void *self, const moe_plan **ret) {
    broken_layer *l = self;
    moe_status status = spoil_plan(l);
    if (status || l->none) {
        *ret = l->none;
        return status;
    }
    bool lies = l->runs == 2 && (has(l, "moody") || has(l, "dropping"));
    status = lies ? change_choice(l, has(l, "dropping")) : MOE_OK;
    *ret = lies ? l->lie : l->result->plan;
    return status;
}
#endif

/* Times of nothing. One fault calls the first stage by a name that is in no table, one by a name
 * that has no end. */
static size_t broken_timings(void *self, moe_cost *ret, size_t capacity) {
    static const moe_stage stages[] = {MOE_STAGE_A, MOE_STAGE_SORT_COUNT, MOE_STAGE_DH_SHARED};
    const broken_layer *l = self;
    if (!has(l, "stage_name") && !has(l, "endless_name"))
        return 0;
    for (size_t i = 0; i < sizeof stages / sizeof *stages && i < capacity; i++) {
        ret[i] = (moe_cost){.us = 1};
        strcpy(ret[i].name, moe_stage_name(stages[i]));
    }
    if (has(l, "stage_name") && capacity)
        strcpy(ret[0].name, "up_proj");
    if (has(l, "endless_name") && capacity)
        memset(ret[0].name, 'A', sizeof ret[0].name);
    return sizeof stages / sizeof *stages;
}

static moe_status broken_board(void *self, moe_board *ret) {
    broken_device *dev = self;
    return strcmp(dev->fault, "board") == 0 ? board_sample(&dev->board, ret) : MOE_E_UNSUPPORTED;
}

MOE_API extern const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    .abi = MOE_PLUGIN_ABI,
    .name = "broken",
    .brief = "wrong on purpose",
    .probe = broken_probe,
    .open = broken_open,
    .close = broken_close,
    .supports = broken_supports,
    .prepare = broken_prepare,
    .release = broken_release,
    .set_input = broken_set_input,
    .forward = broken_forward,
    .backward = broken_backward,
    .fetch = broken_fetch,
    .routing = broken_routing,
    .timings = broken_timings,
    .board = broken_board,
};
