/* What causes between ranks are looked for in: tensors as doubles, and who has what. */
#ifndef MOE_CHECK_RANKS_SCENE_H
#define MOE_CHECK_RANKS_SCENE_H

#include "check/ranks/cause.h"

typedef struct moe_int_rank_scene {
    const moe_int_compared *is;
    const moe_problem *problem;
    const moe_ep_layout *layout;
    const moe_plan *plan;
    int64_t T, E, d, P; /* P: pairs of experts that are sent */
    int32_t R;
    int64_t *expert;     /* [P] */
    int32_t *home;       /* [T] rank of each token */
    int32_t *owner;      /* [E] rank of each expert; of parts: of its group's first */
    double *X;           /* [T][d] */
    double *dO;          /* [T][d]; NULL: no backward */
    double *Y, *dXp;     /* [P][d]; NULL: not to be had, as all that follow */
    double *A, *dH;      /* [P][n], [P][h] */
    double *dS;          /* [all pairs] */
    double *dz;          /* [T][E+n_zero]; NULL too: no router */
    double *got, *right; /* of the tensor at hand, [count] */
    moe_tensor_id id;
    int64_t count;
    double before; /* squared error of `got` over the square of `right` */
} moe_int_rank_scene;

/* scene.c. False: no memory, or a scene of another choice. */
bool moe_int_rank_scene_make(const moe_int_compared *c, moe_int_rank_scene *ret);
void moe_int_rank_scene_destroy(moe_int_rank_scene *s);
/* Takes up a tensor; false: it is absent, or not finite. */
bool moe_int_rank_scene_take(moe_int_rank_scene *s, moe_tensor_id id);
/* What a token's or pair's row adds with: its weight, or 1 where that is the other pass's. */
double moe_int_rank_weight(const moe_int_rank_scene *s, int64_t pair, bool backward);
/* Is a squared error, over the square of `right`, so small beside `before` that it is rounding? */
bool moe_int_rank_explains(const moe_int_rank_scene *s, double after);
/* Makes an explanation of the tensor at hand. */
void moe_int_rank_explain(const moe_int_rank_scene *s, const char *kind, double after,
                          moe_explanation *ret, const char *format, ...) MOE_PRINTF(5, 6);
/* What is in O and dX beside the pairs' parts, as they should be: the shared expert's, zero
 * experts' and the router's. [T][d], freed by the caller; NULL: no memory. */
double *moe_int_rank_rest(const moe_int_rank_scene *s);

/* Squared distance, over their square, of rows that are the same. */
double moe_int_rank_alike(const moe_int_rank_scene *s);
bool moe_int_rank_same_rows(const double *a, const double *b, int64_t n, double most);
/* Is a token's row of the tensor at hand wrong? */
bool moe_int_rank_is_wrong(const moe_int_rank_scene *s, int64_t token);
/* First token of a rank, and a token's number on its own. */
int64_t moe_int_rank_first(const moe_int_rank_scene *s, int32_t rank);
int64_t moe_int_rank_local(const moe_int_rank_scene *s, int64_t token);

/* sample.c: a scene of O with X and Y alone, of up to `most` wrong tokens, with its own plan; both
 * are destroyed by the caller either way. False: no memory, or nothing is wrong. */
bool moe_int_rank_sample(const moe_int_rank_scene *s, int64_t most, moe_int_rank_scene *ret,
                         moe_plan **plan);

/* shares.c: rows, or tokens of a rank, whose part in the tensor at hand is another than once. */
bool moe_int_rank_shares(const moe_int_rank_scene *s, moe_explanation *ret);
/* router.c: of dX and the router's gradient, whose dS does not reach the router. */
bool moe_int_rank_router_gradient(const moe_int_rank_scene *s, moe_explanation *ret);
/* added.c: of experts' gradients, that have another expert's beside their own. */
bool moe_int_rank_added_gradients(const moe_int_rank_scene *s, moe_explanation *ret);
/* place.c: on whose tokens, or experts, alone it is wrong. */
bool moe_int_rank_place(const moe_int_rank_scene *s, moe_explanation *ret);
/* cut.c: of experts in parts, W1 that is cut as if gates and ups were one matrix. */
bool moe_int_rank_cut_across(const moe_int_rank_scene *s, moe_explanation *ret);
/* shares.c: term += column row' of pair p: dO_t (s A)' of dW2, dH x_t' of dW1. */
void moe_int_rank_add_outer(const moe_int_rank_scene *s, int64_t p, double *term);
/* repeats.c: experts' gradients in which an end row counts otherwise than once, as padding that
 * repeats it makes it. */
bool moe_int_rank_repeated_rows(const moe_int_rank_scene *s, moe_explanation *ret);
/* moved.c: rows of O or dX that are other tokens'. */
bool moe_int_rank_rows_at_home(const moe_int_rank_scene *s, moe_explanation *ret);
/* columns.c: of O, that rows of X came from other ranks without their last columns. */
bool moe_int_rank_lost_columns(const moe_int_rank_scene *s, moe_explanation *ret);
/* scales.c: O of tokens in 8 bits that were read with other scales. */
bool moe_int_rank_other_scales(const moe_int_rank_scene *s, moe_explanation *ret);
/* others.c: rows of O that were made of another token, or by another expert; dS that were made with
 * another token's dO. */
bool moe_int_rank_made_of_others(const moe_int_rank_scene *s, moe_explanation *ret);
/* experts.c: the same of experts that have the weights of others; Y [E][T][d] is what each of them
 * makes of each token. */
bool moe_int_rank_other_experts(const moe_int_rank_scene *s, const double *Y, moe_explanation *ret);
bool moe_int_rank_gradients_of_others(const moe_int_rank_scene *s, moe_explanation *ret);

#endif
