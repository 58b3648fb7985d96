/* The part of moeref predict that tells of a whole model. */
#ifndef MOE_CLI_VERBS_PREDICT_WHOLE_H
#define MOE_CLI_VERBS_PREDICT_WHOLE_H

#include "cli/input/options.h"
#include "cli/report/prediction.h"
#include "moeref/whole.h"

#include <stdio.h>

/* A model, and what of it runs. */
typedef struct cli_whole {
    const char *config;
    moe_model_run run;
    cli_output output;
} cli_whole;

/* Prints time, tokens a second and memory of the model whose MoE layers together take *layers. */
moe_status cli_predict_whole(const cli_whole *what, const moe_gpu *gpu, const char *method,
                             const moe_workload *state, const cli_layers *layers, FILE *to);

#endif
