/* Internal to src/hf: a block's parameters, and in the same cut their gradients. */
#ifndef MOE_HF_BLOCK_LOAD_H
#define MOE_HF_BLOCK_LOAD_H

#include "hf/parts.h"

/* A file's parts as three layers see them: the model's for what is outside the experts, the
 * experts, and the shared experts that count as such. They point into each other: not to be
 * copied. */
typedef struct moe_int_block_sources {
    moe_int_hf_config config[3];
    moe_int_family sink_family;
    moe_int_part_source outer, experts, sinks;
} moe_int_block_sources;

void moe_int_block_sources_make(const moe_int_part_source *src, const moe_block *b,
                                moe_int_block_sources *ret);

/* Every part of W1, b1, W2, b2, or their gradients if the sources are, into dst; tensors of it that
 * are not there are allocated in `dtype`. */
moe_status moe_int_block_copy_experts(const moe_int_block_sources *s, const moe_layer_desc *experts,
                                      moe_dtype dtype, const moe_log *log, moe_tensors *dst);
/* W1_shared and W2_shared, or their gradients, in float64. */
moe_status moe_int_block_copy_shared(const moe_int_block_sources *s, const moe_log *log,
                                     moe_tensors *dst);

/* A map's tensor of the file, or its gradient, in float64. */
moe_status moe_int_block_copy_named(const moe_int_part_source *src, const char *spellings,
                                    const moe_tensor *shape, const moe_log *log, moe_tensor *ret);

/* Makes p, whose X and dO are the block's and whose layer is the model's, the problem of the
 * block's experts. `golden` may be NULL. */
moe_status moe_int_block_load(const moe_int_part_source *src, const moe_int_hf_case *golden,
                              const moe_log *log, moe_problem *p);

/* Fills p->expected with the experts' gradients and block->want with everything else; refuses a
 * result that is neither. */
moe_status moe_int_block_expected(const moe_int_part_source *src, const moe_int_hf_case *golden,
                                  const moe_log *log, moe_problem *p);

#endif
