/* Tensor parallelism outside the MoE layers (Megatron-LM, arXiv 1909.08053, section 3): products
 * are cut by heads and columns and then by rows, so that attention and FFN end in one sum over the
 * GPUs each, and the same backward; embedding and head are cut by the vocabulary. */
#include "sim/shared.h"
#include "sim/net/transfer.h"

#include <math.h>

static int64_t part_of(int64_t whole, int64_t parts) {
    return (whole + parts - 1) / parts;
}

moe_status moe_int_share_model(const moe_model_shape *shape, int64_t parts, const moe_log *log,
                               moe_model_shape *ret) {
    const int64_t kv = shape->kv_heads, near = shape->near.kv_heads;
    *ret = *shape;
    if (parts < 2)
        return MOE_OK;
    if (shape->heads % parts != 0 || (kv > 0 && kv % parts != 0 && parts % kv != 0) ||
        (near > 0 && near % parts != 0 && parts % near != 0))
        return moe_fail(log, MOE_E_INVALID,
                        "%lld GPUs cannot share %lld heads, of keys and values %lld, evenly",
                        (long long)parts, (long long)shape->heads, (long long)kv);
    ret->heads = shape->heads / parts;
    ret->kv_heads = kv > 0 ? part_of(kv, parts) : 0; /* fewer than GPUs: several have the same */
    ret->near.kv_heads = shape->near.kv_heads > 0 ? part_of(shape->near.kv_heads, parts) : 0;
    ret->dense_n = part_of(shape->dense_n, parts);
    ret->vocab = part_of(shape->vocab, parts);
    return MOE_OK;
}

double moe_int_kv_values(const moe_model_shape *m) {
    if (m->kv_rank > 0)
        return (double)(m->kv_rank + m->rope_dim);
    return (double)(m->kv_heads * (m->qk_dim + m->v_dim));
}

double moe_int_share_us(const moe_model_shape *shape, const moe_model_run *run, double element,
                        double gradients) {
    const int pass = run->pass ? run->pass : MOE_PASS_BOTH;
    const double ranks = (double)run->attention_tp, T = (double)run->tokens;
    const bool forward = pass & MOE_PASS_FWD, backward = pass & MOE_PASS_BWD;
    const double rows = run->context > 0 || backward ? T : 1; /* whose logits are needed */
    const double layers = (double)(shape->full + shape->windowed) +
                          (shape->dense_n > 0 ? (double)shape->dense_layers : 0);
    const double sum =
        moe_int_collective_us(run->node, MOE_INT_ALL_REDUCE, ranks, T * (double)shape->d * element);
    const double logits = moe_int_collective_us(run->node, MOE_INT_ALL_GATHER, ranks,
                                                rows * (double)shape->vocab * element);
    const double once = (layers + 1) * sum; /* and the embedding */
    const double replicas =
        backward ? moe_int_collective_apart_us(run->node, MOE_INT_ALL_REDUCE, (double)run->replicas,
                                               ranks, gradients)
                 : 0;
    return (forward ? once + logits : 0) + (backward ? once : 0) + replicas;
}
