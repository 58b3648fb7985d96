/* Where the layer is run again: a few tokens for the results of rows, a few hidden units of a few
 * experts for the gradients of weights. Worst ones and others. */
#ifndef MOE_CHECK_EXPLAIN_SCENE_H
#define MOE_CHECK_EXPLAIN_SCENE_H

#include "check/explain/change.h"
#include "check/explain/evidence.h"
#include "core/elements.h"

enum { MOE_INT_SCENE_UNITS = 12, MOE_INT_SCENE_TOKENS = 16 };

/* Which elements of a whole tensor the scene has: groups of `width`, `stride` apart. */
typedef struct moe_int_spot {
    int64_t groups, width, stride;
    int64_t *base; /* [groups], owned */
} moe_int_spot;

typedef struct moe_int_slice {
    int64_t e, unit; /* hidden unit of expert e */
} moe_int_slice;

typedef struct moe_int_scene {
    const moe_int_evidence *evidence;
    int64_t *tokens, n_tokens; /* ascending, owned */
    moe_int_slice slice[MOE_INT_SCENE_UNITS];
    int64_t n_slices;
    int64_t expert[MOE_INT_SCENE_UNITS], n_experts; /* those of the slices, each once */
    moe_plan *sub; /* of the tokens, in the routing in force; owned */
    moe_int_spot spot[MOE_T_COUNT];
    double *X, *dO; /* [n_tokens][d], owned; dO NULL: forward only */
    /* NMSE of the first wrong tensor here; `stored_error` as against the right layer with stages
     * rounded as stored, NaN: not known yet. Those of the whole scene in its probe too. */
    double error, stored_error;
    double r2;  /* sum of the first wrong tensor's squares; in the probe too the whole scene's */
    bool probe; /* nothing is asked of it but that tensor */
} moe_int_scene;

static inline const moe_layer_desc *moe_int_layer_of(const moe_int_scene *s) {
    return &s->evidence->problem->layer;
}

static inline bool moe_int_scene_is_gated(const moe_int_scene *s) {
    return moe_act_is_gated(moe_int_layer_of(s)->act);
}

/* MOE_E_NOMEM; *ret is to be freed in any case. */
moe_status moe_int_scene_make(const moe_int_evidence *e, moe_int_scene *ret);
void moe_int_scene_destroy(moe_int_scene *s);

/* probe.c: the one token, hidden unit or expert of the scene at which the first wrong tensor is
 * farthest from `right`, its truth there. What a change leaves at the probe it leaves at the whole
 * scene at least, so most changes are refuted by a small part of the work. MOE_E_NOMEM; *ret is to
 * be freed in any case. */
moe_status moe_int_scene_probe(const moe_int_scene *s, const double *right, moe_int_scene *ret);
/* Where tokens, slices and experts are chosen: the rest. MOE_E_NOMEM. */
moe_status moe_int_scene_settle(moe_int_scene *s);

/* Rows of experts with their stages: the routed pairs', or the shared expert's. */
typedef struct moe_int_stage_rows {
    int64_t rows, d, n, hw;
    double *x, *dy;      /* [rows][d] the token's X and dO */
    double *xW1, *AW2;   /* H and Y before the input's weight and the bias */
    double *H, *A, *Y;   /* [rows][hw], [rows][n], [rows][d] */
    double *dA;          /* dO W2, [rows][n] */
    double *dH, *dXp;    /* as H, x */
    double *dS, *weight; /* [rows] */
    double *block;
} moe_int_stage_rows;

/* gather.c: the token that is gathered for row `at` of expert e, which is token t's. */
int64_t moe_int_gathered_token(const moe_int_change *c, int64_t e, int64_t at, int64_t t);

/* A run of the layer on the scene. */
typedef struct moe_int_variant {
    moe_int_stage_rows routed, shared;
    double *value[MOE_T_COUNT]; /* [spot.groups * spot.width], NULL where it is not made */
    bool refuted; /* the first wrong tensor is not explained: what it does not need is not made */
    bool partial; /* it explains wrong rows of the first wrong tensor; the others are right */
    bool same_choice;                  /* pairs are those of the routing in force */
    double *dots[MOE_INT_SCENE_UNITS]; /* slices.c: [rows][3] gate, up and dA' of a hidden unit */
} moe_int_variant;

/* Runs the changed layer; `base` is the right one's run, whose stages are taken over where nothing
 * before them changed, or NULL. *ret is to be freed in any case. */
moe_status moe_int_variant_make(const moe_int_scene *s, const moe_int_change *change,
                                const moe_int_variant *base, moe_int_variant *ret);
void moe_int_variant_destroy(moe_int_variant *r);

/* sum (got - value)^2 / sum base^2 over tensor `id` at the scene; negative: it has none. Elements
 * that are no numbers in `value` must be none in got. */
double moe_int_scene_residual(const moe_int_scene *s, moe_tensor_id id, const double *value,
                              const double *base);
/* The two sums of groups first .. end-1. */
typedef struct moe_int_squares {
    double d2, r2;
} moe_int_squares;
moe_int_squares moe_int_scene_squares(const moe_int_scene *s, moe_tensor_id id, int64_t first,
                                      int64_t end, const double *value, const double *base);

/* The same where each row is either changed or right, whichever is nearer: a kernel that is wrong
 * for some rows alone. Negative: it has none, or too short ones to tell. */
double moe_int_scene_mixed(const moe_int_scene *s, moe_tensor_id id, const double *value,
                           const double *base);
/* Its sum of squares alone; infinite: as negative there. */
double moe_int_scene_mixed_squares(const moe_int_scene *s, moe_tensor_id id, const double *value,
                                   const double *base);
/* Says which rows are changed then. */
void moe_int_scene_say_mixed(const moe_int_scene *s, moe_tensor_id id, const double *value,
                             const double *base, moe_int_finding *f);

/* A factor of a product as the changed kernel reads it. */
typedef struct moe_int_matrix {
    const moe_tensor *t;
    int64_t first, rows, cols; /* element [r][c] is at first + r * cols + c */
    bool transposed;           /* ... at first + c * rows + r */
    int64_t drop_rows, drop_cols;
    bool drop_first;
    moe_int_row_order order;
    bool interleaved;  /* its rows are, by the layer's description */
    int64_t elsewhere; /* elements further on that the gate's (up's) rows are read from */
    bool of_up;
    moe_int_narrowing operand;
    const moe_int_factor_edit *edit; /* NULL: none */
    bool right;                      /* none of that applies, and the expert is the right one */
} moe_int_matrix;

void moe_int_matrix_row(const moe_int_matrix *m, int64_t r, double *ret);
void moe_int_matrix_column(const moe_int_matrix *m, int64_t c, double *ret);
/* W1 (or the shared expert's, e < 0) as the product has it, MOE_INT_PRODUCT_H or _DX. */
moe_int_matrix moe_int_matrix_w1(const moe_int_scene *s, const moe_int_change *c, int64_t e,
                                 moe_int_product product);
/* W2, MOE_INT_PRODUCT_Y or _DA. */
moe_int_matrix moe_int_matrix_w2(const moe_int_scene *s, const moe_int_change *c, int64_t e,
                                 moe_int_product product);
/* edits.c: rounds to so many bits, those of the significand; 0: to all. */
double moe_int_to_bits(int bits, double v);
/* The element of b1 that column i of H takes, of a gated expert of n units. */
int64_t moe_int_b1_column(const moe_int_change *c, int64_t n, int64_t i);
/* A row of `width` of the operand as the edited product has it; `room` [width]. */
void moe_int_edit_row(const moe_int_factor_edit *edit, int64_t width, double *row, double *room);
/* Rounds to what goes into a product. */
void moe_int_narrow(moe_int_narrowing narrow, double *v, int64_t count);
/* Rounds to what the changed kernel keeps stages in. */
void moe_int_change_store(const moe_int_change *c, double *v, int64_t count);
/* A narrow sum (MOE_INT_SUM_...) after term number `term`: rounded where a block ends there. */
void moe_int_sum_stored(const moe_int_change *c, unsigned sum, int64_t term, double *v,
                        int64_t count);

/* a, and its derivatives by gate (or the only pre-activation) and up, of one hidden unit. */
void moe_int_changed_act(const moe_int_change *c, const double h[2], double *a, double slope[2]);

/* stages.c: an expert's rows first .. first+count-1, from x, dy and weight to the rest. */
typedef struct moe_int_expert_run {
    const moe_int_scene *scene;
    const moe_int_change *change;
    int64_t e; /* -1: the shared expert */
    moe_int_stage_rows *rows;
    const moe_int_stage_rows *base; /* or NULL */
    int64_t first, count;
} moe_int_expert_run;
moe_status moe_int_stage_rows_alloc(int64_t rows, int64_t d, int64_t n, int64_t hw,
                                    moe_int_stage_rows *ret);
/* Up to Y, and from there back. MOE_E_NOMEM. */
moe_status moe_int_expert_forward(const moe_int_expert_run *k);
moe_status moe_int_expert_backward(const moe_int_expert_run *k);

/* router.c: dW_r and db_r of the scene's experts, from the subject's own dS of all pairs. */
moe_status moe_int_router_slices_make(const moe_int_scene *s, const moe_int_change *change,
                                      moe_int_variant *ret);
/* slices.c: dW1, db1, dW2, db2 of the scene's hidden units. */
moe_status moe_int_slices_make(const moe_int_scene *s, const moe_int_change *change,
                               const moe_int_variant *base, moe_int_variant *ret);
/* router.c: the logits' gradient of a plan's tokens, dz [tokens][R], from dS of the plan's pairs.
 */
moe_status moe_int_changed_dz(const moe_int_change *change, const double *logits,
                              const moe_plan *plan, const double *dS, double *ret);

#endif
