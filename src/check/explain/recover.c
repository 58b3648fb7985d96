/* Stages that a subject does not offer, out of its weight gradients: dW1_e = dH_e^T x_e and dW2_e =
 * dO_e^T A'_e. An expert with fewer rows than a row has elements leaves one solution, and so what
 * the subject's dH, or A of its backward pass, must have been: with weights on the output A' is A
 * times them, with weights on the input x_e is x times them. */
#include "check/explain/recover.h"
#include "check/explain/local.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

#define MOST_FLOPS 1e11
enum { MOST_BYTES = 1 << 29 };

typedef struct recovery {
    const moe_int_evidence *e;
    const moe_plan *plan;
    moe_tensor_id of; /* MOE_T_DW2, of A; MOE_T_DW1, of dH */
    bool of_a;
    bool weighted;          /* the gradient has each row times its combine weight */
    int64_t d, width;       /* of the known rows, of those that are sought */
    const moe_tensor *from; /* [E][width][d], or, of dW2, [E][d][width] */
    double *out;            /* [pairs][width], the right rows; those that are told become the
                               subject's */
} recovery;

/* Are an expert's rows so few that they are told, with room for rounding? */
static bool is_told(const recovery *k, int64_t e) {
    return 10 * (k->plan->offsets[e + 1] - k->plan->offsets[e]) <= 7 * k->d;
}

/* The mean of an expert's weights squared. */
static double mean_square(const recovery *k, int64_t e) {
    const int64_t first = k->plan->offsets[e], rows = k->plan->offsets[e + 1] - first;
    const double *weight = k->plan->weight + first;
    return rows > 0 ? moe_int_inner(weight, weight, rows) / (double)rows : 0;
}

/* A row that is divided by its weight has the gradient's rounding divided by it as well, which must
 * stay below what an explanation may leave. Of a weight of 0 nothing is told. */
static bool has_weight(const recovery *k, int64_t p, double mean) {
    const double weight = k->plan->weight[p];
    return !k->weighted ||
           moe_int_explains(k->e, k->of, 1, k->e->gate[k->of] * mean / (weight * weight));
}

/* How many of an expert's rows are told. */
static int64_t told_rows(const recovery *k, int64_t e) {
    const double mean = mean_square(k, e);
    int64_t told = 0;
    for (int64_t p = k->plan->offsets[e]; is_told(k, e) && p < k->plan->offsets[e + 1]; p++)
        told += has_weight(k, p, mean);
    return told;
}

/* ret [rows][width] = the known rows times what was given. */
static void fill_right(const recovery *k, int64_t e, int64_t rows, const double *known,
                       double *line, double *ret) {
    memset(ret, 0, (size_t)(rows * k->width) * sizeof *ret);
    for (int64_t j = 0; !k->of_a && j < k->width; j++) {
        moe_int_load(k->from, (e * k->width + j) * k->d, k->d, line);
        for (int64_t r = 0; r < rows; r++)
            ret[r * k->width + j] = moe_int_inner(known + r * k->d, line, k->d);
    }
    for (int64_t c = 0; k->of_a && c < k->d; c++) {
        moe_int_load(k->from, (e * k->d + c) * k->width, k->width, line);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < k->width; j++)
                ret[r * k->width + j] += known[r * k->d + c] * line[j];
    }
}

/* What was solved for, [rows][width], into the expert's rows, as far as their weights tell. */
static void take_told(const recovery *k, int64_t e, const double *solved) {
    const int64_t first = k->plan->offsets[e];
    const double mean = mean_square(k, e);
    for (int64_t p = first; p < k->plan->offsets[e + 1]; p++)
        for (int64_t j = 0; has_weight(k, p, mean) && j < k->width; j++)
            k->out[p * k->width + j] =
                solved[(p - first) * k->width + j] / (k->weighted ? k->plan->weight[p] : 1);
}

/* Expert e's rows. False: without memory, or rows depend on each other. */
static bool solve_expert(const recovery *k, int64_t e) {
    const int64_t first = k->plan->offsets[e], rows = k->plan->offsets[e + 1] - first;
    const int64_t line = k->d > k->width ? k->d : k->width;
    double *known = malloc((size_t)(rows * (k->d + k->width + rows) + line + 1) * sizeof *known);
    double *ret = known ? known + rows * k->d : NULL;
    double *square = known ? ret + rows * k->width : NULL;
    const moe_tensor *factor = &k->e->problem->in.t[k->of_a ? MOE_T_DO : MOE_T_X];
    for (int64_t r = 0; known && r < rows; r++)
        moe_int_load(factor, k->plan->token[first + r] * k->d, k->d, known + r * k->d);
    for (int64_t r = 0; known && r < rows; r++)
        for (int64_t q = 0; q <= r; q++)
            square[r * rows + q] = moe_int_inner(known + r * k->d, known + q * k->d, k->d);
    if (known)
        fill_right(k, e, rows, known, square + rows * rows, ret);
    const bool told = known && moe_int_solve(square, rows, ret, k->width);
    if (told)
        take_told(k, e, ret);
    free(known);
    return told;
}

/* Is most of it told, at a price that a report is worth? */
static bool is_worth(const recovery *k) {
    const int64_t E = k->e->problem->layer.E, pairs = k->plan->offsets[E];
    double flops = 0;
    int64_t told = 0;
    for (int64_t e = 0; e < E; e++) {
        const double rows = (double)(k->plan->offsets[e + 1] - k->plan->offsets[e]);
        if (!is_told(k, e))
            continue;
        told += told_rows(k, e);
        flops += 2 * rows * ((double)(k->d * k->width) + rows * (double)(k->d + k->width));
    }
    return told > 0 && 2 * told >= pairs && flops < MOST_FLOPS &&
           pairs * k->width * (int64_t)sizeof *k->out <= MOST_BYTES;
}

bool moe_int_recover(moe_int_evidence *e, moe_tensor_id id, int64_t *ret_light) {
    const moe_layer_desc *desc = &e->problem->layer;
    const moe_tensor_id of = id == MOE_T_A ? MOE_T_DW2 : MOE_T_DW1;
    const int32_t weight_on = id == MOE_T_A ? MOE_WEIGHT_ON_OUTPUT : MOE_WEIGHT_ON_INPUT;
    const moe_tensor *right = &e->truth->oracle->out.t[id];
    recovery k = {.e = e,
                  .plan = e->routing->plan,
                  .of = of,
                  .of_a = id == MOE_T_A,
                  .weighted = desc->router.weight_on == weight_on,
                  .d = desc->d,
                  .width = id == MOE_T_A ? desc->n : moe_h_width(desc, desc->n),
                  .from = &e->got.t[of]};
    moe_tensor made = {0};
    if (!k.from->data || !e->wrong[of] || e->got.t[id].data || e->truth->sampled || !right->data ||
        !is_worth(&k) || moe_tensor_cast(right, MOE_F64, &made))
        return false;
    k.out = made.data;
    int failed = 0;
    *ret_light = 0;
#pragma omp parallel for num_threads(e->threads) schedule(dynamic) reduction(| : failed)
    for (int64_t i = 0; i < desc->E; i++)
        if (is_told(&k, i))
            failed |= !solve_expert(&k, i);
    if (failed) {
        moe_tensor_destroy(&made);
        return false;
    }
    for (int64_t i = 0; i < desc->E; i++)
        if (is_told(&k, i))
            *ret_light += k.plan->offsets[i + 1] - k.plan->offsets[i] - told_rows(&k, i);
    e->got.t[id] = made;
    e->owned[id] = true;
    e->wrong[id] = true;
    e->gate[id] = e->gate[of];
    return true;
}
