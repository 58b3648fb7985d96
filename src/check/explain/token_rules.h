/* Tokens whose X is gathered by a wrong index: of rows that are not sorted, or sorted the other way
 * round, and of X in another order. */
#ifndef MOE_CHECK_EXPLAIN_TOKEN_RULES_H
#define MOE_CHECK_EXPLAIN_TOKEN_RULES_H

#include "moeref/plan.h"

typedef struct moe_int_token_rule {
    /* The token that is met in the place of pair p's, negative: none. */
    int64_t (*of)(const moe_plan *plan, int64_t p, int64_t size);
    int64_t size;
    const char *words;
} moe_int_token_rule;

enum { MOE_INT_TOKEN_RULES = 13 };
extern const moe_int_token_rule moe_int_token_rules[MOE_INT_TOKEN_RULES];

#endif
