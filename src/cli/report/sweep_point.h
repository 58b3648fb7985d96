/* What a sweep keeps of a prediction: a row of its table. */
#ifndef MOE_CLI_REPORT_SWEEP_POINT_H
#define MOE_CLI_REPORT_SWEEP_POINT_H

#include "moeref/model.h"
#include "moeref/node.h"

#define CLI_SWEEP_COLUMNS 12

/* A column, with its unit in `label`, of a pass where it is a time or a rate. */
typedef struct cli_sweep_column {
    const char *name, *label;
    bool is_time, is_rate;
    moe_pass_sum pass;
} cli_sweep_column;

extern const cli_sweep_column cli_sweep_columns[CLI_SWEEP_COLUMNS];

/* A million of them fit. */
typedef struct cli_sweep_point {
    double at[CLI_SWEEP_COLUMNS];
    float floor_us[MOE_PASS_SUMS], most_tflops[MOE_PASS_SUMS]; /* for pictures */
    char *refused; /* why there are no numbers (NaN); owned; NULL: there are */
} cli_sweep_point;

cli_sweep_point cli_sweep_point_of(const moe_prediction *p);
/* Of the rank with most work; what is not told of several GPUs is NaN. */
cli_sweep_point cli_sweep_point_spread(const moe_ep_prediction *p);

/* What no kernel beats: the floor of a time, the most of a rate; 0: nothing is known. */
double cli_sweep_bound(const cli_sweep_column *column, const cli_sweep_point *point);

/* Where 80 of 100 measured values of a column lie; false: that is not known of it. */
bool cli_sweep_interval(const cli_sweep_column *column, const cli_sweep_point *point,
                        double *ret_low, double *ret_high);

/* MOE_E_NOTFOUND with a sentence. */
moe_status cli_sweep_column_find(const char *name, size_t *ret);

#endif
