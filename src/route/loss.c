#include "moeref/loss.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

static moe_status check(const moe_loss_batch *b, bool with_plan, const moe_log *log) {
    if (b->tokens < 1 || b->experts < 1)
        return moe_fail(log, MOE_E_INVALID, "a loss of %lld tokens and %lld experts",
                        (long long)b->tokens, (long long)b->experts);
    if (with_plan && (b->plan->n_tokens != b->tokens || b->plan->n_experts != b->experts))
        return moe_fail(log, MOE_E_INVALID, "the plan is for %lld tokens and %lld experts",
                        (long long)b->plan->n_tokens, (long long)b->plan->n_experts);
    if (b->sequence < 0 || (b->sequence && b->tokens % b->sequence))
        return moe_fail(log, MOE_E_INVALID, "sequences of %lld tokens do not make %lld",
                        (long long)b->sequence, (long long)b->tokens);
    return MOE_OK;
}

/* p [E] of one token. */
static void probabilities(const moe_loss_batch *b, int64_t t, double *p) {
    const double *z = b->logits + t * b->experts;
    double most = z[0], sum = 0;
    for (int64_t i = 1; i < b->experts; i++)
        most = fmax(most, z[i]);
    for (int64_t i = 0; i < b->experts; i++) {
        p[i] = b->sigmoid ? 1 / (1 + exp(-z[i])) : exp(z[i] - most);
        sum += p[i];
    }
    for (int64_t i = 0; i < b->experts; i++)
        p[i] /= sum;
}

/* dz [E] of one token from the gradient dp [E] of its probabilities. */
static void through_probabilities(const moe_loss_batch *b, int64_t t, const double *p,
                                  const double *dp, double *dz) {
    const double *z = b->logits + t * b->experts;
    double dot = 0;
    for (int64_t i = 0; i < b->experts; i++)
        dot += dp[i] * p[i];
    for (int64_t i = 0; i < b->experts; i++) {
        /* d ln score(z) / dz: of exp 1, of the sigmoid 1 - s */
        const double slope = b->sigmoid ? 1 / (1 + exp(z[i])) : 1;
        dz[i] = p[i] * (dp[i] - dot) * slope;
    }
}

/* ---- load balance ---- */

/* Adds the pairs of each expert, and sequence of `length` tokens, to counts [sequence][E]. */
static void add_counts(const moe_plan *plan, int64_t length, double *counts) {
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            counts[plan->token[r] / length * plan->n_experts + e]++;
}

/* Counts to E f_i; without pairs all are 0. */
static void to_shares(double *counts, int64_t experts) {
    double sum = 0;
    for (int64_t i = 0; i < experts; i++)
        sum += counts[i];
    for (int64_t i = 0; i < experts; i++)
        counts[i] = sum > 0 ? (double)experts * counts[i] / sum : 0;
}

/* The sum over tokens first .. last - 1 of shares . p, added to *sum token by token; `scale` times
 * its gradient. p is workspace [E]. */
static void balance_tokens(const moe_loss_batch *b, int64_t first, int64_t last,
                           const double *shares, double scale, double *p, double *sum, double *dz) {
    const int64_t E = b->experts;
    for (int64_t t = first; t < last; t++) {
        double at = 0;
        probabilities(b, t, p);
        for (int64_t i = 0; i < E; i++)
            at += shares[i] * p[i];
        *sum += at;
        if (!dz)
            continue;
        through_probabilities(b, t, p, shares, dz + t * E);
        for (int64_t i = 0; i < E; i++)
            dz[t * E + i] *= scale;
    }
}

moe_status moe_loss_balance_global(const moe_loss_batch *shards, int64_t n_shards,
                                   const moe_log *log, double *ret_loss,
                                   double *const *ret_d_logits) {
    int64_t tokens = 0;
    if (n_shards < 1)
        return moe_fail(log, MOE_E_INVALID, "a loss of no shards");
    const int64_t E = shards[0].experts;
    for (int64_t j = 0; j < n_shards; j++) {
        moe_status status = check(&shards[j], true, log);
        if (!status && shards[j].experts != E)
            status = moe_fail(log, MOE_E_INVALID, "shards of different numbers of experts");
        if (status)
            return status;
        tokens += shards[j].tokens;
    }
    double *shares = calloc((size_t)(2 * E), sizeof *shares), sum = 0;
    if (!shares)
        return moe_fail(log, MOE_E_NOMEM, "a loss: out of memory");
    for (int64_t j = 0; j < n_shards; j++)
        add_counts(shards[j].plan, shards[j].tokens, shares);
    to_shares(shares, E);
    for (int64_t j = 0; j < n_shards; j++)
        balance_tokens(&shards[j], 0, shards[j].tokens, shares, 1 / (double)tokens, shares + E,
                       &sum, ret_d_logits ? ret_d_logits[j] : NULL);
    *ret_loss = sum / (double)tokens;
    free(shares);
    return MOE_OK;
}

static moe_status balance_sequences(const moe_loss_batch *b, const moe_log *log, double *ret_loss,
                                    double *ret_d_logits) {
    const int64_t E = b->experts, n = b->tokens / b->sequence;
    double *shares = calloc((size_t)((n + 1) * E), sizeof *shares), sum = 0;
    if (!shares)
        return moe_fail(log, MOE_E_NOMEM, "a loss: out of memory");
    add_counts(b->plan, b->sequence, shares);
    for (int64_t s = 0; s < n; s++) {
        to_shares(shares + s * E, E);
        balance_tokens(b, s * b->sequence, (s + 1) * b->sequence, shares + s * E,
                       1 / (double)b->tokens, shares + n * E, &sum, ret_d_logits);
    }
    *ret_loss = sum / (double)b->tokens;
    free(shares);
    return MOE_OK;
}

moe_status moe_loss_balance(const moe_loss_batch *b, moe_loss_scope scope, const moe_log *log,
                            double *ret_loss, double *ret_d_logits) {
    moe_status status = check(b, true, log);
    if (status)
        return status;
    if (scope == MOE_LOSS_SEQUENCE && b->sequence)
        return balance_sequences(b, log, ret_loss, ret_d_logits);
    return moe_loss_balance_global(b, 1, log, ret_loss, ret_d_logits ? &ret_d_logits : NULL);
}

/* Each expert's share becomes eta times the mean of its device's. */
static void share_devices(const int32_t *device, const double *eta, int64_t E, const double *own,
                          double *ret) {
    for (int64_t i = 0; i < E; i++) {
        double sum = 0, n = 0;
        for (int64_t j = 0; j < E; j++) {
            if (device ? device[j] != device[i] : j != i)
                continue;
            sum += own[j];
            n++;
        }
        ret[i] = (eta ? eta[i] : 1) * sum / n;
    }
}

moe_status moe_loss_balance_weighted(const moe_loss_batch *b, const int32_t *device,
                                     const double *eta, const moe_log *log, double *ret_loss,
                                     double *ret_d_logits) {
    const int64_t E = b->experts;
    moe_status status = check(b, true, log);
    if (status)
        return status;
    double *own = calloc((size_t)(3 * E), sizeof *own), sum = 0;
    if (!own)
        return moe_fail(log, MOE_E_NOMEM, "a loss: out of memory");
    add_counts(b->plan, b->tokens, own);
    to_shares(own, E);
    share_devices(device, eta, E, own, own + E);
    balance_tokens(b, 0, b->tokens, own + E, 1 / (double)b->tokens, own + 2 * E, &sum,
                   ret_d_logits);
    *ret_loss = sum / (double)b->tokens;
    free(own);
    return MOE_OK;
}

/* ---- z ---- */

moe_status moe_loss_z(const moe_loss_batch *b, const moe_log *log, double *ret_loss,
                      double *ret_d_logits) {
    const int64_t E = b->experts;
    double loss = 0;
    moe_status status = check(b, false, log);
    if (status)
        return status;
    for (int64_t t = 0; t < b->tokens; t++) {
        const double *z = b->logits + t * E;
        double most = z[0], sum = 0;
        for (int64_t i = 1; i < E; i++)
            most = fmax(most, z[i]);
        for (int64_t i = 0; i < E; i++)
            sum += exp(z[i] - most);
        const double lse = most + log1p(sum - 1);
        loss += lse * lse;
        for (int64_t i = 0; ret_d_logits && i < E; i++)
            ret_d_logits[t * E + i] = 2 * lse * exp(z[i] - most) / sum / (double)b->tokens;
    }
    *ret_loss = loss / (double)b->tokens;
    return MOE_OK;
}

/* ---- CV^2 ---- */

/* CV^2 of x [E], and in place of x its gradient. */
static double cv2(double *x, int64_t n) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    const double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    const double variance = squares / (double)n, value = variance / (mean * mean);
    for (int64_t i = 0; i < n; i++)
        x[i] = 2 / (double)n * ((x[i] - mean) / (mean * mean) - value / mean);
    return value;
}

moe_status moe_loss_importance(const moe_loss_batch *b, const moe_log *log, double *ret_loss,
                               double *ret_d_logits) {
    const int64_t E = b->experts;
    moe_status status = check(b, false, log);
    if (status)
        return status;
    double *x = calloc((size_t)(2 * E), sizeof *x);
    if (!x)
        return moe_fail(log, MOE_E_NOMEM, "a loss: out of memory");
    double *p = x + E;
    for (int64_t t = 0; t < b->tokens; t++) {
        probabilities(b, t, p);
        for (int64_t i = 0; i < E; i++)
            x[i] += p[i];
    }
    *ret_loss = cv2(x, E);
    for (int64_t t = 0; ret_d_logits && t < b->tokens; t++) {
        probabilities(b, t, p);
        through_probabilities(b, t, p, x, ret_d_logits + t * E);
    }
    free(x);
    return MOE_OK;
}

/* One token's: through z and through the logit of expert `last`, which the others are held to. */
static void load_backward(const double *z, int64_t E, int32_t last, double noise,
                          const double *d_load, double *dz) {
    double sum = 0;
    for (int64_t i = 0; i < E; i++) {
        const double u = (z[i] - z[last]) / noise;
        dz[i] = d_load[i] * exp(-0.5 * u * u) / sqrt(2 * M_PI) / noise;
        sum += dz[i];
    }
    dz[last] -= sum;
}

moe_status moe_loss_load(const moe_loss_batch *b, int64_t K, double noise, const moe_log *log,
                         double *ret_loss, double *ret_d_logits) {
    const int64_t E = b->experts;
    moe_status status = check(b, false, log);
    if (!status && (!(noise > 0) || K < 1 || K > E))
        status = moe_fail(log, MOE_E_INVALID, "a load of K=%lld of %lld experts and noise %g",
                          (long long)K, (long long)E, noise);
    if (status)
        return status;
    double *x = calloc((size_t)E, sizeof *x);
    int32_t *best = calloc((size_t)K, sizeof *best);
    if (!x || !best)
        status = moe_fail(log, MOE_E_NOMEM, "a loss: out of memory");
    for (int64_t t = 0; !status && t < b->tokens; t++) {
        const double *z = b->logits + t * E;
        moe_int_topk(z, NULL, E, K, best);
        for (int64_t i = 0; i < E; i++)
            x[i] += 0.5 * erfc((z[best[K - 1]] - z[i]) / noise * M_SQRT1_2);
    }
    if (!status)
        *ret_loss = cv2(x, E);
    for (int64_t t = 0; !status && ret_d_logits && t < b->tokens; t++) {
        moe_int_topk(b->logits + t * E, NULL, E, K, best);
        load_backward(b->logits + t * E, E, best[K - 1], noise, x, ret_d_logits + t * E);
    }
    free(x);
    free(best);
    return status;
}

/* ---- the bias ---- */

void moe_bias_update(const int64_t *counts, int64_t experts, double rate, int32_t proportional,
                     double *bias) {
    double mean = 0;
    for (int64_t i = 0; i < experts; i++)
        mean += (double)counts[i] / (double)experts;
    for (int64_t i = 0; i < experts; i++) {
        const double under = mean - (double)counts[i];
        bias[i] += rate * (proportional ? under : (double)((under > 0) - (under < 0)));
    }
}
