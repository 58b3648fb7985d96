#include "cli/report/sweep_point.h"
#include "cli/input/messages.h"

#include <math.h>
#include <string.h>

const cli_sweep_column cli_sweep_columns[CLI_SWEEP_COLUMNS] = {
    {"us", "time, us", true, false, MOE_PASS_TOTAL},
    {"fwd_us", "time of the forward pass, us", true, false, MOE_PASS_FORWARD},
    {"bwd_us", "time of the backward pass, us", true, false, MOE_PASS_BACKWARD},
    {"tflops", "rate, TFLOP/s", false, true, MOE_PASS_TOTAL},
    {"fwd_tflops", "rate of the forward pass, TFLOP/s", false, true, MOE_PASS_FORWARD},
    {"bwd_tflops", "rate of the backward pass, TFLOP/s", false, true, MOE_PASS_BACKWARD},
    {"floor_us", "time that no kernel beats, us", false, false, MOE_PASS_TOTAL},
    {"padding", "share of the tensor cores' work that is padding", false, false, MOE_PASS_TOTAL},
    {"peak_bytes", "activation memory at peak, bytes", false, false, MOE_PASS_TOTAL},
    {"cached_bytes", "kept from forward for backward, bytes", false, false, MOE_PASS_TOTAL},
    {"low_us", "lower end of the time's 80 % interval, us", false, false, MOE_PASS_TOTAL},
    {"high_us", "upper end of the time's 80 % interval, us", false, false, MOE_PASS_TOTAL},
};

static double tflops(const moe_pass_cost *pass) {
    return pass->us > 0 ? pass->flops / pass->us / 1e6 : 0;
}

cli_sweep_point cli_sweep_point_of(const moe_prediction *r) {
    const moe_pass_cost *fwd = &r->pass[MOE_PASS_FORWARD], *bwd = &r->pass[MOE_PASS_BACKWARD],
                        *total = &r->pass[MOE_PASS_TOTAL];
    cli_sweep_point p = {.at = {total->us, fwd->us, bwd->us, tflops(total), tflops(fwd),
                                tflops(bwd), total->floor_us, r->padding, r->peak_bytes,
                                r->cached_bytes, r->low_us, r->high_us}};
    for (int i = 0; i < MOE_PASS_SUMS; i++) {
        const double floor_us = r->pass[i].floor_us;
        p.floor_us[i] = (float)floor_us;
        p.most_tflops[i] = (float)(floor_us > 0 ? r->pass[i].flops / floor_us / 1e6 : 0);
    }
    return p;
}

cli_sweep_point cli_sweep_point_spread(const moe_ep_prediction *r) {
    cli_sweep_point p = {.at = {r->total_us, r->forward_us, r->backward_us}};
    for (size_t c = 3; c < CLI_SWEEP_COLUMNS; c++)
        p.at[c] = NAN;
    return p;
}

double cli_sweep_bound(const cli_sweep_column *c, const cli_sweep_point *p) {
    return c->is_time ? p->floor_us[c->pass] : c->is_rate ? p->most_tflops[c->pass] : 0;
}

enum { US, LOW = CLI_SWEEP_COLUMNS - 2, HIGH };

bool cli_sweep_interval(const cli_sweep_column *c, const cli_sweep_point *p, double *ret_low,
                        double *ret_high) {
    const double us = p->at[US], low = p->at[LOW], high = p->at[HIGH];
    if (p->refused || !(low > 0) || c->pass != MOE_PASS_TOTAL || !(c->is_time || c->is_rate))
        return false;
    const double here = p->at[c - cli_sweep_columns];
    *ret_low = c->is_time ? low : here * us / high;
    *ret_high = c->is_time ? high : here * us / low;
    return true;
}

moe_status cli_sweep_column_find(const char *name, size_t *ret) {
    for (size_t c = 0; c < CLI_SWEEP_COLUMNS; c++) {
        if (strcmp(cli_sweep_columns[c].name, name) == 0) {
            *ret = c;
            return MOE_OK;
        }
    }
    return moe_fail(cli_log(), MOE_E_NOTFOUND, "--y %s: no such column (us, tflops, ...)", name);
}
