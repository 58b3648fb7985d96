/* A drawn problem's experts, replaced by the values that codes of few bits stand for. */
#include "layer/problem.h"
#include "moeref/quant.h"

#include <stdlib.h>

typedef struct room {
    void *code;
    float *scale;
} room;

static moe_status round_trip(const moe_quant_desc *q, void *w, moe_dtype dtype, int64_t rows,
                             int64_t columns, const room *k, const moe_log *log) {
    moe_status status = moe_quantise(q, w, dtype, rows, columns, log, k->code, k->scale);
    if (!status)
        moe_dequantise(q, k->code, k->scale, rows, columns, dtype, w);
    return status;
}

/* w is [experts][rows][columns]; each expert's matrix has blocks of its own. */
static moe_status quantise_tensor(const moe_quant_desc *q, moe_tensor *w, const moe_log *log) {
    const int64_t rows = w->shape[1], columns = w->shape[2];
    const size_t bytes = (size_t)(rows * columns) * moe_dtype_size(w->dtype);
    room k = {malloc((size_t)moe_quant_code_bytes(q, rows, columns) + 1),
              malloc((size_t)(moe_quant_scales(q, rows, columns) + 1) * sizeof *k.scale)};
    moe_status status = k.code && k.scale ? MOE_OK : MOE_E_NOMEM;
    if (status)
        moe_fail(log, status, "out of memory for quantised weights");
    for (int64_t e = 0; !status && e < w->shape[0]; e++)
        status =
            round_trip(q, (char *)w->data + (size_t)e * bytes, w->dtype, rows, columns, &k, log);
    free(k.code);
    free(k.scale);
    return status;
}

moe_status moe_int_quantise_experts(const moe_case *c, const moe_log *log, moe_problem *p) {
    const moe_quant_desc q = {c->quant - 1, c->quant - 1 == MOE_QUANT_NESTED ? c->quant_bits : 0,
                              c->quant_rows, c->quant_columns};
    moe_status status = c->quant ? quantise_tensor(&q, &p->in.t[MOE_T_W1], log) : MOE_OK;
    if (!status && c->quant)
        status = quantise_tensor(&q, &p->in.t[MOE_T_W2], log);
    return status;
}
