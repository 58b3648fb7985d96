/* A right backend around which every call can go wrong: variant "SLOT.ACT" does ACT in SLOT, in
 * layers of d = 17 alone, so that what comes after can be right. SLOTs of a device act always. */
#include "contract_acts.h"
#include "moeref/plugin.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

extern const moe_plugin contract_inner; /* broken_plugin.c, which without a fault is right */

typedef struct device {
    void *inner;
    char slot[24], act[24];
    const moe_log *log;
} device;

typedef struct layer {
    void *inner;
    device *dev;
    bool armed;
    moe_plan lie;
} layer;

/* Is it this slot's turn? Then its act has been done. */
static bool turn(const device *dev, bool armed, const char *slot) {
    if (!armed || strcmp(dev->slot, slot) != 0)
        return false;
    contract_perform(dev->act);
    return true;
}

/* What the slot returns: its own status, or one that the act asks for. */
static moe_status answer(const device *dev, bool is_turn, moe_status status) {
    if (is_turn && strcmp(dev->act, "status_999") == 0)
        return (moe_status)999;
    if (is_turn && strcmp(dev->act, "status_minus_77") == 0)
        return (moe_status)-77;
    if (is_turn && strcmp(dev->act, "status_contract") == 0)
        return (moe_status)-9; /* not a plug-in's to return */
    return status;
}

/* ---- slots ---- */

/* A file named so shows what has no variant yet. */
__attribute__((constructor)) static void load(void) {
    const char *act = getenv("CONTRACT_LOAD");
    if (act)
        contract_perform(act);
}

static moe_status contract_probe(char *reason, size_t size) {
    const char *act = getenv("CONTRACT_PROBE");
    if (act)
        contract_perform(act);
    if (act && strcmp(act, "words") == 0) {
        memset(reason, '\033', size);
        return MOE_E_DEVICE;
    }
    return act && strcmp(act, "status_999") == 0 ? (moe_status)999 : MOE_OK;
}

static moe_status contract_open(const moe_open_params *params, void **ret) {
    device *dev = calloc(1, sizeof *dev);
    const char *dot = strchr(params->variant, '.');
    if (!dev)
        return MOE_E_NOMEM;
    dev->log = params->log;
    if (dot) {
        snprintf(dev->slot, sizeof dev->slot, "%.*s", (int)(dot - params->variant),
                 params->variant);
        snprintf(dev->act, sizeof dev->act, "%s", dot + 1);
    }
    moe_open_params inner = *params;
    inner.variant = "";
    bool acts_now = turn(dev, true, "open");
    moe_status status = answer(dev, acts_now, contract_inner.open(&inner, &dev->inner));
    if (acts_now && strcmp(dev->act, "silent") == 0)
        status = MOE_E_DEVICE;
    if (status || (acts_now && strcmp(dev->act, "null") == 0)) {
        contract_inner.close(dev->inner);
        free(dev);
    } else {
        *ret = dev;
    }
    return status;
}

static void contract_close(void *self) {
    device *dev = self;
    turn(dev, true, "close");
    contract_inner.close(dev->inner);
    free(dev);
}

static moe_status contract_supports(void *self, const moe_layer_desc *desc, const moe_use *use,
                                    moe_support *ret) {
    device *dev = self;
    const bool armed = desc->d == 17, acts_now = turn(dev, armed, "supports");
    moe_status status = contract_inner.supports(dev->inner, desc, use, ret);
    if (acts_now && strcmp(dev->act, "arithmetic") == 0)
        ret->arithmetic = 77;
    if (acts_now && strcmp(dev->act, "words") == 0) {
        memset(ret->reason, 0xff, sizeof ret->reason);
        memcpy(ret->reason, "\033[2Jno\n", 7);
        return MOE_E_UNSUPPORTED;
    }
    return answer(dev, acts_now, status);
}

static moe_status contract_prepare(void *self, const moe_layer_desc *desc, const moe_use *use,
                                   const moe_tensors *params, void **ret) {
    device *dev = self;
    layer *l = calloc(1, sizeof *l);
    if (!l)
        return MOE_E_NOMEM;
    l->dev = dev;
    l->armed = desc->d == 17;
    const bool acts_now = turn(dev, l->armed, "prepare");
    moe_status status = contract_inner.prepare(dev->inner, desc, use, params, &l->inner);
    status = answer(dev, acts_now, status);
    if (status || (acts_now && strcmp(dev->act, "null") == 0)) {
        if (l->inner)
            contract_inner.release(l->inner);
        free(l);
    } else {
        *ret = l;
    }
    return status;
}

static void contract_release(void *self) {
    layer *l = self;
    turn(l->dev, l->armed, "release");
    contract_inner.release(l->inner);
    free(l);
}

static moe_status contract_set_input(void *self, const moe_input *input) {
    layer *l = self;
    const bool acts_now = turn(l->dev, l->armed, "set_input");
    moe_status status = contract_inner.set_input(l->inner, input);
    if (acts_now && strcmp(l->dev->act, "write") == 0)
        ((char *)input->X.data)[5] ^= 1;
    if (acts_now && strcmp(l->dev->act, "write_dO") == 0)
        ((char *)input->dO.data)[5] ^= 1;
    return answer(l->dev, acts_now, status);
}

/* A router that chooses an expert which there is not, and lets the library find that out. */
static moe_status wrong_plan(const moe_log *log) {
    static const int32_t token[] = {0}, expert[] = {4};
    moe_plan *plan = NULL;
    return moe_plan_create(1, 4, 1, token, expert, NULL, log, &plan);
}

static moe_status contract_forward(void *self) {
    layer *l = self;
    const bool acts_now = turn(l->dev, l->armed, "forward");
    if (acts_now && strcmp(l->dev->act, "plan") == 0)
        return wrong_plan(l->dev->log);
    if (acts_now && strcmp(l->dev->act, "words") == 0)
        return moe_fail(l->dev->log, MOE_E_DEVICE, "\033]0;title\007 \xc3\x28 lost");
    if (acts_now && strcmp(l->dev->act, "chatter") == 0)
        for (int i = 0; i < 5000; i++)
            moe_log_send(l->dev->log, MOE_LOG_WARN, "chatter %d", i);
    return answer(l->dev, acts_now, contract_inner.forward(l->inner));
}

static moe_status contract_backward(void *self) {
    layer *l = self;
    const bool acts_now = turn(l->dev, l->armed, "backward");
    return answer(l->dev, acts_now, contract_inner.backward(l->inner));
}

static moe_status contract_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    layer *l = self;
    const bool acts_now = id == MOE_T_O && turn(l->dev, l->armed, "fetch");
    moe_status status = contract_inner.fetch(l->inner, id, dst);
    if (acts_now && strcmp(l->dev->act, "after") == 0)
        ((char *)dst->data)[moe_tensor_bytes(dst)] = 1;
    if (acts_now && strcmp(l->dev->act, "before") == 0)
        ((char *)dst->data)[-1] = 1;
    if (acts_now && strcmp(l->dev->act, "nothing") == 0) {
        memset(dst->data, 0xff, (size_t)moe_tensor_bytes(dst));
        *dst = (moe_tensor){.ndim = 99};
    }
    return answer(l->dev, acts_now, status);
}

/* Each act spoils one field of the plan. */
static void spoil(const char *act, moe_plan *plan) {
    void **array[] = {(void **)&plan->offsets, (void **)&plan->token, (void **)&plan->weight,
                      (void **)&plan->token_offsets, (void **)&plan->pair_of_token};
    static const char *const names[] = {"offsets", "token", "weight", "token_offsets",
                                        "pair_of_token"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(act, "no_", 3) == 0 && strcmp(act + 3, names[i]) == 0)
            *array[i] = NULL;
        if (strncmp(act, "wild_", 5) == 0 && strcmp(act + 5, names[i]) == 0)
            *array[i] = (void *)8;
    }
    if (strcmp(act, "many_pairs") == 0)
        plan->n_pairs = INT64_MAX;
    if (strcmp(act, "minus_pairs") == 0)
        plan->n_pairs = -1;
    if (strcmp(act, "many_tokens") == 0)
        plan->n_tokens = (int64_t)1 << 40;
    if (strcmp(act, "many_experts") == 0)
        plan->n_experts = INT64_MAX;
}

static moe_status contract_routing(void *self, const moe_plan **ret) {
    layer *l = self;
    const moe_plan *plan = NULL;
    const bool acts_now = turn(l->dev, l->armed, "routing");
    moe_status status = contract_inner.routing(l->inner, &plan);
    if (!acts_now || status) {
        *ret = plan;
        return status;
    }
    l->lie = *plan;
    spoil(l->dev->act, &l->lie);
    *ret = strcmp(l->dev->act, "null") == 0 ? NULL : &l->lie;
    return answer(l->dev, acts_now, status);
}

static size_t contract_timings(void *self, moe_cost *ret, size_t capacity) {
    layer *l = self;
    if (!turn(l->dev, l->armed, "timings") || capacity < 1)
        return 0;
    memset(ret, 0xff, sizeof *ret);
    strcpy(ret->name, "A");
    ret->us = 1;
    if (strcmp(l->dev->act, "nan") == 0)
        ret->us = NAN;
    if (strcmp(l->dev->act, "minus") == 0)
        ret->us = -1e9;
    if (strcmp(l->dev->act, "words") == 0)
        memset(ret->name, 0x9b, sizeof ret->name);
    return strcmp(l->dev->act, "many") == 0 ? SIZE_MAX : 1;
}

static moe_status contract_memory(void *self, moe_memory *ret) {
    layer *l = self;
    const bool acts_now = turn(l->dev, l->armed, "memory");
    *ret = (moe_memory){.weights = acts_now && strcmp(l->dev->act, "minus") == 0 ? -1 : 1};
    return answer(l->dev, acts_now, MOE_OK);
}

static moe_status contract_roofline(void *self, moe_roofline *ret) {
    device *dev = self;
    const bool acts_now = turn(dev, true, "roofline");
    *ret = (moe_roofline){.gemm_flops = 1e9, .memory_rate = 1e9};
    if (acts_now && strcmp(dev->act, "nan") == 0)
        ret->gemm_flops = NAN;
    memset(ret->source, 'x', sizeof ret->source);
    return answer(dev, acts_now, MOE_OK);
}

static moe_status contract_board(void *self, moe_board *ret) {
    device *dev = self;
    turn(dev, true, "board");
    *ret = (moe_board){.sm_mhz = 1000};
    return MOE_OK;
}

MOE_API extern const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    .abi = MOE_PLUGIN_ABI,
    .name = "contract",
    .brief = "right, but for \033[1m one call",
    .probe = contract_probe,
    .open = contract_open,
    .close = contract_close,
    .supports = contract_supports,
    .prepare = contract_prepare,
    .release = contract_release,
    .set_input = contract_set_input,
    .forward = contract_forward,
    .backward = contract_backward,
    .fetch = contract_fetch,
    .routing = contract_routing,
    .timings = contract_timings,
    .memory = contract_memory,
    .roofline = contract_roofline,
    .board = contract_board,
};
