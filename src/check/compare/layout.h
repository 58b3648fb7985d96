/* Which elements of a tensor are judged together. */
#ifndef MOE_CHECK_COMPARE_LAYOUT_H
#define MOE_CHECK_COMPARE_LAYOUT_H

#include "moeref/plan.h"

#include <stdbool.h>

typedef enum moe_int_grouping {
    MOE_INT_BY_TOKEN,  /* a group is a token's row */
    MOE_INT_BY_PAIR,   /* a (token, expert) pair's row, in plan order */
    MOE_INT_BY_EXPERT, /* an expert's slice */
    MOE_INT_WHOLE      /* one group */
} moe_int_grouping;

/* How a tensor's elements fall into groups that are judged one by one. A sampled tensor has fewer
 * groups than the whole one; `base` and `stride` say which elements of it they are. */
typedef struct moe_int_layout {
    moe_int_grouping by;
    int64_t groups, width; /* elements = groups * width */
    bool tiled;            /* 128-row tiles are judged too */
    bool exact_zero;       /* a group whose truth is all zero must be all zero */
    const int64_t *base;   /* [groups] flat index of a group's first element; NULL: g * width */
    int64_t stride;        /* between its elements in the whole tensor */
    const int64_t *expert; /* [groups], NULL: as `by` and the plan say */
} moe_int_layout;

moe_int_layout moe_int_layout_of(moe_tensor_id id, const moe_tensor *tensor);
/* Flat index of element `c` of group `g` in the whole tensor. */
int64_t moe_int_layout_flat(const moe_int_layout *layout, int64_t g, int64_t c);
/* The group's number in the whole tensor: token, pair row or expert. */
int64_t moe_int_layout_group(const moe_int_layout *layout, int64_t g);
/* Expert of a group, -1 where there is none; plan may be NULL. */
int64_t moe_int_layout_expert(const moe_int_layout *layout, const moe_plan *plan, int64_t g);
/* Independent errors that a group's come from: hidden units of its rows, a third of them because
 * they weigh in by squares of normal values ((E x^2)^2 / E x^4 = 1/3); of logits and weights each
 * element. plan may be NULL. */
int64_t moe_int_layout_sources(const moe_int_layout *layout, moe_tensor_id id,
                               const moe_layer_desc *desc, const moe_plan *plan, int64_t g);

#endif
