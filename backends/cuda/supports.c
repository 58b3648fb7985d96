#include "backends/cuda/supports.h"

/* The other selections look at other tokens, or the host routes them. SparseMixer weighs its picks
 * in the order of logits, which a selection bias upsets. A new value is not here until router.cu,
 * where nvcc stops at it, knows it. */
bool moe_int_cuda_routes(const moe_router_desc *r) {
    return (r->select == MOE_SELECT_TOPK || r->select == MOE_SELECT_GROUP_TOPK) &&
           r->score <= MOE_SCORE_SPARSEMIXER &&
           !(r->score == MOE_SCORE_SPARSEMIXER && r->select_bias);
}

const char *moe_int_cuda_refusal(const moe_layer_desc *desc, const moe_use *use) {
    if (use->dtype != MOE_BF16 && use->dtype != MOE_F16)
        return "only bf16 and fp16";
    if (desc->d % 8 || desc->n % 8 || desc->n_shared % 8)
        return "d, n and n_shared must be multiples of 8";
    if (desc->E + desc->n_zero > 1024)
        return "more than 1024 experts";
    if (desc->act > MOE_ACT_SILU)
        return "the kernels' epilogues lack this activation";
    if (desc->K > 48)
        return "K > 48";
    const double most = (double)use->tokens * (double)(desc->E + desc->n_zero);
    if ((double)use->tokens * (double)desc->K > 5e8 || (!use->plan_given && most > 2e9))
        return "more than 5e8 pairs or 2e9 logits";
    return NULL;
}

const char *moe_int_cuda_operator_refusal(const moe_layer_desc *desc, const moe_operator_use *use) {
    const moe_use one = {1, use->dtype, use->pass, use->routed == MOE_ROUTED_BY_CALLER};
    const char *why = moe_int_cuda_refusal(desc, &one);
    if (!why && use->routed == MOE_ROUTED_BY_LAYER && !moe_int_cuda_routes(&desc->router))
        why = "this router runs on the host, and an operator's stream does not wait for it";
    return why;
}
