/* What a wrong kernel does differently. A hypothesis sets a few of these fields; without any the
 * layer is the right one. */
#ifndef MOE_CHECK_EXPLAIN_CHANGE_H
#define MOE_CHECK_EXPLAIN_CHANGE_H

#include "check/explain/orders.h"
#include "check/explain/token_rules.h"
#include "moeref/plan.h"

#include <stdbool.h>

/* Formulas of the activation that no layer description can express. */
typedef enum moe_int_act_fault {
    MOE_INT_ACT_RIGHT,
    MOE_INT_ACT_CLAMP_AFTER,   /* g sigmoid(alpha g) is clamped instead of g */
    MOE_INT_ACT_GATE_FREE,     /* the gate is not clamped, the up is */
    MOE_INT_ACT_GATE_BELOW,    /* the gate is clamped on both sides */
    MOE_INT_ACT_UP_FREE,       /* the up is not clamped, the gate is */
    MOE_INT_ACT_UP_ABOVE,      /* the up is clamped from above alone */
    MOE_INT_ACT_CLAMP_SLOPE,   /* gradients pass through the clamp */
    MOE_INT_ACT_EDGE_OUTSIDE,  /* and do not at the limit itself */
    MOE_INT_ACT_NO_ONE,        /* (up + 1) is up */
    MOE_INT_ACT_TANH,          /* gelu by tanh */
    MOE_INT_ACT_SIGMOID,       /* gelu by x sigmoid(1.702 x) */
    MOE_INT_ACT_IDENTITY,      /* phi(g) = g */
    MOE_INT_ACT_LEAKY,         /* relu leaks 0.01 g */
    MOE_INT_ACT_NO_UP,         /* the gate's factor alone */
    MOE_INT_ACT_UP_SLOPE,      /* d_up of g, not of phi(g) */
    MOE_INT_ACT_SLOPE_ONE,     /* phi' = 1 */
    MOE_INT_ACT_SLOPE_RATIO,   /* phi' = phi(g) / g: silu' without g s (1 - s) */
    MOE_INT_ACT_SLOPE_SIGMOID, /* silu' = s (1 - s) */
    MOE_INT_ACT_SLOPE_SIGN     /* silu' = s - g s (1 - s) */
} moe_int_act_fault;

/* An activation by two of a table's numbers (functions.c), that none of the layers' need be. */
typedef struct moe_int_formula {
    const struct moe_int_phi *phi;
    const struct moe_int_form *form; /* NULL: the layer's own activation */
} moe_int_formula;

/* Whose element of b1 a column of H takes. */
typedef enum moe_int_b1_order {
    MOE_INT_B1_RIGHT,
    MOE_INT_B1_SWAPPED,     /* the gate takes the up's, and back */
    MOE_INT_B1_OF_GATE,     /* both take the gate's */
    MOE_INT_B1_OF_UP,       /* both take the up's */
    MOE_INT_B1_INTERLEAVED, /* as if it lay interleaved, and H in halves */
    MOE_INT_B1_APART,       /* the other way about */
    MOE_INT_B1_ORDERS
} moe_int_b1_order;

/* In which order H's columns take W1's rows. */
typedef enum moe_int_row_order {
    MOE_INT_ROWS_RIGHT,
    MOE_INT_ROWS_SWAPPED,     /* gate's where up's should be, and back */
    MOE_INT_ROWS_INTERLEAVED, /* column c takes the row of the interleaved layout's c */
    MOE_INT_ROWS_APART        /* the other way about */
} moe_int_row_order;

/* Which element of a product's sum is left out: the last ones of ... */
typedef enum moe_int_product {
    MOE_INT_PRODUCT_H,  /* d in H = x W1^T */
    MOE_INT_PRODUCT_Y,  /* n in Y = A W2^T */
    MOE_INT_PRODUCT_DA, /* d in dA' = dO W2 */
    MOE_INT_PRODUCT_DX, /* H's columns in dX~ = dH W1 */
    MOE_INT_PRODUCT_COUNT
} moe_int_product;

/* What happens to the factors of one product on their way in. */
typedef struct moe_int_factor_edit {
    moe_int_product product;
    const moe_int_term_order *order; /* in which its terms meet the matrix's; NULL: the right one */
    int bits;                        /* that the operand or the matrix is rounded to; 0: not */
    bool of_matrix;
    /* Terms of every second block of so many count `times` times, from the first or the second
     * block on; 0: all count once. */
    int64_t block, from_block;
    double times;
} moe_int_factor_edit;

/* What of the activation is rounded, or approximated so coarsely. */
typedef enum moe_int_act_part {
    MOE_INT_PART_A,       /* phi(g) u */
    MOE_INT_PART_PHI,     /* phi(g) */
    MOE_INT_PART_SIGMOID, /* s in phi(g) = g s, gelu's normal distribution likewise */
    MOE_INT_PART_TANH,    /* t in s = (1 + t) / 2 */
    MOE_INT_PART_COUNT
} moe_int_act_part;

/* Units first .. end-1 of every `every` ones in a row. */
typedef struct moe_int_unit_part {
    int64_t every, first, end;
    const char *words;
} moe_int_unit_part;

/* Terms and factors left out, or put in where they do not belong. */
enum {
    MOE_INT_NO_SHARED = 1 << 0,      /* of O and dX */
    MOE_INT_NO_SHARED_GATE = 1 << 1, /* the gate is 1 */
    MOE_INT_NO_B1 = 1 << 2,
    MOE_INT_NO_B2 = 1 << 3,
    MOE_INT_NO_DX_ROUTER = 1 << 4,
    MOE_INT_NO_DX_SHARED = 1 << 5,
    MOE_INT_NO_DX_GATE = 1 << 6,
    MOE_INT_NO_DW2_WEIGHT = 1 << 7,
    MOE_INT_NO_DH_WEIGHT = 1 << 8,
    MOE_INT_NO_DB2_WEIGHT = 1 << 9,
    MOE_INT_DS_WEIGHTED = 1 << 10,   /* dS = <s dA', A> */
    MOE_INT_NO_DS_B2 = 1 << 11,      /* dS without <dO, b2> */
    MOE_INT_NORM_CONSTANT = 1 << 12, /* dS passes by the renormalisation's sum as by a constant */
    MOE_INT_ON_INPUT = 1 << 13,      /* weights multiply the expert's input */
    MOE_INT_ON_OUTPUT = 1 << 14,     /* weights multiply the expert's output */
    MOE_INT_DW1_UNWEIGHTED_X = 1 << 15, /* dW1 = dH^T x, the weight being on the input */
    MOE_INT_DX_SCALE_OTHER = 1 << 16,   /* dX adds dX~ weighted where it should not be, or not */
    MOE_INT_DW2_WEIGHT_TWICE = 1 << 17,
    MOE_INT_DH_WEIGHT_TWICE = 1 << 18,
    MOE_INT_B2_UNWEIGHTED = 1 << 19, /* O += w (Y - b2) + b2 */
    MOE_INT_NO_ZERO = 1 << 20,       /* zero experts add nothing */
    MOE_INT_ZERO_UNWEIGHTED = 1 << 21,
    MOE_INT_GATE_LINEAR = 1 << 22, /* the shared gate's logit for its sigmoid */
    MOE_INT_GATE_SLOPE = 1 << 23,  /* its slope without (1 - g) */
    MOE_INT_SHARED_INTERLEAVED = 1 << 24,
    MOE_INT_DROP_FIRST = 1 << 25, /* `drop` is of the first elements, not of the last */
    MOE_INT_NO_B1_GATE = 1 << 26, /* b1 on the ups alone */
    MOE_INT_NO_B1_UP = 1 << 27,   /* and on the gates alone */
    MOE_INT_DS_SLOPE = 1 << 28,   /* dS = <dA', act'> */
    MOE_INT_DX_ROUTER_TWICE = 1 << 29
};

/* What a number is rounded to on its way into a product. TF32 keeps 10 bits of a float's fraction;
 * hardware that is handed floats cuts off the rest, conversions round to the nearest. */
typedef enum moe_int_narrowing {
    MOE_INT_NARROW_NOT,
    MOE_INT_NARROW_BF16,
    MOE_INT_NARROW_F16,
    MOE_INT_NARROW_TF32,
    MOE_INT_NARROW_TF32_CUT,
    MOE_INT_NARROW_COUNT
} moe_int_narrowing;

/* Sums that may be kept in a narrow type between blocks of their terms. */
enum {
    MOE_INT_SUM_H = 1 << 0,
    MOE_INT_SUM_Y = 1 << 1,
    MOE_INT_SUM_DA = 1 << 2,
    MOE_INT_SUM_DXP = 1 << 3,
    MOE_INT_SUM_DW = 1 << 4, /* dW1 and dW2 */
    MOE_INT_SUM_O = 1 << 5,  /* over a token's experts */
    MOE_INT_SUM_DX = 1 << 6
};

/* A score's slope in the backward pass. */
typedef enum moe_int_slope_fault {
    MOE_INT_SLOPE_RIGHT,
    MOE_INT_SLOPE_NONE,     /* dz = d weight */
    MOE_INT_SLOPE_VALUE,    /* sigmoid' = s */
    MOE_INT_SLOPE_DIAGONAL, /* softmax' = s (1 - s) of the chosen alone */
    MOE_INT_SLOPE_CHOSEN    /* logits not chosen get no gradient */
} moe_int_slope_fault;

/* i, which may lie any way below 0 or beyond n, in a ring of n. */
static inline int64_t moe_int_around(int64_t i, int64_t n) {
    return (i % n + n) % n;
}

typedef struct moe_int_change {
    moe_layer_desc desc;  /* as the kernel read it */
    moe_layer_desc back;  /* and the router's backward pass */
    moe_plan *plan;       /* its choice and combine weights, owned */
    bool rerouted;        /* the choice is the changed router's own */
    const double *logits; /* [T][R]; NULL: the plan is given */
    double *own_logits;   /* owned: those, where they are not the right ones */
    double *used; /* [pairs of plan] weights that the experts use, owned; NULL: the plan's */
    moe_int_act_fault act;
    moe_int_formula formula;          /* the activation, where it is another one altogether */
    bool act_swapped;                 /* the activation takes up for gate, and back */
    const moe_int_unit_part *swapped; /* the same, in these units alone; NULL: in none */
    int64_t gate_late, up_late;       /* gate and up are read so many columns of H further on */
    moe_int_act_part act_part;        /* is rounded to act_bits; 0: none is */
    int act_bits;
    moe_int_factor_edit edit; /* without order and bits: none */
    moe_int_row_order rows1;
    int32_t *owner1, *owner2; /* [E] whose W1 (W2) expert e has, owned; NULL: its own */
    int64_t half_owner;       /* expert e's gate (up) rows of W1 are those of expert e + this */
    bool half_of_up;
    int64_t stride1, stride2; /* elements from expert to expert in W1 (W2); 0: as many as it has */
    bool transposed1, transposed2;
    int64_t drop[MOE_INT_PRODUCT_COUNT]; /* elements left out */
    int64_t period; /* A's column j of an odd tile of `period` is that of the tile before; with
                       `from_start` it is column j mod period */
    bool from_start;
    moe_int_narrowing operand; /* factors of all products are rounded to it */
    unsigned sums;             /* of MOE_INT_SUM_H ... that are rounded to sum_type */
    moe_dtype sum_type;        /* after every sum_block terms */
    int64_t sum_block;
    bool by_rank;      /* a token's experts are added up by weight, not by number */
    moe_dtype store;   /* stages and results are rounded to it, as the kernel's own; MOE_F64: not */
    moe_dtype dz_type; /* and the logits' gradients to this */
    unsigned terms;    /* of the enum above */
    bool of_shared;    /* those about a gradient's weight are of the shared expert's gate */
    double shared_factor;
    moe_int_slope_fault slope;
    int64_t tokens_dropped; /* last ones, left out of dW_r */
    unsigned biases;        /* which the next two are about: 1 b1, 2 b2, 3 both */
    int64_t bias_shift;     /* expert e has the biases of expert e + this */
    double bias_factor;
    moe_int_b1_order b1_order;
    int64_t gather_X, gather_dO; /* a row's token is t + this (mod T) */
    int64_t gather_mod;          /* ... of X: t mod this; 0: t */
    int64_t gather_late;         /* X is read from so many elements further on */
    int64_t gather_wrap;         /* X is read from the first element's index mod this; 0: that */
    /* An expert's rows after its last whole tile of this (1: its last row) are of the tokens that
     * the next expert has at the same place (its first); of all experts, or of one. */
    int64_t beyond, beyond_expert;
    /* Rows of every tile of row_tile, of all pairs or of each expert's, are of others' tokens. */
    const moe_int_term_order *row_order; /* NULL: their own */
    int64_t row_tile;
    bool rows_of_expert;
    const moe_int_token_rule *token_rule; /* X is gathered by it; NULL: it is not */
    int64_t early; /* an expert's last tile of this begins early enough to be whole */
    /* Pairs that are not added: those of this expert (-1: none), each expert's last rows mod
     * `tail`, its first, its last row, those from `room` on, from the rows' number mod `wrap` on.
     */
    int64_t skip_expert, tail, room, wrap;
    bool skip_first, skip_last;
    unsigned skip_dw; /* 1: ... from dW1's sum, 2: from dW2's; and from nothing else */
} moe_int_change;

/* Is row `position` of the `rows` of expert e added? */
static inline bool moe_int_change_adds(const moe_int_change *c, int64_t e, int64_t position,
                                       int64_t rows) {
    return e != c->skip_expert && !(c->tail && position >= rows - rows % c->tail) &&
           !(c->skip_first && position == 0) && !(c->skip_last && position == rows - 1) &&
           !(c->room && position >= c->room) && !(c->wrap && position >= rows % c->wrap);
}

/* Does unit j of n take up for gate there? */
static inline bool moe_int_change_swaps(const moe_int_change *c, int64_t j, int64_t n) {
    const moe_int_unit_part *p = c->swapped;
    const int64_t at = p ? (p->every ? j % p->every : 2 * j / n) : 0;
    return p && at >= p->first && at < p->end;
}

/* The first element of X [T][d] that is read for a row of token t. */
static inline int64_t moe_int_gather_start(const moe_int_change *c, int64_t t, int64_t T,
                                           int64_t d) {
    int64_t of = moe_int_around(t + c->gather_X, T), at;
    of = c->gather_mod > 0 ? of % c->gather_mod : of;
    at = of * d + c->gather_late;
    at = c->gather_wrap > 0 ? at % c->gather_wrap : at;
    return at < 0 || at + d > T * d ? of * d : at;
}

/* What a report calls a score. */
extern const char *const moe_int_score_words[MOE_SCORE_COUNT];

#endif
