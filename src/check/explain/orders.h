/* Other orders of a sum's terms, or of rows, than the right one. */
#ifndef MOE_CHECK_EXPLAIN_ORDERS_H
#define MOE_CHECK_EXPLAIN_ORDERS_H

#include <stdint.h>

/* Element (c, k) of a matrix [outs][depth] becomes the one that is read for it. */
typedef void moe_int_map_fn(int64_t size, int64_t depth, int64_t *c, int64_t *k);

typedef struct moe_int_term_order {
    moe_int_map_fn *map;
    int64_t size;
    const char *words;
} moe_int_term_order;

/* Those that move terms alone come first, then those that move terms and outs. */
enum { MOE_INT_TERM_ORDERS = 30, MOE_INT_TERM_ORDERS_ALONE = 26 };
extern const moe_int_term_order moe_int_term_orders[MOE_INT_TERM_ORDERS];

#endif
