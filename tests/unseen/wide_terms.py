"""A wide set, part 2: operands, terms of the backward pass, factors and precision. Written in one
sitting, with its words, before any of it was tried."""
from edits import (A_PRIME, AFTER_DOWN, AFTER_H, AFTER_UP, ANY, DA, DH_STORE, DOWN, DS, DSCALE, DUP,
                   DW1, DW2, DX, DXP_PRODUCT, DXP_STORE, MATH, SPOIL, SUM, UNIT, before, coarse,
                   operand)

COLUMNS = "                    x->on_input || FAULT(l, db2_unweighted) ? NULL : x->weight, x->db2);"
DB1 = "        column_sums(l, x->dH, FAULT(l, db1_missing) ? 0 : x->rows, x->hw, NULL, x->db1);"
EACH = "for (int64_t i = 0; x->e >= 0 && i < x->rows * %s; i++)\n            "
GRAD_MATH = ("expert_grad.c", *MATH)
FORWARD_MATH = ("expert.c", *MATH)

BUGS = [
    # Another operand than the product's.
    ("dW2_of_Y", "plain", ANY, r"dW2: .*(Y\b|dO\b|operand)", [operand(DW2, "dy,", "x->Y,")]),
    ("dW1_of_H", "plain", ANY, r"dW1: .*(\bH\b|dH\b|operand)", [operand(DW1, "x->dH,", "x->H,")]),
    ("dW1_of_dO", "plain", ANY, r"dW1: .*(dO|X\b|operand)", [operand(DW1, "in,", "dy,")]),
    ("dW1_of_Y", "plain", ANY, r"dW1: .*(Y\b|X\b|operand)", [operand(DW1, "in,", "x->Y,")]),
    ("dW2_of_dX", "plain", ANY, r"dW2: .*(dX|dO|operand)", [operand(DW2, "dy,", "x->dXp,")]),
    ("dXp_of_H", "plain", ANY, r"dXp: .*(\bH\b|dH\b|operand)", [
        operand(DXP_PRODUCT, "x->dH,", "x->H,")]),
    ("dA_of_Y", "plain", ANY, r"(dS|dH).*(Y\b|dO|operand)", [operand(DA, "dy,", "x->Y,")]),
    ("dA_of_X", "plain", ANY, r"(dS|dH).*(X\b|dO|operand)", [
        before(DA, "        if (x->e >= 0)\n            fy_gather(l, x, in);"),
        ("expert_grad.c", "x->rows, d, x->W2, x->n, a);",
         "x->rows, d, x->W2, x->n, a);\n        if (x->e >= 0)\n"
         "            fy_product(l, FY_DA, in, x->rows, d, x->W2, x->n, a);")]),
    ("Y_of_gates", "raw", ANY, r"Y: .*(\bH\b|gate|operand|A\b)", [
        before(DOWN, """    float *gates = fy_floats(x->rows * x->n);
    for (int64_t i = 0; i < x->rows * x->n; i++)
        gates[i] = x->e < 0 ? x->A[i] : x->H[i / x->n * x->hw + i % x->n];"""),
        ("expert.c", "FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);",
         "FY_DOWN, gates, x->rows, x->n, turned, d, x->Y);\n    free(gates);")]),
    ("dS_of_dO_and_X", "given", ANY, r"dS: .*(X\b|Y\b|operand)", [
        ("expert_grad.c", "    if (!x->on_input)\n        x->dS[r] = ds;",
         """    for (int64_t i = 0, t = fy_token(l, x, r); x->e >= 0 && i < l->desc.d; i++)
        ds = (i ? ds : 0) + dy[i] * l->X[t * l->desc.d + i];
    if (!x->on_input)
        x->dS[r] = ds;""")]),
    ("dS_of_gate_and_dA", "given", ANY, r"dS: .*(gate|A\b|up|activation|operand)", [
        ("expert_grad.c", DS, "        ds += da[j] * h[g];")]),
    ("db1_of_H", "bias", ANY, r"db1: .*(\bH\b|dH\b|operand)", [
        ("expert_grad.c", DB1, DB1.replace("l, x->dH", "l, x->H"))]),
    ("db2_of_Y", "bias", ANY, r"db2: .*(Y\b|dO|operand)", [
        ("expert_grad.c", "column_sums(l, dy, FAULT", "column_sums(l, x->Y, FAULT")]),
    ("db2_of_first_weight", "bias", ANY, r"db2: .*weight", [
        ("expert_grad.c", "            ret[i] += s ? s[r] * g",
         "            ret[i] += s ? s[0] * g")]),
    ("db2_weight_twice", "bias", ANY, r"db2: .*weight", [
        ("expert_grad.c", "            ret[i] += s ? s[r] * g",
         "            ret[i] += s ? s[r] * s[r] * g")]),
    ("dW2_of_up", "raw", ANY, r"dW2: .*(up\b|A\b|operand|activation)", [
        ("expert_grad.c", A_PRIME, "da[j] = s_a * h[u];")]),
    ("dW2_of_gate", "raw", ANY, r"dW2: .*(gate|A\b|operand|activation)", [
        ("expert_grad.c", A_PRIME, "da[j] = s_a * h[g];")]),
    ("dW2_of_dH_gate", "raw", ANY, r"dW2: .*(dH|A\b|operand)", [
        ("expert_grad.c", A_PRIME, "da[j] = dh[g];")]),
    ("dXp_up_half_for_both", "plain", ANY, r"dXp: .*(up|gate|half|term|dH)", [
        before(DXP_PRODUCT, """        float *both = fy_floats(x->rows * x->hw);
        for (int64_t i = 0; i < x->rows * x->hw; i++)
            both[i] = x->dH[i % x->hw < x->n && x->e >= 0 ? i + x->n : i];"""),
        ("expert_grad.c", "FY_DX, x->dH, x->rows, x->hw, x->W1, d, x->dXp);",
         "FY_DX, both, x->rows, x->hw, x->W1, d, x->dXp);\n        free(both);")]),
    ("dXp_gates_of_W1_for_both", "plain", ANY, r"dXp: .*(W1|up|gate|half|term)", [
        before(DXP_PRODUCT, """        float *half = fy_floats(x->hw * d);
        for (int64_t i = 0; i < x->hw * d; i++)
            half[i] = x->W1[x->e < 0 ? i : i % (x->n * d)];"""),
        ("expert_grad.c", "x->hw, x->W1, d, x->dXp);", "x->hw, half, d, x->dXp);\n"
         "        free(half);")]),
    ("dW1_up_is_gate", "plain", ANY, r"dW1: .*(up|gate|half|row|place)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1);
    for (int64_t i = 0; i < count_of(l, MOE_T_DW1); i++)
        if (i % w1 >= w1 / 2)
            fy_out(l, MOE_T_DW1)[i] = fy_out(l, MOE_T_DW1)[i - w1 / 2];""")]),
    # Terms of dH.
    ("d_gate_without_up", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE, "dh[g] = s_da * da[j] * unit.d_gate / (h[u] ? h[u] : 1);")]),
    ("d_up_without_weight", "plain", ANY, r"dH: .*weight", [
        ("expert_grad.c", DUP, "dh[u] = da[j] * unit.d_up;")]),
    ("d_gate_weight_twice", "plain", ANY, r"dH: .*weight", [
        ("expert_grad.c", DSCALE, "dh[g] = s_da * s_da * da[j] * unit.d_gate;")]),
    ("d_up_half_zero", "plain", ANY, r"dH: .*(zero|up|half|column)", [
        ("expert_grad.c", DUP, "dh[u] = j < x->n / 2 ? s_da * da[j] * unit.d_up : 0;")]),
    ("d_gate_of_absolute_up", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>"),
        ("expert_grad.c", DSCALE, "dh[g] = s_da * da[j] * (h[u] < 0 ? -unit.d_gate : "
         "unit.d_gate);")]),
    ("slope_of_unit_beside", "raw", ANY, r"dH: .*(derivative|slope|unit|column)", [
        ("expert_grad.c", UNIT, "fy_unit unit = fy_activate(l, h[g], h[u]);\n"
         "        unit.d_gate = fy_activate(l, h[g ^ 1], h[u]).d_gate;")]),
    ("relu2_slope_without_two", "relu2", ANY, r"derivative|slope|factor", [
        ("act.c", "    *slope *= FAULT(l, relu2_slope_half) ? a : 2 * a;",
         "    *slope *= 2;")]),
    ("reglu_slope_by_up", "reglu", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE, "dh[g] = s_da * da[j] * (h[u] > 0 ? h[u] : 0);")]),
    ("clamp_lets_the_up_pass", "clamp", ANY, r"derivative|slope|clamp", [
        ("act.c", "up_in ? value : 0};", "value};")]),
    ("alpha_one_and_a_half", "clamp", ANY, r"activation|alpha", [
        ("act.c", "FAULT(l, alpha_missing) ? 1 : (float)l->desc.act_alpha, slope);",
         "1.5f, slope);")]),
    # Factors and limits.
    ("dX_pairs_weighted_again", "plain", ANY, r"dX: .*weight", [
        ("combine.c", DX, "        s *= i == 0 ? fy_out(l, MOE_T_S)[p] : 1;\n" + DX)]),
    ("H_second_tile_of_columns_halved", "raw", ANY, r"H: .*(factor|times)", [
        before(AFTER_H, EACH % "x->hw" + "x->H[i] *= i % x->hw / 16 == 1 ? 0.5f : 1;")]),
    ("Y_scaled_by_rows_tile", "tails", ANY, r"Y: .*(factor|times)", [
        before(AFTER_DOWN, EACH % "d" + "x->Y[i] *= i / d % 16 < 8 ? 1 : 0.9f;")]),
    ("A_saturates_at_two", "raw", ANY, r"A: .*(limit|cut off|clamp|satur)", [
        before(AFTER_UP, EACH % "x->n" + "x->A[i] = x->A[i] > 1.5f ? 1.5f : x->A[i];")]),
    ("Y_saturates", "raw", ANY, r"Y: .*(limit|cut off|clamp|satur)", [
        before(AFTER_DOWN, EACH % "d" + "x->Y[i] = fminf(fmaxf(x->Y[i], -0.6f), 0.6f);"),
        FORWARD_MATH]),
    ("dH_saturates", "plain", ANY, r"dH: .*(limit|cut off|clamp|satur)", [
        before(DH_STORE, EACH % "x->hw" + "x->dH[i] = fminf(fmaxf(x->dH[i], -0.3f), 0.3f);"),
        GRAD_MATH]),
    ("O_saturates", "plain", ANY, r"O: .*(limit|cut off|clamp|satur)", [
        before(SUM, "    for (int64_t i = 0; i < l->T * d; i++)\n"
                    "        o[i] = fminf(fmaxf(o[i], -0.5f), 0.5f);")]),
    ("small_H_flushed", "raw", ANY, r"H: .*(zero|small|limit|function|cut|flush)", [
        before(AFTER_H, EACH % "x->hw" + "x->H[i] = fabsf(x->H[i]) < 0.1f ? 0 : x->H[i];"),
        FORWARD_MATH]),
    ("small_dH_flushed", "plain", ANY, r"dH: .*(zero|small|limit|function|cut|flush)", [
        before(DH_STORE, EACH % "x->hw" + "x->dH[i] = fabsf(x->dH[i]) < 0.05f ? 0 : x->dH[i];"),
        GRAD_MATH]),
    # Precision.
    ("dH_of_four_bits", "plain", ANY, r"dH.*(narrow|bits|round)", [
        before(DH_STORE, EACH % "x->hw" + coarse("x->dH[i]")), GRAD_MATH]),
    ("dXp_of_four_bits", "plain", ANY, r"dXp.*(narrow|bits|round)", [
        before(DXP_STORE, EACH % "d" + coarse("x->dXp[i]")), GRAD_MATH]),
    ("dO_of_four_bits", "plain", ANY, r"(dO|dA|dS|dH|dW2).*(narrow|bits|round)", [
        before(DA, EACH % "d" + coarse("dy[i]")), GRAD_MATH]),
    ("A_prime_of_four_bits", "plain", ANY, r"dW2.*(narrow|bits|round)", [
        ("expert_grad.c", "        fy_store(l, a, x->rows * x->n);",
         "        " + EACH % "x->n" + coarse("a[i]") +
         "\n        fy_store(l, a, x->rows * x->n);"), GRAD_MATH]),
    ("dS_sums_of_eight_bits", "given", ANY, r"dS.*(narrow|bits|round|bf16)", [
        ("expert_grad.c", DS, "        ds += da[j] * unit.a;\n        " + coarse("ds", 128)),
        GRAD_MATH]),
    ("H_in_five_bits", "raw", ANY, r"H.*(narrow|bits|round)", [
        before(AFTER_H, EACH % "x->hw" + coarse("x->H[i]", 32)), FORWARD_MATH]),
    ("H_cut_not_rounded", "raw", ANY, r"H.*(narrow|bits|round|truncat|cut)", [
        before(AFTER_H, EACH % "x->hw" + coarse("x->H[i]", 64).replace("rintf", "truncf")),
        FORWARD_MATH]),
    ("W2_of_four_bits_in_dA", "plain", ANY, r"(dS|dH|W2).*(narrow|bits|round)", [
        before(DA, """        float *poor = fy_floats(d * x->n);
        for (int64_t i = 0; i < d * x->n; i++) {
            poor[i] = x->W2[i];
            if (x->e >= 0)
                """ + coarse("poor[i]") + "\n        }"),
        ("expert_grad.c", "x->rows, d, x->W2, x->n, a);",
         "x->rows, d, poor, x->n, a);\n        free(poor);"), GRAD_MATH]),
]
