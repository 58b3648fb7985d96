/* A router of quantised weights beside the one that it was made from. */
#include "moeref/loss.h"

#include <math.h>

/* ln of the sum of e^z */
static double log_sum(const double *z, int64_t E) {
    double most = z[0], sum = 0;
    for (int64_t i = 1; i < E; i++)
        most = fmax(most, z[i]);
    for (int64_t i = 0; i < E; i++)
        sum += exp(z[i] - most);
    return most + log(sum);
}

moe_status moe_loss_alignment(const moe_loss_batch *b, const double *full, const moe_log *log,
                              double *ret_loss, double *ret_d_logits) {
    const int64_t E = b->experts;
    double loss = 0;
    if (b->tokens < 1 || E < 1)
        return moe_fail(log, MOE_E_INVALID, "a loss of %lld tokens and %lld experts",
                        (long long)b->tokens, (long long)E);
    for (int64_t t = 0; t < b->tokens; t++) {
        const double *z = full + t * E, *q = b->logits + t * E;
        const double of_z = log_sum(z, E), of_q = log_sum(q, E);
        for (int64_t i = 0; i < E; i++) {
            const double off = q[i] - z[i], p = exp(z[i] - of_z);
            loss += off * off + p * (z[i] - of_z - q[i] + of_q);
            if (ret_d_logits)
                ret_d_logits[t * E + i] = (2 * off + exp(q[i] - of_q) - p) / (double)b->tokens;
        }
    }
    *ret_loss = loss / (double)b->tokens;
    return MOE_OK;
}
