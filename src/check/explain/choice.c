/* How well a change's choice of experts is the subject's. */
#include "check/explain/bank.h"
#include "route/route.h"

static bool same_experts(const moe_plan *a, const moe_plan *b, int64_t t) {
    int64_t from = a->token_offsets[t], to = b->token_offsets[t];
    int64_t n = a->token_offsets[t + 1] - from;
    if (b->token_offsets[t + 1] - to != n)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (moe_int_plan_expert_of(a, a->pair_of_token[from + i]) !=
            moe_int_plan_expert_of(b, b->pair_of_token[to + i]))
            return false;
    return true;
}

/* Is it so of the tokens that chose otherwise than the right layer, though not of the others? Few
 * would be so by chance. */
static void take_part(const moe_int_evidence *e, const moe_plan *plan, const moe_plan *right,
                      moe_int_finding *f) {
    enum { ENOUGH = 8 };
    const moe_plan *got = e->routing->plan;
    int64_t wrong = 0, as = 0, first = -1;
    for (int64_t t = 0; t < got->n_tokens; t++) {
        if (same_experts(got, right, t))
            continue;
        wrong++;
        as += same_experts(got, plan, t);
        first = first < 0 ? t : first;
    }
    if (wrong < ENOUGH || as < wrong)
        return;
    f->partial = true;
    f->is.after = 0;
    moe_int_finding_say(f, "; of %lld tokens alone, such as token %lld", (long long)wrong,
                        (long long)first);
    moe_int_finding_param(f, "token", (double)first);
}

void moe_int_judge_choice(moe_int_evidence *e, const moe_plan *plan, const moe_plan *right,
                          moe_int_finding *f) {
    const moe_plan *got = e->routing->plan; /* its own choice, told or found */
    int64_t differ = 0;
    for (int64_t t = 0; t < got->n_tokens; t++)
        differ += !same_experts(got, plan, t);
    f->is.before = (double)e->routing->wrong / (double)got->n_tokens;
    f->is.after = (double)differ / (double)got->n_tokens;
    f->explained = 1;
    if (differ > 0 && differ * 30 >= e->routing->wrong && right)
        take_part(e, plan, right, f);
    if (f->partial || differ == 0 || differ * 30 < e->routing->wrong)
        moe_int_offer(e, f);
}
