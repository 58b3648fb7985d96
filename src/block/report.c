/* What a family's router module hands out, in the form that it has there. */
#include "block/block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static moe_status rows_of(const double *rows, int64_t count, int64_t columns, moe_tensor *ret) {
    moe_status status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){count, columns}, ret);
    if (!status)
        memcpy(ret->data, rows, (size_t)(count * columns) * sizeof *rows);
    return status;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* softmax of each row, in place */
static void to_probabilities(double *z, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++) {
        double *row = z + r * n, top = row[0], sum = 0;
        for (int64_t i = 1; i < n; i++)
            top = row[i] > top ? row[i] : top;
        for (int64_t i = 0; i < n; i++)
            sum += row[i] = exp(row[i] - top);
        for (int64_t i = 0; i < n; i++)
            row[i] /= sum;
    }
}

moe_status moe_int_block_report(const moe_block *b, moe_int_block_result *r) {
    const int64_t n = moe_int_block_classes(b), columns = moe_int_block_columns(b);
    const moe_int_chain *router = &b->chain[MOE_INT_PLACE_ROUTER];
    moe_status status = rows_of(moe_int_trace_end(router, &b->router), b->T, columns, &r->logits);
    if (!status && b->report_softmax)
        to_probabilities(r->logits.data, b->T, columns);
    if (!status && b->state_at)
        status = rows_of(b->router.value[b->state_at], b->T, router->op[b->state_at].in, &r->state);
    if (!status)
        status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){b->T, n}, &r->weight);
    double *w = r->weight.data;
    for (int64_t e = 0; !status && e < n; e++)
        for (int64_t p = b->plan->offsets[e]; p < b->plan->offsets[e + 1]; p++)
            w[b->plan->token[p] * n + e] = b->plan->weight[p];
    for (int64_t t = 0; !status && b->report_sorted && t < b->T; t++)
        qsort(w + t * n, (size_t)n, sizeof *w, by_size);
    return status;
}
