/* Pairs that are met where an index of one order is used in another: a pair has its row, in order
 * of experts, and its number among the slots of all tokens, in order of tokens. */
#ifndef MOE_CHECK_EXPLAIN_PAIR_RULES_H
#define MOE_CHECK_EXPLAIN_PAIR_RULES_H

#include "moeref/plan.h"

typedef struct moe_int_pair_rule {
    const char *words;
    /* The pair that is met in the place of pair p, negative: none. */
    int64_t (*of)(const moe_plan *plan, int64_t p);
} moe_int_pair_rule;

enum {
    MOE_INT_RULE_ROW_OF_SLOT = 0,           /* the pair whose row has the number of p's slot */
    MOE_INT_RULE_SLOT_OF_ROW = 1,           /* whose slot has the number of p's row */
    MOE_INT_RULE_ROW_OF_SLOT_BY_WEIGHT = 7, /* where a token's slots come by weight */
    MOE_INT_RULE_SLOT_OF_ROW_BY_WEIGHT = 8,
    MOE_INT_PAIR_RULES = 9
};
extern const moe_int_pair_rule moe_int_pair_rules[MOE_INT_PAIR_RULES];

#endif
