/* Internal to src/check. How a verdict is reached:
 *
 *     run.c      runs a backend with guarded buffers (guard.c)   \  a subject: results and the
 *     outputs.c  reads a file that another program wrote         /  routing that they belong to
 *     routing.c  is that routing right, or inside the rounding margin (margin.c)?
 *     truth.c    the oracle for it in float64: everything, or a sample (sample.c, unit_sample.c,
 *                router_part.c), and the errors a correct kernel makes there (errors.h)
 *     judge.c    tensor by tensor through compare.c and gates.c, the inner stages after a failure;
 *                where.c says where an error is, dump.c keeps the evidence */
#ifndef MOE_CHECK_CHECK_INT_H
#define MOE_CHECK_CHECK_INT_H

#include "moeref/check.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* gates.c ------------------------------------------------------------------------------------- */

/* The narrowest rows that the gates were measured on. */
#define MOE_INT_GATE_WIDTH 768

/* A mean of n squared independent errors scatters around its expectation as chi^2_n / n; this is
 * that variable's 1 - 1e-5 quantile: 1.2 for 768, 4.8 for 8, 21 for 1. */
double moe_int_chi2_quantile(double n);

/* layout.c ------------------------------------------------------------------------------------ */

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
 * they weigh in by squares of normal values ((E x^2)^2 / E x^4 = 1/3). plan may be NULL. */
int64_t moe_int_layout_sources(const moe_int_layout *layout, moe_tensor_id id,
                               const moe_layer_desc *desc, const moe_plan *plan, int64_t g);
/* Expert of a pair row. */
int64_t moe_int_expert_of_row(const moe_plan *plan, int64_t row);
/* Splits a flat index of `tensor` into ret[tensor->ndim]. */
void moe_int_unravel(const moe_tensor *tensor, int64_t flat, int64_t *ret);

/* rows.c -------------------------------------------------------------------------------------- */

/* A pre-activation that rounding may carry across a jump of the activation's slope: a kernel on the
 * other side has step * from[column] more in the row. */
typedef struct moe_int_side {
    moe_tensor_id of; /* dX, dW1 or dW1_shared, as rows of d */
    int64_t row;
    const moe_tensor *from; /* W1 of the experts or of the shared one for dX, else X; not owned */
    int64_t column;
    double step;
} moe_int_side;

/* What rows of d need beside every element's variance. */
typedef struct moe_int_rows {
    /* [tokens] Of dX: errors that are one vector times one random number: of each of them the
     * expected sum of squares over the row, squared; their sum. In units of (u^2/3)^2. */
    double *common;
    moe_int_side *side; /* [sides] by tensor and row */
    int64_t sides, room;
} moe_int_rows;

moe_status moe_int_rows_alloc(int64_t tokens, moe_int_rows *ret);
void moe_int_rows_free(moe_int_rows *rows);
moe_status moe_int_rows_add(moe_int_rows *rows, const moe_int_side *side);
/* Puts the sides in order. Rows with too many of them, or with one that is no number, cannot be
 * judged and become NaN in `out`. */
void moe_int_rows_sort(moe_int_rows *rows, moe_tensors *out);
/* Has any row of tensor `id` sides? */
bool moe_int_rows_split(const moe_int_rows *rows, moe_tensor_id id);
/* want, of tensor `id`, in float64, with every row on those sides where it is nearest to got's; the
 * caller frees it. */
moe_status moe_int_rows_settle(const moe_int_rows *rows, moe_tensor_id id, const moe_tensor *got,
                               const moe_tensor *want, moe_tensor *ret);

/* compare.c ----------------------------------------------------------------------------------- */

typedef struct moe_int_comparison {
    moe_tensor_id id;
    moe_dtype arithmetic;
    const moe_layer_desc *desc;
    const moe_tensor *got, *want; /* same shape; elements in the order of `layout` */
    const moe_tensor *variance;   /* float64, in units of u^2/3 and without the storing of the
                                     result itself (errors.h), or NULL */
    const moe_int_rows *rows;     /* of the whole truth, or NULL */
    const moe_plan *plan;         /* of the whole tensor, or NULL */
    const moe_int_layout *layout; /* NULL: the whole tensor's */
    const moe_tensor *whole;      /* shape that indices are reported in; NULL: got's */
    const char *truth;            /* "oracle", "golden", "sampled" */
} moe_int_comparison;

void moe_int_compare(const moe_int_comparison *c, moe_tensor_verdict *ret);

/* One group's sums; compare.c fills an array of them, where.c reads it. */
typedef struct moe_int_group {
    double d2, r2; /* sum of (got - want)^2, of want^2 */
    double e2;     /* sum of d^2 that a correct kernel makes (0 without variance) */
    double e4;     /* e2^2 over its degrees of freedom: sum of squares (Satterthwaite) */
    double z2;
    int64_t n;       /* elements compared */
    int64_t off;     /* elements that differ at all */
    int64_t nonzero; /* elements whose truth is not 0 */
    int64_t bad;     /* unwritten, or not finite where the truth is */
} moe_int_group;

/* NMSE under the gate; or, where the errors that a correct kernel makes here are above it (a result
 * that cancels, a handful of elements), under twice those with the scatter of so few. */
bool moe_int_group_passes(const moe_int_group *g, double gate);

/* where.c: writes where the failing groups are concentrated ("tokens 128..164, all of expert 17").
 */
void moe_int_where(const moe_int_comparison *c, const moe_int_layout *layout,
                   const moe_int_group *groups, double gate, char *ret, size_t size);

/* guard.c ------------------------------------------------------------------------------------- */

/* A tensor between two canaries, poisoned with NaN (all bits set). */
typedef struct moe_int_guarded {
    moe_tensor tensor;
    unsigned char *block;
    size_t size;
} moe_int_guarded;

moe_status moe_int_guard_alloc(const moe_tensor *shape, moe_dtype dtype, moe_int_guarded *ret);
void moe_int_guard_free(moe_int_guarded *g);
/* NULL when both canaries are whole, else "before" or "after". */
const char *moe_int_guard_broken(const moe_int_guarded *g);
/* Is element `index` as the poison left it? */
bool moe_int_is_poison(const moe_tensor *tensor, int64_t index);
uint64_t moe_int_hash(const void *data, size_t bytes);

/* result.c ------------------------------------------------------------------------------------ */

moe_status moe_int_result_create(const moe_problem *problem, const char *backend,
                                 const char *selector, const moe_log *log, moe_check_result **ret);
/* The entry of that name, made when it is not there yet. */
moe_tensor_verdict *moe_int_result_entry(moe_check_result *r, const char *name);
moe_tensor_verdict *moe_int_result_find(moe_check_result *r, const char *name);
/* Marks a tensor as failed; the first reason stays. */
void moe_int_entry_fail(moe_tensor_verdict *v, const char *format, ...) MOE_PRINTF(2, 3);
/* The case's own verdict, when it is worse than the one it has; the first reason stays. */
void moe_int_result_set(moe_check_result *r, moe_verdict verdict, const char *format, ...)
    MOE_PRINTF(3, 4);

/* routing.c ----------------------------------------------------------------------------------- */

/* What is known of the routing that a subject used. */
typedef struct moe_int_routing {
    double *logits; /* float64 [T][E+n_zero], owned; NULL: the plan is given */
    moe_plan *plan; /* owned: the pairs that values are judged with */
    bool foreign;   /* the subject's own choice, which differs from the truth's */
    int64_t ambiguous, wrong;
} moe_int_routing;

/* Judges the choice `got` (NULL: not known) and settles the plan. MOE_OK with a verdict in
 * result's topk_index. */
moe_status moe_int_routing_settle(const moe_problem *problem, const moe_plan *got,
                                  moe_dtype arithmetic, int threads, const moe_log *log,
                                  moe_check_result *result, moe_int_routing *ret);
void moe_int_routing_free(moe_int_routing *r);

/* margin.c: how far rounding may move each logit up and down; both [T][E+n_zero]. */
moe_status moe_int_routing_margin(const moe_problem *problem, const double *logits,
                                  moe_dtype arithmetic, int threads, double *ret_up,
                                  double *ret_down);

/* truth.c, sample.c, units.c ------------------------------------------------------------------ */

/* A sampled set of groups of one tensor: the truth there, and where "there" is. */
typedef struct moe_int_part {
    moe_int_layout layout;     /* groups 0: the sample does not cover this tensor */
    int64_t *base, *expert;    /* behind layout, owned */
    moe_tensor want, variance; /* float64 [groups][width], owned; variance may be absent */
} moe_int_part;

typedef struct moe_int_truth {
    moe_tensors in;               /* what the oracle saw; X and dO are owned when sampled */
    moe_reference_result *oracle; /* of all tokens, or of the sampled ones */
    moe_tensors variance;         /* of its results, owned (errors.h) */
    moe_int_rows rows;            /* of its results, owned */
    bool sampled;
    int64_t *tokens; /* [n_tokens] the sampled ones, ascending */
    int64_t n_tokens;
    moe_int_part part[MOE_T_COUNT]; /* when sampled */
    char out_of_range[120];         /* a stage that the arithmetic cannot hold; "" */
} moe_int_truth;

/* Computes the truth for the routing in force; *ret is to be freed, also on failure. `result`
 * takes the description of a sample. */
moe_status moe_int_truth_make(const moe_problem *problem, const moe_int_routing *routing,
                              moe_dtype arithmetic, const moe_check_params *params,
                              const moe_log *log, moe_check_result *result, moe_int_truth *ret);
void moe_int_truth_free(moe_int_truth *t);
/* Fills out_of_range. */
void moe_int_truth_range(moe_dtype arithmetic, moe_int_truth *t);

/* Rows of sampled tokens: O, dX, dS and the stages. */
moe_status moe_int_sample_tokens(const moe_problem *problem, const moe_int_routing *routing,
                                 moe_dtype arithmetic, int threads, const moe_log *log,
                                 moe_int_truth *t);
/* dW1, db1, dW2, db2 (and the shared expert's) at sampled hidden units, in time linear in them. */
moe_status moe_int_sample_units(const moe_problem *problem, const moe_plan *plan,
                                moe_dtype arithmetic, int threads, moe_int_truth *t);
/* dW_r and db_r of sampled experts from all of the subject's own dS [all pairs]. */
moe_status moe_int_sample_router(const moe_problem *problem, const moe_int_routing *routing,
                                 const moe_tensor *dS, moe_dtype arithmetic, moe_int_truth *t);
/* Up to `want` experts: empty, smallest, largest, first, last, then drawn. Returns how many. */
int64_t moe_int_sample_experts(const moe_problem *problem, const moe_plan *plan, int64_t want,
                               int64_t *ret);
/* Draws 64 bits of the sample's own stream. */
uint64_t moe_int_sample_bits(const moe_problem *problem, uint64_t index);
/* Allocates a part of groups x width for the table's tensor `id`. */
moe_status moe_int_part_alloc(moe_tensor_id id, int64_t groups, int64_t width, bool variance,
                              moe_int_part *ret);
void moe_int_part_free(moe_int_part *part);
/* The elements of `tensor` that `layout` names, as a new tensor shaped like `want`. */
moe_status moe_int_part_gather(const moe_tensor *tensor, const moe_int_part *part, moe_tensor *ret);

/* judge.c ------------------------------------------------------------------------------------- */

/* Results to be judged: a backend's, or a file's. */
typedef struct moe_int_subject {
    const moe_problem *problem;
    moe_dtype arithmetic;
    moe_tensors got;      /* not owned; data NULL: absent */
    moe_tensors later;    /* those of a later run that need not have the same bits; or absent */
    const moe_plan *plan; /* its own choice of experts; NULL: unknown, or given by the problem */
    /* One more stage, as a tensor that the caller frees; NULL: there are no more. */
    moe_status (*fetch)(void *user, moe_tensor_id id, moe_tensor *ret);
    void *user;
} moe_int_subject;

/* Judges everything the subject has; fills the result's tensors, verdict and first wrong stage.
 * Fails only where no verdict can be reached (memory, a problem that the reference refuses). */
moe_status moe_int_judge(const moe_int_subject *subject, const moe_check_params *params,
                         const moe_log *log, moe_check_result *result);

/* Every result in the order of computation, "topk_index" apart. */
extern const moe_tensor_id moe_int_order[];
extern const size_t moe_int_order_count;
/* Is it judged only to explain why something after it failed? */
bool moe_int_is_inner_stage(moe_tensor_id id);

/* dump.c: writes inputs, results and truth into params->dump_dir and says where. */
void moe_int_dump(const moe_int_subject *subject, const moe_int_truth *truth, const char *dir,
                  const moe_log *log, const moe_check_result *result);

/* run.c --------------------------------------------------------------------------------------- */

/* A backend's run of a problem. */
typedef struct moe_int_run {
    moe_layer *layer;
    moe_support support;
    moe_int_guarded first[MOE_T_COUNT], later[MOE_T_COUNT];
    moe_plan *plan;            /* its choice; NULL: given, or not told */
    bool usable;               /* results are there to be judged */
    bool repeats[MOE_T_COUNT]; /* false: bits of `first` and `later` differ */
    bool same_plan;            /* every run chose alike */
} moe_int_run;

/* Runs and repeats. Findings about buffers and inputs go into `result`, as do refusal (SKIP) and
 * errors; whether runs repeated bit for bit stays in *ret. */
void moe_int_run_make(moe_backend *backend, const moe_problem *problem,
                      const moe_check_params *params, moe_check_result *result, moe_int_run *ret);
/* One more stage of the last run, as a tensor that the caller frees. */
moe_status moe_int_run_stage(moe_int_run *run, const moe_problem *problem, moe_check_result *result,
                             moe_tensor_id id, moe_tensor *ret);
void moe_int_run_free(moe_int_run *run);

#endif
