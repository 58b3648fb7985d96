/* The table of stages: names, passes, tensors, and the work of those that are worth counting. */
#include "moeref/stage.h"

#include <string.h>

/* Sizes that work is counted in. h is H's width, r the router's outputs. */
typedef struct sizes {
    double T, P, d, n, h, r, E, active;
} sizes;

typedef void (*work_fn)(const sizes *z, double *flops, double *elements);

static void router(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->T * z->d * z->r;
    *elements = z->T * z->d + z->r * z->d + z->T * z->r;
}

static void up(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->h;
    *elements = z->P * z->d + z->active * z->h * z->d + z->P * z->h + z->P * z->n;
}

static void down(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->n;
    *elements = z->P * z->n + z->active * z->d * z->n + z->P * z->d;
}

static void gather_sum(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d;
    *elements = z->P * z->d + z->T * z->d;
}

static void d_hidden(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->n;
    *elements = z->P * z->d + z->active * z->d * z->n + 2 * z->P * z->h + z->P * z->n;
}

static void d_down(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->n;
    *elements = z->P * z->d + z->P * z->n + z->E * z->d * z->n;
}

static void d_rows(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->h * z->d;
    *elements = z->P * z->h + z->active * z->h * z->d + z->P * z->d;
}

static void d_up(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->h * z->d;
    *elements = z->P * z->d + z->P * z->h + z->E * z->h * z->d;
}

static void d_router(const sizes *z, double *flops, double *elements) {
    *flops = 4 * z->T * z->d * z->r;
    *elements = 2 * z->T * z->d + 2 * z->r * z->d + z->T * z->r;
}

/* Whose stage it is: which layers have it, and whose sizes its work is counted in. */
typedef enum owner { ROUTER, ROUTED, BIASES, SHARED, GATE, AROUND } owner;

typedef struct row {
    const char *name;
    int32_t pass, tensor;
    moe_stage part_of;
    owner owner;
    moe_stage of_shared; /* the same stage of the shared expert; 0: none */
    work_fn work;        /* NULL: not counted */
} row;

enum { FWD = MOE_PASS_FWD, BWD = MOE_PASS_BWD, BOTH = MOE_PASS_BOTH, NONE = -1 };

/* clang-format off */
#define STAGE(ID, NAME, PASS, TENSOR, ...) \
    [MOE_STAGE_##ID] = {NAME, PASS, TENSOR, MOE_STAGE_##ID, __VA_ARGS__}
#define PART(ID, NAME, PASS, TENSOR, OF) \
    [MOE_STAGE_##ID] = {NAME, PASS, TENSOR, MOE_STAGE_##OF, ROUTED}

static const row table[MOE_STAGE_COUNT] = {
    STAGE(ROUTER,   "router",   FWD, MOE_T_LOGITS, ROUTER, 0, router),
    STAGE(TOPK,     "topk",     FWD, MOE_T_S,      ROUTER),
    STAGE(METADATA, "metadata", FWD, NONE,         ROUTER),
    STAGE(A,   "A",        FWD, MOE_T_A,   ROUTED, MOE_STAGE_A_SHARED,   up),
    STAGE(Y,   "Y",        FWD, MOE_T_Y,   ROUTED, MOE_STAGE_Y_SHARED,   down),
    STAGE(O,   "O",        FWD, MOE_T_O,   ROUTED, MOE_STAGE_O_SHARED,   gather_sum),
    STAGE(DH,  "dH",       BWD, MOE_T_DH,  ROUTED, MOE_STAGE_DH_SHARED,  d_hidden),
    STAGE(DS,  "dS",       BWD, MOE_T_DS,  ROUTED, MOE_STAGE_DS_SHARED),
    STAGE(DB,  "db1, db2", BWD, MOE_T_DB1, BIASES),
    STAGE(DW2, "dW2",      BWD, MOE_T_DW2, ROUTED, MOE_STAGE_DW2_SHARED, d_down),
    STAGE(DXP, "dXp",      BWD, MOE_T_DXP, ROUTED, MOE_STAGE_DXP_SHARED, d_rows),
    STAGE(DX,  "dX",       BWD, MOE_T_DX,  ROUTED, MOE_STAGE_DX_SHARED,  gather_sum),
    STAGE(DW1, "dW1",      BWD, MOE_T_DW1, ROUTED, MOE_STAGE_DW1_SHARED, d_up),
    STAGE(ROUTER_BACKWARD, "router_backward", BWD, MOE_T_DW_R, ROUTER, 0, d_router),

    STAGE(A_SHARED,   "A_shared",   FWD, NONE,             SHARED, 0, up),
    STAGE(Y_SHARED,   "Y_shared",   FWD, NONE,             SHARED, 0, down),
    STAGE(O_SHARED,   "O_shared",   FWD, MOE_T_O,          SHARED, 0, gather_sum),
    STAGE(DH_SHARED,  "dH_shared",  BWD, NONE,             SHARED, 0, d_hidden),
    STAGE(DS_SHARED,  "dS_shared",  BWD, NONE,             GATE),
    STAGE(DW2_SHARED, "dW2_shared", BWD, MOE_T_DW2_SHARED, SHARED, 0, d_down),
    STAGE(DXP_SHARED, "dXp_shared", BWD, NONE,             SHARED, 0, d_rows),
    STAGE(DX_SHARED,  "dX_shared",  BWD, MOE_T_DX,         SHARED, 0, gather_sum),
    STAGE(DW1_SHARED, "dW1_shared", BWD, MOE_T_DW1_SHARED, SHARED, 0, d_up),
    STAGE(GATE_BACKWARD, "gate_backward", BWD, MOE_T_DW_GATE_SHARED, GATE),

    PART(MASK,      "mask",      FWD, NONE,       TOPK),
    PART(D_LOGITS,  "d_logits",  BWD, NONE,       ROUTER_BACKWARD),
    PART(DX_ROUTER, "dX router", BWD, MOE_T_DX,   ROUTER_BACKWARD),
    PART(DW_R,      "dW_r",      BWD, MOE_T_DW_R, ROUTER_BACKWARD),
    PART(DW_R_SUM,  "dW_r sum",  BWD, MOE_T_DW_R, ROUTER_BACKWARD),

    PART(SORT,         "sort",       BOTH, NONE, METADATA),
    PART(SORT_COUNT,   "sort count", FWD,  NONE, METADATA),
    PART(SORT_SCAN,    "sort scan",  FWD,  NONE, METADATA),
    PART(SORT_PLACE,   "sort place", FWD,  NONE, METADATA),
    PART(COUNT_TOKENS, "count",      FWD,  NONE, METADATA),
    PART(ALIGN,        "align",      FWD,  NONE, METADATA),

    PART(X_GROUPED,  "X grouped",  BOTH, NONE,    A),
    PART(ZERO_X,     "zero X",     FWD,  NONE,    A),
    PART(H,          "H",          BOTH, MOE_T_H, A),
    PART(H_GATE,     "H gate",     FWD,  MOE_T_H, A),
    PART(H_UP,       "H up",       FWD,  MOE_T_H, A),
    PART(SILU,       "silu",       FWD,  NONE,    A),
    PART(A_EMPTY,    "A empty",    FWD,  NONE,    A),
    PART(Y_EMPTY,    "Y empty",    FWD,  NONE,    Y),
    PART(Y_BY_TOKEN, "Y by token", FWD,  NONE,    O),

    PART(GROUPED,       "grouped",       BWD, NONE,     DH),
    PART(GROUPED_EMPTY, "grouped empty", BWD, NONE,     DH),
    PART(ZERO_DY,       "zero dY",       BWD, NONE,     DH),
    PART(DY,            "dY",            BWD, NONE,     DH),
    PART(DY_GROUPED,    "dY grouped",    BWD, NONE,     DH),
    PART(DA,            "dA",            BWD, NONE,     DH),
    PART(D_UP,          "d up",          BWD, MOE_T_DH, DH),
    PART(D_SILU,        "d silu",        BWD, NONE,     DH),
    PART(D_GATE,        "d gate",        BWD, MOE_T_DH, DH),
    PART(DH_EMPTY,      "dH empty",      BWD, NONE,     DH),
    PART(ZERO_DS,       "zero dS",       BWD, MOE_T_DS, DS),
    PART(Y_AGAIN,       "Y again",       BWD, MOE_T_DS, DS),

    PART(ZERO_DW2, "zero dW2", BWD, MOE_T_DW2, DW2),
    PART(DW2_BF16, "dW2 bf16", BWD, MOE_T_DW2, DW2),
    PART(ZERO_DW1, "zero dW1", BWD, MOE_T_DW1, DW1),
    PART(DW1_BF16, "dW1 bf16", BWD, MOE_T_DW1, DW1),
    PART(DW1_GATE, "dW1 gate", BWD, MOE_T_DW1, DW1),
    PART(DW1_UP,   "dW1 up",   BWD, MOE_T_DW1, DW1),

    PART(DXP_GATE,     "dXp gate",     BWD, MOE_T_DXP, DXP),
    PART(DXP_UP,       "dXp up",       BWD, MOE_T_DXP, DXP),
    PART(DXP_EMPTY,    "dXp empty",    BWD, NONE,      DXP),
    PART(DXP_BY_TOKEN, "dXp by token", BWD, NONE,      DX),
    PART(ZERO_DX,      "zero dX",      BWD, MOE_T_DX,  DX),

    PART(H_SHARED,  "H_shared",  FWD, NONE, A_SHARED),
    PART(DA_SHARED, "dA_shared", BWD, NONE, DH_SHARED),

    PART(DISPATCH,      "dispatch",         FWD, NONE, A),
    PART(EXPERTS,       "experts",          FWD, NONE, Y),
    PART(DISPATCH_BACK, "dispatch dO",      BWD, NONE, DH),
    PART(EXPERTS_BACK,  "experts backward", BWD, NONE, DXP),

    STAGE(PROJECT_IN,   "project in",   FWD, NONE, AROUND),
    STAGE(PROJECT_OUT,  "project out",  FWD, NONE, AROUND),
    STAGE(DW_OUT,       "dW_out",       BWD, NONE, AROUND),
    STAGE(DO_PROJECTED, "dO projected", BWD, NONE, AROUND),
    STAGE(DX_PROJECTED, "dX projected", BWD, NONE, AROUND),
    STAGE(DW_IN,        "dW_in",        BWD, NONE, AROUND),
};
/* clang-format on */

moe_stage_info moe_stage_info_of(moe_stage stage) {
    const row *r = &table[stage];
    return (moe_stage_info){r->name, r->pass, r->tensor, r->part_of};
}

const char *moe_stage_name(moe_stage stage) {
    return (unsigned)stage < MOE_STAGE_COUNT ? table[stage].name : "?";
}

moe_status moe_stage_parse(const char *name, moe_stage *ret) {
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        if (strcmp(name, table[i].name) == 0) {
            *ret = (moe_stage)i;
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

moe_stage moe_stage_of_shared(moe_stage stage) {
    const moe_stage shared = table[stage].of_shared;
    return shared ? shared : stage;
}

static int is_owned(const moe_layer_desc *desc, owner by, int plan_given) {
    switch (by) {
    case ROUTER:
        return !plan_given;
    case ROUTED:
        return 1;
    case BIASES:
        return desc->expert_bias;
    case SHARED:
        return desc->n_shared > 0;
    case GATE:
        return desc->n_shared > 0 && desc->shared_gate;
    case AROUND:
        break;
    }
    return 0;
}

int moe_stage_exists(const moe_layer_desc *desc, moe_stage stage, int32_t pass, int plan_given) {
    const row *r = &table[stage];
    return r->part_of == stage && (r->pass & pass) && is_owned(desc, r->owner, plan_given);
}

/* The shared expert is one expert of its own width that sees every token. */
static sizes sizes_of(const moe_layer_desc *desc, int is_shared, int64_t tokens, int64_t pairs,
                      int64_t active) {
    int64_t n = is_shared ? desc->n_shared : desc->n;
    return (sizes){.T = (double)tokens,
                   .P = (double)(is_shared ? tokens : pairs),
                   .d = (double)desc->d,
                   .n = (double)n,
                   .h = (double)moe_h_width(desc, n),
                   .r = (double)(desc->E + desc->n_zero),
                   .E = is_shared ? 1 : (double)desc->E,
                   .active = is_shared ? 1 : (double)active};
}

moe_status moe_stage_work(const moe_layer_desc *desc, moe_stage stage, int64_t tokens,
                          int64_t pairs, int64_t active, double *ret_flops, double *ret_elements) {
    const row *r = &table[stage];
    const sizes z = sizes_of(desc, r->owner == SHARED, tokens, pairs, active);
    if (!r->work)
        return MOE_E_UNSUPPORTED;
    r->work(&z, ret_flops, ret_elements);
    return MOE_OK;
}
