/* Cases: one line of key=value words that is at once a test's name, a filter, a line of a batch
 * file and the way to reproduce a failure. And problems: a case, checkpoint or golden file turned
 * into tensors. */
#ifndef MOEREF_CASE_H
#define MOEREF_CASE_H

#include "moeref/plan.h"
#include "moeref/rng.h"
#include "moeref/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the routing comes from. All but MOE_ROUTE_ROUTER give the plan from outside: the router's
 * GEMM and its gradients are then not part of the case, dS is. */
typedef enum moe_route_kind {
    MOE_ROUTE_ROUTER = 0,  /* route=router: X, W_r and the router of the layer */
    MOE_ROUTE_UNIFORM = 1, /* route=uniform: K different experts per token, uniform */
    MOE_ROUTE_ZIPF = 2,    /* route=zipf:S: expert e drawn with probability ~ (e+1)^-S */
    MOE_ROUTE_COUNTS = 3,  /* route=counts:32+0+96: exactly these tokens per expert */
    MOE_ROUTE_HOT = 4, /* route=hot:E: every token's first choice is expert E, the rest uniform */
    MOE_ROUTE_BALANCED = 5 /* route=balanced: counts differ by at most one */
} moe_route_kind;

/* A layer over several ranks, as ep.h has them.
 * Thread-safety: plain data. */
typedef struct moe_split {
    int32_t ranks;   /* 0: one device, as it is; with tp: groups */
    int32_t combine; /* moe_ep_combine */
    int32_t wire;    /* moe_dtype, -1: the backend's, or MOE_EP_WIRE_E4M3 of ep.h */
    double skew;     /* of tokens over ranks */
    int64_t *tokens; /* [n_tokens] of each rank, owned by whom the split is in; NULL: by skew */
    int64_t n_tokens;
    int64_t *replicas; /* [n_replicas] of the first experts, owned; NULL: each expert lies once */
    int64_t n_replicas;
    int32_t padding; /* moe_ep_padding */
    int64_t pad;     /* rows; of which padding fills up a multiple */
    int32_t tp;      /* ranks of each of `ranks` groups, which share their experts; 0: 1 */
} moe_split;

/* All ranks of a split. */
static inline int32_t moe_split_ranks(const moe_split *split) {
    return split->ranks * (split->tp > 1 ? split->tp : 1);
}

/* Thread-safety: plain data. */
typedef struct moe_case {
    moe_layer_desc layer;
    int64_t T;
    int32_t dtype; /* moe_dtype of X, dO and all parameters */
    int32_t route; /* moe_route_kind */
    double route_arg;
    int64_t *counts; /* MOE_ROUTE_COUNTS: [n_counts], owned by the case */
    int64_t n_counts;
    int32_t pass;   /* moe_pass */
    int32_t data;   /* moe_fill_kind of X and dO; integer, exact: and of the experts' parameters */
    double x_scale; /* multiplies X and dO */
    double r_scale; /* multiplies W_r; 0 makes all logits equal */
    int32_t inject; /* 0 none, 1 a NaN, 2 an infinity, in X[inject_token][d/2] */
    int64_t inject_token;
    uint64_t seed;
    int64_t masked; /* tokens without experts; route=counts has none */
    int64_t drop;   /* given routes but route=counts: pairs that are left out besides */
    double b_scale; /* multiplies b_select, whose standard deviation is 0.02 */
    int32_t quant;  /* drawn W1 and W2 are what codes of this kind stand for: 1 + moe_quant_kind; 0:
                       they are not quantised */
    int32_t quant_bits;                /* as in moe_quant_desc */
    int64_t quant_rows, quant_columns; /* of a block in one expert's matrix; 0: all */
    int32_t block;  /* 0: none; else of `moeref help case`, a router or experts beyond the layer's
                       own: the problem is its last experts with their plan, weights and dO */
    int64_t layers; /* of blocks that have several */
    moe_split split;
    int64_t hidden; /* above 0: the tokens' width, and the router's and the shared expert's, outside
                       two projections around the routed experts, [d][hidden] before and
                       [hidden][d] behind them; predictions alone have these. 0: it is d */
} moe_case;

/* Every key's default, as moe_case_help() lists them; T, d, n, E and K, which have none, become 0.
 */
MOE_API void moe_case_init(moe_case *ret);

/* Parses "T=512 d=768 n=256 E=64 K=4 act=swiglu dtype=bf16 route=uniform seed=7", optionally
 * starting with the word "moe". moe_case_help() lists every key. MOE_E_INVALID names the word that
 * is wrong and, for a misspelt key, the nearest one; a key that nothing reads in such a case, as
 * groups= without select=group_topk, is a warning. *ret must be freed with moe_case_destroy. */
MOE_API moe_status moe_case_parse(const char *text, const moe_log *log, moe_case *ret);
MOE_API void moe_case_destroy(moe_case *c);

/* The canonical line: required keys, then every key that differs from its default. Parsing it gives
 * the case back. Returns the length that the full text needs, as snprintf does. */
MOE_API size_t moe_case_print(const moe_case *c, char *buf, size_t size);

/* A table of the keys with their defaults, for --help. */
MOE_API const char *moe_case_help(void);

/* A layer with its inputs: what is checked and timed.
 * Thread-safety: plain data. */
typedef struct moe_problem {
    char *name;      /* the case line, or "hf:DIR" */
    char *reproduce; /* the options that select it again: --case "..." or --hf DIR --layer L */
    moe_layer_desc layer;
    int64_t T;
    int32_t pass;  /* moe_pass */
    int32_t dtype; /* moe_dtype of the stored inputs */
    uint64_t seed;
    moe_tensors in;          /* inputs and parameters, owned */
    moe_plan *plan;          /* given routing, owned; NULL: the layer routes itself */
    moe_tensors expected;    /* golden outputs made by other people's code, owned; may be empty */
    moe_plan *expected_plan; /* golden routing (choice and weights), owned; may be NULL */
    unsigned char *masked;   /* without `plan`: [T] 1: the token has no experts, whatever the router
                                says; owned; NULL: all have. A backend cannot be told. */
    struct moe_block *block; /* of a checkpoint: what its block has around the experts, which are
                                this layer, with a given plan; owned; NULL: nothing */
    void (*block_destroy)(struct moe_block *block);
    int32_t cancels;  /* 1: data=cancel; values are as the order of sums makes them, so that only an
                         arithmetic known bit for bit can judge them */
    moe_split split;  /* over which ranks a backend should run it */
    moe_tensor slots; /* `plan` as own data names it, [T][columns] int64, -1 in empty ones; owned;
                         data NULL: it does not (moe_problem_slots) */
} moe_problem;

/* Draws all tensors: x, dO ~ N(0,1), W ~ N(0,1/fan_in), biases ~ N(0,0.1^2), b_select ~ N(0,0.02^2)
 * from the counter-based generator, stream = tensor id. With data=integer X, dO and the experts'
 * parameters are integers in [-3, 3], the latter times a power of two near their usual size, so
 * that sums of their products are exact in float32. With data=exact they are -1, 0 or 1, and the
 * weights of a given plan 1 or 1/2: with relu, relu2 or reglu every result is then exact in bf16,
 * in any order of sums, as long as the layer is small. With data=cancel the first and the last term
 * of every sum over d, n or an expert's tokens are large and opposite: what is left of them is
 * rounding, and tells one arithmetic from another (src/layer/cancel.h). With wire=e4m3 X is made of
 * values that its coding leaves as they are: the result is then that of one device. */
MOE_API moe_status moe_problem_from_case(const moe_case *c, const moe_log *log, moe_problem **ret);

/* Around the problem of a case with a block: all that the block is made of (block.X, block.W1,
 * block.W2, block.dO and its own parameters, as block.W_r0), its output block.O, and with a
 * backward pass the gradient of each parameter under block.grad.NAME; float64 matrices.
 * Thread-safety: plain data. */
typedef struct moe_block_values {
    moe_named_tensor *at; /* [count], owned, with names and data */
    size_t count;         /* 0: the case has no block */
} moe_block_values;

/* MOE_E_NOMEM, or what the case's problem cannot be made for; *ret is to be destroyed. */
MOE_API moe_status moe_block_values_make(const moe_case *c, const moe_log *log,
                                         moe_block_values *ret);
MOE_API void moe_block_values_destroy(moe_block_values *values);

/* Reads a Hugging Face checkpoint folder: config.json, the layer's own tensors and, where a
 * case.safetensors lies beside them, inputs and golden outputs. layer < 0: the first MoE layer
 * present. Without case.safetensors inputs are drawn, `tokens` of them (0: 128). All inputs and
 * parameters get the narrowest type that holds every one of them exactly. */
MOE_API moe_status moe_problem_from_hf(const char *dir, int64_t layer, int64_t tokens,
                                       const moe_log *log, moe_problem **ret);

/* A piece of a checkpoint's layer, itself a layer: for layers that are larger than memory. Only the
 * piece's own weights are read.
 * Thread-safety: plain data. */
typedef struct moe_hf_piece {
    int64_t units;        /* above 0: every expert, cut to its first `units` hidden units, with the
                             layer's own router and shared expert */
    int64_t first, count; /* else these experts, whole, under the plan that the reference's router
                             makes of the layer's tokens */
} moe_hf_piece;

#define MOE_HF_ROUTER_UNITS 16 /* of moe_hf_pieces; all, where experts are narrower */

/* The pieces that together are the layer: the router's, then the experts in order, each so small
 * that judging it takes about `bytes` of memory, of all processes together. None where the layer
 * itself takes no more. *ret is to be freed. */
MOE_API moe_status moe_hf_pieces(const char *dir, int64_t layer, int64_t tokens, int64_t bytes,
                                 const moe_log *log, moe_hf_piece **ret, size_t *ret_count);

/* moe_problem_from_hf of a piece. Inputs are those of the whole layer; golden outputs, which are
 * the whole layer's, are not taken. */
MOE_API moe_status moe_problem_from_hf_piece(const char *dir, int64_t layer, int64_t tokens,
                                             const moe_hf_piece *piece, const moe_log *log,
                                             moe_problem **ret);

/* Own data: inputs and parameters from a safetensors file, under their names in the table of
 * tensors ("X", "dO", "W_r", "W1" ...), of any floating types; all get the narrowest one that holds
 * every one of them. `line` is the case that says what the layer is (NULL: the file's metadata
 * "case"); what it needs and the file lacks is drawn as it says, and listed. Weights may lie
 * [in][out] where the table has [out][in]: a shape that fits only so is transposed. A plan
 * (topk_index [T][K] with -1 for empty slots, or plan_offsets and plan_token; with topk_weight)
 * replaces the router where the case has route= or the file no W_r. MOE_E_INVALID names a tensor
 * of the wrong shape. */
MOE_API moe_status moe_problem_from_file(const char *path, const char *line, const moe_log *log,
                                         moe_problem **ret);

/* The same of an open file or of tensors in memory (moe_safetensors_of), which are copied; `name`
 * stands for the path in names and messages. */
MOE_API moe_status moe_problem_from_tensors(const moe_safetensors *tensors, const char *name,
                                            const char *line, const moe_log *log,
                                            moe_problem **ret);

/* A given plan as slots, [T][columns] int64 with -1 in empty ones, which the caller frees: as own
 * data names them, else as moe_plan_slots does, `columns` of them or more. Results of pairs that
 * come as [T][columns] are by these where they bring no topk_index. MOE_E_NOTFOUND: the layer
 * routes itself; MOE_E_NOMEM. */
MOE_API moe_status moe_problem_slots(const moe_problem *problem, int64_t columns, moe_tensor *ret);

/* A layer's description from config.json alone; MOE_E_UNSUPPORTED lists the known families. A
 * missing dtype is bf16, and said as a warning, as are quantised weights. Where projections lie
 * around the routed experts ret->d is these experts' width and *ret_hidden that of the tokens, as
 * moe_case has it; elsewhere *ret_hidden is 0. */
MOE_API moe_status moe_layer_from_config(const char *path, const moe_log *log, moe_layer_desc *ret,
                                         int64_t *ret_hidden, int32_t *ret_dtype);

/* How many of the model's layers are MoE layers, and how many it has. */
MOE_API moe_status moe_layers_from_config(const char *path, const moe_log *log, int64_t *ret_moe,
                                          int64_t *ret_all);

/* One layer of the model, where settings may be lists with one value a layer. MOE_E_NOTFOUND,
 * without a message: it has no experts. */
MOE_API moe_status moe_layer_of_config(const char *path, int64_t layer, const moe_log *log,
                                       moe_layer_desc *ret, int64_t *ret_hidden);

/* Names of the known families (model_type), NULL-terminated. */
MOE_API const char *const *moe_families(void);

/* What the family's block has beside a layer of layer.h, in some layers or all: "a norm of its
 * output"; "" where it has nothing, or the name is unknown. */
MOE_API const char *moe_family_block(const char *name);

MOE_API void moe_problem_destroy(moe_problem **problem);

#ifdef __cplusplus
}
#endif
#endif
