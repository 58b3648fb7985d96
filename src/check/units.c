/* Weight gradients at sampled hidden units, in time linear in the sample.
 *
 * Hidden unit j of expert e decides row(s) j of dW1 (gate and up), element(s) j of db1 and column j
 * of dW2. It needs, for each row r of the expert, three dot products of length d (gate, up, dA'_j)
 * and three sums of length d, in float64:
 *
 *     dW1[e][j][:] = sum_r dH[r][j] x_r    dW2[e][:][j] = sum_r A'[r][j] dO_r    db2[e] = sum_r s
 * dO_r
 *
 * The shared expert is one more expert, which sees every token. */
#include "check/errors.h"

#include <stdlib.h>
#include <string.h>

enum { EXPERTS = 8, UNITS = 4 };

/* One expert: its tensors, and where its rows come from. */
typedef struct unit_expert {
    const moe_problem *problem;
    const moe_plan *plan; /* NULL: the shared expert */
    moe_int_rounding rounding;
    double router2;                          /* |w_r|^2 behind the weights; 0: they are given */
    moe_tensor_id w1, b1, w2, dw1, db1, dw2; /* b1, db1: MOE_T_COUNT without biases */
    int64_t e, n, hw, rows;
    int32_t layout;
    int64_t unit[UNITS], n_units;
} unit_expert;

/* Where the results of one expert start in the parts. */
typedef struct unit_sums {
    double *dw1[2], *var1[2], *dw2, *var2; /* [d] each */
    double *db1[2], *var_b1[2];            /* one element each, or NULL */
} unit_sums;

/* One unit's weights and one row's data, [d] each, with squared norms. */
typedef struct unit_work {
    double *x, *dy, *w[2], *column;
    double xx, dd, ww[2], cc;
    double bias[2];
    double weight, vweight; /* of the row, and its relative variance */
    void *block;
} unit_work;

static int64_t column_of(const unit_expert *u, int64_t j, int up) {
    if (u->hw == u->n)
        return j;
    return u->layout == MOE_GLU_INTERLEAVED ? 2 * j + up : up * u->n + j;
}

static double element(const moe_tensor *t, int64_t i) {
    return moe_load(t->data, t->dtype, (size_t)i);
}

static void load_row(const moe_tensor *t, int64_t first, int64_t n, double *ret) {
    moe_convert(ret, MOE_F64, (const char *)t->data + (size_t)first * moe_dtype_size(t->dtype),
                t->dtype, (size_t)n);
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void load_unit(const unit_expert *u, int64_t j, unit_work *k) {
    int64_t d = u->problem->layer.d;
    const moe_tensor *in = u->problem->in.t;
    for (int up = 0; up < (u->hw == u->n ? 1 : 2); up++) {
        int64_t col = column_of(u, j, up);
        load_row(&in[u->w1], (u->e * u->hw + col) * d, d, k->w[up]);
        k->ww[up] = dot(k->w[up], k->w[up], d);
        k->bias[up] = u->b1 == MOE_T_COUNT ? 0 : element(&in[u->b1], u->e * u->hw + col);
    }
    for (int64_t i = 0; i < d; i++)
        k->column[i] = element(&in[u->w2], (u->e * d + i) * u->n + j);
    k->cc = dot(k->column, k->column, d);
}

/* Row r: its weight, and x as the expert sees it. */
static void load_pair(const unit_expert *u, int64_t r, unit_work *k) {
    const moe_layer_desc *desc = &u->problem->layer;
    const moe_tensor *in = u->problem->in.t;
    int64_t d = desc->d, row = u->plan ? u->plan->offsets[u->e] + r : r;
    int64_t token = u->plan ? u->plan->token[row] : r;
    load_row(&in[MOE_T_X], token * d, d, k->x);
    load_row(&in[MOE_T_DO], token * d, d, k->dy);
    k->xx = dot(k->x, k->x, d);
    k->dd = dot(k->dy, k->dy, d);
    k->weight = u->plan ? u->plan->weight[row] : 1;
    if (!u->plan && desc->shared_gate) {
        double z = 0;
        for (int64_t i = 0; i < d; i++)
            z += k->x[i] * element(&in[MOE_T_W_GATE_SHARED], i);
        k->weight = 1 / (1 + exp(-z));
    }
    k->vweight = u->router2 > 0 ? 2 * u->rounding.sum * k->xx * u->router2 + u->rounding.router : 0;
}

/* sum += scale x, var += v x^2 */
static void add_outer(double scale, double v, const double *x, int64_t d, double *sum,
                      double *var) {
    for (int64_t i = 0; i < d; i++) {
        sum[i] += scale * x[i];
        var[i] += v * x[i] * x[i];
    }
}

/* Row r's part in one unit's sums, values and variances (errors_bank.c has the same steps). */
static void add_pair(const unit_expert *u, unit_work *k, unit_sums *s) {
    const moe_layer_desc *desc = &u->problem->layer;
    int64_t d = desc->d;
    bool on_input = u->plan && desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    double w = on_input ? 1 : k->weight, vs = on_input ? 0 : k->vweight, sum = u->rounding.sum;
    double scale = on_input ? k->weight : 1, xx = scale * scale * k->xx;
    double stored_x = on_input ? 1 + k->vweight : 0, rows = sum * (double)u->rows;
    moe_int_unit unit = {.parts = u->hw == u->n ? 1 : 2};
    for (int p = 0; p < unit.parts; p++) {
        unit.h[p] = scale * dot(k->x, k->w[p], d) + k->bias[p];
        unit.vh[p] = (stored_x / (double)d + sum) * xx * k->ww[p];
    }
    unit.da = w * dot(k->dy, k->column, d);
    unit.vda = w * w * sum * k->dd * k->cc + (u->rounding.eval + vs) * unit.da * unit.da;
    moe_int_unit_errors(desc, &u->rounding, true, &unit);
    for (int p = 0; p < unit.parts; p++) {
        double dh = unit.corner[p] ? NAN : unit.dh[p];
        double v = unit.vdh[p] + moe_int_stored(&u->rounding, dh) + dh * dh * (rows + stored_x);
        add_outer(scale * dh, scale * scale * v, k->x, d, s->dw1[p], s->var1[p]);
        if (s->db1[p]) {
            *s->db1[p] += dh;
            *s->var_b1[p] += v;
        }
    }
    double v = w * w * (unit.va + unit.a * unit.a * (vs + rows));
    add_outer(w * unit.a, v + moe_int_stored(&u->rounding, w * unit.a), k->dy, d, s->dw2, s->var2);
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

static moe_status run_unit(const unit_expert *u, int64_t j, unit_sums *s) {
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

/* First, last and two drawn units. */
static void choose_units(unit_expert *u) {
    int64_t picks[UNITS] = {0, u->n - 1};
    for (int i = 2; i < UNITS; i++)
        picks[i] = (int64_t)(moe_int_sample_bits(u->problem, (uint64_t)(1000 + u->e * UNITS + i)) %
                             (uint64_t)u->n);
    u->n_units = 0;
    for (int i = 0; i < UNITS; i++) {
        bool seen = false;
        for (int64_t k = 0; k < u->n_units; k++)
            seen |= u->unit[k] == picks[i];
        if (!seen)
            u->unit[u->n_units++] = picks[i];
    }
}

/* A unit and the group that it has in the parts. */
typedef struct job {
    const unit_expert *u;
    int64_t j, index;
} job;

static unit_sums sums_of(const job *k, moe_int_truth *t) {
    unit_sums s = {0};
    const unit_expert *u = k->u;
    int64_t d = u->problem->layer.d;
    int parts = u->hw == u->n ? 1 : 2;
    moe_int_part *p1 = &t->part[u->dw1], *p2 = &t->part[u->dw2];
    for (int up = 0; up < parts; up++) {
        int64_t g = k->index * parts + up, col = column_of(u, k->j, up);
        s.dw1[up] = (double *)p1->want.data + g * d;
        s.var1[up] = (double *)p1->variance.data + g * d;
        p1->base[g] = (u->e * u->hw + col) * d;
        p1->expert[g] = u->e;
        if (u->db1 == MOE_T_COUNT)
            continue;
        s.db1[up] = (double *)t->part[u->db1].want.data + g;
        s.var_b1[up] = (double *)t->part[u->db1].variance.data + g;
        t->part[u->db1].base[g] = u->e * u->hw + col;
        t->part[u->db1].expert[g] = u->e;
    }
    s.dw2 = (double *)p2->want.data + k->index * d;
    s.var2 = (double *)p2->variance.data + k->index * d;
    p2->base[k->index] = u->e * d * u->n + k->j;
    p2->layout.stride = u->n;
    p2->expert[k->index] = u->e;
    return s;
}

/* All units of `count` experts that share their tensors. */
static moe_status run_units(const unit_expert *experts, int64_t count, int threads,
                            moe_int_truth *t) {
    const unit_expert *u = experts;
    int64_t d = u->problem->layer.d, parts = u->hw / u->n, n = 0;
    job jobs[EXPERTS * UNITS];
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < experts[i].n_units; k++, n++)
            jobs[n] = (job){&experts[i], experts[i].unit[k], n};
    moe_status s = moe_int_part_alloc(u->dw1, n * parts, d, true, &t->part[u->dw1]);
    if (!s)
        s = moe_int_part_alloc(u->dw2, n, d, true, &t->part[u->dw2]);
    if (!s && u->db1 != MOE_T_COUNT)
        s = moe_int_part_alloc(u->db1, n * parts, 1, true, &t->part[u->db1]);
    if (s)
        return s;
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(| : failed)
    for (int64_t i = 0; i < n; i++) {
        unit_sums sums = sums_of(&jobs[i], t);
        failed |= run_unit(jobs[i].u, jobs[i].j, &sums) != MOE_OK;
    }
    return failed ? MOE_E_NOMEM : MOE_OK;
}

/* db2 of whole experts: sum over rows of the weight times dO. */
static moe_status run_db2(const unit_expert *experts, int64_t count, moe_int_truth *t) {
    const moe_layer_desc *desc = &experts->problem->layer;
    bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    int64_t d = desc->d;
    moe_int_part *part = &t->part[MOE_T_DB2];
    unit_work k = {0};
    moe_status s = moe_int_part_alloc(MOE_T_DB2, count, d, true, part);
    if (!s)
        s = work_alloc(d, &k);
    for (int64_t i = 0; !s && i < count; i++) {
        const unit_expert *u = &experts[i];
        double added = u->rounding.sum * (double)u->rows;
        part->base[i] = u->e * d;
        part->expert[i] = u->e;
        for (int64_t r = 0; r < u->rows; r++) {
            load_pair(u, r, &k);
            double w = on_input ? 1 : k.weight, vs = on_input ? 0 : k.vweight;
            add_outer(w, w * w * (vs + added), k.dy, d, (double *)part->want.data + i * d,
                      (double *)part->variance.data + i * d);
        }
    }
    free(k.block);
    return s;
}

/* |w_r|^2 of expert e. */
static double router_square(const moe_problem *problem, int64_t e) {
    const moe_tensor *w = &problem->in.t[MOE_T_W_R];
    double sum = 0;
    for (int64_t i = 0; !problem->plan && i < problem->layer.d; i++) {
        double v = element(w, e * problem->layer.d + i);
        sum += v * v;
    }
    return sum;
}

static moe_status run_shared(const moe_problem *problem, moe_dtype arithmetic, int threads,
                             moe_int_truth *t) {
    const moe_layer_desc *desc = &problem->layer;
    unit_expert u = {.problem = problem,
                     .rounding = moe_int_rounding_of(arithmetic),
                     .w1 = MOE_T_W1_SHARED,
                     .b1 = MOE_T_COUNT,
                     .w2 = MOE_T_W2_SHARED,
                     .dw1 = MOE_T_DW1_SHARED,
                     .db1 = MOE_T_COUNT,
                     .dw2 = MOE_T_DW2_SHARED,
                     .n = desc->n_shared,
                     .hw = moe_h_width(desc, desc->n_shared),
                     .rows = problem->T,
                     .layout = MOE_GLU_CONCAT};
    choose_units(&u);
    return run_units(&u, 1, threads, t);
}

moe_status moe_int_sample_units(const moe_problem *problem, const moe_plan *plan,
                                moe_dtype arithmetic, int threads, moe_int_truth *t) {
    const moe_layer_desc *desc = &problem->layer;
    int64_t chosen[EXPERTS];
    int64_t count = moe_int_sample_experts(problem, plan, EXPERTS, chosen);
    unit_expert experts[EXPERTS];
    for (int64_t i = 0; i < count; i++) {
        int64_t e = chosen[i];
        experts[i] = (unit_expert){.problem = problem,
                                   .plan = plan,
                                   .rounding = moe_int_rounding_of(arithmetic),
                                   .w1 = MOE_T_W1,
                                   .b1 = desc->expert_bias ? MOE_T_B1 : MOE_T_COUNT,
                                   .w2 = MOE_T_W2,
                                   .dw1 = MOE_T_DW1,
                                   .db1 = desc->expert_bias ? MOE_T_DB1 : MOE_T_COUNT,
                                   .dw2 = MOE_T_DW2,
                                   .router2 = router_square(problem, e),
                                   .e = e,
                                   .n = desc->n,
                                   .hw = moe_h_width(desc, desc->n),
                                   .rows = plan->offsets[e + 1] - plan->offsets[e],
                                   .layout = desc->glu_layout};
        choose_units(&experts[i]);
    }
    moe_status s = run_units(experts, count, threads, t);
    if (!s && desc->expert_bias)
        s = run_db2(experts, count, t);
    if (!s && desc->n_shared)
        s = run_shared(problem, arithmetic, threads, t);
    return s;
}
