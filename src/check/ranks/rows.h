/* Rows of pairs that are made of another token, or by another expert. */
#ifndef MOE_CHECK_RANKS_ROWS_H
#define MOE_CHECK_RANKS_ROWS_H

#include "check/ranks/scene.h"

/* A pair, and the token and expert of which its row is made instead of its own. */
typedef struct moe_int_instead {
    int64_t pair, token, expert;
} moe_int_instead;

typedef struct moe_int_rows_found {
    moe_int_instead *made; /* [count], of the tokens that are explained by it */
    int64_t count;
    double left; /* squared error of O that they leave */
} moe_int_rows_found;

/* rows.c: of which rows are wrong tokens of O the sums? Y [E][T][d] is what each expert makes of
 * each token. False: of most it is not to be told. ret->made is freed by the caller either way. */
bool moe_int_rank_find_rows(const moe_int_rank_scene *s, const double *Y, moe_int_rows_found *ret);

#endif
