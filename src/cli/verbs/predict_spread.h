/* The part of moeref predict that asks about several GPUs. */
#ifndef MOE_CLI_VERBS_PREDICT_SPREAD_H
#define MOE_CLI_VERBS_PREDICT_SPREAD_H

#include "cli/input/spread.h"

/* Every line by every method; no method: moeref_ep. */
moe_status cli_predict_spread(const cli_spread_options *s, const cli_model_options *m,
                              const cli_strings *lines, const cli_strings *methods, bool json);

/* The timeline of a line. */
moe_status cli_trace_spread(const cli_spread_options *s, const cli_model_options *m,
                            const char *line, const char *method, const char *path);

#endif
