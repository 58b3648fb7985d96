/* The variance that z-scores are measured against.
 *
 * z = d / sigma. Where summands are stored in a lower precision than they are added in (bf16,
 * fp16), storing a value v in roundoff u makes an error of variance at most u^2 v^2 / 3 (uniform in
 * +-u|v|), so that
 *
 *     sigma^2 = (u^2 / 3) (ref^2 + V),   V = moe_reference_result.variance:
 *     for O, V = sum_k w_k^2 (sum_j (a_j w2_j)^2 + y_k^2).
 *
 * In fp32 the additions themselves round. In a sum of L terms p_j added in order, partial sum s_i
 * rounds with variance u^2 s_i^2 / 3 and E[s_i^2] = sum_{j<=i} p_j^2 for terms of random sign,
 * hence
 *
 *     sum_i u^2 s_i^2 / 3  =  (u^2 / 3) sum_j (L - j) p_j^2  ~  (u^2 / 3) (L / 2) sum p^2.
 *
 * An operand that is itself such a sum of L' terms has that relative variance, and passes it on
 * through the products: its L'/2 adds to the factor of V. A gated activation depends on two such
 * sums (c = 2, else 1). With d and n the lengths of the dot products and f the rows of an expert:
 *
 *     O      H: d (c times), Y: n                      1 + c d/2 + n/2
 *     dX     H: d (c times), dA': d, dX~: width of H   1 + (c + 1) d/2 + c n/2
 *     dW1    H: d (c times), dA': d, rows: f           1 + (c + 1) d/2 + f/2   (db1 too)
 *     dW2    H: d (c times), rows: f                   1 + c d/2 + f/2
 *
 * A blocked or pairwise sum errs less; sigma is then an upper bound, and z is small. */
#include "check/check_int.h"

double moe_int_sum_factor(moe_tensor_id id, moe_dtype arithmetic, const moe_layer_desc *desc,
                          int64_t rows) {
    if (arithmetic != MOE_F32 && arithmetic != MOE_F64)
        return 1;
    double c = moe_act_is_gated(desc->act) ? 2 : 1;
    double d = (double)desc->d, n = (double)desc->n, f = (double)rows;
    switch (id) {
    case MOE_T_O:
        return 1 + (c * d + n) / 2;
    case MOE_T_DX:
        return 1 + ((c + 1) * d + c * n) / 2;
    case MOE_T_DW1:
    case MOE_T_DB1:
        return 1 + ((c + 1) * d + f) / 2;
    case MOE_T_DW2:
        return 1 + (c * d + f) / 2;
    default:
        return 1;
    }
}
