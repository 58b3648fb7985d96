/* For authors of backends: the table that a plug-in exports. Users include backend.h instead.
 *
 * A plug-in is a shared object with one constant symbol, MOE_PLUGIN_SYMBOL, of type moe_plugin. The
 * loader compares `abi` before it reads anything else. The front end has validated every argument:
 * sizes are positive and do not overflow, tensors are present with the shapes and dtypes of
 * layer.h, the plan is consistent. A plug-in may trust that.
 *
 * Every slot returns MOE_OK or a moe_status after sending a sentence to the log it was opened
 * with. A slot whose comment says "optional" may be NULL, with the meaning given there.
 *
 * Calls come from one thread at a time per device, but for `board`. See backends/README.md and
 * backends/example. */
#ifndef MOEREF_PLUGIN_H
#define MOEREF_PLUGIN_H

#include "moeref/call.h"
#include "moeref/plan.h"
#include "moeref/roofline.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct that crosses this interface changes (tests/abi holds the offsets).
 * Plug-ins from MOE_PLUGIN_ABI_OLDEST on still load: since then optional slots were only added at
 * the table's end, and an older table counts as one in which they are NULL. */
#define MOE_PLUGIN_ABI        4u
#define MOE_PLUGIN_ABI_OLDEST 1u
#define MOE_PLUGIN_SYMBOL     "moe_plugin_v"

/* Thread-safety: plain data. */
typedef struct moe_open_params {
    int32_t threads;      /* CPU threads to use; 0: the backend's choice */
    int32_t device_index; /* which GPU; 0 is the first */
    const char *variant;  /* the part of "--backend NAME:VARIANT" after the colon; "" if none */
    const moe_log *log;   /* valid until close; may be NULL */
} moe_open_params;

/* What the caller is about to ask for.
 * Thread-safety: plain data. */
typedef struct moe_use {
    int64_t tokens;
    int32_t dtype;      /* moe_dtype of the inputs and parameters it will hand over */
    int32_t pass;       /* moe_pass */
    int32_t plan_given; /* 1: set_input brings the routing plan */
} moe_use;

/* What a backend stands by. Other values than those of these bits are the first alone. */
typedef enum moe_promise {
    MOE_PROMISE_REPEATS = 1,        /* equal inputs give equal bits, run after run */
    MOE_PROMISE_BATCH_INVARIANT = 2 /* and a token's O, dX and dS have the same bits in any batch;
                                       only together with the former */
} moe_promise;

/* Thread-safety: plain data. */
typedef struct moe_support {
    int32_t arithmetic; /* moe_dtype: the precision whose gates results are judged by, and the dtype
                           that fetch delivers O and gradients in */
    int32_t deterministic; /* moe_promise bits; 0: none */
    char reason[160];      /* set when the answer is MOE_E_UNSUPPORTED: one clause, "K > 32" */
} moe_support;

/* Every `supports` begins with this. The enums of layer.h grow at their ends, and a plug-in must
 * not take a value that was added after its compilation for another: the counts here are the ones
 * that it was compiled with. MOE_E_UNSUPPORTED with a clause in ret->reason for such a value; after
 * MOE_OK a switch that names every value of its enum meets no other. */
static inline moe_status moe_refuse_unknown(const moe_layer_desc *desc, moe_support *ret) {
    const struct {
        const char *key; /* of the case grammar */
        int32_t value, count;
    } choices[] = {
        {"act", desc->act, MOE_ACT_COUNT},
        {"glu", desc->glu_layout, MOE_GLU_COUNT},
        {"score", desc->router.score, MOE_SCORE_COUNT},
        {"select", desc->router.select, MOE_SELECT_COUNT},
        {"rounding", desc->router.rounding, MOE_ROUND_COUNT},
        {"on", desc->router.weight_on, MOE_WEIGHT_ON_COUNT},
    };
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        if (choices[i].value >= 0 && choices[i].value < choices[i].count)
            continue;
        snprintf(ret->reason, sizeof ret->reason, "%s %d is %s", choices[i].key,
                 (int)choices[i].value,
                 choices[i].value < 0 ? "no value" : "newer than this plug-in");
        return MOE_E_UNSUPPORTED;
    }
    return MOE_OK;
}

/* One step's inputs. Tensors are host memory and stay valid until the next set_input or release.
 * Thread-safety: plain data. */
typedef struct moe_input {
    int64_t tokens;
    moe_tensor X;         /* [T][d] in moe_use.dtype */
    moe_tensor dO;        /* [T][d]; data NULL when pass is MOE_PASS_FWD */
    const moe_plan *plan; /* given routing, or NULL: the backend routes */
    uint64_t seed;        /* stochastic token rounding */
} moe_input;

/* Bytes that the plug-in itself allocated for the layer.
 * Thread-safety: plain data. */
typedef struct moe_memory {
    int64_t weights; /* prepared parameters */
    int64_t cached;  /* activations kept from forward for backward */
    int64_t peak;    /* activations and workspace at the worst moment, weights and weight
                        gradients not counted */
} moe_memory;

/* What lowers a device's clock. */
typedef enum moe_throttle {
    MOE_THROTTLE_POWER = 1,
    MOE_THROTTLE_HEAT = 2,
    MOE_THROTTLE_OTHER = 4 /* a clock that somebody set, say */
} moe_throttle;

/* State of the device's board at one moment. Unknown fields are 0.
 * Thread-safety: plain data. */
typedef struct moe_board {
    double sm_mhz;        /* clock of the arithmetic units */
    double memory_mhz;    /* clock of the device's memory */
    double power_w;       /* of the whole board, as momentary as the device tells */
    double power_limit_w; /* that the device keeps its power below */
    double temperature_c;
    int32_t throttled_by; /* moe_throttle bits; 0 also where nothing is known */
} moe_board;

/* A layer that runs on the caller's memory and stream: operator.h says what each call means to
 * whoever makes it. The front end has checked shapes, dtypes, places, alignment, orders, overlap
 * and the sizes of memory; a view that is absent has data NULL. All slots are required.
 * Thread-safety: constant. `sizes` to `copy` are called by any number of threads at a time and
 * change nothing of the operator; the others by one thread at a time per device. */
typedef struct moe_operator_slots {
    /* As the plug-in's `supports`. */
    moe_status (*supports)(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                           moe_operator_support *ret);
    /* `desc` and `use` are copied; the log of moe_open_params is the operator's. */
    moe_status (*open)(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                       void **ret_operator);
    void (*close)(void *op);

    /* Fills all of *ret; fails for more tokens or pairs than the kernels can count. */
    moe_status (*sizes)(const void *op, int64_t tokens, int64_t columns, moe_operator_sizes *ret,
                        const moe_log *log);
    /* Bytes that the parameters of `call` need in another order than they have; 0: none. */
    int64_t (*converted_bytes)(const void *op, const moe_call *call);
    /* Puts them there. Called only where there are any. */
    moe_status (*convert)(const void *op, const moe_call *call);

    /* call->log is never NULL here. On a device: only launches, and no allocation. */
    moe_status (*forward)(const void *op, const moe_call *call);
    moe_status (*backward)(const void *op, const moe_call *call);

    /* Memory of the operator's place, and copies between it and the host, see operator.h. */
    moe_status (*allocate)(const void *op, int64_t bytes, void **ret);
    void (*free)(const void *op, void *data);
    moe_status (*copy)(const void *op, void *dst, const void *src, int64_t bytes, void *stream);
} moe_operator_slots;

/* Thread-safety: constant. Slots are called by one thread at a time per device, but for board. */
typedef struct moe_plugin {
    uint32_t abi;      /* MOE_PLUGIN_ABI */
    int32_t priority;  /* larger is preferred when the user names no backend */
    const char *name;  /* [a-z0-9_]+ */
    const char *brief; /* one line for `moeref list` */

    /* Can this backend run here and now? MOE_OK, or a status with one sentence in `reason`
     * ("no CUDA device: driver not loaded"). Must not crash or print on a bare machine. */
    moe_status (*probe)(char *reason, size_t size);

    moe_status (*open)(const moe_open_params *params, void **ret_device);
    void (*close)(void *device);

    /* A pure query: MOE_OK with *ret filled, or MOE_E_UNSUPPORTED with ret->reason. Begins with
     * moe_refuse_unknown. */
    moe_status (*supports)(void *device, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret);

    /* Uploads or repacks parameters (in->t[] of role MOE_ROLE_PARAM, valid until release, never to
     * be written). The layer keeps what it needs of desc and use. */
    moe_status (*prepare)(void *device, const moe_layer_desc *desc, const moe_use *use,
                          const moe_tensors *params, void **ret_layer);
    void (*release)(void *layer);

    /* Brings one step's inputs to the device. Not timed. */
    moe_status (*set_input)(void *layer, const moe_input *input);

    /* Compute, and return when done. backward follows a forward with the same input. These two
     * are what a benchmark times: they move nothing between host and device. */
    moe_status (*forward)(void *layer);
    moe_status (*backward)(void *layer);

    /* Copies one result into dst (host memory of the tensor's full shape, any floating dtype: the
     * plug-in converts). Must deliver O after forward and every existing tensor of role
     * MOE_ROLE_BACKWARD after backward; stages (H, A, Y, dH, dXp, router_logits) are optional:
     * MOE_E_UNSUPPORTED means "not kept". Pairs are in the order of routing()'s plan. */
    moe_status (*fetch)(void *layer, moe_tensor_id id, moe_tensor *dst);

    /* The routing plan of the last forward, in memory of the layer, valid until the next forward.
     * optional: NULL means that the choice is not known; then the oracle's is assumed, and a
     * router that chooses differently fails. Not called when the plan was given. */
    moe_status (*routing)(void *layer, const moe_plan **ret);

    /* Stages of the last forward and backward with measured times, under names of stage.h, or of
     * parts of a stage; any other name fails a check. Returns how many there are and fills at most
     * `capacity`. optional: NULL means that only whole passes are timed. */
    size_t (*timings)(void *layer, moe_cost *ret, size_t capacity);

    /* optional: NULL means unknown. */
    moe_status (*memory)(void *layer, moe_memory *ret);

    /* Measures the device's ceilings (a second or so). optional: NULL means no prediction. */
    moe_status (*roofline)(void *device, moe_roofline *ret);

    /* ---- since interface 2 ---- */

    /* Clock and power of the device's board now, in a few milliseconds at most. Called by one
     * thread at a time, but by another one than runs a pass, while that pass runs: must not wait
     * for it, disturb it, or send to the log. MOE_E_UNSUPPORTED where nothing can be told.
     * optional: NULL means the same. */
    moe_status (*board)(void *device, moe_board *ret);

    /* ---- since interface 3 ---- */

    /* optional: NULL means that layers run on the plug-in's own memory alone. */
    const moe_operator_slots *operators;

    /* ---- since interface 4 ---- */

    /* The bits that a layer's results have, as moe_arithmetic_parse takes it: "sm_90+fused". A
     * check then holds every stage to it. Constant text, or NULL where nothing is known of that
     * layer. optional: NULL means the same. */
    const char *(*arithmetic)(void *device, const moe_layer_desc *desc, const moe_use *use);
} moe_plugin;

#ifdef __cplusplus
}
#endif
#endif
