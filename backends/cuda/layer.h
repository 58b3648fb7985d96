/* The backend's objects on the host: a device, a layer prepared on it, its buffers. */
#ifndef MOE_CUDA_LAYER_H
#define MOE_CUDA_LAYER_H

#include "buffers.h"
#include "hopper_gemm.h"
#include "kernels.h"
#include "moeref/plugin.h"

#include <vector>

struct Group; /* ep/group.h */

struct Device {
    const moe_log *log;
    int index, sms, major, minor;
    bool hopper; /* wgmma and TMA exist and are not switched off (variant "portable") */
    Stream stream;
    void *board; /* NVML's handle; NULL: not sought yet, or unknown */
    bool board_sought;
    Group *group; /* NULL: this device alone; else the ranks of all layers, and no stream */
};

/* MOE_OK, or MOE_E_DEVICE / MOE_E_NOMEM with a sentence "cuda: WHAT: reason". */
moe_status device_check(const Device *dev, cudaError_t err, const char *what);

/* The device is the current one until the end of the scope, and the caller's is again afterwards.
 * It is set even where it is the current one: a thread's first call finds device 0 current, but no
 * context, without which the driver makes no tensor map. */
struct OnDevice {
    int former = -1, index;
    moe_status status;
    explicit OnDevice(const Device *dev) : index(dev->index) {
        cudaError_t err = cudaGetDevice(&former);
        if (err == cudaSuccess)
            err = cudaSetDevice(index);
        status = device_check(dev, err, "selecting the device");
    }
    ~OnDevice() {
        if (former >= 0 && former != index)
            cudaSetDevice(former);
    }
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;
};

struct Buffer {
    void *data;
    size_t bytes;
    BufferKind kind;
};

/* Experts of one shape with their rows: the routed ones, or the shared one (a single expert that
 * sees every token, in order). */
struct Experts {
    int n, hw; /* width, columns of H */
    bool shared, interleaved, on_input, hopper;
    RowGroups rows;
    const float *weight;     /* of rows, on the outputs; NULL: 1 */
    void *w1, *b1, *w2, *b2; /* gate rows first, whatever the layer's layout */
    void *h, *a, *y;         /* a also holds A', y also dX~ */
    void *dh, *dh_scaled;
    float *da; /* dA' where no epilogue consumes it */
    float *ds, *ds_part;
    void *dw1, *dw2; /* NULL: it goes to the target, or is not made */
    WeightTarget dw1_to, dw2_to;
    float *db1, *db2;
    bool a_is_gradient, y_is_gradient;
    HopperArgs op[HOPPER_OPS];
};

/* Memory that an operator's caller brings, handed out piece by piece. */
struct Arena {
    char *at[2]; /* ARENA_CACHED, ARENA_WORK */
    size_t used[2];
    bool keeps; /* a backward follows: what it needs goes to the cached part */
    bool backward;
    const moe_call *call;
};
enum { ARENA_CACHED, ARENA_WORK };

/* Events around kernels, in the order of launches. */
struct Timer {
    bool is_off;                    /* nothing is recorded: a stream may be captured */
    std::vector<cudaEvent_t> event; /* event[0] starts, event[i + 1] ends kernel i */
    std::vector<moe_cost> cost;
};

/* Where a layer's tokens lie whose routed experts run elsewhere (ep/). */
struct Home {
    void *x, *dout;            /* [T][d] */
    const void *const *row_at; /* [pairs] Y or dX~ of each pair */
    const int *broken;         /* not 0: what row_at says is not to be trusted */
};

struct RanksLayer;

struct Layer {
    Device *dev;
    const Home *home;  /* NULL: the layer runs its own experts */
    RanksLayer *ranks; /* NULL: the layer runs on one device; else nothing here counts */
    moe_layer_desc desc;
    moe_use use;
    int dtype, T, outputs; /* outputs = E + n_zero */
    int columns;           /* choices of a token: K, or the caller's slots */
    Arena *arena;          /* NULL: the layer allocates for itself */
    ActParams act;
    LayerBuffers sizes; /* which buffers it has, for the rows that it has room for */
    std::vector<Buffer> buffers;
    const moe_plan *given;
    moe_plan *plan; /* made by the host's router, or rebuilt for routing() */
    bool plan_is_current;
    uint64_t seed;
    void *x, *dout, *o, *dx;
    Experts routed, shared;
    RowGroups dense;  /* one "expert" with all tokens */
    RowGroups slices; /* of all tokens, summed apart; backward with a router or shared gate */
    float *slice_sums;
    int *token_offsets, *pair_of_token;
    /* router */
    void *w_r, *b_r, *dz;
    float *b_select, *logits, *choice_weight, *dw_r, *db_r;
    float *dx_router; /* [T][d] the router's part of dX */
    int *choice, *counts, *dz_rows;
    int dz_ld; /* dz is [T][high half | low half]: two elements of 16 bits for one of dz */
    /* shared gate */
    void *w_gate;
    float *gate, *gate_dz, *dw_gate;
    Timer forward_timer, backward_timer;
};

/* memory.cu */
moe_status layer_alloc(Layer *layer, size_t bytes, BufferKind kind, void **ret);
/* A buffer of layer->sizes; without it *ret stays as it is. */
moe_status layer_take(Layer *layer, BufferId id, void **ret);
void layer_free(Layer *layer, void *data);
moe_status layer_upload(Layer *layer, void *dst, const void *src, size_t bytes);
moe_status layer_download(Layer *layer, void *dst, const void *src, size_t bytes);
moe_status layer_memory(void *self, moe_memory *ret);

/* prepare.cu */
/* What the description and use say of a layer; nothing is allocated. */
void layer_describe(Layer *layer, Device *dev, const moe_layer_desc *desc, const moe_use *use);
/* Buffers and parameters; without an arena a given plan's rows come later. */
moe_status layer_prepare_all(Layer *layer, const moe_tensors *params);
moe_status layer_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                         const moe_tensors *params, void **ret);
void layer_release(void *self);
/* prepare_experts.cu: (re)allocates what depends on the number of rows. */
moe_status experts_alloc_rows(Layer *layer, Experts *x, int rows);

/* operator.cu */
extern const moe_operator_slots cuda_operators;
/* The parameter as the kernels read it: where it lies, or its converted copy. */
void *operator_parameter(const Layer *layer, moe_tensor_id id);

/* tensor_maps.cu: fills x->op for the buffers as they are. */
moe_status experts_make_maps(Layer *layer, Experts *x);

/* token_sums.cu: sums over all tokens, fp32. */
/* Before the others. */
moe_status prepare_token_sums(Layer *layer);
/* A split number is the sum of two 16-bit ones, the second half a row behind the first.
 * out[M][N] = a[T][M]^T b[T][N] of a split a with rows of lda; lda of them must fit `height`. */
cudaError_t split_token_product(const Layer *layer, const void *a, int lda, int M, const void *b,
                                int N, float *out);
/* out[width] = sum of split in[t] with rows of ld */
cudaError_t split_token_column_sums(const Layer *layer, const void *in, int ld, int width,
                                    float *out);
/* out[width] = sum of weight[t] in[t]; weight NULL: 1 */
cudaError_t token_column_sums(const Layer *layer, const void *in, int ld, int width,
                              const float *weight, float *out);

/* routing.cu */
moe_status layer_set_input(void *self, const moe_input *input);
moe_status layer_route(Layer *layer);
moe_status layer_route_backward(Layer *layer);
moe_status layer_routing(void *self, const moe_plan **ret);
/* What the sort of all choices takes. */
SortArgs layer_sort_args(const Layer *layer);
/* Every token has `columns` choices. */
moe_status layer_start_token_offsets(Layer *layer);

/* experts.cu */
/* Numbers whose sum is dS of a row, in ds_part, rows.cap apart, once the backward has dH. */
int experts_ds_parts(const Experts *x);
moe_status experts_up(Layer *layer, Experts *x, Timer *timer);
moe_status experts_down(Layer *layer, Experts *x, Timer *timer);
moe_status experts_dxp(Layer *layer, Experts *x, Timer *timer);
/* All of backward, or its steps: dH and A' with dS and biases, then the others in any order but for
 * the weights on inputs, which come between dX~ and dW1. */
moe_status experts_backward(Layer *layer, Experts *x, Timer *timer);
moe_status experts_dh(Layer *layer, Experts *x, Timer *timer);
/* The same in two: dH and A', then dS and biases. */
moe_status experts_dh_product(Layer *layer, Experts *x);
moe_status experts_dh_sums(Layer *layer, Experts *x, Timer *timer);
moe_status experts_dw2(Layer *layer, Experts *x, Timer *timer);
moe_status experts_input_weight(Layer *layer, Experts *x, Timer *timer);
moe_status experts_dw1(Layer *layer, Experts *x, Timer *timer);

/* passes.cu */
/* The steps that are of tokens: O, and what dX is made of beside the experts. */
moe_status layer_shared_gate(Layer *layer);
moe_status layer_combine_output(Layer *layer);
moe_status layer_gate_gradient(Layer *layer);
moe_status layer_combine_gradient(Layer *layer);
moe_status layer_forward(void *self);
moe_status layer_backward(void *self);

/* fetch.cu */
moe_status layer_fetch(void *self, moe_tensor_id id, moe_tensor *dst);

/* timer.cu */
void timer_start(Timer *timer, cudaStream_t stream);
/* Marks the end of the kernel (or few) of a stage, the shared expert's where x is; flops are model
 * FLOPs. */
void timer_mark(Timer *timer, const Experts *x, moe_stage stage, double flops, cudaStream_t stream);
void timer_mark_as(Timer *timer, const char *name, double flops, cudaStream_t stream);
void timer_finish(Timer *timer);
void timer_destroy(Timer *timer);
size_t layer_timings(void *self, moe_cost *ret, size_t capacity);

/* roofline.cu */
moe_status device_roofline(void *device, moe_roofline *ret);

/* board.cu */
moe_status device_board(void *device, moe_board *ret);

#endif
