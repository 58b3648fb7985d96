/* Internal: Hugging Face model families as rows of one table, and what is read through them. */
#ifndef MOE_LAYER_HF_H
#define MOE_LAYER_HF_H

#include "hf/blocks.h"
#include "hf/moe_layers.h"
#include "moeref/case.h"
#include "moeref/safetensors.h"
#include "moeref/whole.h"

#include <stdbool.h>

/* The pieces that checkpoints cut a layer's parameters into. */
typedef enum moe_int_part {
    MOE_INT_PART_ROUTER,
    MOE_INT_PART_ROUTER_BIAS,
    MOE_INT_PART_SELECT_BIAS,
    MOE_INT_PART_GATE_UP, /* all rows of W1 at once */
    MOE_INT_PART_GATE,    /* or its gate rows */
    MOE_INT_PART_UP,      /* and its up rows; without a gate all rows */
    MOE_INT_PART_DOWN,
    MOE_INT_PART_GATE_UP_BIAS,
    MOE_INT_PART_DOWN_BIAS,
    MOE_INT_PART_SHARED_GATE_UP, /* as those of the routed experts */
    MOE_INT_PART_SHARED_GATE,
    MOE_INT_PART_SHARED_UP,
    MOE_INT_PART_SHARED_DOWN,
    MOE_INT_PART_SHARED_SIGMOID, /* the vector of the shared expert's gate */
    MOE_INT_PART_COUNT
} moe_int_part;

typedef enum moe_int_renorm {
    MOE_INT_RENORM_NEVER,
    MOE_INT_RENORM_ALWAYS,
    MOE_INT_RENORM_CONFIG,    /* as norm_topk_prob says, false when absent */
    MOE_INT_RENORM_CONFIG_YES /* as norm_topk_prob says, true when absent */
} moe_int_renorm;

/* What the attention's results are multiplied by, which a projection of its input makes. */
typedef enum moe_int_attention_gate {
    MOE_INT_GATE_NONE,
    MOE_INT_GATE_HEADS, /* a number for each head */
    MOE_INT_GATE_VALUES /* one for each of its values */
} moe_int_attention_gate;

/* What a family's router module hands out as weights. */
typedef enum moe_int_reports {
    MOE_INT_REPORTS_WEIGHTS,    /* those that the experts' outputs count with */
    MOE_INT_REPORTS_UNSCALED,   /* those before the block multiplies by the scale */
    MOE_INT_REPORTS_SHARE_OF_K, /* softmax over K, the block multiplies by K */
    MOE_INT_REPORTS_DENSE,      /* [T][E] weights, 0 where not chosen */
    MOE_INT_REPORTS_ONE_HOT     /* integers [T][E], 1 where chosen, and one weight a token */
} moe_int_reports;

/* One family. Keys are lists of spellings (hf/keys.h). What NULL stands for is what most families
 * have (hf/families.c: common); a row says what is different. */
typedef struct moe_int_family {
    /* config.json */
    const char *model_type;       /* names the family; other names of the same layer follow */
    const char *width_key;        /* n */
    const char *shared_width_key; /* n_shared, or with a count its unit, or ... */
    const char *shared_count_key; /* ... n_shared in units of n */
    const char *zero_key;         /* n_zero */
    const char *jitter_key;
    const char *limit_key;        /* act_limit; absent or null: limit_absent */
    const char *alpha_key;        /* act_alpha */
    const char *shared_limit_key; /* the shared expert's own limit; "": it has none */
    const char *capacity_key;
    const char *plain_select;    /* this "topk_method", or none, chooses without groups */
    const char *average_key;     /* "average" there: half the routed and half the shared output */
    const char *select_bias_key; /* false there: no selection bias */
    const char *score_key;       /* names "sigmoid", which `score` is then, or other_score */
    const moe_int_block_row *block; /* what the family's block has beside its layer; or NULL */
    const char *expect[2][2];       /* key and the only value that is understood, where present */

    /* the layer */
    int64_t fixed_n; /* every expert has this width; 0: the file says */
    int64_t fixed_K; /* the model's code takes this many whatever the file says; 0: no */
    int32_t score, select, weight_on;
    struct {
        const char *name;
        int32_t score;
    } other_score;
    moe_int_renorm renorm;
    double renorm_eps;
    bool scaled; /* the scale key counts; absent or null: 1 */
    bool router_bias, select_bias, expert_bias, shared_gate;
    bool ungated;        /* experts without a gate */
    int32_t silu;        /* the moe_act that "silu" stands for here, if not MOE_ACT_SWIGLU */
    double limit_absent; /* of MOE_ACT_SWIGLU_LIMIT and _AFTER: act_limit where the file has none;
                            0: none, and 0 in the file is none too */
    int32_t glu_layout;

    /* the model around it */
    moe_int_attention_gate attention_gate;
    bool dense_beside;    /* a dense FFN beside the experts of every MoE layer */
    const char *left_out; /* of what is around its MoE layers, which has no size here */
    bool twice;           /* a layer attends twice, and has a dense FFN after each */

    /* tensors */
    uint32_t transposed;     /* bits of parts that are stored [E][in][out] where in = out */
    bool zero_gradients;     /* in memory GATE_UP has matrices for the zero experts too */
    moe_int_reports reports; /* of the router module */
    const char *module;      /* spellings of the MoE block below "layers.N." */
    /* Spellings below the module, on disk and in the running model; %d stands for the expert; "^"
     * begins a name below "layers.N.", "~" one
     * whose rows are gate, up, gate, up ... on disk. */
    const char *names[MOE_INT_PART_COUNT];
} moe_int_family;

/* NULL for an unknown model_type. */
const moe_int_family *moe_int_family_find(const char *model_type);

/* The part's names in this family, "a|b|c". */
const char *moe_int_family_names(const moe_int_family *family, moe_int_part part);
const char *moe_int_family_module(const moe_int_family *family);

/* Settings of a block. */
typedef struct moe_int_block_numbers {
    double op[MOE_INT_PLACE_COUNT][MOE_INT_CHAIN_MAX]; /* under each map's key */
    int64_t latent, sinks;
    double fraction; /* 0 or less: the capacity is fixed */
} moe_int_block_numbers;

/* What config.json says about one layer. */
typedef struct moe_int_hf_config {
    const moe_int_family *family;
    moe_layer_desc layer;
    int32_t dtype; /* moe_dtype; bf16 where the file does not say */
    bool dtype_said;
    const moe_int_block_row *block; /* as the family's, where this layer has it */
    moe_int_block_numbers numbers;  /* of it */
    bool quantised;                 /* the file has a quantization_config */
    bool two_stacks;                /* the model has an encoder and a decoder */
    int64_t layers;                 /* of the model; 0: the file does not say */
    unsigned char has_experts[MOE_INT_HF_LAYERS_MAX];
    double weight_factor; /* of the layer's weights over those that the router module hands out */
    double shared_factor; /* W2_shared is this times the stored one: a power of two */
} moe_int_hf_config;

/* Parses the text of a config.json; `name` appears in messages. `layer` picks out of settings that
 * are lists, one value a layer; below 0: the first. */
moe_status moe_int_hf_config_parse(const char *text, size_t size, const char *name, int64_t layer,
                                   const moe_log *log, moe_int_hf_config *ret);
moe_status moe_int_hf_config_load(const char *path, int64_t layer, const moe_log *log,
                                  moe_int_hf_config *ret);

/* The file as an object, which the caller frees, and where in one a known family's settings lie. */
moe_status moe_int_hf_load_object(const char *path, const moe_log *log, json_t **ret);
moe_status moe_int_hf_find_family(const moe_int_json *root, moe_int_json *ret_at,
                                  const moe_int_family **ret);

/* All sizes of a model but `layer`; d is there already. */
moe_status moe_int_hf_read_shape(const moe_int_hf_keys *k, const moe_int_family *family,
                                 moe_model_shape *m);

/* Of these, what is of the attention's heads; d is there already. */
moe_status moe_int_hf_read_heads(const moe_int_hf_keys *k, const moe_int_family *family,
                                 moe_model_shape *m);

/* A file whose tensors are parts: a checkpoint's layer, or the gradients of a case. */
typedef struct moe_int_part_source {
    const moe_safetensors *file;
    const char *path;   /* for messages */
    const char *prefix; /* before every name: "model.layers.1.block_sparse_moe." */
    const char *outer;  /* before names outside the module: "model.layers.1." */
    const moe_int_hf_config *config;
    bool gradients;       /* of the parts, in the running model's layout */
    int64_t first, count; /* of experts' parts these experts alone; count 0: all */
} moe_int_part_source;

/* The parameter that the part belongs to. */
moe_tensor_id moe_int_part_param(moe_int_part part);

/* True when this layer has the part's parameter and the file cuts it so: a fused tensor where there
 * is one, the pieces elsewhere. */
bool moe_int_part_used(const moe_int_part_source *src, moe_int_part part);

/* Is any of the part's tensors there? */
bool moe_int_part_present(const moe_int_part_source *src, moe_int_part part);

/* The name of the part's tensor (of one expert's, where it has %d): the spelling that is in the
 * file, or the first. Returns buf, of MOE_INT_NAME_BYTES. */
#define MOE_INT_NAME_BYTES 256
const char *moe_int_part_name(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                              char *buf);

/* Checks that every tensor of the part is there with the right shape and a floating type, and
 * widens *dtype to hold it exactly. */
moe_status moe_int_part_check(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                              moe_dtype *dtype);

/* Copies a part that moe_int_part_check accepted into `dst`, shaped as the part's parameter. */
moe_status moe_int_part_copy(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                             moe_tensor *dst);

/* Looks up a tensor of exactly this shape and of a floating type. */
moe_status moe_int_hf_get(const moe_safetensors *file, const char *path, const char *name,
                          const moe_tensor *shape, const moe_log *log, moe_tensor *ret);

/* piece.c: the piece's layer, plan and parameters, once X is there. */
moe_status moe_int_hf_piece_load(const moe_int_part_source *src, const moe_hf_piece *piece,
                                 const moe_log *log, moe_problem *p);
/* moe_hf_pieces of a layer. MOE_E_NOMEM. */
moe_status moe_int_hf_cut(const moe_layer_desc *layer, int32_t dtype, int64_t tokens, int64_t bytes,
                          moe_hf_piece **ret, size_t *ret_count);

/* A case.safetensors: inputs, and what the family's own code made of them. */
typedef struct moe_int_hf_case {
    moe_safetensors *file;
    const char *path;
    moe_tensor X, dO; /* views into the file; dO.data is NULL when the file has none */
} moe_int_hf_case;

/* Opens PATH and checks the inputs. The caller closes ret->file. */
moe_status moe_int_hf_case_open(const char *path, const moe_int_hf_config *config,
                                const moe_log *log, moe_int_hf_case *ret);

/* How names of results begin: gradients, and what the router module returned. */
#define MOE_INT_HF_GRADIENTS  "expected.grad."
#define MOE_INT_HF_ROUTER_OUT "expected.router_out"
/* The case's gradients as parts. */
moe_int_part_source moe_int_hf_gradients(const moe_int_hf_case *c, const moe_int_hf_config *config);
/* Is it the name of a part's gradient? */
bool moe_int_hf_is_gradient(const moe_int_part_source *src, const char *name);

/* Fills problem->expected and problem->expected_plan. */
moe_status moe_int_hf_case_expected(const moe_int_hf_case *c, const moe_int_hf_config *config,
                                    const moe_log *log, moe_problem *problem);

/* Where one MoE layer's tensors lie: "model.layers.1.block_sparse_moe." */
typedef struct moe_int_hf_place {
    char prefix[MOE_INT_NAME_BYTES];
    char outer[MOE_INT_NAME_BYTES]; /* "model.layers.1." */
    int64_t layer;
} moe_int_hf_place;

/* Finds layer number `layer` (< 0: the first MoE layer). MOE_E_NOTFOUND lists those present. */
moe_status moe_int_hf_find_layer(const moe_safetensors *file, const char *path,
                                 const moe_int_family *family, int64_t layer, const moe_log *log,
                                 moe_int_hf_place *ret);

#endif
