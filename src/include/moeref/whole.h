/* A whole model on one GPU or several: what is around its MoE layers, from its config.json alone.
 * sim/README.md says what is modelled and what is left out. */
#ifndef MOEREF_WHOLE_H
#define MOEREF_WHOLE_H

#include "moeref/node.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The sizes of a model, from the keys of its config.json.
 * Thread-safety: plain data. */
typedef struct moe_model_shape {
    int64_t layers, moe_layers;
    int64_t dense_layers;   /* with a dense FFN */
    int64_t full, windowed; /* layers whose tokens attend to all before, and to the last `window` */
    int64_t unknown;        /* layers of another kind (Mamba, linear attention): left out */
    int64_t window;
    int64_t d, vocab, dense_n;
    int64_t heads, kv_heads, qk_dim, v_dim; /* of a head */
    int64_t q_rank, kv_rank, rope_dim;      /* latent attention; kv_rank 0: it is none */
    int32_t tied;                           /* 1: the head is the embedding */
    int32_t head_norms;                     /* 1: each head's queries and keys are normalised */
    moe_layer_desc layer;                   /* of its first MoE layer */
    struct {
        int64_t kv_heads, qk_dim, v_dim;
    } near;           /* the same in windowed layers, where these have others; 0: they have not */
    int64_t gate_dim; /* of a head: what a projection makes to multiply its results by; 0: none */
    int64_t beside;   /* of the dense layers: so many FFNs lie beside experts, after one norm */
    const char *left_out; /* of what is around its MoE layers, in words, static; NULL: nothing */
} moe_model_shape;

/* MOE_E_FORMAT names what the file does not say; MOE_E_UNSUPPORTED an unknown family. */
MOE_API moe_status moe_model_shape_from_config(const char *path, const moe_log *log,
                                               moe_model_shape *ret);

/* What runs.
 * Thread-safety: plain data. */
typedef struct moe_model_run {
    int64_t tokens;
    int64_t context; /* 0: the tokens are one sequence, each attends to those before it. Else each
                        is the next of a sequence of its own, with so many before it: decoding */
    int32_t pass;    /* moe_pass; 0: both */
    double step_us, sequence_us; /* what the host adds that no kernel covers: to every step, and for
                                    each token that is the next of a sequence */
    const moe_node *node; /* NULL: one GPU. Else `replicas` of the model outside its experts, each
                             with `tokens` of its own, whose heads, dense FFNs and vocabulary
                             attention_tp GPUs share; 0: 1 */
    int64_t attention_tp, replicas;
} moe_model_run;

typedef enum moe_model_part {
    MOE_PART_PROJECTIONS = 0, /* products of attention's weights */
    MOE_PART_ATTENTION = 1,   /* keys and values, kept and read */
    MOE_PART_FFN = 2,         /* dense layers */
    MOE_PART_ROUTER = 3,  /* unless the MoE layers count it: state->with_router, and the method's
                             layer does not start from given logits */
    MOE_PART_NORMS = 4,   /* norms and residuals, rotary embeddings */
    MOE_PART_HEAD = 5,    /* embedding, head, and the choice of a token or the loss */
    MOE_PART_HOST = 6,    /* as moe_model_run says */
    MOE_PART_SHARING = 7, /* sums over the GPUs that share attention, dense FFNs, embedding and
                             head; gradients over replicas */
    MOE_PART_COUNT
} moe_model_part;

MOE_API const char *moe_model_part_name(moe_model_part part);

/* All that is no MoE layer, of one GPU.
 * Thread-safety: plain data. */
typedef struct moe_model_rest {
    double us[MOE_PART_COUNT];
    double flops;
    double param_bytes; /* and their gradients, with a backward pass */
    double kv_bytes;    /* keys and values of all tokens, and of what they attend to */
} moe_model_rest;

/* Time and memory of what is around the MoE layers, in products of a vendor library and in bytes;
 * `method` runs the MoE layers. Errors as moe_predict's; MOE_E_INVALID
 * too where heads cannot be shared. Thread-safety: any thread. */
MOE_API moe_status moe_predict_rest(const moe_gpu *gpu, const char *method,
                                    const moe_model_shape *shape, const moe_model_run *run,
                                    const moe_workload *state, const moe_log *log,
                                    moe_model_rest *ret);

#ifdef __cplusplus
}
#endif
#endif
