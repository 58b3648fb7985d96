/* Hypotheses about steps between those whose results the subject offers, as where a file has O
 * alone: they are run on to what is there. Where the step's own result can be seen, it is looked at
 * itself (local_...). */
#include "check/explain/bank.h"

#include <stdlib.h>

static bool sees(const moe_int_scene *s, moe_tensor_id id) {
    return s->evidence->got.t[id].data != NULL;
}

/* The products by their results; dA' shows in dH. */
static const struct {
    moe_tensor_id made;
    const char *equation, *operand, *matrix;
} products[MOE_INT_PRODUCT_COUNT] = {
    {MOE_T_H, "H = x W1^T", "X", "W1"},
    {MOE_T_Y, "Y = A W2^T", "A", "W2"},
    {MOE_T_DH, "dA = dO W2", "dO", "W2"},
    {MOE_T_DXP, "dX~ = dH W1", "dH", "W1"},
};

/* Is it one that the first wrong tensor is made of? What backward makes is none of O's. */
static bool concerns(const moe_int_scene *s, int64_t product) {
    const moe_tensor_id first = s->evidence->first;
    const bool forward = product < MOE_INT_PRODUCT_DA;
    if (first == MOE_INT_CHOICE || sees(s, products[product].made))
        return false;
    return moe_tensor_is_backward(first) ? s->dO != NULL : forward;
}

bool moe_int_change_unseen_order(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    const int64_t product = trial / MOE_INT_TERM_ORDERS_ALONE;
    if (product >= MOE_INT_PRODUCT_COUNT)
        return false;
    const moe_int_term_order *order = &moe_int_term_orders[trial % MOE_INT_TERM_ORDERS_ALONE];
    if (!concerns(s, product))
        return true; /* no change, which explains nothing */
    c->edit = (moe_int_factor_edit){.product = (moe_int_product)product, .order = order};
    moe_int_finding_say(f, ": of %s in %s, %s", products[product].matrix,
                        products[product].equation, order->words);
    return true;
}

/* Every second block of a sum's terms is left out, or there twice. */
bool moe_int_change_unseen_blocks(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    static const int64_t blocks[] = {16, 32, 64, 128, 8, 4, 2, 1};
    enum { BLOCKS = sizeof blocks / sizeof *blocks, WAYS = 4 * BLOCKS };
    const int64_t product = trial / WAYS, way = trial % 4;
    if (product >= MOE_INT_PRODUCT_COUNT)
        return false;
    if (!concerns(s, product))
        return true;
    c->edit = (moe_int_factor_edit){.product = (moe_int_product)product,
                                    .block = blocks[trial % WAYS / 4],
                                    .from_block = way % 2,
                                    .times = way / 2 ? 2 : 0};
    moe_int_finding_say(f, ": in %s %s blocks of %lld terms are %s", products[product].equation,
                        way % 2 ? "odd" : "even", (long long)c->edit.block,
                        way / 2 ? "there twice" : "left out");
    moe_int_finding_param(f, "block", (double)c->edit.block);
    return true;
}

/* Types by the bits of their significands: e5m2 and e2m1 2 and 3, e4m3 4, bf16 8, fp16 11. */
static const int widths[] = {8, 4, 3, 2, 5, 6, 7, 11, 10, 9};
enum { WIDTHS = sizeof widths / sizeof *widths };

bool moe_int_change_unseen_factor_bits(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                       moe_int_finding *f) {
    const int64_t product = trial / 2 / WIDTHS;
    const bool matrix = trial / WIDTHS % 2;
    if (product >= MOE_INT_PRODUCT_COUNT || !moe_int_is_small(s))
        return false;
    if (!concerns(s, product))
        return true;
    c->edit = (moe_int_factor_edit){
        .product = (moe_int_product)product, .bits = widths[trial % WIDTHS], .of_matrix = matrix};
    moe_int_finding_say(f, ": %s in %s, to %d bits",
                        matrix ? products[product].matrix : products[product].operand,
                        products[product].equation, c->edit.bits);
    moe_int_finding_param(f, "bits", c->edit.bits);
    return true;
}

bool moe_int_change_unseen_act_bits(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    static const char *const parts[MOE_INT_PART_COUNT] = {
        "its value", "phi(g), before the up multiplies", "its sigmoid (of gelu its distribution)",
        "the tanh that its sigmoid is made of"};
    if (trial / WIDTHS >= MOE_INT_PART_COUNT || sees(s, MOE_T_A) || !moe_int_is_small(s) ||
        s->evidence->first == MOE_INT_CHOICE)
        return false;
    c->act_part = (moe_int_act_part)(trial / WIDTHS);
    c->act_bits = widths[trial % WIDTHS];
    moe_int_finding_say(f, ": %s, to %d bits", parts[c->act_part], c->act_bits);
    moe_int_finding_param(f, "bits", c->act_bits);
    return true;
}

bool moe_int_change_unseen_swapped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    static const moe_int_unit_part parts[] = {
        {0, 1, 2, "the upper half of the units"},
        {0, 0, 1, "the lower half of the units"},
        {2, 1, 2, "odd units"},
        {2, 0, 1, "even units"},
        {8, 4, 8, "odd blocks of 4 units"},
        {16, 8, 16, "odd blocks of 8 units"},
        {32, 16, 32, "odd blocks of 16 units"},
        {64, 32, 64, "odd blocks of 32 units"},
        {128, 64, 128, "odd blocks of 64 units"},
        {256, 128, 256, "odd blocks of 128 units"},
    };
    if (trial >= (int64_t)(sizeof parts / sizeof *parts) || sees(s, MOE_T_A) ||
        !moe_int_scene_is_gated(s) || s->evidence->first == MOE_INT_CHOICE)
        return false;
    c->swapped = &parts[trial];
    moe_int_finding_say(f, ": in %s", c->swapped->words);
    return true;
}

/* By a few columns, or as if the gates before the ups were padded. */
bool moe_int_change_unseen_late(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    static const int64_t steps[] = {1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32};
    static const int64_t pads[] = {8, 16, 32, 64, 128, 256};
    enum { STEPS = sizeof steps / sizeof *steps, PADS = sizeof pads / sizeof *pads };
    const int64_t n = moe_int_layer_of(s)->n, pad = trial - 2 * (int64_t)STEPS;
    if (pad >= PADS || sees(s, MOE_T_A) || s->evidence->first == MOE_INT_CHOICE ||
        !moe_int_scene_is_gated(s))
        return false;
    if (pad >= 0) {
        c->up_late = (n + pads[pad] - 1) / pads[pad] * pads[pad] - n;
        moe_int_finding_say(f, ": ups %lld late, as behind gates padded to whole %lld",
                            (long long)c->up_late, (long long)pads[pad]);
    } else {
        *(trial % 2 ? &c->gate_late : &c->up_late) = steps[trial / 2];
        moe_int_finding_say(f, ": %s %lld late", trial % 2 ? "gates" : "ups",
                            (long long)steps[trial / 2]);
    }
    moe_int_finding_param(f, "columns", (double)(c->gate_late + c->up_late));
    return true;
}

/* Rows of tiles in another order, of all pairs and of each expert's. */
bool moe_int_change_unseen_rows(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    static const int64_t tiles[] = {64, 128, 32, 16};
    enum { TILES = sizeof tiles / sizeof *tiles };
    const int64_t which = trial / MOE_INT_TERM_ORDERS_ALONE;
    if (which >= 2 * (int64_t)TILES || sees(s, MOE_T_H) || s->evidence->first == MOE_INT_CHOICE)
        return false;
    const moe_int_term_order *order = &moe_int_term_orders[trial % MOE_INT_TERM_ORDERS_ALONE];
    if (order->size >= tiles[which / 2] || -order->size >= tiles[which / 2])
        return true;
    c->row_order = order;
    c->row_tile = tiles[which / 2];
    c->rows_of_expert = which % 2;
    moe_int_finding_say(f, ": in tiles of %lld rows of %s, row k for a term, %s",
                        (long long)c->row_tile, c->rows_of_expert ? "an expert" : "all pairs",
                        order->words);
    moe_int_finding_param(f, "tile", (double)c->row_tile);
    return true;
}

/* An expert's rows from a number on: a capacity that is none of the layer's, or a count that is cut
 * to some bits. */
bool moe_int_change_unseen_room(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    static const double shares[] = {1.25, 1, 1.5, 2, 1.1, 1.2, 0.5};
    enum { SHARES = sizeof shares / sizeof *shares, POWERS = 10, FORMS = 2 * SHARES + 2 * POWERS };
    const moe_plan *plan = s->evidence->routing->plan;
    const double mean = (double)plan->n_pairs / (double)plan->n_experts;
    if (trial >= FORMS || sees(s, MOE_T_Y) || s->evidence->first == MOE_INT_CHOICE)
        return false;
    const int64_t power = trial - 2 * (int64_t)SHARES;
    const int64_t size = (int64_t)4096 >> (power > 0 ? power / 2 : 0); /* the largest that fits */
    if (power >= 0 && power % 2) {
        c->wrap = size;
        moe_int_finding_say(f, ": those from their number mod %lld on", (long long)size);
        moe_int_finding_param(f, "modulus", (double)size);
        return true;
    }
    const double share = power < 0 ? shares[trial / 2] * mean : (double)size;
    c->room = (int64_t)share + (power < 0 && trial % 2);
    moe_int_finding_say(f, ": those from number %lld on, as over a capacity", (long long)c->room);
    if (power < 0)
        moe_int_finding_say(f, " of %g times the mean", shares[trial / 2]);
    moe_int_finding_param(f, "room", (double)c->room);
    return true;
}
