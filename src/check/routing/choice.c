/* What a plan chose for a token, and how two choices differ. */
#include "check/routing/choice.h"
#include "route/route.h"

#include <stdio.h>

enum {
    LISTED = 4, /* experts that a message names of a choice */
    LISTED_BYTES = 32
};

int64_t moe_int_experts_of(const moe_plan *plan, int64_t t) {
    return plan->token_offsets[t + 1] - plan->token_offsets[t];
}

int64_t moe_int_expert_at(const moe_plan *plan, int64_t t, int64_t k) {
    return moe_int_plan_expert_of(plan, plan->pair_of_token[plan->token_offsets[t] + k]);
}

bool moe_int_same_choices(const moe_plan *a, int64_t t, const moe_plan *b, int64_t u) {
    int64_t n = moe_int_experts_of(a, t);
    if (moe_int_experts_of(b, u) != n)
        return false;
    for (int64_t k = 0; k < n; k++)
        if (moe_int_expert_at(a, t, k) != moe_int_expert_at(b, u, k))
            return false;
    return true;
}

bool moe_int_same_choice(const moe_plan *a, const moe_plan *b, int64_t t) {
    return moe_int_same_choices(a, t, b, t);
}

static bool has(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t k = 0; k < moe_int_experts_of(plan, t); k++)
        if (moe_int_expert_at(plan, t, k) == e)
            return true;
    return false;
}

int64_t moe_int_first_without(const moe_plan *plan, const moe_plan *other, int64_t t) {
    for (int64_t k = 0; k < moe_int_experts_of(plan, t); k++)
        if (!has(other, t, moe_int_expert_at(plan, t, k)))
            return moe_int_expert_at(plan, t, k);
    return -1;
}

/* "5, 9" of the experts that `plan` has and `other` (NULL: none) has not. Returns how many. */
static int64_t list_experts(const moe_plan *plan, const moe_plan *other, int64_t t, char *ret,
                            size_t size) {
    int64_t count = 0;
    size_t used = 0;
    ret[0] = '\0';
    for (int64_t k = 0; k < moe_int_experts_of(plan, t); k++) {
        int64_t e = moe_int_expert_at(plan, t, k);
        if (other && has(other, t, e))
            continue;
        if (count < LISTED && used < size)
            used +=
                (size_t)snprintf(ret + used, size - used, count ? ", %lld" : "%lld", (long long)e);
        count++;
    }
    if (count > LISTED && used < size)
        snprintf(ret + used, size - used, " ...");
    return count;
}

void moe_int_print_differing(const moe_plan *got, const moe_plan *want, int64_t t, char *ret,
                             size_t size) {
    char is[LISTED_BYTES], should[LISTED_BYTES];
    int64_t more = list_experts(got, want, t, is, sizeof is);
    int64_t fewer = list_experts(want, got, t, should, sizeof should);
    if (fewer == 0)
        snprintf(ret, size, "has %s too many", is);
    else if (more == 0)
        snprintf(ret, size, "lacks %s", should);
    else
        snprintf(ret, size, "has %s; should have %s", is, should);
}

void moe_int_print_exchange(const moe_plan *got, const moe_plan *want, int64_t t, char *ret,
                            size_t size) {
    char is[LISTED_BYTES], should[LISTED_BYTES];
    bool small = moe_int_experts_of(got, t) <= LISTED && moe_int_experts_of(want, t) <= LISTED;
    list_experts(got, small ? NULL : want, t, is, sizeof is);
    list_experts(want, small ? NULL : got, t, should, sizeof should);
    snprintf(ret, size, small ? "{%s} instead of {%s}" : "%s instead of %s", is, should);
}
