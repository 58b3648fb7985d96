/* What rows of dX need beside every element's variance. */
#include "check/check_int.h"

#include <stdlib.h>
#include <string.h>

moe_status moe_int_rows_alloc(int64_t rows, moe_int_rows *ret) {
    memset(ret, 0, sizeof *ret);
    ret->common = calloc((size_t)rows + 1, sizeof *ret->common);
    return ret->common ? MOE_OK : MOE_E_NOMEM;
}

void moe_int_rows_free(moe_int_rows *rows) {
    free(rows->common);
    memset(rows, 0, sizeof *rows);
}
