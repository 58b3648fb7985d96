/* What a sweep predicts, and of what. */
#ifndef MOE_CLI_VERBS_SWEEP_POINTS_H
#define MOE_CLI_VERBS_SWEEP_POINTS_H

#include "cli/input/axes.h"
#include "cli/input/question.h"
#include "cli/input/spread.h"
#include "cli/report/sweep_point.h"

typedef struct cli_sweep_options {
    cli_model_options model;
    cli_spread_options spread;
    const char *line, *method, *plot, *y;
    cli_strings vary;
    cli_output output;
} cli_sweep_options;

typedef struct cli_sweep_run {
    const cli_sweep_options *o;
    cli_axes axes;
    moe_gpu *gpu;   /* of the command line */
    moe_node *node; /* the same; for points that several GPUs share */
    moe_workload state;
    cli_sweep_point *points; /* [count] */
    size_t count, refused;   /* points that method or GPU cannot do */
} cli_sweep_run;

/* Fills points. What a method or GPU cannot do is a point without numbers and with the reason; any
 * other error ends the sweep. */
moe_status cli_sweep_predict(cli_sweep_run *s);

#endif
