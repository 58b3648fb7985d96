/* Weight gradients at sampled hidden units, in time linear in the sample.
 *
 * Hidden unit j of expert e decides row(s) j of dW1 (gate and up), element(s) j of db1 and column j
 * of dW2. It needs, for each row r of the expert, three dot products of length d (gate, up, dA'_j)
 * and three sums of length d, in float64:
 *
 *     dW1[e][j][:] = sum_r dH[r][j] x_r
 *     dW2[e][:][j] = sum_r A'[r][j] dO_r
 *     db2[e][:] = sum_r s_r dO_r
 *
 * The shared expert is one more expert, which sees every token. */
#include "check/truth/units.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One unit's weights and one row's data, [d] each, with squared norms. */
typedef struct unit_work {
    double *x, *dy, *w[2], *column;
    double xx, dd, ww[2], cc;
    double bias[2];
    double weight, vweight; /* of the row, and its relative variance */
    void *block;
} unit_work;

int64_t moe_int_unit_column(const moe_int_unit_ffn *u, int64_t j, int up) {
    return moe_h_column(u->layout, u->n, u->hw, j, up);
}

static double element(const moe_tensor *t, int64_t i) {
    return moe_load(t->data, t->dtype, (size_t)i);
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void load_unit(const moe_int_unit_ffn *u, int64_t j, unit_work *k) {
    int64_t d = u->problem->layer.d;
    const moe_tensor *in = u->problem->in.t;
    for (int up = 0; up < (u->hw == u->n ? 1 : 2); up++) {
        int64_t col = moe_int_unit_column(u, j, up);
        moe_int_load(&in[u->w1], (u->e * u->hw + col) * d, d, k->w[up]);
        k->ww[up] = moe_int_norm2(k->w[up], d);
        k->bias[up] = u->b1 == MOE_T_COUNT ? 0 : element(&in[u->b1], u->e * u->hw + col);
    }
    for (int64_t i = 0; i < d; i++)
        k->column[i] = element(&in[u->w2], (u->e * d + i) * u->n + j);
    k->cc = moe_int_norm2(k->column, d);
}

/* Row r: its weight, and x as the expert sees it. */
static void load_pair(const moe_int_unit_ffn *u, int64_t r, unit_work *k) {
    const moe_layer_desc *desc = &u->problem->layer;
    const moe_tensor *in = u->problem->in.t;
    int64_t d = desc->d, row = u->plan ? u->plan->offsets[u->e] + r : r;
    int64_t token = u->plan ? u->plan->token[row] : r;
    moe_int_load(&in[MOE_T_X], token * d, d, k->x);
    moe_int_load(&in[MOE_T_DO], token * d, d, k->dy);
    k->xx = moe_int_norm2(k->x, d);
    k->dd = moe_int_norm2(k->dy, d);
    k->weight = u->plan ? u->plan->weight[row] : 1;
    double z = 0;
    if (!u->plan && desc->shared_gate) {
        for (int64_t i = 0; i < d; i++)
            z += k->x[i] * element(&in[MOE_T_W_GATE_SHARED], i);
        k->weight = 1 / (1 + exp(-z));
    }
    k->vweight = 0;
    if (u->plan && u->norms)
        k->vweight =
            moe_int_weight_variance(desc, &u->rounding, u->plan, row,
                                    u->logits + token * u->plan->n_experts, k->xx, u->norms);
    k->vweight += moe_int_flushed_share(&u->rounding, k->weight);
    if (!u->plan && desc->shared_gate) /* errors/shared.c */
        k->vweight +=
            moe_int_dot_errors(&u->rounding, (double)d, k->xx * u->gate2, z) + u->rounding.router +
            2 * u->rounding.sum / fmax(k->weight * k->weight, DBL_MIN) +
            moe_int_at(&u->rounding, MOE_POINT_GATE, 1 + z * z * (1 - k->weight) * (1 - k->weight));
}

/* sum += scale x, var += v x^2 */
static void add_outer(double scale, double v, const double *x, int64_t d, double *sum,
                      double *var) {
    for (int64_t i = 0; i < d; i++) {
        sum[i] += scale * x[i];
        var[i] += v * x[i] * x[i];
    }
}

/* What storing w dO adds, over its square: nothing where w changes nothing. */
static double stored_gradient(const moe_int_unit_ffn *u, const unit_work *k, double w) {
    if (w == 1 || moe_int_at(&u->rounding, MOE_POINT_SDO, 1) == 0)
        return 0;
    return moe_int_stored_share(&u->rounding, w, k->dy, u->problem->layer.d);
}

/* Row r's part in one unit's sums, values and variances (errors/ffn.c has the same steps). */
static void add_pair(const moe_int_unit_ffn *u, unit_work *k, const moe_int_unit_sums *s) {
    const moe_layer_desc *layer = &u->problem->layer;
    const moe_layer_desc own = moe_shared_desc(layer), *desc = u->plan ? layer : &own;
    int64_t d = desc->d;
    bool on_input = u->plan && desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    double w = on_input ? 1 : k->weight, vs = on_input ? 0 : k->vweight;
    double sum = moe_int_added(&u->rounding, (double)d);
    double scale = on_input ? k->weight : 1, xx = scale * scale * k->xx;
    double stored_x = 0, stored_dy = stored_gradient(u, k, w);
    const bool stores_x = on_input && moe_int_at(&u->rounding, MOE_POINT_SX, 1) > 0;
    if (on_input)
        stored_x = k->vweight + moe_int_at(&u->rounding, MOE_POINT_SX,
                                           moe_int_stored_share(&u->rounding, scale, k->x, d));
    double rows = moe_int_adding(&u->rounding, (double)u->rows);
    moe_int_unit unit = {.parts = u->hw == u->n ? 1 : 2, .vscale = on_input ? k->vweight : 0};
    for (int p = 0; p < unit.parts; p++) {
        unit.h[p] = scale * dot(k->x, k->w[p], d) + k->bias[p];
        unit.vh[p] = (stored_x / (double)d + sum) * xx * k->ww[p];
    }
    unit.da = w * dot(k->dy, k->column, d);
    unit.vda = w * w * (sum + stored_dy / (double)d) * k->dd * k->cc +
               (u->rounding.eval + vs) * unit.da * unit.da +
               moe_int_stored_at(&u->rounding, MOE_POINT_DA, unit.da);
    moe_int_unit_errors(desc, &u->rounding, true, &unit);
    for (int p = 0; p < unit.parts; p++) {
        /* of both sides of a kink; there the truth is open, its errors are not */
        double size = fmax(fabs(unit.dh[p]), fabs(unit.dh[p] + unit.jump[p]));
        double square = size * size, dh = unit.jump[p] != 0 ? NAN : unit.dh[p];
        double v = unit.vdh[p] + moe_int_stored_at(&u->rounding, MOE_POINT_DH, size);
        v += square * rows;
        add_outer(scale * dh, scale * scale * (v + square * stored_x), k->x, d, s->dw1[p],
                  s->var1[p]);
        for (int64_t i = 0; stores_x && i < d; i++) /* below the normal numbers */
            s->var1[p][i] +=
                (v + square * stored_x) *
                (moe_int_stored(&u->rounding, scale * k->x[i]) - scale * scale * k->x[i] * k->x[i]);
        if (s->db1[p]) {
            *s->db1[p] += dh;
            *s->var_b1[p] += v;
        }
    }
    double v = w * w * (unit.va + unit.a * unit.a * (vs + rows + (stored_dy > 0)));
    double weighed = on_input ? 0 : moe_int_stored_at(&u->rounding, MOE_POINT_SA, w * unit.a);
    if (on_input || moe_int_at(&u->rounding, MOE_POINT_SDO, 1) > 0)
        weighed = fmax(weighed, w * w * moe_int_stored_at(&u->rounding, MOE_POINT_A, unit.a));
    v += weighed;
    add_outer(w * unit.a, v, k->dy, d, s->dw2, s->var2);
    const bool weighs = stored_dy > 0 && w * w >= DBL_MIN;
    for (int64_t i = 0; weighs && i < d; i++) /* below the normal numbers */
        s->var2[i] +=
            v * (moe_int_stored(&u->rounding, w * k->dy[i]) / (w * w) - k->dy[i] * k->dy[i]);
}

static moe_status work_alloc(int64_t d, unit_work *k) {
    memset(k, 0, sizeof *k);
    double *block = malloc(5 * (size_t)d * sizeof *block);
    k->block = block;
    k->x = block;
    if (!block)
        return MOE_E_NOMEM;
    k->dy = block + d;
    k->w[0] = block + 2 * d;
    k->w[1] = block + 3 * d;
    k->column = block + 4 * d;
    return MOE_OK;
}

moe_status moe_int_unit_run(const moe_int_unit_ffn *u, int64_t j, const moe_int_unit_sums *s) {
    unit_work k;
    moe_status status = work_alloc(u->problem->layer.d, &k);
    if (status)
        return status;
    load_unit(u, j, &k);
    for (int64_t r = 0; r < u->rows; r++) {
        load_pair(u, r, &k);
        add_pair(u, &k, s);
    }
    free(k.block);
    return MOE_OK;
}

moe_status moe_int_unit_db2(const moe_int_unit_ffn *u, double *db2, double *variance) {
    const moe_layer_desc *desc = &u->problem->layer;
    bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    double added = moe_int_adding(&u->rounding, (double)u->rows);
    unit_work k;
    moe_status status = work_alloc(desc->d, &k);
    if (status)
        return status;
    for (int64_t r = 0; r < u->rows; r++) {
        load_pair(u, r, &k);
        double w = on_input ? 1 : k.weight, vs = on_input ? 0 : k.vweight;
        double stored = stored_gradient(u, &k, w);
        add_outer(w, w * w * (vs + added + stored), k.dy, desc->d, db2, variance);
    }
    free(k.block);
    return MOE_OK;
}
