/* How many rows of nobody there are, and where. */
#ifndef MOEREF_EP_PADDING_H
#define MOEREF_EP_PADDING_H

#include "moeref/ep.h"

typedef struct moe_int_pad {
    int32_t where; /* moe_ep_padding */
    int64_t rows;  /* 1 or more */
} moe_int_pad;

/* Rows that go over the wire for `count` that are somebody's: of a source and a slot or,
 * deduplicated, of a source and a rank. */
int64_t moe_int_sent_rows(const moe_int_pad *pad, int64_t count);
/* Rows that a slot's expert sees for `count` that came. */
int64_t moe_int_owned_rows(const moe_int_pad *pad, int64_t count);
/* Rows that an owner adds to those of counts[slots]. */
int64_t moe_int_owner_padding(const moe_int_pad *pad, const int64_t *counts, int64_t slots);
/* Pairs of those rows, which are numbered from `row` on, from place `at` of the arrays on. */
void moe_int_pad_pairs(const moe_int_pad *pad, const int64_t *counts, int64_t slots, int64_t row,
                       int64_t at, int32_t *token, int32_t *slot, double *weight);
/* A fault: rows of nobody, from `copies` on, are each their expert's last row again, with its
 * weight. */
void moe_int_repeat_rows(const moe_plan *plan, int64_t copies, const moe_tensor *rows);

#endif
