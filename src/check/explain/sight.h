/* One wrong tensor beside its truth, as rows: what can be told without running anything again. */
#ifndef MOE_CHECK_EXPLAIN_SIGHT_H
#define MOE_CHECK_EXPLAIN_SIGHT_H

#include "check/explain/evidence.h"

/* Sums over one row's elements. */
typedef struct moe_int_row {
    double d2, r2, g2, gr; /* of (got - want)^2, want^2, got^2, got * want */
    int64_t odd;           /* elements that are numbers in one of the two alone */
    bool wrong;
} moe_int_row;

typedef struct moe_int_sight {
    const moe_int_evidence *e;
    moe_tensor_id id;
    const moe_tensor *got, *want;
    moe_int_layout layout; /* of the truth; a sampled one has fewer groups */
    int64_t rows, width;   /* rows of `width` elements; `per_group` rows are a group */
    int64_t per_group;
    int64_t stride;                  /* elements of a whole row */
    int64_t *only_row, *only_column; /* numbers of those that are seen, owned; NULL: all are */
    moe_int_row *row;                /* [rows], owned */
    double *column_d2, *column_r2;   /* [width], owned */
    double d2, r2, g2, gr;           /* sums over all rows */
    int64_t odd, wrong_rows;         /* rows that are wrong */
} moe_int_sight;

/* rows stay 0 where there is no memory or no truth. */
void moe_int_sight_make(const moe_int_evidence *e, moe_tensor_id id, moe_int_sight *ret);
void moe_int_sight_destroy(moe_int_sight *p);

/* What is seen of p when its wrong columns, or its wrong rows, are looked at alone; rows stay 0
 * where they are no proper part. Of rows alone nothing is known but their values. */
void moe_int_sight_of_columns(const moe_int_sight *p, moe_int_sight *ret);
void moe_int_sight_of_rows(const moe_int_sight *p, moe_int_sight *ret);

/* Element c of row r. */
double moe_int_sight_got(const moe_int_sight *p, int64_t r, int64_t c);
double moe_int_sight_want(const moe_int_sight *p, int64_t r, int64_t c);
/* Its index in got. */
int64_t moe_int_sight_flat(const moe_int_sight *p, int64_t r, int64_t c);
/* -1 where a row has none. */
int64_t moe_int_sight_expert(const moe_int_sight *p, int64_t r);
int64_t moe_int_sight_token(const moe_int_sight *p, int64_t r);
/* Are row numbers those of the whole tensor? */
bool moe_int_sight_is_whole(const moe_int_sight *p);

/* Is the column's error beyond what the tensor's gate leaves it? */
bool moe_int_sight_wrong_column(const moe_int_sight *p, int64_t c);

/* Sets before to the tensor's NMSE and after to left / sum want^2. */
void moe_int_sight_residuals(const moe_int_sight *p, double left, moe_int_finding *f);

/* Says which of the marked rows are meant: "expert 3: its last 5 of 37 rows", "tokens 7 to 9". */
void moe_int_sight_say_rows(const moe_int_sight *p, const bool *marked, moe_int_finding *f);

#endif
