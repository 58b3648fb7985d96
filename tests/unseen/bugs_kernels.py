"""More of all subjects, as reports of kernels have them: once held out, and mended for since."""
from edits import AFTER_DOWN, AFTER_H, AFTER_UP, ANY, hole

ROWS_BEFORE = """for (int64_t j = 0; j < width; j++)
                y[j] += a[(r - 1) * depth + k] * b[k * width + j]; continue;"""
CROSSED = """for (int64_t j = 0; j < width; j++)
                y[j] += a[r * depth + k] * b[(k ^ 1) * width + j]; continue;"""

BUGS = [
    ("zero_experts_miss_last_columns", "zero", ANY, r"O: .*(zero|column)", [
        ("combine.c", "row_read(l, p) * d, d);", "row_read(l, p) * d, zero ? d - 16 : d);")]),
    ("tail_tile_of_first_W2", "tails", ANY, r"Y: .*(W2|weights)", [
        ("expert.c", "    add_bias(x->b2, x->rows, d, x->Y);\n    if (FAULT(l, b2_twice))", """
    if (x->e > 0 && x->rows % 16) {
        const int64_t tail = x->rows / 16 * 16;
        fy_transpose(x->W2 - x->e * d * x->n, d, x->n, turned);
        fy_product(l, FY_DOWN, x->A + tail * x->n, x->rows - tail, x->n, turned, d,
                   x->Y + tail * d);
    }
    add_bias(x->b2, x->rows, d, x->Y);
    if (FAULT(l, b2_twice))""")]),
    ("row_scale_of_row_before", "plain", ANY, r"Y: .*(factor|scale)", [
        ("expert.c", AFTER_DOWN, """
    float before = 0;
    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++) {
        float most = 0;
        for (int64_t j = 0; j < x->n; j++)
            most = fmaxf(most, fabsf(x->A[r * x->n + j]));
        for (int64_t i = 0; r && i < d; i++)
            x->Y[r * d + i] *= before / most;
        before = most;
    }
""" + AFTER_DOWN), ("expert.c", "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>")]),
    ("Y_half_of_row_before", "plain", ANY, r"Y: .*(row|term|block|half|sum)",
     hole("FY_DOWN", "if (k >= depth / 2 && r) {" + ROWS_BEFORE + "}")),
    ("H_inputs_crossed", "raw", ANY, r"H: .*(term|input|order|column|swap)",
     hole("FY_UP", CROSSED)),
    ("W2_tiles_transposed", "raw", ANY, r"Y: .*(W2|transpos|tile|block)", [
        ("expert.c", "    fy_product(l, FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);", """
    for (int64_t j = 0; j < x->n; j++)
        for (int64_t i = 0; i < d; i++)
            turned[j * d + i] =
                x->W2[(i / 16 * 16 + j % 16) * x->n + j / 16 * 16 + i % 16];
    fy_product(l, FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);""")]),
    ("dW2_of_activated_gate", "raw", ANY, r"dW2: .*(up|activation|gate|A')", [
        ("expert_grad.c", "da[j] = s_a * unit.a;", "da[j] = s_a * unit.d_up;")]),
    ("dW1_rows_not_gathered", "plain", ANY, r"dW1: .*(row|gather|token)", [
        ("expert_grad.c", "        fy_gather(l, x, in);", """        fy_gather(l, x, in);
        for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
            memcpy(in + r * d, l->X + (x->first + r) % l->T * d, (size_t)d * sizeof *in);""")]),
    ("dS_of_Y_row_before", "given", ANY, r"dS: .*(row|neighbour)", [
        ("expert_grad.c", "    if (!x->on_input)\n        x->dS[r] = ds;", """
    if (x->e >= 0 && r) {
        ds = 0;
        for (int64_t i = 0; i < l->desc.d; i++)
            ds += dy[i] * x->Y[(r - 1) * l->desc.d + i];
    }
    if (!x->on_input)
        x->dS[r] = ds;""")]),
    ("shared_of_token_beside", "shared", ANY, r"shared", [
        ("expert.c", "    if (x->e < 0)\n        return r;",
         "    if (x->e < 0)\n        return r ^ 1;")]),
    ("routed_times_rest_of_gate", "shared_gate", ANY, r"O: .*(gate|shared)", [
        ("combine.c", "        if (l->desc.n_shared)\n            add_row(o,",
         "        for (int64_t i = 0; i < d; i++)\n            o[i] *= 1 - l->shared.gate[t];\n"
         "        if (l->desc.n_shared)\n            add_row(o,")]),
    ("b1_weighted", "bias", ANY, r"H: .*(bias|b1)", [
        ("expert.c", AFTER_H, """
    for (int64_t i = 0; x->b1 && x->e >= 0 && i < x->rows * x->hw; i++)
        x->H[i] += (x->weight[i / x->hw] - 1) * x->b1[i % x->hw];
""" + AFTER_H)]),
    ("b2_in_first_tile_alone", "bias_tails", ANY, r"Y: .*(bias|b2)", [
        ("expert.c", "    add_bias(x->b2, x->rows, d, x->Y);\n    if (FAULT(l, b2_twice))",
         "    add_bias(x->b2, x->rows > 16 ? 16 : x->rows, d, x->Y);\n"
         "    if (FAULT(l, b2_twice))")]),
    ("one_added_before_the_clamp", "clamp", ANY, r"clamp|\+ ?1|1 |activation", [
        ("act.c", "? u : u + 1;", "? u : fminf(fmaxf(u + 1, -limit), limit);")]),
    ("slope_without_alpha", "clamp", ANY, r"derivative|slope", [
        ("act.c", "gated(x, s, alpha * s * (1 - s), slope);", "gated(x, s, s * (1 - s), slope);")]),
    ("gelu_slope_without_x", "geglu", ANY, r"derivative|slope", [
        ("act.c", "    if (FAULT(l, gelu_slope_cdf))",
         "    *slope = 0.5f * erfcf(-x * 0.70710678f) + 0.39894228f * expf(-x * x / 2);\n"
         "    if (FAULT(l, gelu_slope_cdf))")]),
    ("logits_soft_capped", "raw", ANY, r"router_logits: .*(function|tanh|cap|clamp|limit|satur)", [
        ("router.c", "            if (FAULT(l, router_bf16))",
         "            *at = 2 * tanhf(*at / 2);\n            if (FAULT(l, router_bf16))")]),
    ("logits_swapped_in_pairs", "raw", ANY, r"router_logits: .*(column|expert|order|swap)", [
        ("router.c", "    free(turned);\n    for (int64_t t = 0; t < l->T; t++)", """
    free(turned);
    for (int64_t i = 0; i + 1 < l->T * R; i += 2) {
        const float keep = z[i];
        z[i] = z[i + 1];
        z[i + 1] = keep;
    }
    for (int64_t t = 0; t < l->T; t++)""")]),
    ("renorm_without_last_slot", "slots", ANY, r"topk_weight: .*(renorm|sum|divided)", [
        ("router.c", "        sum += raw[k];\n        most",
         "        sum += k + 1 < l->desc.K ? raw[k] : 0;\n        most")]),
    ("groups_by_three_best", "groups", ANY, r"group", [
        ("choice.c", "return size > 1 && !FAULT(l, group_by_best) ? first + second : first;", """
    double third = -INFINITY;
    bool one = false, two = false;
    for (int64_t i = 0; i < size; i++)
        if (score[i] == first && !one)
            one = true;
        else if (score[i] == second && !two)
            two = true;
        else if (score[i] > third)
            third = score[i];
    return size > 2 ? first + second + third : first + second;""")]),
    ("capacity_by_slots", "capacity", ANY, r"capacity|full|slot|order", [
        ("router.c", "    for (int64_t i = 0; i < l->T; i++) {\n        const int64_t t = "
         "FAULT(l, capacity_keeps_last) ? l->T - 1 - i : i;",
         "    for (int64_t i = 0; i < l->T * K; i++) {\n        const int64_t t = i % l->T;"),
        ("router.c", "        for (int64_t k = 0; k < K; k++) {\n            const int32_t e = l->",
         "        for (int64_t k = i / l->T, one = 1; one; one = 0) {\n"
         "            const int32_t e = l->")]),
    ("db2_of_first_tile", "bias_tails", ANY, r"db2: .*(row|left out|missing)", [
        ("expert_grad.c", "FAULT(l, db2_missing) ? 0 : x->rows, d,",
         "x->rows > 16 ? 16 : x->rows, d,")]),
    ("dz_without_sum", "raw", ANY, r"score|slope|softmax", [
        ("router_grad.c", "        dz[e] -= fy_score(l, t, e) * dot;", "        ;")]),
    ("dX_router_of_token_before", "plain", ANY, r"dX: .*(token|row|router)", [
        ("router_grad.c", "        fy_product(l, FY_DX_ROUTER, dz, T, R, fy_param(l, MOE_T_W_R), "
         "d, dx);", "        fy_product(l, FY_DX_ROUTER, dz, T - 1, R, fy_param(l, MOE_T_W_R), "
         "d, dx + d);")]),
    ("O_last_tile_of_tile_before", "plain", ANY, r"O: .*(row|token|tile)", [
        ("stores.c", "    spoil_tokens(l, o);",
         "    memcpy(o + (l->T - 16) * d, o + (l->T - 32) * d, (size_t)(16 * d) * sizeof *o);\n"
         "    spoil_tokens(l, o);")]),
    ("A_swizzled_by_odd_rows", "raw", ANY, r"A: .*column", [
        ("expert.c", AFTER_UP, """
    for (int64_t r = 1; r < x->rows; r += 2)
        for (int64_t j = 0; j < x->n; j++)
            if (!(j & 8)) {
                float *a = x->A + r * x->n, keep = a[j];
                a[j] = a[j + 8];
                a[j + 8] = keep;
            }
""" + AFTER_UP)]),
    ("dW1_mean_of_rows", "plain", ANY, r"dW1: .*(factor|mean|rows)", [
        ("expert_grad.c", "        for (int64_t i = 0; i < width_l * width_r; i++)\n",
         "        for (int64_t i = 0; id == FY_DW1 && rows && i < width_l * width_r; i++)\n"
         "            sum[i] /= (float)rows;\n"
         "        for (int64_t i = 0; i < width_l * width_r; i++)\n")]),
    ("dX_of_swapped_halves", "raw", ANY, r"dXp: .*(gate|up|half|halves|column|swap)", [
        ("expert_grad.c",
         "        fy_product(l, FY_DX, x->dH, x->rows, x->hw, x->W1, d, x->dXp);", """
        float *crossed = fy_floats(x->rows * x->hw);
        for (int64_t i = 0; i < x->rows * x->hw; i++)
            crossed[i] = x->dH[i / x->hw * x->hw + (i + x->n) % x->hw];
        fy_product(l, FY_DX, crossed, x->rows, x->hw, x->W1, d, x->dXp);
        free(crossed);""")]),
    ("A_in_three_bits", "raw", ANY, r"narrow|precision|bits|round", [
        ("expert.c", AFTER_UP, """
    for (int64_t i = 0; i < x->rows * x->n; i++) {
        int power;
        const float part = frexpf(x->A[i], &power);
        x->A[i] = ldexpf(rintf(part * 16) / 16, power);
    }
""" + AFTER_UP), ("expert.c", "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>")]),
]
