/* moeref predict --sensitivities: which number of a GPU a time hangs on. */
#include "cli/verbs/predict_slopes.h"

#include <math.h>
#include <string.h>

/* A sensitivity is the slope over +10 % of a parameter, in logarithms, or over -10 % where more is
 * not allowed: of a share of 1, say. */
#define NUDGE 1.1
#define SHOWN 0.01

/* A copy of the GPU with one parameter nudged; *ret_by is by how much, or 0 if it cannot be. */
static moe_status nudge(const moe_gpu *gpu, const char *key, moe_gpu **ret, double *ret_by) {
    double value = 0;
    moe_status status = moe_gpu_clone(gpu, ret);
    *ret_by = 0;
    if (status || moe_gpu_get(*ret, key, &value))
        return status;
    if (moe_gpu_set(*ret, key, value * NUDGE, NULL) == MOE_OK)
        *ret_by = NUDGE;
    else if (moe_gpu_set(*ret, key, value / NUDGE, NULL) == MOE_OK)
        *ret_by = 1 / NUDGE;
    return MOE_OK;
}

/* d ln(time) / d ln(parameter), for every parameter that moves the time and not in steps. */
moe_status cli_slopes_print(FILE *to, const moe_gpu *gpu, const cli_question *s, const char *method,
                            const moe_workload *state, const moe_log *say, double base_us) {
    moe_gpu_param info;
    moe_status status = MOE_OK;
    fprintf(to, "  sensitivities, %% of time for +1 %% of:");
    for (size_t i = 0; !status && (info = moe_gpu_param_at(i)).key; i++) {
        moe_gpu *nudged = NULL;
        moe_prediction *p = NULL;
        double by = 0;
        if (!info.whole)
            status = nudge(gpu, info.key, &nudged, &by);
        if (!status && by > 0) {
            status = cli_question_predict(s, nudged, method, state, say, &p);
            const double slope = status ? 0 : log(p->pass[MOE_PASS_TOTAL].us / base_us) / log(by);
            if (fabs(slope) >= SHOWN)
                fprintf(to, " %s %+.2f", info.key, slope);
        }
        moe_prediction_destroy(&p);
        moe_gpu_destroy(&nudged);
    }
    fprintf(to, "\n");
    return status;
}

/* Below the methods: what --sensitivities leaves out. */
void cli_slopes_help(char *buf, size_t size) {
    moe_gpu_param info;
    size_t used = strlen(buf);
    used +=
        (size_t)snprintf(buf + used, size - used, "without sensitivities, being whole numbers:");
    for (size_t i = 0; (info = moe_gpu_param_at(i)).key && used < size; i++) {
        if (info.whole)
            used += (size_t)snprintf(buf + used, size - used, " %s", info.key);
    }
    if (used < size)
        snprintf(buf + used, size - used,
                 "\n  (--what-if sms=144 tells what another one brings)\n");
}
