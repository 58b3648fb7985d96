/* The error model: the variance of the error that a correct kernel of a given arithmetic makes, for
 * every element of every result, by linear propagation through the layer.
 *
 * All variances are in units of u^2/3, u the roundoff of the arithmetic: storing v adds v^2
 * (uniform in +-u|v|). Where the sums themselves are in that arithmetic (fp32, fp64), partial sum
 * s_i of terms p_j added in order rounds with s_i^2, and E[s_i^2] = sum_{j<=i} p_j^2 for random
 * signs, hence
 *
 *     sum over L terms adds  sum_j (L - j) p_j^2  ~  (L/2) sum p^2.
 *
 * bf16 and fp16 kernels add in fp32, whose roundings are small beside the stored ones. Their tensor
 * cores add 16 products (older ones 8) at a time and cut off what lies below the sum's last bit,
 * always towards 0: over many steps that is more than fp32's roundings. Sums of random signs that
 * end near 0, where nothing else hides it, were off by 0.3 * 2^-25 sqrt(sum p^2) a step in chains
 * of 256 to 2048, hence, with 8 at a time,
 *
 *     (0.35 * 2^-25 L / 8)^2 sum p^2  ~  2^-59 L^2 sum p^2     beside them.
 *
 * A sum that does not end near 0 drifts there: it passes k/L of itself on the way, of which a step
 * cuts off half a last place, some 0.72 * 2^-24, hence 0.72 * 2^-25 L / 8 of it. Terms of one sign
 * are each cut the same way, too: their sum was seen to drift by five times that (sm_80, L = 4096).
 * With S the sum, and S^2 <= L sum p^2,
 *
 *     2^-59 L^2 (2 S (1 + 4 |S| / sqrt(L sum p^2)))^2          beside both.
 *
 * Storing S in 16 bits hides that; it is foreseen where S stays in fp32, as logits do.
 *
 * For sums over independent operands, sum (x_i w_i)^2 is taken as |x|^2 |w|^2 / L. What is stored
 * on the way is a recipe's choice (recipe.h); a blocked sum or a kernel that keeps a stage in
 * registers errs less. With V the propagated variance,
 *
 *     z = d / sqrt(u^2/3 (ref^2 + V)),     expected sum of d^2 over a group = u^2/3 sum (ref^2 +
 * V). */
#ifndef MOE_CHECK_ERRORS_H
#define MOE_CHECK_ERRORS_H

#include "check/errors/rows.h"
#include "core/elements.h"
#include "core/memory.h"
#include "moeref/reference.h"

/* How an arithmetic errs. */
typedef struct moe_int_rounding {
    moe_dtype arithmetic;
    double u2;       /* u^2 / 3, the unit */
    double least2;   /* square of the smallest normal number: below it spacing is fixed */
    double sum;      /* L terms add sum * L * (sum of squares); of fp32 in bf16 and fp16 */
    double cut;      /* and cut * L^2 of it, on tensor cores */
    double eval;     /* evaluating the activation adds eval * value^2, over its storing */
    double flushed2; /* square of the least normal number of the type in which it is evaluated */
    double router;   /* eval of the router, which computes in fp32 or better */
    double result_u2, result_least2; /* u2 and least2 of the type that the result is stored in */
    uint32_t points;                 /* of the recipe: moe_point bits */
    bool exact_h;                    /* an H that the arithmetic holds does not err (exact.h) */
} moe_int_rounding;

/* Of this project's own recipe. */
moe_int_rounding moe_int_rounding_of(moe_dtype arithmetic);
/* Of a recipe's points; fp32 and fp64 have one recipe, whose every value is stored. */
moe_int_rounding moe_int_rounding_at(moe_dtype arithmetic, uint32_t points);

/* What adding L terms adds, over the sum of their squares times L: over |x|^2 |w|^2, where they are
 * products of independent operands. */
static inline double moe_int_added(const moe_int_rounding *r, double terms) {
    return r->sum + r->cut * terms;
}
/* The same over the sum of their squares. */
static inline double moe_int_adding(const moe_int_rounding *r, double terms) {
    return terms * moe_int_added(r, terms);
}
/* What adding adds to <x, w>, a sum of L terms that stays in fp32: `squares` is |x|^2 |w|^2. */
double moe_int_dot_errors(const moe_int_rounding *r, double terms, double squares, double sum);
/* What storing v adds, in units of u^2/3; an exact 0 is stored exactly. */
static inline double moe_int_stored(const moe_int_rounding *r, double v) {
    const double square = v * v, least = v == 0 ? 0 : r->least2;
    return square > least ? square : least;
}
/* Variance of a result v, V before it was stored; no longer in units of u^2/3. */
static inline double moe_int_result_variance(const moe_int_rounding *r, double v, double before) {
    double square = v * v, stored = square > r->result_least2 ? square : r->result_least2;
    return r->u2 * before + r->result_u2 * (v == 0 ? 0 : stored);
}
/* What a value that kernels evaluate adds below the normal numbers of the type in which they do:
 * there it may lose all of itself, to the fixed spacing or to a unit that takes 0 for it (GPUs with
 * -ftz). */
static inline double moe_int_flushed(const moe_int_rounding *r, double v) {
    const double square = v * v;
    return square < r->flushed2 * r->u2 ? square / r->u2 : 0;
}
/* The same over its square. */
static inline double moe_int_flushed_share(const moe_int_rounding *r, double v) {
    return moe_int_flushed(r, v) > 0 ? 1 / r->u2 : 0;
}
/* What storing v adds where the recipe stores it, else 0. */
double moe_int_stored_at(const moe_int_rounding *r, moe_point point, double v);
/* `times` where the recipe has the point, else 0. */
double moe_int_at(const moe_int_rounding *r, moe_point point, double times);
/* The same of scale * v[0..count-1] together, over their squares: 1, or more where some lie below
 * the normal numbers. */
double moe_int_stored_share(const moe_int_rounding *r, double scale, const double *v,
                            int64_t count);

/* One hidden unit of one row. Variances are those before storing, which adds the square of the
 * value. `parts` columns of H: gate (or the only one) and up. */
typedef struct moe_int_unit {
    int parts;
    double h[2], vh[2];   /* pre-activation */
    double vscale;        /* of vh: relative variance of a weight on the input, which moves both
                             alike (b1 aside) */
    double da, vda;       /* gradient of a */
    double a, va;         /* activation, of the stored h */
    double dh[2], vdh[2]; /* gradient of h */
    double jump[2];       /* dh gains on the other side of a kink that rounding may carry h across;
                             0: there is none */
} moe_int_unit;

/* Does the layer's activation have a kink? */
bool moe_int_has_kinks(const moe_layer_desc *desc);
/* From h, vh, and (with `backward`) da, vda to the rest. */
void moe_int_unit_errors(const moe_layer_desc *desc, const moe_int_rounding *r, bool backward,
                         moe_int_unit *unit);

/* One expert's feed-forward over a group of rows, routed or shared, with the oracle's stages. All
 * float64; variances are those before storing. Without dy only vH, vA and vY are made. */
typedef struct moe_int_error_ffn {
    const moe_layer_desc *desc;
    const moe_int_rounding *rounding;
    int32_t layout; /* moe_glu_layout */
    int64_t n, hw, rows;
    int threads;
    bool on_input;
    const double *raw, *x;                   /* [rows][d] gathered, and as the expert sees it */
    const double *dy;                        /* [rows][d] gathered dO, or NULL */
    const double *weight, *vweight;          /* [rows]; vweight relative */
    const double *W1, *W2, *b2;              /* [hw][d], [d][n], [d] or NULL */
    const double *H, *A, *Y, *dH, *dXp;      /* stages, [rows][...] */
    double *vH, *vA, *vY, *vdS, *vdH, *vdXp; /* [rows][...] */
    double *vdW1, *vdb1, *vdW2, *vdb2;       /* as the parameters; NULL: not wanted */
    double *jump;                            /* [rows][hw] of the units */
    moe_int_room *squares;                   /* [2] for those of W1 and W2 */
} moe_int_error_ffn;

moe_status moe_int_ffn_errors(const moe_int_error_ffn *f);

/* Variances of all results of `oracle` (shaped as they are, float64, owned by *ret) and what rows
 * of its dX need beside them (owned too), and NaN into oracle->out where a kink of the activation
 * decides (not compared). */
moe_status moe_int_layer_errors(const moe_layer_desc *desc, const moe_tensors *in,
                                const moe_int_rounding *rounding, int threads,
                                moe_reference_result *oracle, moe_tensors *ret,
                                moe_int_rows *ret_rows);

/* A layer whose errors are being computed: layer.c drives, the others fill in parts. */
typedef struct moe_int_error_run {
    const moe_layer_desc *desc;
    const moe_tensors *in;
    moe_int_rounding rounding;
    int threads;
    moe_reference_result *oracle;
    moe_tensors *v;                      /* results */
    moe_int_rows *rows;                  /* results; NULL: only dz is asked for */
    int64_t T, pairs;                    /* pairs of real experts */
    double *X, *dO;                      /* [T][d]; dO NULL: forward only */
    double *xx;                          /* [T] squared norms of X */
    double *vweight;                     /* [all pairs] relative variance of combine weights */
    double *jump;                        /* [pairs][hw] of the units */
    moe_int_room weights[2], squares[2]; /* W1 and W2 of one expert after another */
} moe_int_error_run;

/* count elements of a weight from `first` on, in a room; NULL: no memory. */
static inline const double *moe_int_error_weight(const moe_tensor *t, int64_t first, int64_t count,
                                                 moe_int_room *room) {
    double *ret = moe_int_room_take(room, (size_t)count * sizeof *ret);
    if (ret)
        moe_int_load(t, first, count, ret);
    return ret;
}

/* router.c: [2][R] of a layer: |W_r[e]|^2, and what is added to the logits; the caller frees.
 * MOE_E_NOMEM. */
moe_status moe_int_router_norms(const moe_layer_desc *desc, const moe_tensors *in, double **ret);
/* Relative variance of the weight of pair p, from its token's logits z [R], |x|^2 and [2][R] as
 * above.
 */
double moe_int_weight_variance(const moe_layer_desc *desc, const moe_int_rounding *r,
                               const moe_plan *plan, int64_t p, const double *z, double xx,
                               const double *norms);
/* The same of all, and V of logits and topk_weight.
 * Needs xx, not X. */
moe_status moe_int_weight_errors(moe_int_error_run *k);
/* The logits' gradient dz [T][R], R = E + n_zero, from the oracle's dS, and its variance. Needs the
 * relative variances, and V of dS. */
moe_status moe_int_dz_errors(const moe_int_error_run *k, double *ret_dz, double *ret_vdz);
/* What passes back through the router: adds to dX; dW_r, db_r. Needs V of dS. */
moe_status moe_int_router_errors(const moe_int_error_run *k);
/* shared.c: adds the shared expert's part to O and dX; its parameters' gradients. */
moe_status moe_int_shared_errors(moe_int_error_run *k);
/* layer.c: adds a kink of a row, where the oracle has that result. */
moe_status moe_int_add_kink(const moe_int_error_run *k, const moe_int_kink *kink);
/* v[i] += scale^2 (v_stage[i] + storing of stage[i] + relative stage[i]^2) for i < d: one summand
 * of O or dX. */
void moe_int_add_stage(const moe_int_rounding *r, double *v, double scale, const double *v_stage,
                       const double *stage, double relative, int64_t d);
/* Adds to a row's errors (rows.h) that of one number of variance v, which multiplies `row` [d]. */
void moe_int_add_common(double *common, double v, const double *row, int64_t d);
/* Sets elements first .. first+count-1 of an oracle's result to NaN, if it has that result. */
void moe_int_blank(moe_tensor *t, int64_t first, int64_t count);

/* Squared norms: of a vector, of one row of a tensor, of all rows of a matrix (caller frees). */
double moe_int_norm2(const double *v, int64_t n);
double moe_int_row_square(const moe_tensor *t, int64_t row, int64_t width);
double *moe_int_row_squares(const double *m, int64_t rows, int64_t width);

#endif
