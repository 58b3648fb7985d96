/* How a whole model lies on several GPUs, as predict is asked. */
#ifndef MOE_CLI_INPUT_LAYOUT_H
#define MOE_CLI_INPUT_LAYOUT_H

#include "cli/input/spread.h"

/* Who has what of a model: ep * tp GPUs, of which attention_tp share the heads, the dense FFNs and
 * the vocabulary of one of `replicas`, each with tokens of its own. */
typedef struct cli_layout {
    const moe_node *node;
    moe_ep_options o; /* of its MoE layers; compute is set */
    int64_t gpus, attention_tp, replicas;
} cli_layout;

/* attention_tp 0: as many as share each expert's width. `method` NULL: an all-reduce where all GPUs
 * have the same tokens, else ep_serial. */
moe_status cli_layout_of(const cli_spread_options *s, const moe_node *node, int64_t attention_tp,
                         const char *method, cli_layout *ret);

#endif
