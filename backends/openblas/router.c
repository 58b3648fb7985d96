/* The router: logits z = X W_r^T + b_r, the library's routing on them, and back.
 *
 * The products are float64: the same choice of experts as the oracle makes, for a GEMM that is
 * E / (9 K n) of the layer's work. The gradients are fp32, as everything else. */
#include "pack.h"
#include "vector_math.h"

#include <string.h>

/* Up to so many tokens a sum of our own beats dgemm, which packs W_r first. */
#define OB_LOGIT_ROWS 8

/* z [rows][R] += x W_r^T. Each sum has one order, whatever tokens there are. */
OB_CLONES static void add_logits(const double *x, const double *W_r, int64_t rows, int64_t R,
                                 int64_t d, double *z) {
    for (int64_t e = 0; e < R; e++)
        for (int64_t i = 0; i < rows; i++) {
            double sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t p = 0; p < d; p++)
                sum += x[i * d + p] * W_r[e * d + p];
            z[i * R + e] += sum;
        }
}

static void logits_body(const ob_job *job, const ob_task *t, float *pack) {
    const ob_layer *l = job->layer;
    int64_t d = l->desc.d, R = l->R;
    double *x = (double *)pack, *z = l->buffer[OB_BUF_LOGITS].data;
    const float *b = l->param.t[MOE_T_B_R].data;
    z += t->row * R;
    moe_convert(x, MOE_F64, l->X + t->row * d, MOE_F32, (size_t)(t->rows * d));
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t e = 0; e < R; e++)
            z[i * R + e] = b ? b[e] : 0;
    if (l->dev->invariant || l->T <= OB_LOGIT_ROWS)
        add_logits(x, l->W_r, t->rows, R, d, z);
    else
        l->dev->blas.dgemm(OB_ROW_MAJOR, OB_NO_TRANS, OB_TRANS, (int)t->rows, (int)R, (int)d, 1.0,
                           x, (int)d, l->W_r, (int)d, 1.0, z, (int)R);
}

moe_status ob_router_forward(ob_layer *layer) {
    ob_job job = {.layer = layer};
    moe_status status = ob_run_tokens(&job, OB_ROUTER_ROWS, layer->R * layer->desc.d, logits_body);
    moe_plan *plan = NULL;
    if (!status)
        status = moe_route(&layer->desc, layer->T, layer->buffer[OB_BUF_LOGITS].data,
                           layer->b_select, layer->seed, layer->dev->log, &plan);
    if (status)
        return status;
    moe_plan_destroy(&layer->own_plan);
    layer->own_plan = plan;
    return ob_layer_take_plan(layer, plan);
}

/* dX += dz W_r, a block of tokens and columns at a time. */
static void dX_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    const ob_layer *l = job->layer;
    const float *dz = l->buffer[OB_BUF_DZ].data, *W_r = l->param.t[MOE_T_W_R].data;
    int64_t d = l->desc.d;
    const ob_weights w = {W_r, MOE_F32, false, l->R, d};
    ob_multiply(l, &(ob_product){.w = &w,
                                 .across = true,
                                 .col = t->col,
                                 .rows = t->rows,
                                 .cols = t->cols,
                                 .x = dz + t->row * l->R,
                                 .ldx = l->R,
                                 .beta = 1,
                                 .y = job->out + t->row * d + t->col,
                                 .ldy = d});
}

/* dW_r = dz^T X, a block of columns at a time. */
static void dW_r_body(const ob_job *job, const ob_task *t, float *pack) {
    (void)pack;
    const ob_layer *l = job->layer;
    int64_t d = l->desc.d;
    ob_gemm(l, OB_TRANS, OB_NO_TRANS, l->R, t->cols, l->T, l->buffer[OB_BUF_DZ].data, l->R,
            l->X + t->col, d, l->accumulates ? 1 : 0, job->out + t->col, d);
}

static void sum_db_r(ob_layer *layer) {
    float *db = layer->gradient.t[MOE_T_DB_R].data;
    const double *dz = layer->buffer[OB_BUF_DLOGITS].data;
    for (int64_t e = 0; db && e < layer->R; e++) {
        double sum;
        ob_sum_start(layer, db + e, 1, &sum);
        for (int64_t t = 0; t < layer->T; t++)
            sum += dz[t * layer->R + e];
        db[e] = (float)sum;
    }
}

moe_status ob_router_backward(ob_layer *layer) {
    double *d_logits = layer->buffer[OB_BUF_DLOGITS].data;
    moe_status status = moe_route_backward(&layer->desc, layer->buffer[OB_BUF_LOGITS].data,
                                           layer->plan, layer->buffer[OB_BUF_DS].data, d_logits);
    if (status)
        return moe_fail(layer->dev->log, status, "openblas: the router's backward failed");
    ob_narrow(d_logits, layer->buffer[OB_BUF_DZ].data, layer->T * layer->R);
    sum_db_r(layer);
    int64_t offsets[2] = {0, layer->T};
    ob_cut cut = {.offsets = offsets,
                  .groups = 1,
                  .row_block = OB_ROWS,
                  .columns = layer->desc.d,
                  .depth = layer->R};
    ob_job job = {.layer = layer, .out = layer->buffer[OB_BUF_DX].data};
    status = ob_run(&job, &cut, dX_body);
    if (status || !layer->gradient.t[MOE_T_DW_R].data)
        return status;
    cut.row_block = 0;
    job.out = layer->gradient.t[MOE_T_DW_R].data;
    return ob_run(&job, &cut, dW_r_body);
}
