/* The part of moeref predict that spreads a whole model over several GPUs. */
#ifndef MOE_CLI_VERBS_PREDICT_SHARED_H
#define MOE_CLI_VERBS_PREDICT_SHARED_H

#include "cli/input/layout.h"
#include "cli/report/prediction.h"

/* A MoE layer of the model, `s`, whose T tokens are a replica's: adds its time and the memory of
 * the GPU that needs most to *sum, and each GPU's weights to rank_bytes [gpus]. */
moe_status cli_layout_add(const cli_layout *l, const moe_gpu *gpu, const moe_workload *state,
                          const cli_question *s, cli_layers *sum, double *rank_bytes);

#endif
