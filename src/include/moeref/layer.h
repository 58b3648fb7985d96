/* What an MoE layer is: its sizes, its router as a row of choices, and the table of its tensors.
 *
 * Notation throughout: T tokens, d model width, n expert width, E routed experts, K experts per
 * token, P routed pairs (T*K for plain top-K). */
#ifndef MOEREF_LAYER_H
#define MOEREF_LAYER_H

#include "moeref/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Enum values below are pinned: they cross the plug-in ABI. New ones go at the end, before the
 * COUNT, which is none of them: it is what a plug-in was compiled with (moe_refuse_unknown). */

/* The expert's activation. Gated kinds take 2n pre-activations (gate, up), the others n. */
typedef enum moe_act {
    MOE_ACT_SWIGLU = 0,       /* silu(g) * u */
    MOE_ACT_GEGLU = 1,        /* gelu(g) * u, gelu by erf */
    MOE_ACT_REGLU = 2,        /* relu(g) * u */
    MOE_ACT_SWIGLU_CLAMP = 3, /* gpt-oss: g = min(g, limit), u = clamp(u, +-limit),
                                 g * sigmoid(alpha g) * (u + 1) */
    MOE_ACT_RELU2 = 4,        /* relu(h)^2 */
    MOE_ACT_RELU = 5,
    MOE_ACT_GELU = 6,
    MOE_ACT_SILU = 7,
    MOE_ACT_SWIGLU_LIMIT = 8,       /* DeepSeek-V4, GLM-5: silu(min(g, limit)) *
                                       clamp(u, +-limit) */
    MOE_ACT_SWIGLU_LIMIT_AFTER = 9, /* Step-3.7: min(silu(g), limit) * clamp(u, +-limit) */
    MOE_ACT_GEGLU_TANH = 10,        /* Gemma: gelu(g) * u, gelu by tanh */
    MOE_ACT_SWIGLU_SOFTCAP = 11,    /* Inkling 2: cap(g, alpha) * sigmoid(g) * cap(u, limit),
                                       cap(x, c) = c tanh(x / c) */
    MOE_ACT_COUNT
} moe_act;

/* Order of the 2n rows of W1 (and of H's columns). */
typedef enum moe_glu_layout {
    MOE_GLU_CONCAT = 0,      /* n gate rows, then n up rows */
    MOE_GLU_INTERLEAVED = 1, /* gate, up, gate, up ... */
    MOE_GLU_COUNT
} moe_glu_layout;

/* From logits z to the score that experts are chosen by and weighted with. */
typedef enum moe_score {
    MOE_SCORE_SOFTMAX = 0,       /* softmax over all experts */
    MOE_SCORE_SOFTMAX_TOPK = 1,  /* choose by z, weigh by softmax over the chosen */
    MOE_SCORE_SIGMOID = 2,       /* sigmoid(z) */
    MOE_SCORE_SPARSEMIXER = 3,   /* Phi-3.5-MoE, evaluation mode (arXiv 2409.12136): each pick is
                                    weighed by a softmax over the experts within `jitter` of it */
    MOE_SCORE_SIGMOID_LOGIT = 4, /* choose by z + b_select, weigh by sigmoid(z) */
    MOE_SCORE_SQRT_SOFTPLUS = 5, /* DeepSeek-V4: sqrt(log(1 + exp z)) */
    MOE_SCORE_SIGMOID_CAP = 6,   /* Laguna: sigmoid(c tanh(z / c)), c = `jitter` */
    MOE_SCORE_COUNT
} moe_score;

/* How experts are chosen. Ties go to the lower expert index; a NaN score ranks below every number.
 */
typedef enum moe_select {
    MOE_SELECT_TOPK = 0,
    MOE_SELECT_GROUP_TOPK = 1, /* DeepSeek-V3: keep topk_groups groups by the sum of each one's
                                  two best scores, then top-K inside them */
    MOE_SELECT_EXPERT_CHOICE =
        2,                   /* each expert takes its best ceil(T*K/E) tokens (arXiv 2202.09368) */
    MOE_SELECT_CAPACITY = 3, /* top-K, then each expert keeps its first `capacity` tokens in
                                token order, of all or of each group (GShard, arXiv 2006.16668) */
    MOE_SELECT_TOKEN_ROUNDING = 4, /* SonicMoE (arXiv 2512.14080): counts rounded to `tile` */
    MOE_SELECT_GROUP_MAX = 5,      /* DeepSeek-V2: as group top-K, a group's score is its best */
    MOE_SELECT_GROUP_ZERO = 6,     /* A.X-K2: as group top-K, but experts outside the kept groups
                                      stay, with a score of 0 */
    MOE_SELECT_COUNT
} moe_select;

/* Token rounding's rule for a count f and tile M. */
typedef enum moe_rounding {
    MOE_ROUND_NEAREST = 0, /* half to even */
    MOE_ROUND_UP = 1,
    MOE_ROUND_DOWN = 2,
    MOE_ROUND_STOCHASTIC = 3, /* up with probability frac(f/M), from the counter-based generator */
    MOE_ROUND_BALANCE = 4, /* nearest, then whole tiles moved until the sum is within M/2 of T*K */
    MOE_ROUND_COUNT
} moe_rounding;

/* Where a pair's weight multiplies. */
typedef enum moe_weight_on {
    MOE_WEIGHT_ON_OUTPUT = 0, /* O_t += w * Y */
    MOE_WEIGHT_ON_INPUT = 1,  /* Llama 4: the expert sees w * x, its output counts once */
    MOE_WEIGHT_ON_COUNT
} moe_weight_on;

/* What of a layer is asked for: bits. */
typedef enum moe_pass { MOE_PASS_FWD = 1, MOE_PASS_BWD = 2, MOE_PASS_BOTH = 3 } moe_pass;

/* Thread-safety: plain data. */
typedef struct moe_router_desc {
    int32_t score;       /* moe_score */
    int32_t select;      /* moe_select */
    int32_t weight_on;   /* moe_weight_on */
    int32_t rounding;    /* moe_rounding; token rounding only */
    int32_t bias;        /* 1: b_r is added to the logits */
    int32_t select_bias; /* 1: b_select is added to the score for the choice only */
    int32_t groups;      /* group top-K: number of groups, divides E */
    int32_t topk_groups; /* group top-K: groups kept, with K <= experts in them */
    int32_t renorm;      /* 1: weights are divided by their sum + renorm_eps */
    int32_t tile;        /* token rounding: M >= 1 */
    int64_t capacity;    /* capacity: tokens an expert keeps, >= 1 */
    double renorm_eps;
    double scale;           /* multiplies every weight, after renormalisation */
    double jitter;          /* SparseMixer's epsilon; the cap of sigmoid_cap */
    int64_t capacity_group; /* capacity: it holds for each so many tokens in a row, as those of a
                               rank; 0: for all together */
} moe_router_desc;

/* Thread-safety: plain data. */
typedef struct moe_layer_desc {
    int64_t d, n, E, K;
    int64_t n_zero;      /* identity experts after the E real ones (LongCat); usually 0 */
    int64_t n_shared;    /* width of the shared expert; 0: none */
    int32_t shared_gate; /* 1: the shared expert's output is scaled by sigmoid(x . w_gate_shared) */
    int32_t act;         /* moe_act of routed and shared experts */
    int32_t glu_layout;  /* moe_glu_layout of W1, b1, H; the shared expert is always concat */
    int32_t expert_bias; /* 1: b1 and b2 exist */
    double act_alpha, act_limit; /* MOE_ACT_SWIGLU_CLAMP: 1.702 and 7 in gpt-oss; of
                                    MOE_ACT_SWIGLU_LIMIT and _AFTER alpha is the shared expert's
                                    own limit, of _SOFTCAP the gate's; limits are above 0 */
    moe_router_desc router;
} moe_layer_desc;

/* Fills defaults: SwiGLU, concat, softmax top-K with raw weights, scale 1, tile 128. Sizes stay 0.
 */
MOE_API void moe_layer_desc_init(moe_layer_desc *desc);

/* Checks everything that the comments above require (1 <= K <= E + n_zero, known enum values, no
 * overflow of any tensor for `tokens` tokens ...). MOE_E_INVALID with one sentence. */
MOE_API moe_status moe_layer_desc_check(const moe_layer_desc *desc, int64_t tokens,
                                        const moe_log *log);

/* 1 for gated activations. */
MOE_API int moe_act_is_gated(int32_t act);

/* Columns of H: 2n for gated activations, else n. `n_shared` may stand in for n. */
MOE_API int64_t moe_h_width(const moe_layer_desc *desc, int64_t n);

/* Column of H, and row of W1, of hidden unit j of n: its gate's (up = 0) or its up's (up = 1); its
 * only one where H is n wide, as it is without a gate. `h_width` is that of moe_h_width. */
static inline int64_t moe_h_column(int32_t glu_layout, int64_t n, int64_t h_width, int64_t j,
                                   int up) {
    if (h_width == n)
        return j;
    return glu_layout == MOE_GLU_INTERLEAVED ? 2 * j + up : up * n + j;
}

/* The description that the shared expert's activation goes by: its own limit where it has one. */
static inline moe_layer_desc moe_shared_desc(const moe_layer_desc *desc) {
    moe_layer_desc shared = *desc;
    if (desc->act == MOE_ACT_SWIGLU_LIMIT || desc->act == MOE_ACT_SWIGLU_LIMIT_AFTER)
        shared.act_limit = desc->act_alpha;
    return shared;
}

/* Floating-point operations of the expert GEMMs alone, padding not counted: forward 6*P*d*n
 * gated and 4*P*d*n otherwise, backward twice that; P = real pairs. The shared expert, over T
 * tokens, is included. */
MOE_API double moe_layer_flops(const moe_layer_desc *desc, int64_t tokens, int64_t pairs,
                               int backward);

/* Every tensor of the layer, in one table. Values are pinned. */
typedef enum moe_tensor_id {
    /* inputs */
    MOE_T_X = 0, /* [T][d] */
    MOE_T_DO,    /* [T][d] gradient of O */
    /* parameters */
    MOE_T_W_R,           /* [E+n_zero][d] */
    MOE_T_B_R,           /* [E+n_zero] */
    MOE_T_B_SELECT,      /* [E+n_zero] */
    MOE_T_W1,            /* [E][2n or n][d] */
    MOE_T_B1,            /* [E][2n or n] */
    MOE_T_W2,            /* [E][d][n] */
    MOE_T_B2,            /* [E][d] */
    MOE_T_W1_SHARED,     /* [2 n_shared or n_shared][d] */
    MOE_T_W2_SHARED,     /* [d][n_shared] */
    MOE_T_W_GATE_SHARED, /* [1][d] */
    /* forward results; rows of H, A, Y are pairs grouped by expert, in plan order */
    MOE_T_LOGITS, /* [T][E+n_zero], bias included */
    MOE_T_S,      /* [all pairs] combine weights, plan order */
    MOE_T_H,      /* [P][2n or n] pre-activations, bias included */
    MOE_T_A,      /* [P][n] */
    MOE_T_Y,      /* [P][d] expert outputs before the weight, bias included */
    MOE_T_O,      /* [T][d] */
    /* backward results */
    MOE_T_DS,  /* [all pairs] */
    MOE_T_DH,  /* [P][2n or n] */
    MOE_T_DXP, /* [P][d] gradient of each pair's gathered row; dX~ in prose, dXp in code */
    MOE_T_DX,  /* [T][d] everything: experts, router, shared */
    MOE_T_DW_R,
    MOE_T_DB_R,
    MOE_T_DW1,
    MOE_T_DB1,
    MOE_T_DW2,
    MOE_T_DB2, /* shaped as the parameters */
    MOE_T_DW1_SHARED,
    MOE_T_DW2_SHARED,
    MOE_T_DW_GATE_SHARED,
    MOE_T_COUNT
} moe_tensor_id;

typedef enum moe_tensor_role {
    MOE_ROLE_INPUT, /* X, dO */
    MOE_ROLE_PARAM,
    MOE_ROLE_FORWARD,  /* final result of forward: O */
    MOE_ROLE_BACKWARD, /* final results of backward: gradients */
    MOE_ROLE_STAGE     /* intermediate results of either */
} moe_tensor_role;

/* The set of a layer's tensors, by id; data == NULL where absent.
 * Thread-safety: plain data. */
typedef struct moe_tensors {
    moe_tensor t[MOE_T_COUNT];
} moe_tensors;

/* The name in reports and files: "X", "W1", "router_logits", "topk_weight", "dW1_shared" ... */
MOE_API const char *moe_tensor_name(moe_tensor_id id);
MOE_API moe_tensor_role moe_tensor_role_of(moe_tensor_id id);

/* Is the first dimension pairs, whose number only a plan tells? */
MOE_API bool moe_tensor_is_of_pairs(moe_tensor_id id);
/* What a backward pass makes: the gradients and its own stages, dH and dXp. */
MOE_API bool moe_tensor_is_backward(moe_tensor_id id);

/* MOE_E_NOTFOUND for an unknown name. */
MOE_API moe_status moe_tensor_id_parse(const char *name, moe_tensor_id *ret);

/* The parameter whose gradient `id` is (MOE_T_DW1 -> MOE_T_W1), or MOE_T_COUNT. */
MOE_API moe_tensor_id moe_tensor_param_of(moe_tensor_id id);

/* 1 if this layer has that tensor at all (no b1 without expert_bias, no W1_shared without
 * n_shared, no dW_r when the routing plan is given from outside). */
MOE_API int moe_tensor_exists(const moe_layer_desc *desc, moe_tensor_id id, int plan_given);

/* Sets ret->ndim and ret->shape (dtype and data untouched). `pairs` counts real experts' pairs,
 * `all_pairs` those of zero experts too. */
MOE_API void moe_tensor_shape(const moe_layer_desc *desc, moe_tensor_id id, int64_t tokens,
                              int64_t pairs, int64_t all_pairs, moe_tensor *ret);

/* Frees every tensor of a set that moe_tensor_alloc made. */
MOE_API void moe_tensors_destroy(moe_tensors *set);

#ifdef __cplusplus
}
#endif
#endif
