/* dS that went a step too far through the router's backward pass, or not to it. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>

typedef enum router_step { LESS_WEIGHTED, LESS_MEAN, LOGIT, STEPS } router_step;

/* Sums of a token over its right dS. */
typedef struct token_sum {
    double weighted, plain;
    int64_t count;
} token_sum;

static token_sum sum_of(const moe_int_sight *p, int64_t t) {
    const moe_plan *plan = p->e->routing->plan;
    token_sum ret = {.count = plan->token_offsets[t + 1] - plan->token_offsets[t]};
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++) {
        const int64_t q = plan->pair_of_token[j];
        const double dS = moe_int_sight_want(p, q, 0);
        ret.weighted += plan->weight[q] * dS;
        ret.plain += dS;
    }
    return ret;
}

static double value_at(const moe_int_sight *p, router_step step, int64_t r) {
    const moe_plan *plan = p->e->routing->plan;
    const token_sum sum = sum_of(p, plan->token[r]);
    const double dS = moe_int_sight_want(p, r, 0);
    switch ((int)step) { /* STEPS is none */
    case LESS_WEIGHTED:
        return dS - sum.weighted;
    case LESS_MEAN:
        return dS - sum.plain / (double)sum.count;
    }
    return plan->weight[r] * (dS - sum.weighted);
}

bool moe_int_local_router_step(const moe_int_local *l, moe_int_finding *f) {
    static const char *const words[STEPS] = {
        "dS less the token's sum of weights times dS, as behind a renormalisation",
        "dS less its mean over the token's slots",
        "the weight times dS less the token's sum of weights times dS, as behind a softmax"};
    const moe_int_sight *p = l->p;
    const moe_plan *plan = p->e->routing->plan;
    if (p->id != MOE_T_DS || p->odd > 0 || !moe_int_sight_is_whole(p) || p->rows != plan->n_pairs ||
        p->wrong_rows < 4)
        return false;
    const double limit = moe_int_local_limit(p->e, p->id, p->d2);
    for (int step = 0; step < STEPS; step++) {
        double left = 0;
        for (int64_t r = 0; r < p->rows && left <= limit; r++)
            left += pow(moe_int_sight_got(p, r, 0) - value_at(p, (router_step)step, r), 2);
        if (left > limit)
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": %s", words[step]);
        return true;
    }
    return false;
}
