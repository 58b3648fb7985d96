/* Internal: the blocks that a case can name. R(name, what it is): src/block/routers has a function
 * of that name for each, which writes it as steps of a tape. */
#ifndef MOE_LAYER_BLOCKS_H
#define MOE_LAYER_BLOCKS_H

/* clang-format off */
#define MOE_INT_BLOCKS(R) \
    R(activated,      "softmax(gelu(z) / tau), tau learned (arXiv 2401.13875)") \
    R(cosine,         "cosine of a projection with prototypes, learned temperature (X-MoE)") \
    R(tanh,           "logits of two layers with tanh between") \
    R(frozen,         "a random router that is not trained (SMoE-Dropout)") \
    R(rewired,        "one number per expert added to the logits (Rewiring Experts)") \
    R(sequences,      "per sequence, the cosine of its task with each expert is added (Glider)") \
    R(relu_rms,       "relu, RMSNorm and a learned gain; every positive expert (BlockFFN)") \
    R(similarity,     "scores mixed over similar tokens before the choice") \
    R(attention,      "scores mixed by two heads of attention before the choice") \
    R(modalities,     "two kinds of tokens, each with half of the experts, which choose (MoMa)") \
    R(depths,         "an expert takes `capacity` tokens, the rest skip it (Mixture-of-Depths)") \
    R(recursions,     "the same again and again, half of the tokens each time (-Recursions)") \
    R(unweighted,     "chosen experts are summed without a weight (Union-of-Experts, as released)") \
    R(chained,        "the same experts on their own output, a router each time (Chain-of-Experts)") \
    R(chained_skip,   "the same, with the input added each time") \
    R(recurrent,      "a GRU hands the routers' state from layer to layer (RMoE)") \
    R(constants,      "zero, copy and constant experts; logits handed from layer to layer (MoE++)") \
    R(masked_units,   "experts are one network with some of its units (Read-ME)") \
    R(modulated,      "experts are one network, scaled and shifted (MoFME)") \
    R(low_rank,       "experts are one network plus products of narrow matrices")
/* clang-format on */

#define MOE_INT_BLOCK_VALUE(name, meaning) MOE_INT_BLOCK_##name,
enum { MOE_INT_BLOCK_NONE, MOE_INT_BLOCKS(MOE_INT_BLOCK_VALUE) MOE_INT_BLOCK_COUNT };

#endif
