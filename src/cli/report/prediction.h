/* Predictions as text, JSON and CSV; measured times beside them. */
#ifndef MOE_CLI_REPORT_PREDICTION_H
#define MOE_CLI_REPORT_PREDICTION_H

#include "cli/input/question.h"

#include <stdbool.h>
#include <stdio.h>

/* Who was asked what. Nothing is owned. */
typedef struct cli_predicted {
    const cli_question *question;
    const moe_gpu *gpu;
    const char *method;
} cli_predicted;

/* Output of a prediction. A CSV's rows add up to the prediction's total. */
void cli_prediction_text(FILE *to, const cli_predicted *what, const moe_prediction *p);
void cli_prediction_json(FILE *to, const cli_predicted *what, const moe_prediction *p);
void cli_prediction_csv_header(FILE *to);
void cli_prediction_csv(FILE *to, const cli_predicted *what, const moe_prediction *p);

/* The record of what could not be predicted, in the same format. */
void cli_prediction_failure(FILE *to, cli_output output, const char *line, const char *gpu,
                            const char *method, const char *why);

/* Judges the times in a report of `moeref bench --output json` against predictions: on model, slow,
 * faster, or impossible (below the floor). */
moe_status cli_against(const char *path, const moe_gpu *gpu, const char *method,
                       const moe_workload *state, bool json, bool *ret_impossible);

/* A model's MoE layers together. */
typedef struct cli_layers {
    int64_t with_experts, all;
    double us, param_bytes, cached_bytes;
    double peak_bytes; /* of the layer that needs most, by itself */
    bool trains;       /* param_bytes are of gradients too */
} cli_layers;

/* Text or JSON. */
void cli_prediction_layers(FILE *to, cli_output output, const char *method, const cli_layers *sum);

#endif
