/* What an update of the selection bias may do, on scores that stay (arXiv 2512.03915). */
#include "losses.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 512, EXPERTS = 16, CHOSEN = 2 };

typedef struct frozen {
    double scores[TOKENS * EXPERTS], bias[EXPERTS];
    int64_t counts[EXPERTS];
    bool at[TOKENS][EXPERTS];
} frozen;

static void assign(frozen *f) {
    double *biased = malloc(sizeof f->scores);
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        biased[i] = f->scores[i] + f->bias[i % EXPERTS];
    moe_plan *plan = choose(TOKENS, EXPERTS, CHOSEN, biased);
    memset(f->at, 0, sizeof f->at);
    for (int e = 0; e < EXPERTS; e++) {
        f->counts[e] = plan->offsets[e + 1] - plan->offsets[e];
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            f->at[plan->token[r]][e] = true;
    }
    moe_plan_destroy(&plan);
    free(biased);
}

/* sum_t topK(s_t + b) - sum_i b_i T K / E */
static double dual(const frozen *f) {
    double sum = 0;
    for (int e = 0; e < EXPERTS; e++) {
        sum -= f->bias[e] * TOKENS * CHOSEN / EXPERTS;
        for (int t = 0; t < TOKENS; t++)
            sum += f->at[t][e] ? f->scores[t * EXPERTS + e] + f->bias[e] : 0;
    }
    return sum;
}

static double most_loaded(const frozen *f) {
    int64_t most = 0;
    for (int e = 0; e < EXPERTS; e++)
        most = f->counts[e] > most ? f->counts[e] : most;
    return (double)most * EXPERTS / (TOKENS * CHOSEN);
}

static frozen *freeze(void) {
    frozen *f = calloc(1, sizeof *f);
    draw(f->scores, TOKENS * EXPERTS, 9);
    for (int i = 0; i < TOKENS * EXPERTS; i++) /* sigmoid scores, the first experts liked best */
        f->scores[i] = 1 / (1 + exp(1.0 * (i % EXPERTS) / EXPERTS - f->scores[i]));
    assign(f);
    return f;
}

/* A token goes from an expert whose bias fell against that of the expert which it joins: with
 * signs, none leaves an underloaded expert for an overloaded one. */
static int against_the_rule(const frozen *f, const frozen *before) {
    int wrong = 0;
    for (int t = 0; t < TOKENS; t++)
        for (int from = 0; from < EXPERTS; from++)
            for (int to = 0; to < EXPERTS; to++)
                if (before->at[t][from] && !f->at[t][from] && f->at[t][to] && !before->at[t][to])
                    wrong += f->bias[from] - before->bias[from] >= f->bias[to] - before->bias[to];
    return wrong;
}

static void descend(double rate, int32_t proportional, int steps, double limit) {
    frozen *f = freeze(), *before = malloc(sizeof *before);
    const double first = most_loaded(f);
    for (int s = 0; s < steps; s++) {
        *before = *f;
        moe_bias_update(f->counts, EXPERTS, rate, proportional, f->bias);
        assign(f);
        cr_expect_eq(against_the_rule(f, before), 0, "step %d", s);
        /* A proportional step is one down the dual's subgradient. */
        if (proportional)
            cr_expect(dual(f) <= dual(before) + 1e-9, "step %d: %.12g after %.12g", s, dual(f),
                      dual(before));
    }
    cr_expect(first > 1.3 && most_loaded(f) < limit, "from %g to %g", first, most_loaded(f));
    free(f);
    free(before);
}

Test(bias_update, moves_tokens_to_free_experts_until_they_balance) {
    descend(1e-5, 1, 600, 1.1);
    descend(1e-3, 0, 400, 1.1);
}

Test(bias_update, stays_where_load_is_even) {
    const int64_t counts[] = {4, 4, 4};
    double bias[] = {0.5, -1, 2};
    moe_bias_update(counts, 3, 1e-3, 0, bias);
    moe_bias_update(counts, 3, 1e-3, 1, bias);
    cr_expect(bias[0] == 0.5 && bias[1] == -1 && bias[2] == 2);
}
