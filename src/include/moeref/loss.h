/* Losses that keep a router's experts in use, with the gradient of the logits, in float64; and the
 * update of DeepSeek-V3's selection bias, which takes their place. They are no part of a layer's
 * backward pass: whoever trains adds ret_d_logits to the router's.
 *
 * z [T][E] are logits, p = softmax(z) or score(z) over all experts divided by their sum, c_i the
 * pairs of expert i. Counts are constants: no gradient goes through the choice. */
#ifndef MOEREF_LOSS_H
#define MOEREF_LOSS_H

#include "moeref/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Over which tokens the counts and the means of p are taken. */
typedef enum moe_loss_scope {
    MOE_LOSS_SEQUENCE = 0, /* each sequence by itself, and the mean over sequences (DeepSeek-V3,
                              arXiv 2412.19437, eq. 17 to 20) */
    MOE_LOSS_BATCH = 1     /* all tokens that are given: a micro-batch */
} moe_loss_scope;

/* Thread-safety: plain data. */
typedef struct moe_loss_batch {
    const double *logits; /* [tokens][experts] */
    int64_t tokens, experts;
    int32_t sigmoid;      /* 0: p = softmax(z); 1: p = sigmoid(z) / sum sigmoid(z) */
    int64_t sequence;     /* tokens of a sequence, which divides tokens; 0: all are one */
    const moe_plan *plan; /* of these tokens and experts: the choice */
} moe_loss_batch;

/* ---- load balance: E sum_i f_i P_i, f_i = c_i / sum c, P_i = mean_t p_ti ----
 * 1 where the load or p is uniform. */

/* ret_d_logits [tokens][experts] is overwritten; NULL: not wanted. MOE_E_INVALID: `sequence` does
 * not divide the tokens, or the plan is of other sizes; MOE_E_NOMEM. */
MOE_API moe_status moe_loss_balance(const moe_loss_batch *b, moe_loss_scope scope,
                                    const moe_log *log, double *ret_loss, double *ret_d_logits);

/* The same over a batch that lies in shards (ranks, accumulation steps), "Demons in the Detail"
 * (arXiv 2501.11873): counts, and nothing else, are summed over all before. Whether tokens lie in
 * one shard or in many, loss and gradients are the same bits: sums go token by token.
 * ret_d_logits [n_shards], each as above; NULL: not wanted. */
MOE_API moe_status moe_loss_balance_global(const moe_loss_batch *shards, int64_t n_shards,
                                           const moe_log *log, double *ret_loss,
                                           double *const *ret_d_logits);

/* E sum_i eta_i f'_i P_i, over all tokens. `device` [E]: experts of the same number share f', the
 * mean of theirs (DeepSeekMoE's balance of devices, arXiv 2401.06066, eq. 15 to 17); NULL: each has
 * its own. eta [E]: weights of unlike experts (MoE++, arXiv 2410.07348); NULL: 1. */
MOE_API moe_status moe_loss_balance_weighted(const moe_loss_batch *b, const int32_t *device,
                                             const double *eta, const moe_log *log,
                                             double *ret_loss, double *ret_d_logits);

/* ---- mean_t logsumexp(z_t)^2 (ST-MoE, arXiv 2202.08906); without a plan ---- */
MOE_API moe_status moe_loss_z(const moe_loss_batch *b, const moe_log *log, double *ret_loss,
                              double *ret_d_logits);

/* ---- CV^2 = variance / mean^2 over experts (Shazeer et al., arXiv 1701.06538) ----
 * Of the importance sum_t p_ti; of the load sum_t Phi((z_ti - z_t(K)) / noise), the chance that
 * expert i is chosen under Gaussian noise of that deviation, z_t(K) being the K-th largest logit,
 * through which gradients flow too. The plan is not looked at. */
MOE_API moe_status moe_loss_importance(const moe_loss_batch *b, const moe_log *log,
                                       double *ret_loss, double *ret_d_logits);
/* MOE_E_INVALID too: noise not above 0, or K not 1 to experts. */
MOE_API moe_status moe_loss_load(const moe_loss_batch *b, int64_t K, double noise,
                                 const moe_log *log, double *ret_loss, double *ret_d_logits);

/* ---- sparsity that lasts over neighbouring tokens (BlockFFN, arXiv 2507.08771) ----
 * Of activations a [tokens][experts]; an expert is active where a > 0. */

/* 1 - the share of active pairs; for chunks of C tokens (C divides the tokens) 1 - the share of
 * experts that any token of a chunk makes active. C = 1 is the first. */
MOE_API double moe_sparsity(const double *a, int64_t tokens, int64_t experts, int64_t C);

/* mean over t, i of BCE(sigmoid(sharp z_(t-1)i), sigmoid(sharp z_ti)), of b->logits; gradients flow
 * through both sides. Pairs of tokens across a border of b->sequence are left out. */
MOE_API moe_status moe_loss_locality(const moe_loss_batch *b, double sharp, const moe_log *log,
                                     double *ret_loss, double *ret_d_logits);

/* 1 - mean over chunks and experts of prod_(t in chunk) (1 - q_ti + 1e-5), q = x / (sum_i x +
 * 1e-5), of x [tokens][experts] = b->logits >= 0, which are activations here; ret_d_logits is dx.
 */
MOE_API moe_status moe_loss_chunks(const moe_loss_batch *b, int64_t C, const moe_log *log,
                                   double *ret_loss, double *ret_d_logits);

/* ---- a router of quantised weights beside its model's (EAQuant) ----
 * mean over t of |z_t - full_t|^2 + KL(softmax full_t || softmax z_t), full [tokens][experts] the
 * logits before weights were quantised, which are constants. Without a plan. */
MOE_API moe_status moe_loss_alignment(const moe_loss_batch *b, const double *full,
                                      const moe_log *log, double *ret_loss, double *ret_d_logits);

/* ---- DeepSeek-V3's balance without a loss (arXiv 2408.15664) ----
 * bias_i += rate sign(mean c - c_i), or rate (mean c - c_i) where `proportional`: a dual step of
 * the assignment of tokens to experts (arXiv 2512.03915). */
MOE_API void moe_bias_update(const int64_t *counts, int64_t experts, double rate,
                             int32_t proportional, double *bias);

#ifdef __cplusplus
}
#endif
#endif
