/* Rows of an expert that have the same vector too much, where no product is made: a bias that is
 * added behind the activation, or a number of each column that is kept from somewhere. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

/* What is known beside the mean of an expert's rows: part of a bias. */
typedef struct part {
    moe_tensor_id of;
    int64_t first, step; /* element c of a row has element first + c * step of the expert's */
    const char *words;
} part;

/* The number of `list` that fit rows of that width. */
static int parts_of(const moe_int_sight *p, part list[5]) {
    const moe_layer_desc *desc = &p->e->problem->layer;
    const int64_t hw = moe_h_width(desc, desc->n), apart = hw > desc->n;
    const bool mixed = apart && desc->glu_layout == MOE_GLU_INTERLEAVED;
    int count = 0;
    if (!desc->expert_bias)
        return 0;
    if (p->stride == desc->n) {
        list[count++] = (part){MOE_T_B1, 0, mixed ? 2 : 1, apart ? "b1 of its gate" : "b1"};
        list[count++] = (part){MOE_T_B1, mixed ? 1 : hw - desc->n, mixed ? 2 : 1, "b1 of its up"};
    }
    if (p->stride == hw)
        list[count++] = (part){MOE_T_B1, 0, 1, "b1"};
    if (p->stride == desc->d)
        list[count++] = (part){MOE_T_B2, 0, 1, "b2"};
    return count;
}

static double of_part(const moe_int_sight *p, const part *k, int64_t expert, int64_t c) {
    const moe_tensor *b = &p->e->problem->in.t[k->of];
    const int64_t each = moe_tensor_count(b) / p->e->problem->layer.E;
    return moe_load(b->data, b->dtype, (size_t)(expert * each + k->first + c * k->step));
}

static double more(const moe_int_sight *p, int64_t r, int64_t c) {
    return moe_int_sight_got(p, r, c) - moe_int_sight_want(p, r, c);
}

/* What is left when a multiple of a bias is taken away. */
static double left_with(const moe_int_sight *p, const part *k, double *factor) {
    double bb = 0, bm = 0;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->width; c++) {
            const double b = of_part(p, k, moe_int_sight_expert(p, r), c);
            bb += b * b;
            bm += b * more(p, r, c);
        }
    *factor = bb > 0 ? bm / bb : 0;
    return p->d2 - *factor * bm;
}

/* What is left beside each expert's mean: of one row alone that is nothing, and says nothing. */
static double left_beside_means(const moe_int_sight *p, double *mean, int64_t *shared_rows) {
    double left = 0;
    *shared_rows = 0;
    for (int64_t first = 0, end; first < p->rows; first = end) {
        for (end = first;
             end < p->rows && moe_int_sight_expert(p, end) == moe_int_sight_expert(p, first);)
            end++;
        *shared_rows += end - first - 1;
        for (int64_t c = 0; c < p->width; c++) {
            mean[c] = 0;
            for (int64_t r = first; r < end; r++)
                mean[c] += more(p, r, c) / (double)(end - first);
            for (int64_t r = first; r < end; r++)
                left += pow(more(p, r, c) - mean[c], 2);
        }
    }
    return left;
}

bool moe_int_local_vector_added(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const double limit = moe_int_local_limit(p->e, p->id, p->d2);
    part list[5];
    if (p->layout.by != MOE_INT_BY_PAIR || p->width < 4 || p->odd > 0 ||
        !moe_int_sight_is_whole(p) || p->only_column)
        return false;
    for (int i = 0, count = parts_of(p, list); i < count; i++) {
        double factor;
        const double left = left_with(p, &list[i], &factor);
        if (left > limit)
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": %.4g times %s", factor, list[i].words);
        moe_int_finding_param(f, "factor", factor);
        return true;
    }
    int64_t shared_rows = 0;
    double *mean = malloc((size_t)p->width * sizeof *mean);
    const double left = mean ? left_beside_means(p, mean, &shared_rows) : INFINITY;
    free(mean);
    if (left > limit || 4 * shared_rows < 3 * p->rows)
        return false;
    moe_int_sight_residuals(p, left, f);
    return true;
}
