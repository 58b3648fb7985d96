/* Which hidden units are sampled, and where their gradients belong. */
#include "check/truth/units.h"

#include <stdlib.h>

enum { EXPERTS = 8 };

/* First, last and two drawn units. */
static void choose_units(moe_int_unit_ffn *u) {
    int64_t picks[MOE_INT_UNITS] = {0, u->n - 1};
    for (int i = 2; i < MOE_INT_UNITS; i++)
        picks[i] =
            (int64_t)(moe_int_sample_bits(u->problem, (uint64_t)(1000 + u->e * MOE_INT_UNITS + i)) %
                      (uint64_t)u->n);
    u->n_units = 0;
    for (int i = 0; i < MOE_INT_UNITS; i++) {
        bool seen = false;
        for (int64_t k = 0; k < u->n_units; k++)
            seen |= u->unit[k] == picks[i];
        if (!seen)
            u->unit[u->n_units++] = picks[i];
    }
}

/* A unit and the group that it has in the parts. */
typedef struct job {
    const moe_int_unit_ffn *u;
    int64_t j, index;
} job;

static moe_int_unit_sums sums_of(const job *k, moe_int_truth *t) {
    moe_int_unit_sums s = {0};
    const moe_int_unit_ffn *u = k->u;
    int64_t d = u->problem->layer.d;
    int parts = u->hw == u->n ? 1 : 2;
    moe_int_part *p1 = &t->part[u->dw1], *p2 = &t->part[u->dw2];
    for (int up = 0; up < parts; up++) {
        int64_t g = k->index * parts + up, col = moe_int_unit_column(u, k->j, up);
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
    p2->expert[k->index] = u->e;
    return s;
}

/* All units of `count` experts that share their tensors. */
static moe_status run_units(const moe_int_unit_ffn *experts, int64_t count, int threads,
                            moe_int_truth *t) {
    const moe_int_unit_ffn *u = experts;
    /* There is at least one. NOLINTNEXTLINE(clang-analyzer-core.*) */
    int64_t d = u->problem->layer.d, parts = u->hw / u->n, n = 0;
    job *jobs = malloc((size_t)count * MOE_INT_UNITS * sizeof *jobs);
    if (!jobs)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < experts[i].n_units; k++, n++)
            jobs[n] = (job){&experts[i], experts[i].unit[k], n};
    moe_status status = moe_int_part_alloc(u->dw1, n * parts, d, true, &t->part[u->dw1]);
    if (!status)
        status = moe_int_part_alloc(u->dw2, n, d, true, &t->part[u->dw2]);
    if (!status && u->db1 != MOE_T_COUNT)
        status = moe_int_part_alloc(u->db1, n * parts, 1, true, &t->part[u->db1]);
    t->part[u->dw2].layout.stride = u->n;
    int failed = status != MOE_OK;
    const int64_t todo = status ? 0 : n;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(| : failed)
    for (int64_t i = 0; i < todo; i++) {
        moe_int_unit_sums sums = sums_of(&jobs[i], t);
        failed |= moe_int_unit_run(jobs[i].u, jobs[i].j, &sums) != MOE_OK;
    }
    free(jobs);
    return failed ? MOE_E_NOMEM : MOE_OK;
}

static moe_status run_db2(const moe_int_unit_ffn *experts, int64_t count, moe_int_truth *t) {
    int64_t d = experts->problem->layer.d;
    moe_int_part *part = &t->part[MOE_T_DB2];
    moe_status status = moe_int_part_alloc(MOE_T_DB2, count, d, true, part);
    for (int64_t i = 0; !status && i < count; i++) {
        part->base[i] = experts[i].e * d;
        part->expert[i] = experts[i].e;
        status = moe_int_unit_db2(&experts[i], (double *)part->want.data + i * d,
                                  (double *)part->variance.data + i * d);
    }
    return status;
}

static moe_int_unit_ffn shared_ffn(const moe_problem *problem, const moe_int_rounding *rounding) {
    const moe_layer_desc *desc = &problem->layer;
    const moe_tensor *gate = &problem->in.t[MOE_T_W_GATE_SHARED];
    return (moe_int_unit_ffn){.problem = problem,
                              .rounding = *rounding,
                              .w1 = MOE_T_W1_SHARED,
                              .b1 = MOE_T_COUNT,
                              .w2 = MOE_T_W2_SHARED,
                              .dw1 = MOE_T_DW1_SHARED,
                              .db1 = MOE_T_COUNT,
                              .dw2 = MOE_T_DW2_SHARED,
                              .gate2 = desc->shared_gate ? moe_int_row_square(gate, 0, desc->d) : 0,
                              .n = desc->n_shared,
                              .hw = moe_h_width(desc, desc->n_shared),
                              .rows = problem->T,
                              .layout = MOE_GLU_CONCAT};
}

static moe_int_unit_ffn expert_ffn(const moe_problem *problem, const moe_int_routing *routing,
                                   const double *norms, const moe_int_rounding *rounding,
                                   int64_t e) {
    const moe_layer_desc *desc = &problem->layer;
    const moe_plan *plan = routing->plan;
    return (moe_int_unit_ffn){.problem = problem,
                              .plan = plan,
                              .rounding = *rounding,
                              .w1 = MOE_T_W1,
                              .b1 = desc->expert_bias ? MOE_T_B1 : MOE_T_COUNT,
                              .w2 = MOE_T_W2,
                              .dw1 = MOE_T_DW1,
                              .db1 = desc->expert_bias ? MOE_T_DB1 : MOE_T_COUNT,
                              .dw2 = MOE_T_DW2,
                              .logits = routing->logits,
                              .norms = norms,
                              .e = e,
                              .n = desc->n,
                              .hw = moe_h_width(desc, desc->n),
                              .rows = plan->offsets[e + 1] - plan->offsets[e],
                              .layout = desc->glu_layout};
}

/* NULL where weights are given. */
static moe_status norms_of(const moe_problem *problem, double **ret) {
    return problem->plan ? MOE_OK : moe_int_router_norms(&problem->layer, &problem->in, ret);
}

/* Groups `units` of one expert, at most MOE_INT_UNITS of them, into *ret; returns how many. */
static int64_t take_units(const moe_problem *problem, const moe_int_routing *routing,
                          const double *norms, const moe_int_rounding *rounding,
                          const moe_int_unit_place *units, int64_t count, moe_int_unit_ffn *ret) {
    *ret = units->e < 0 ? shared_ffn(problem, rounding)
                        : expert_ffn(problem, routing, norms, rounding, units->e);
    while (ret->n_units < count && ret->n_units < MOE_INT_UNITS &&
           units[ret->n_units].e == units->e) {
        ret->unit[ret->n_units] = units[ret->n_units].unit;
        ret->n_units++;
    }
    return ret->n_units;
}

moe_status moe_int_sample_given_units(const moe_problem *problem, const moe_int_routing *routing,
                                      const moe_int_rounding *rounding,
                                      const moe_int_unit_place *units, int64_t count, int threads,
                                      moe_int_truth *t) {
    moe_int_unit_ffn *ffn = calloc((size_t)count + 1, sizeof *ffn);
    moe_status status = ffn ? MOE_OK : MOE_E_NOMEM;
    double *norms = NULL;
    int64_t n = 0, shared = 0;
    if (!status)
        status = norms_of(problem, &norms);
    for (int64_t i = 0; !status && i < count; n++) {
        shared += units[i].e < 0;
        i += take_units(problem, routing, norms, rounding, units + i, count - i, &ffn[n]);
    }
    if (shared)
        status = run_units(ffn, shared, threads, t);
    if (!status && n > shared)
        status = run_units(ffn + shared, n - shared, threads, t);
    if (!status && n > shared && problem->layer.expert_bias)
        status = run_db2(ffn + shared, n - shared, t);
    free(ffn);
    free(norms);
    return status;
}

moe_status moe_int_sample_units(const moe_problem *problem, const moe_int_routing *routing,
                                const moe_int_rounding *rounding, int threads, moe_int_truth *t) {
    const moe_layer_desc *desc = &problem->layer;
    int64_t chosen[EXPERTS];
    int64_t count = moe_int_sample_experts(problem, routing->plan, EXPERTS, chosen);
    moe_int_unit_ffn experts[EXPERTS];
    double *norms = NULL;
    moe_status status = norms_of(problem, &norms);
    for (int64_t i = 0; i < count; i++) {
        experts[i] = expert_ffn(problem, routing, norms, rounding, chosen[i]);
        choose_units(&experts[i]);
    }
    if (!status)
        status = run_units(experts, count, threads, t);
    if (!status && desc->expert_bias)
        status = run_db2(experts, count, t);
    if (!status && desc->n_shared) {
        moe_int_unit_ffn shared = shared_ffn(problem, rounding);
        choose_units(&shared);
        status = run_units(&shared, 1, threads, t);
    }
    free(norms);
    return status;
}
