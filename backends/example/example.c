/* A complete moeref backend in one file: plain fp32 loops for a layer whose routing is given. Copy
 * this folder, rename `example`, and replace the loops by your kernels.
 *
 * It includes the public headers only and builds anywhere:
 *
 *     cc -O2 -shared -fPIC example.c -o my_backend.so -lmoeref
 *     moeref check --backend ./my_backend.so --case "T=64 d=48 n=32 E=4 K=2 dtype=fp32
 * route=uniform"
 *
 * Named moeref-NAME.so and put on MOEREF_BACKEND_PATH it is found by its name. The order of calls:
 * probe, open, supports, prepare, then per step set_input, forward, backward with fetch after each,
 * then release, close. The front end has checked every argument before a slot is called; nothing
 * here checks a shape again. */
#include "moeref/plugin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- What the plug-in keeps. The front end only sees void pointers. ---- */

typedef struct device {
    const moe_log *log; /* where sentences go; may be NULL, moe_fail copes */
} device;

typedef struct layer {
    const device *dev;
    moe_layer_desc desc;
    int64_t T, width; /* tokens; columns of H: 2n gated, n otherwise */
    float *W1, *W2;   /* [E][width][d], [E][d][n]: our own fp32 copies */
    float *dW1, *dW2;
    float *X, *dO, *O, *dX; /* [T][d] */
    const moe_plan *plan;   /* the caller's; valid until the next set_input */
    float *H, *dH;          /* [P][width], P pairs of (token, expert) grouped by expert */
    float *dS;              /* [P] */
} layer;

/* ---- probe, open, close ---- */

/* Here one would look for the GPU. On failure: a status, and one sentence in `reason`. */
static moe_status example_probe(char *reason, size_t size) {
    (void)reason;
    (void)size;
    return MOE_OK;
}

static moe_status example_open(const moe_open_params *params, void **ret_device) {
    /* "--backend NAME:VARIANT": a variant that we do not know is an error, not a default. */
    if (params->variant[0])
        return moe_fail(params->log, MOE_E_NOTFOUND, "example has no variant '%s'",
                        params->variant);
    device *dev = malloc(sizeof *dev);
    if (!dev)
        return moe_fail(params->log, MOE_E_NOMEM, "example: no memory for a device");
    dev->log = params->log;
    *ret_device = dev;
    return MOE_OK;
}

static void example_close(void *dev) {
    free(dev);
}

/* ---- supports: say no early, and say why ---- */

/* The first thing that we cannot do, as the clause that the user will read, or NULL. */
static const char *refusal(const moe_layer_desc *desc, const moe_use *use) {
    if (!use->plan_given)
        return "routes nothing itself: give a routing plan (route=uniform ...)";
    if (desc->act != MOE_ACT_SWIGLU && desc->act != MOE_ACT_SILU)
        return "act is neither swiglu nor silu";
    if (desc->expert_bias)
        return "experts have biases";
    if (desc->n_shared)
        return "there is a shared expert";
    if (desc->n_zero)
        return "there are zero experts";
    if (desc->router.weight_on != MOE_WEIGHT_ON_OUTPUT)
        return "weights multiply the experts' input";
    return NULL;
}

static moe_status example_supports(void *dev, const moe_layer_desc *desc, const moe_use *use,
                                   moe_support *ret) {
    (void)dev;
    /* Choices that were added after this file was compiled: always the first question. */
    if (moe_refuse_unknown(desc, ret))
        return MOE_E_UNSUPPORTED;
    const char *why = refusal(desc, use);
    if (why) {
        strncpy(ret->reason, why, sizeof ret->reason - 1);
        return MOE_E_UNSUPPORTED;
    }
    /* The gates of fp32 will judge us: state the precision that results really have. */
    ret->arithmetic = MOE_F32;
    /* Plain loops give the same bits each time; with atomics one would say 0. */
    ret->deterministic = MOE_PROMISE_REPEATS | MOE_PROMISE_BATCH_INVARIANT;
    return MOE_OK;
}

/* ---- prepare and release: memory whose size does not depend on the input ---- */

static float *new_floats(int64_t count) {
    return malloc((size_t)(count > 0 ? count : 1) * sizeof(float));
}

/* Parameters come in any floating dtype; a real backend would keep bf16 as it is. */
static float *upload(const moe_tensor *src) {
    int64_t count = moe_tensor_count(src);
    float *copy = new_floats(count);
    if (copy)
        moe_convert(copy, MOE_F32, src->data, src->dtype, (size_t)count);
    return copy;
}

static void example_release(void *self) {
    layer *l = self;
    float *owned[] = {l->W1, l->W2, l->dW1, l->dW2, l->X, l->dO, l->O, l->dX, l->H, l->dH, l->dS};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    free(l);
}

static moe_status example_prepare(void *dev, const moe_layer_desc *desc, const moe_use *use,
                                  const moe_tensors *params, void **ret_layer) {
    layer *l = calloc(1, sizeof *l);
    if (!l)
        return moe_fail(((device *)dev)->log, MOE_E_NOMEM, "example: no memory for a layer");
    int64_t d = desc->d, Td = use->tokens * d;
    l->dev = dev;
    l->desc = *desc;
    l->T = use->tokens;
    l->width = moe_h_width(desc, desc->n);
    l->W1 = upload(&params->t[MOE_T_W1]);
    l->W2 = upload(&params->t[MOE_T_W2]);
    l->dW1 = new_floats(desc->E * l->width * d);
    l->dW2 = new_floats(desc->E * d * desc->n);
    l->X = new_floats(Td);
    l->dO = new_floats(Td);
    l->O = new_floats(Td);
    l->dX = new_floats(Td);
    if (!l->W1 || !l->W2 || !l->dW1 || !l->dW2 || !l->X || !l->dO || !l->O || !l->dX) {
        example_release(l); /* a half-built layer must come apart cleanly */
        return moe_fail(((device *)dev)->log, MOE_E_NOMEM, "example: no memory for the tensors");
    }
    *ret_layer = l;
    return MOE_OK;
}

/* ---- set_input: one step's tensors, and the plan ---- */

static moe_status example_set_input(void *self, const moe_input *input) {
    layer *l = self;
    size_t count = (size_t)(l->T * l->desc.d);
    /* P changes with every plan: nothing may assume T * K. */
    int64_t P = input->plan->n_pairs;
    moe_convert(l->X, MOE_F32, input->X.data, input->X.dtype, count);
    if (input->dO.data) /* absent when only the forward pass was announced */
        moe_convert(l->dO, MOE_F32, input->dO.data, input->dO.dtype, count);
    l->plan = input->plan;
    free(l->H);
    free(l->dH);
    free(l->dS);
    l->H = new_floats(P * l->width);
    l->dH = new_floats(P * l->width);
    l->dS = new_floats(P);
    if (!l->H || !l->dH || !l->dS)
        return moe_fail(l->dev->log, MOE_E_NOMEM, "example: no memory for the activations");
    return MOE_OK;
}

/* ---- forward: H = x W1^T, A = act(H), O_t += s (A W2^T) ---- */

/* Columns of gate and up for expert column j, in both layouts of W1. */
static int64_t gate_column(const layer *l, int64_t j) {
    return moe_h_column(l->desc.glu_layout, l->desc.n, l->width, j, 0);
}

static int64_t up_column(const layer *l, int64_t j) {
    return moe_h_column(l->desc.glu_layout, l->desc.n, l->width, j, 1);
}

static float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}

/* A[j] from a row of H. */
static float activation(const layer *l, const float *h, int64_t j) {
    float g = h[gate_column(l, j)], silu = g * sigmoid(g);
    return l->desc.act == MOE_ACT_SWIGLU ? silu * h[up_column(l, j)] : silu;
}

/* Pair p is (token, expert e); rows of one expert are adjacent. */
static void forward_pair(layer *l, int64_t e, int64_t p) {
    int64_t d = l->desc.d, n = l->desc.n, t = l->plan->token[p];
    const float *x = l->X + t * d, *W1 = l->W1 + e * l->width * d, *W2 = l->W2 + e * d * n;
    float *h = l->H + p * l->width, *o = l->O + t * d, s = (float)l->plan->weight[p];
    for (int64_t i = 0; i < l->width; i++) {
        h[i] = 0;
        for (int64_t c = 0; c < d; c++)
            h[i] += W1[i * d + c] * x[c];
    }
    for (int64_t j = 0; j < n; j++) {
        float a = activation(l, h, j);
        for (int64_t c = 0; c < d; c++)
            o[c] += s * a * W2[c * n + j];
    }
}

static moe_status example_forward(void *self) {
    layer *l = self;
    /* A token without an expert has output 0: start from zero every time. */
    memset(l->O, 0, (size_t)(l->T * l->desc.d) * sizeof *l->O);
    for (int64_t e = 0; e < l->desc.E; e++)
        for (int64_t p = l->plan->offsets[e]; p < l->plan->offsets[e + 1]; p++)
            forward_pair(l, e, p);
    return MOE_OK;
}

/* ---- backward: from dO and H alone, as in section "equations" of backends/README.md ---- */

/* dA' = (dO W2)[j]; returns it and adds to dW2. */
static float d_activation(layer *l, int64_t e, int64_t j, const float *dO, float weighted_a) {
    int64_t d = l->desc.d, n = l->desc.n;
    const float *W2 = l->W2 + e * d * n;
    float *dW2 = l->dW2 + e * d * n, sum = 0;
    for (int64_t c = 0; c < d; c++) {
        sum += dO[c] * W2[c * n + j];
        dW2[c * n + j] += dO[c] * weighted_a;
    }
    return sum;
}

static void backward_pair(layer *l, int64_t e, int64_t p) {
    int64_t d = l->desc.d, n = l->desc.n, t = l->plan->token[p];
    const float *x = l->X + t * d, *dO = l->dO + t * d, *W1 = l->W1 + e * l->width * d;
    const float *h = l->H + p * l->width;
    float *dh = l->dH + p * l->width, *dx = l->dX + t * d, *dW1 = l->dW1 + e * l->width * d;
    float s = (float)l->plan->weight[p];
    l->dS[p] = 0;
    for (int64_t j = 0; j < n; j++) {
        float a = activation(l, h, j);
        float da = d_activation(l, e, j, dO, s * a);
        float g = h[gate_column(l, j)], sg = sigmoid(g), slope = sg * (1 + g * (1 - sg));
        int gated = l->desc.act == MOE_ACT_SWIGLU;
        l->dS[p] += da * a; /* dS = <dA', A>, with the unweighted dA' */
        dh[gate_column(l, j)] = s * da * slope * (gated ? h[up_column(l, j)] : 1);
        if (gated)
            dh[up_column(l, j)] = s * da * g * sg;
    }
    for (int64_t i = 0; i < l->width; i++)
        for (int64_t c = 0; c < d; c++) {
            dW1[i * d + c] += dh[i] * x[c];
            dx[c] += dh[i] * W1[i * d + c];
        }
}

static moe_status example_backward(void *self) {
    layer *l = self;
    int64_t d = l->desc.d;
    /* An expert without tokens has gradient 0, not what was there before. */
    memset(l->dW1, 0, (size_t)(l->desc.E * l->width * d) * sizeof *l->dW1);
    memset(l->dW2, 0, (size_t)(l->desc.E * d * l->desc.n) * sizeof *l->dW2);
    memset(l->dX, 0, (size_t)(l->T * d) * sizeof *l->dX);
    for (int64_t e = 0; e < l->desc.E; e++)
        for (int64_t p = l->plan->offsets[e]; p < l->plan->offsets[e + 1]; p++)
            backward_pair(l, e, p);
    return MOE_OK;
}

/* ---- fetch: O and every gradient must be there; stages are welcome ---- */

static moe_status example_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    layer *l = self;
    const float *const kept[MOE_T_COUNT] = {
        [MOE_T_O] = l->O,     [MOE_T_DX] = l->dX, [MOE_T_DS] = l->dS, [MOE_T_DW1] = l->dW1,
        [MOE_T_DW2] = l->dW2, [MOE_T_H] = l->H,   [MOE_T_DH] = l->dH,
    };
    if (!kept[id]) /* then a failure is located less exactly, nothing else */
        return MOE_E_UNSUPPORTED;
    moe_convert(dst->data, dst->dtype, kept[id], MOE_F32, (size_t)moe_tensor_count(dst));
    return MOE_OK;
}

/* ---- The table. Slots left out are NULL; plugin.h says what that means for each. ---- */

extern MOE_API const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    .abi = MOE_PLUGIN_ABI,
    .priority = -1, /* never chosen unless named */
    .name = "example",
    .brief = "teaching example: plain fp32 loops for given routing plans",
    .probe = example_probe,
    .open = example_open,
    .close = example_close,
    .supports = example_supports,
    .prepare = example_prepare,
    .release = example_release,
    .set_input = example_set_input,
    .forward = example_forward,
    .backward = example_backward,
    .fetch = example_fetch,
};
