/* A whole model's time and memory, on one GPU or several. */
#ifndef MOE_CLI_REPORT_WHOLE_H
#define MOE_CLI_REPORT_WHOLE_H

#include "cli/input/layout.h"
#include "moeref/whole.h"

#include <stdio.h>

/* What a model adds up to. */
typedef struct cli_model_told {
    const moe_model_run *run;
    const moe_model_rest *rest;
    const char *method, *gpu;
    const cli_layout *layout; /* NULL: one GPU */
    const double
        *rank_bytes; /* [gpus] weights of the MoE layers; of one GPU where layout is NULL */
    double moe_us, us, activations, hbm_gib;
} cli_model_told;

void cli_model_text(FILE *to, const cli_model_told *s);
void cli_model_json(FILE *to, const cli_model_told *s);

#endif
