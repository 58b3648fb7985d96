/* What a plan chose for a token, and how two choices differ. */
#ifndef MOE_CHECK_ROUTING_CHOICE_H
#define MOE_CHECK_ROUTING_CHOICE_H

#include "moeref/plan.h"

int64_t moe_int_experts_of(const moe_plan *plan, int64_t t);
/* The k-th expert of token t, in ascending order. */
int64_t moe_int_expert_at(const moe_plan *plan, int64_t t, int64_t k);
/* Do a's token t and b's token u have the same experts? */
bool moe_int_same_choices(const moe_plan *a, int64_t t, const moe_plan *b, int64_t u);
bool moe_int_same_choice(const moe_plan *a, const moe_plan *b, int64_t t);

/* The lowest expert of token t in `plan` that it has not in `other`; -1. */
int64_t moe_int_first_without(const moe_plan *plan, const moe_plan *other, int64_t t);
/* "has 5, 9; should have 7, 12": the experts that one choice has and the other has not. */
void moe_int_print_differing(const moe_plan *got, const moe_plan *want, int64_t t, char *ret,
                             size_t size);
/* "{3, 9} instead of {3, 12}"; of large choices only what differs: "9 instead of 12". */
void moe_int_print_exchange(const moe_plan *got, const moe_plan *want, int64_t t, char *ret,
                            size_t size);

#endif
