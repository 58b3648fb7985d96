/* What a device and a prepared layer are to this backend.
 *
 * Routed and shared experts run through the same code, as groups of experts of one width with a
 * list of rows each. The shared expert is a group of one, whose row r is token r.
 *
 * Memory-efficient path (SonicMoE, arXiv 2512.14080): X and H are all that backward needs; A is
 * recomputed from H, rows of X and dO are gathered into small packing buffers task by task. One
 * work buffer holds, one after the other, Y [P][d], A' [P][n] and dX~ [P][d]. */
#ifndef MOEREF_OPENBLAS_LAYER_H
#define MOEREF_OPENBLAS_LAYER_H

#include "activation.h"
#include "blas.h"
#include "moeref/plugin.h"
#include "weights.h"

typedef struct ob_device {
    ob_blas blas;
    int threads;
    bool invariant; /* the variant of that name: no product by OpenBLAS on which a token depends */
    const ob_pairs_kernels *pairs; /* NULL: every product is of fp32 values */
    bool coded;                    /* W1 and W2 are read as codes of this form */
    moe_quant_desc codes;
    const moe_log *log;
} ob_device;

/* moe_promise bits. Without the variant `invariant`, the number of an expert's rows chooses between
 * products that add up in different orders, and OpenBLAS sums rows at a matrix's edge in another
 * one. */
int32_t ob_promise(const ob_device *dev);

/* Are products of a layer whose moe_use has this dtype of bf16 values: its inputs and weights, and
 * A, A', dH and weighted inputs rounded to it? Sums and what is kept stay fp32. */
bool ob_rounds(const ob_device *dev, int32_t dtype);

/* Growing memory; growth loses the content. */
typedef struct ob_buffer {
    void *data;
    size_t bytes;
} ob_buffer;

typedef enum ob_buffer_id {
    /* kept from forward for backward */
    OB_BUF_X,          /* [T][d] only where the caller's X is not fp32 */
    OB_BUF_LOGITS,     /* float64 [T][R] */
    OB_BUF_WEIGHT,     /* [all pairs] combine weights */
    OB_BUF_GATE,       /* [T] weights of the shared expert */
    OB_BUF_GATE_LOGIT, /* float64 [T] */
    OB_BUF_H,          /* [P][width] */
    OB_BUF_H_SHARED,   /* [T][width] */
    OB_BUF_LAST_CACHED = OB_BUF_H_SHARED,
    /* results and workspace */
    OB_BUF_DO, /* as X */
    OB_BUF_O,
    OB_BUF_DX,
    OB_BUF_DS,        /* float64 [all pairs] */
    OB_BUF_DS_SHARED, /* float64 [T] */
    OB_BUF_DLOGITS,   /* float64 [T][R] */
    OB_BUF_DZ,        /* the same in fp32, for the GEMMs */
    OB_BUF_DH,
    OB_BUF_WORK,
    OB_BUF_PACK, /* [threads] packing buffers */
    OB_BUF_TASKS,
    OB_BUF_COUNT
} ob_buffer_id;

typedef struct ob_experts {
    ob_act act;
    int64_t E, d, n, width; /* width: columns of H */
    ob_weights W1, W2;
    const float *b1, *b2;
    bool on_input; /* the weight multiplies the expert's input */

    int64_t rows;           /* all experts' */
    const int64_t *offsets; /* [E + 1] */
    const int32_t *token;   /* [rows]; NULL: row r is token r */
    const float *weight;    /* [rows]; NULL: 1 */

    float *H;                     /* [rows][width] */
    double *dS;                   /* [rows] */
    float *dW1, *db1, *dW2, *db2; /* as the parameters; NULL: not made */
} ob_experts;

typedef struct ob_layer {
    const ob_device *dev;
    moe_layer_desc desc;
    moe_use use;
    int64_t T, R; /* tokens; router outputs E + n_zero */

    moe_tensors param;           /* fp32, and views of the caller's W1, W2 ... as they lie */
    moe_tensors converted;       /* the copies among them, owned */
    ob_codes W1_codes, W2_codes; /* in place of W1 and W2; owned */
    bool turned[MOE_T_COUNT];    /* parameters whose matrices are transposed in memory */
    moe_tensors gradient;        /* fp32, by id of the gradient, owned */
    double *W_r;                 /* float64 [R][d]: logits are exact to float64 */
    double *b_select;            /* float64 [R] or NULL */

    ob_experts routed, shared;
    int64_t shared_offsets[2];
    const float *X, *dO, *O, *dX;
    uint64_t seed;
    bool accumulates; /* gradients of parameters are added to what is there */
    moe_plan *own_plan;
    const moe_plan *plan;

    ob_buffer buffer[OB_BUF_COUNT];
    double us[MOE_STAGE_COUNT]; /* measured times; 0: not run */
} ob_layer;

/* layer.c: the slots of the plug-in's table that make and feed a layer. */
moe_status ob_layer_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                            const moe_tensors *params, void **ret_layer);
void ob_layer_release(void *layer);
moe_status ob_layer_set_input(void *layer, const moe_input *input);

/* Weights of experts: products read them as they lie, in any dtype of ob_weights_readable. */
bool ob_is_matrix(moe_tensor_id id);

/* Sets up routed and shared experts from the description, parameters, gradients and buffers. */
void ob_layer_describe(ob_layer *layer);

/* operator.c */
extern const moe_operator_slots ob_operators;

/* memory.c */
moe_status ob_reserve(ob_layer *layer, ob_buffer_id id, size_t bytes);
void ob_buffers_destroy(ob_layer *layer);
moe_status ob_layer_memory(void *layer, moe_memory *ret);

/* Lets the experts and buffers follow layer->plan. */
moe_status ob_layer_take_plan(ob_layer *layer, const moe_plan *plan);

/* router.c */
moe_status ob_router_forward(ob_layer *layer);
/* dS [all pairs] -> dW_r, db_r, and its part of dX (added). */
moe_status ob_router_backward(ob_layer *layer);

/* forward.c and backward.c */
moe_status ob_layer_forward(void *layer);
moe_status ob_layer_backward(void *layer);
/* Y of the routed experts, again, from H: for fetch. */
moe_status ob_recompute_Y(ob_layer *layer, float *Y);

/* weight_grad.c: dW2, db2 from A' in the work buffer; dW1, db1 from dH. */
moe_status ob_experts_dW2(ob_layer *layer, const ob_experts *experts);
moe_status ob_experts_dW1(ob_layer *layer, const ob_experts *experts);

/* fetch.c */
moe_status ob_layer_fetch(void *layer, moe_tensor_id id, moe_tensor *dst);
moe_status ob_layer_routing(void *layer, const moe_plan **ret);
size_t ob_layer_timings(void *layer, moe_cost *ret, size_t capacity);

#endif
