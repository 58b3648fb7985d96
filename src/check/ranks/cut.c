/* W1 that is cut for TP parts as if it were one matrix: part j of P gets rows [2n j/P, 2n (j+1)/P),
 * and takes the first half of them for its gates. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of layers of at most so much work. */
static const double most_flops = 1e9;

/* W [E][2n][d] as such parts read it, into ret. */
static void cut(const moe_tensor *W, int64_t n, int64_t d, int64_t parts, char *ret) {
    const char *from = W->data;
    const size_t row = (size_t)d * moe_dtype_size(W->dtype);
    for (int64_t e = 0; e < W->shape[0];
         e++, from += 2 * (size_t)n * row, ret += 2 * (size_t)n * row)
        for (int64_t j = 0; j < parts; j++) {
            const int64_t first = j * n / parts, units = (j + 1) * n / parts - first;
            memcpy(ret + (size_t)first * row, from + (size_t)(2 * first) * row,
                   (size_t)units * row);
            memcpy(ret + (size_t)(n + first) * row, from + (size_t)(2 * first + units) * row,
                   (size_t)units * row);
        }
}

/* O of the experts with that W1, by pairs of the plan; what is left of the error. */
static double left_by(const moe_int_rank_scene *s, const moe_tensor *W1) {
    moe_tensors in = s->problem->in;
    moe_reference_result *run = NULL;
    double error = 0;
    in.t[MOE_T_DO] = (moe_tensor){0};
    in.t[MOE_T_W1] = *W1;
    const moe_reference_params params = {
        .tokens = s->T, .precision = MOE_F64, .threads = 1, .plan = s->plan, .plan_given = 1};
    if (moe_reference_run(&s->problem->layer, &in, &params, NULL, &run))
        return INFINITY;
    const double *O = run->out.t[MOE_T_O].data;
    for (int64_t i = 0; i < s->count; i++)
        error += (O[i] - s->got[i]) * (O[i] - s->got[i]);
    moe_reference_result_destroy(&run);
    return error / moe_int_inner(s->right, s->right, s->count);
}

bool moe_int_rank_cut_across(const moe_int_rank_scene *s, moe_explanation *ret) {
    const moe_layer_desc *desc = &s->problem->layer;
    const moe_tensor *W1 = &s->problem->in.t[MOE_T_W1];
    if (s->is->tp < 2 || desc->glu_layout != MOE_GLU_CONCAT ||
        moe_h_width(desc, desc->n) != 2 * desc->n ||
        moe_layer_flops(desc, s->T, s->P, 0) > most_flops)
        return false;
    moe_tensor other = *W1;
    other.data = malloc((size_t)moe_tensor_bytes(W1));
    double after = INFINITY;
    if (other.data) {
        cut(W1, desc->n, desc->d, s->is->tp, other.data);
        after = left_by(s, &other);
    }
    free(other.data);
    const bool found = moe_int_rank_explains(s, after);
    if (found)
        moe_int_rank_explain(s, "ranks_cut_across", after, ret,
                             "W1 is cut into %d parts across gates and ups: the first parts have "
                             "gates alone, and take half of them for ups",
                             (int)s->is->tp);
    return found;
}
