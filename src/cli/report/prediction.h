/* Predictions as text, JSON and CSV; measured times beside them. */
#ifndef MOE_CLI_REPORT_PREDICTION_H
#define MOE_CLI_REPORT_PREDICTION_H

#include "moeref/model.h"

#include <stdbool.h>
#include <stdio.h>

/* Output of a prediction. */
void cli_prediction_text(FILE *to, const char *line, const moe_gpu *gpu, const char *method,
                         const moe_prediction *p);
void cli_prediction_json(FILE *to, const char *line, const moe_gpu *gpu, const char *method,
                         const moe_prediction *p);
void cli_prediction_csv_header(FILE *to);
void cli_prediction_csv(FILE *to, const char *line, const moe_gpu *gpu, const char *method,
                        const moe_prediction *p);

/* Judges the times in a report of `moeref bench --output json` against predictions: on model, slow,
 * faster, or impossible (below the floor). */
moe_status cli_against(const char *path, const moe_gpu *gpu, const char *method,
                       const moe_workload *state, bool json, bool *ret_impossible);

#endif
