#include "block/chain.h"
#include "reference/loops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Threads are not worth it: nothing here is as large as the experts. */
enum { THREADS = 1 };

static double *copy_of(const double *x, int64_t count) {
    double *copy = malloc((size_t)(count > 0 ? count : 1) * sizeof *copy);
    if (copy)
        memcpy(copy, x, (size_t)count * sizeof *copy);
    return copy;
}

static double inverse_rms(const double *x, int64_t n, double eps) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return 1 / sqrt(sum / (double)n + eps);
}

static void rms_forward(const moe_int_op *op, const double *x, int64_t rows, double *y) {
    for (int64_t r = 0; r < rows; r++) {
        const double inverse = inverse_rms(x + r * op->in, op->in, op->number);
        for (int64_t i = 0; i < op->in; i++)
            y[r * op->in + i] = x[r * op->in + i] * inverse;
    }
}

/* With q = 1 / rms: dx = q dy - q^3 x <dy, x> / n. */
static void rms_backward(const moe_int_op *op, const double *x, const double *dy, int64_t rows,
                         double *dx) {
    const int64_t n = op->in;
    for (int64_t r = 0; r < rows; r++) {
        const double *xr = x + r * n, *g = dy + r * n;
        double q = inverse_rms(xr, n, op->number), dot = 0;
        for (int64_t i = 0; i < n; i++)
            dot += g[i] * xr[i];
        for (int64_t i = 0; i < n; i++)
            dx[r * n + i] = q * g[i] - q * q * q * xr[i] * dot / (double)n;
    }
}

static double factor_of(const moe_int_op *op, int64_t i) {
    const double *w = op->w.data;
    return op->number * (w ? op->offset + w[i] : 1);
}

static double gelu(double x) {
    return 0.5 * x * (1 + erf(x * M_SQRT1_2));
}

static double gelu_slope(double x) {
    const double density = exp(-0.5 * x * x) * M_SQRT1_2 * 0.5 * M_2_SQRTPI;
    return 0.5 * (1 + erf(x * M_SQRT1_2)) + x * density;
}

static void op_forward(const moe_int_op *op, const double *x, int64_t rows, double *y) {
    const double *w = op->w.data;
    const int64_t count = rows * op->in;
    switch (op->kind) {
    case MOE_INT_OP_LINEAR:
        moe_int_loop_linear_f64(x, rows, op->in, w, op->out, op->b.data, THREADS, y);
        break;
    case MOE_INT_OP_SCALE:
        for (int64_t i = 0; i < count; i++)
            y[i] = factor_of(op, i % op->in) * x[i];
        break;
    case MOE_INT_OP_SHIFT:
        for (int64_t i = 0; i < count; i++)
            y[i] = x[i] + w[i % op->in];
        break;
    case MOE_INT_OP_RMS:
        rms_forward(op, x, rows, y);
        break;
    case MOE_INT_OP_GELU:
        for (int64_t i = 0; i < count; i++)
            y[i] = gelu(x[i]);
        break;
    case MOE_INT_OP_END:
        break;
    }
}

moe_status moe_int_chain_forward(const moe_int_chain *chain, const double *x, int64_t rows,
                                 int64_t width, moe_int_trace *ret) {
    ret->rows = rows;
    ret->value[0] = copy_of(x, rows * width);
    if (!ret->value[0])
        return MOE_E_NOMEM;
    for (int i = 0; i < chain->n; i++) {
        const moe_int_op *op = &chain->op[i];
        ret->value[i + 1] = calloc((size_t)(rows * op->out) + 1, sizeof *x);
        if (!ret->value[i + 1])
            return MOE_E_NOMEM;
        op_forward(op, ret->value[i], rows, ret->value[i + 1]);
    }
    return MOE_OK;
}

/* dst[i] = sum over rows of dy[r][i] factor[r][i]; factor NULL: 1 */
static void sum_rows(const double *dy, const double *factor, int64_t rows, int64_t n, double *dst) {
    for (int64_t k = 0; k < rows * n; k++)
        dst[k % n] += factor ? dy[k] * factor[k] : dy[k];
}

/* Gradients of what the map has; both are 0 before. */
static void op_parameters(const moe_int_op *op, const double *x, const double *dy, int64_t rows,
                          double *dw, double *db) {
    switch ((int)op->kind) {
    case MOE_INT_OP_LINEAR:
        moe_int_loop_outer_f64(dy, rows, op->out, x, op->in, THREADS, dw);
        if (db)
            sum_rows(dy, NULL, rows, op->out, db);
        break;
    case MOE_INT_OP_SCALE:
        sum_rows(dy, x, rows, op->in, dw);
        for (int64_t i = 0; i < op->in; i++)
            dw[i] *= op->number;
        break;
    case MOE_INT_OP_SHIFT:
        sum_rows(dy, NULL, rows, op->in, dw);
        break;
    }
}

static void op_backward(const moe_int_op *op, const double *x, const double *dy, int64_t rows,
                        double *dx) {
    const int64_t count = rows * op->in;
    switch (op->kind) {
    case MOE_INT_OP_LINEAR:
        moe_int_loop_times_f64(dy, rows, op->out, op->w.data, op->in, THREADS, dx);
        break;
    case MOE_INT_OP_SCALE:
        for (int64_t i = 0; i < count; i++)
            dx[i] = factor_of(op, i % op->in) * dy[i];
        break;
    case MOE_INT_OP_SHIFT:
        memcpy(dx, dy, (size_t)count * sizeof *dx);
        break;
    case MOE_INT_OP_RMS:
        rms_backward(op, x, dy, rows, dx);
        break;
    case MOE_INT_OP_GELU:
        for (int64_t i = 0; i < count; i++)
            dx[i] = dy[i] * gelu_slope(x[i]);
        break;
    case MOE_INT_OP_END:
        break;
    }
}

static moe_status alloc_like(const moe_tensor *t, moe_tensor *ret) {
    return t->data ? moe_tensor_alloc(MOE_F64, t->ndim, t->shape, ret) : MOE_OK;
}

moe_status moe_int_chain_backward(const moe_int_chain *chain, const moe_int_trace *trace,
                                  const double *dy, int64_t width, double **ret_dx,
                                  moe_int_chain_gradients *ret) {
    const int64_t rows = trace->rows;
    const int64_t end = chain->n ? chain->op[chain->n - 1].out : width;
    double *g = copy_of(dy, rows * end);
    moe_status status = g ? MOE_OK : MOE_E_NOMEM;
    for (int i = chain->n - 1; !status && i >= 0; i--) {
        const moe_int_op *op = &chain->op[i];
        double *dx = malloc((size_t)(rows * op->in + 1) * sizeof *dx);
        status = alloc_like(&op->w, &ret->w[i]);
        if (!status)
            status = alloc_like(&op->b, &ret->b[i]);
        if (!status && !dx)
            status = MOE_E_NOMEM;
        if (!status && op->w.data)
            op_parameters(op, trace->value[i], g, rows, ret->w[i].data, ret->b[i].data);
        if (!status)
            op_backward(op, trace->value[i], g, rows, dx);
        free(g);
        g = dx;
    }
    if (status)
        free(g);
    else
        *ret_dx = g;
    return status;
}

void moe_int_chain_destroy(moe_int_chain *chain) {
    for (int i = 0; i < chain->n; i++) {
        moe_tensor_destroy(&chain->op[i].w);
        moe_tensor_destroy(&chain->op[i].b);
    }
}

void moe_int_trace_destroy(moe_int_trace *trace) {
    for (int i = 0; i <= MOE_INT_CHAIN_MAX; i++)
        free(trace->value[i]);
    memset(trace, 0, sizeof *trace);
}

void moe_int_chain_gradients_destroy(moe_int_chain_gradients *g) {
    for (int i = 0; i < MOE_INT_CHAIN_MAX; i++) {
        moe_tensor_destroy(&g->w[i]);
        moe_tensor_destroy(&g->b[i]);
    }
}
