/* BlockFFN's measures of sparsity and its two losses. */
#include "moeref/loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 1e-5

double moe_sparsity(const double *a, int64_t tokens, int64_t experts, int64_t C) {
    double active = 0;
    for (int64_t chunk = 0; chunk < tokens / C; chunk++) {
        for (int64_t i = 0; i < experts; i++) {
            bool any = false;
            for (int64_t t = chunk * C; t < (chunk + 1) * C; t++)
                any |= a[t * experts + i] > 0;
            active += any;
        }
    }
    const int64_t chunks = tokens / C;
    return 1 - active / (double)(chunks * experts);
}

static double softplus(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* BCE(p, q) = softplus(-x) p + softplus(x) (1 - p) with q = sigmoid(x): d/dx = q - p, and
 * d/dp = -x. */
moe_status moe_loss_locality(const moe_loss_batch *b, double sharp, const moe_log *log,
                             double *ret_loss, double *ret_d_logits) {
    const int64_t E = b->experts, T = b->tokens, sequence = b->sequence ? b->sequence : T;
    if (T < 1 || E < 1 || sequence < 2 || T % sequence)
        return moe_fail(log, MOE_E_INVALID, "a loss of %lld tokens in sequences of %lld",
                        (long long)T, (long long)sequence);
    const int64_t sequences = T / sequence;
    const double pairs = (double)((T - sequences) * E);
    double loss = 0;
    if (ret_d_logits)
        memset(ret_d_logits, 0, (size_t)(T * E) * sizeof *ret_d_logits);
    for (int64_t k = E; k < T * E; k++) {
        if (k / E % sequence == 0)
            continue;
        const double x = sharp * b->logits[k - E], y = sharp * b->logits[k];
        const double q = 1 / (1 + exp(-x)), p = 1 / (1 + exp(-y));
        loss += p * softplus(-x) + (1 - p) * softplus(x);
        if (!ret_d_logits)
            continue;
        ret_d_logits[k - E] += (q - p) * sharp / pairs;
        ret_d_logits[k] -= x * p * (1 - p) * sharp / pairs;
    }
    *ret_loss = loss / pairs;
    return MOE_OK;
}

/* Of one chunk, x and dx [C][E]: the sum over experts of the products, and minus its gradient
 * divided by `count`. `rows` [C] has the tokens' sums. */
static double chunk(const double *x, int64_t C, int64_t E, const double *rows, double count,
                    double *dx) {
    double sum = 0;
    for (int64_t i = 0; i < E; i++) {
        double product = 1;
        for (int64_t t = 0; t < C; t++)
            product *= 1 - x[t * E + i] / rows[t] + SMALL;
        sum += product;
        for (int64_t t = 0; dx && t < C; t++) {
            const double q = x[t * E + i] / rows[t], dq = product / (1 - q + SMALL) / count;
            dx[t * E + i] += dq / rows[t];
            for (int64_t j = 0; j < E; j++)
                dx[t * E + j] -= dq * q / rows[t];
        }
    }
    return sum;
}

moe_status moe_loss_chunks(const moe_loss_batch *b, int64_t C, const moe_log *log, double *ret_loss,
                           double *ret_d_logits) {
    const int64_t E = b->experts, T = b->tokens;
    if (T < 1 || E < 1 || C < 1 || T % C)
        return moe_fail(log, MOE_E_INVALID, "a loss of %lld tokens in chunks of %lld", (long long)T,
                        (long long)C);
    double *rows = calloc((size_t)T, sizeof *rows), sum = 0;
    if (!rows)
        return moe_fail(log, MOE_E_NOMEM, "a loss: out of memory");
    for (int64_t k = 0; k < T * E; k++)
        rows[k / E] += b->logits[k] + (k % E ? 0 : SMALL);
    if (ret_d_logits)
        memset(ret_d_logits, 0, (size_t)(T * E) * sizeof *ret_d_logits);
    const int64_t chunks = T / C;
    const double count = (double)(chunks * E);
    for (int64_t t = 0; t < T; t += C)
        sum += chunk(b->logits + t * E, C, E, rows + t, count,
                     ret_d_logits ? ret_d_logits + t * E : NULL);
    *ret_loss = 1 - sum / count;
    free(rows);
    return MOE_OK;
}
