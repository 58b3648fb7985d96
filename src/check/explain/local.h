/* A stage held to what it is made of: when no change of the whole layer explains the first wrong
 * tensor, what is wrong about the one step that makes it? Its operands are the subject's own where
 * it gave them, as they are right, and the oracle's where not. */
#ifndef MOE_CHECK_EXPLAIN_LOCAL_H
#define MOE_CHECK_EXPLAIN_LOCAL_H

#include "check/explain/scene.h"
#include "check/explain/sight.h"

/* What the hypotheses about a step see: the first wrong tensor, and the right layer's run. */
typedef struct moe_int_local {
    const moe_int_sight *p;
    const moe_int_scene *scene;
    const moe_int_variant *right;
} moe_int_local;

/* A result that is right, of all rows: the subject's own, else the oracle's; NULL: neither. */
const moe_tensor *moe_int_local_operand(const moe_int_evidence *e, moe_tensor_id id);

/* How far on the step-th place to look at lies, the nearest first: 0, 1, -1, 2, -2 ... */
static inline int64_t moe_int_nearest(int64_t step) {
    return step % 2 ? (step + 1) / 2 : -step / 2;
}

/* Up to `most` of the rows that are wrong, evenly spread. Returns how many. */
int64_t moe_int_local_rows(const moe_int_sight *p, int64_t most, int64_t *ret);

/* Of an error d2 what may be left where it is explained, as moe_int_explains has it. */
double moe_int_local_limit(const moe_int_evidence *e, moe_tensor_id id, double d2);

/* Sets f's residuals: `left` of an error `d2` is left in the part that was looked at. */
void moe_int_local_residuals(const moe_int_sight *p, double left, double d2, moe_int_finding *f);

double moe_int_inner(const double *a, const double *b, int64_t n);

/* Solves the symmetric g x = b of n unknowns by Cholesky's method, with `columns` right sides
 * [n][columns], which become the solution; g is destroyed. False: not positive definite. */
bool moe_int_solve(double *g, int64_t n, double *b, int64_t columns);

/* x of min |sum_i x_i term_i - want|^2, with term [count][width]; returns what is left, negative:
 * the terms do not tell. */
double moe_int_fit(const double *term, int64_t count, int64_t width, const double *want,
                   double *ret);

/* Which rows another one was taken for, and how the two are related. */
typedef struct moe_int_moved {
    int64_t pair;     /* that is wrong */
    int64_t own, has; /* tokens, or pairs */
} moe_int_moved;
/* Appends the rule, where there is one, and an example; `tokens`: own and has are tokens. */
void moe_int_say_moved(const moe_int_evidence *e, const moe_int_moved *m, int64_t count,
                       bool tokens, moe_int_finding *f);

/* A pair's place among its token's, the largest weight first. */
int64_t moe_int_rank_of(const moe_plan *plan, int64_t p);

/* What multiplies a row's part that should not: 1 + ... at pair p. Appends it by its name where
 * all `count` factors have one: a number, or a weight of this or another pair. False: they have
 * none. */
bool moe_int_say_factors(const moe_int_evidence *e, const int64_t *pair, const double *factor,
                         int64_t count, moe_int_finding *f);

#endif
