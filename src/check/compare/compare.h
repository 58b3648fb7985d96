/* Two tensors against each other under a gate: scan.c counts, compare.c judges, gates.c holds the
 * limits, due.c says what must not be finite. Where an error is: profile.c adds up, map.c draws,
 * where.c says and sets.c words. */
#ifndef MOE_CHECK_COMPARE_COMPARE_H
#define MOE_CHECK_COMPARE_COMPARE_H

#include "check/compare/layout.h"
#include "check/errors/errors.h"
#include "check/errors/rows.h"
#include "moeref/check.h"

#include <math.h>

/* The narrowest rows that the gates were measured on. */
#define MOE_INT_GATE_WIDTH 768

/* The gate of what a kernel of bf16 or fp16 keeps in fp32. */
moe_gate moe_int_gate_in_fp32(void);

/* A mean of n squared independent errors scatters around its expectation as chi^2_n / n; this is
 * that variable's 1 - 1e-5 quantile: 1.2 for 768, 4.8 for 8, 21 for 1. */
double moe_int_chi2_quantile(double n);

typedef struct moe_int_comparison {
    moe_tensor_id id;
    moe_dtype arithmetic;
    uint32_t points; /* of the recipe; 0: not known */
    const moe_layer_desc *desc;
    const moe_tensor *got, *want; /* same shape; elements in the order of `layout` */
    const moe_tensor *variance;   /* float64, in units of u^2/3 and without the storing of the
                                     result itself (errors.h), or NULL */
    const moe_int_rows *rows;     /* of the whole truth, or NULL */
    bool promised_fp32;           /* though the arithmetic is bf16 or fp16 */
    bool in_fp32;                 /* and as exact: nothing of 16 bits went into it */
    const moe_plan *plan;         /* of the whole tensor, or NULL */
    const moe_int_layout *layout; /* NULL: the whole tensor's */
    const moe_tensor *whole;      /* shape that indices are reported in; NULL: got's */
    const char *truth;            /* "oracle", "golden", "sampled" */
    bool exact;                   /* any difference is an error */
    bool infinite_only;           /* infinities went into the layer, but no NaN (due.c) */
    bool verdict_only;            /* nobody asks where the error is */
    int64_t tile;                 /* rows, tokens or columns in a tile of its map; 0: as many as
                                     make the map fit */
    moe_check_result *maps;       /* takes the maps of a failing tensor; NULL: none are drawn */
} moe_int_comparison;

void moe_int_compare(const moe_int_comparison *c, moe_tensor_verdict *ret);

/* Fails what was promised in fp32 and looks rounded to 16 bits, and says so of what failed in fp32.
 */
void moe_int_judge_type(const moe_int_comparison *c, moe_tensor_verdict *v);
/* What an element must be. */
typedef enum moe_int_due {
    MOE_INT_DUE_NUMBER,     /* finite */
    MOE_INT_DUE_NOT_FINITE, /* NaN or an infinity, whichever */
    MOE_INT_DUE_ANYTHING
} moe_int_due;
moe_int_due moe_int_due_of(const moe_int_comparison *c, double want, double variance);

/* One group's sums; scan.c fills an array of them, where.c reads it. */
typedef struct moe_int_group {
    double d2, r2; /* sum of (got - want)^2, of want^2 */
    double e2;     /* sum of d^2 that a correct kernel makes (0 without variance) */
    double e4;     /* e2^2 over its degrees of freedom: sum of squares (Satterthwaite) */
    double z2;
    double max_z;
    int64_t n;       /* elements compared */
    int64_t off;     /* elements that differ at all */
    int64_t nonzero; /* elements whose truth is not 0 */
    int64_t bad;     /* unwritten, not finite where the truth is, or finite where it is not */
} moe_int_group;

static inline void moe_int_group_add(moe_int_group *sum, const moe_int_group *g) {
    sum->d2 += g->d2;
    sum->r2 += g->r2;
    sum->e2 += g->e2;
    sum->z2 += g->z2;
    sum->max_z = fmax(sum->max_z, g->max_z);
    sum->n += g->n;
    sum->off += g->off;
    sum->nonzero += g->nonzero;
    sum->bad += g->bad;
    sum->e4 += g->e4;
}

/* Squared error over the largest that passes; the larger of that and of (max z / its gate)^2.
 * Infinite: not finite, or not 0 where nothing but 0 is right. */
double moe_int_group_over(const moe_int_group *g, const moe_gate *gate);

/* Of the variance of a correct kernel's errors, how many times that a group may have. */
double moe_int_errors_allowed(const moe_gate *gate);

/* One element: column `col` of group `g`, flat index `at` in the compared tensor. */
typedef struct moe_int_element {
    int64_t g, col, at;
    double got, want, var;
} moe_int_element;

typedef enum moe_int_fate {
    MOE_INT_COUNTED,
    MOE_INT_NO_TRUTH, /* not finite there, or on the edge of a branch */
    MOE_INT_NOT_A_NUMBER,
    MOE_INT_SWALLOWED, /* finite where nothing finite can be right */
    MOE_INT_UNWRITTEN
} moe_int_fate;

/* Counts an element into a group; *ret_size is |z|, or |d| without variance, of one that counts. */
moe_int_fate moe_int_count(const moe_int_comparison *c, const moe_int_rounding *rounding,
                           const moe_int_element *x, moe_int_group *group, double *ret_size);

/* Calls `each` for every element of group g, in order. */
typedef void (*moe_int_element_fn)(void *user, const moe_int_element *x);
void moe_int_each_element(const moe_int_comparison *c, const moe_int_layout *layout, int64_t g,
                          moe_int_element_fn each, void *user);

/* A failing comparison, for those who say where the error is. */
typedef struct moe_int_scene {
    const moe_int_comparison *c;
    const moe_int_layout *layout;
    const moe_int_rounding *rounding;
    const moe_int_group *groups; /* [layout->groups] */
    moe_gate gate;
} moe_int_scene;

/* Is group g over the gate by itself? */
bool moe_int_scene_fails(const moe_int_scene *s, int64_t g);
/* Writes where the failing groups are concentrated ("tokens 128..164, all routed to expert 17") and
 * draws the maps that the comparison asks for. */
void moe_int_locate(const moe_int_scene *s, char *ret_where, size_t size);

#endif
