"""Mixed rows, factors of blocks, terms that do not belong, two causes at once: written without a
look at what is named. README.md has what was named at first sight."""
from edits import AFTER_DOWN, AFTER_H, AFTER_UP, ANY, DX_END, SPOIL, SUM, UNIT, UP

OUTER_END = "        fy_store(l, ret, width_l * width_r);"
LOGIT = "            *at += b ? b[e] : 0;"
WEIGHED = "        w[k] *= scale_of(l);"
COARSE = "{ int at; const float m = frexpf(%s, &at); %s = ldexpf(roundf(m * 16) / 16, at); }"
MATH = "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>"

BUGS = [
    ("Y_column_block_doubled", "raw", ANY, r"Y: .*(factor|times|twice)", [
        ("expert.c", AFTER_DOWN, """    for (int64_t i = 0; i < x->rows * d; i++)
        x->Y[i] *= i % d / 16 == 1 ? 2 : 1;
""" + AFTER_DOWN)]),
    ("H_mean_of_two_rows", "raw", ANY, r"H: .*row", [
        ("expert.c", AFTER_H, """    for (int64_t i = 0; i + x->hw < x->rows * x->hw; i++)
        x->H[i] = (x->H[i] + x->H[i + x->hw]) / 2;
""" + AFTER_H)]),
    ("A_tiles_transposed", "raw", ANY, r"A: .*(order|place|transposed)", [
        ("expert.c", AFTER_UP, """    for (int64_t r = 0; r + 8 <= x->rows; r += 8)
        for (int64_t a = 0; a < 8; a++)
            for (int64_t b = 0; b < a; b++) {
                float *p = x->A + (r + a) * x->n + b, *q = x->A + (r + b) * x->n + a, keep = *p;
                *p = *q;
                *q = keep;
            }
""" + AFTER_UP)]),
    ("dS_over_weight", "given", ANY, r"dS: .*weight", [
        ("stores.c", SPOIL, """    for (int64_t p = 0; p < fy_plan(l)->n_pairs; p++)
        fy_out(l, MOE_T_DS)[p] /= fy_out(l, MOE_T_S)[p];
""" + SPOIL)]),
    ("dX_adds_dO", "plain", ANY, r"dX: .*dO", [
        ("combine.c", DX_END, """    for (int64_t i = 0; i < l->T * d; i++)
        fy_out(l, MOE_T_DX)[i] += l->dO[i];
""" + DX_END)]),
    ("O_adds_X", "plain", ANY, r"O: .*(X\b|input)", [
        ("stores.c", SUM, """    for (int64_t i = 0; i < l->T * d; i++)
        o[i] += l->X[i];
""" + SUM)]),
    ("upper_experts_next_W2", "raw", ANY, r"W2|weights", [
        ("expert.c", "                   .W2 = param_of(l, e, MOE_T_W2),",
         "                   .W2 = param_of(l, e >= desc->E / 2 && e + 1 < desc->E ? e + 1 : e, "
         "MOE_T_W2),")]),
    ("swapped_and_no_b2", "bias", ANY, r"gate.*(b2|bias)|(b2|bias).*gate", [
        ("expert.c", "                   .b2 = param_of(l, e, MOE_T_B2),",
         "                   .b2 = NULL,"),
        ("expert.c", "FAULT(l, gate_up_swapped) ? !up : up", "!up")]),
    ("dW1_mean", "raw", ANY, r"dW1: .*(factor|times)", [
        ("expert_grad.c", OUTER_END, OUTER_END + """
        for (int64_t i = 0; id == FY_DW1 && i < width_l * width_r; i++)
            ret[i] /= (float)(rows ? rows : 1);""")]),
    ("dS_last_token_lost", "given", ANY, r"dS: .*(zero|left out)", [
        ("stores.c", SPOIL, """    for (int64_t p = 0; p < fy_plan(l)->n_pairs; p++)
        if (fy_plan(l)->token[p] == l->T - 1)
            fy_out(l, MOE_T_DS)[p] = 0;
""" + SPOIL)]),
    ("logits_over_root_d", "raw", ANY, r"router_logits: .*(factor|times)", [
        ("router.c", LOGIT, LOGIT + " *at /= sqrtf((float)d);")]),
    ("logits_clipped", "raw", ANY, r"router_logits: .*(limit|cut off)", [
        ("router.c", LOGIT, LOGIT + " *at = *at > 1 ? 1 : *at < -1 ? -1 : *at;")]),
    ("odd_experts_swapped", "raw", ANY, r"gate", [
        ("expert.c", "FAULT(l, gate_up_swapped) ? !up : up", "x->e % 2 == 1 ? !up : up")]),
    ("X_of_four_bits", "raw", ANY, r"narrow|rounded", [
        ("expert.c", "    fy_transpose(x->W1, x->hw, d, turned);", """
    for (int64_t i = 0; i < x->rows * d; i++)
        """ + COARSE % ("rows[i]", "((float *)rows)[i]")
         + "\n    fy_transpose(x->W1, x->hw, d, turned);"),
        ("expert.c", *MATH)]),
    ("O_ends_with_its_start", "plain", ANY, r"O: .*(token|row)s?.*(place|read|those of)", [
        ("stores.c", SUM, """    for (int64_t i = 0; i < 16 * d; i++)
        o[(l->T - 16) * d + i] = o[i];
""" + SUM)]),
    ("dX_router_not_of_tail", "raw", ANY, r"dX: .*router", [
        ("router_grad.c", "sum[i] += (FAULT(l, dX_router_twice) ? 2 : 1) * dx[i];",
         "sum[i] += (i < (T - 16) * d) * dx[i];")]),
    ("Y_rows_reversed_by_8", "raw", ANY, r"Y: .*row", [
        ("expert.c", AFTER_DOWN, """    for (int64_t r = 0; r + 8 <= x->rows; r += 8)
        for (int64_t i = 0; i < 4 * d; i++) {
            float *p = x->Y + r * d + i, *q = x->Y + (r + 7 - i / d) * d + i % d, keep = *p;
            *p = *q;
            *q = keep;
        }
""" + AFTER_DOWN)]),
    ("silu_times_up_plus_up", "raw", ANY, r"activation", [
        ("expert.c", AFTER_UP, """    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t j = 0; j < x->n; j++)
            x->A[r * x->n + j] += x->H[r * x->hw + fy_column(l, x, j, 1)];
""" + AFTER_UP)]),
    ("slope_of_next_row", "raw", ANY, r"dH: .*row", [
        ("expert_grad.c", UNIT, "const fy_unit unit = fy_activate(l, h[g + (r + 1 < x->rows ? "
         "x->hw : 0)], h[u + (r + 1 < x->rows ? x->hw : 0)]);")]),
    ("db1_of_16_rows", "bias", ANY, r"db1: .*(row|term)", [
        ("expert_grad.c", "FAULT(l, db1_missing) ? 0 : x->rows, x->hw, NULL, x->db1);",
         "x->rows > 16 ? 16 : x->rows, x->hw, NULL, x->db1);")]),
    ("shared_of_next_token", "shared", ANY, r"shared.*(token|row)", [
        ("expert.c", "    if (x->e < 0)\n        return r;",
         "    if (x->e < 0)\n        return (r + 1) % l->T;")]),
    ("dW2_shared_without_tail", "shared", ANY, r"dW2_shared: .*(row|token|left out)", [
        ("expert_grad.c", "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);",
         """        for (int64_t i = 0; id == FY_DW2 && ret == fy_out(l, MOE_T_DW2_SHARED) &&
                            i < width_l * rows; i++)
            turned[i] *= i % rows < rows - 16;
        fy_product(l, id, turned, width_l, rows, right, width_r, sum);""")]),
    ("weights_of_four_bits", "raw", ANY, r"topk_weight: .*(narrow|rounded)", [
        ("router.c", WEIGHED, WEIGHED + " { int at; const double m = frexp(w[k], &at); "
         "w[k] = ldexp(round(m * 16) / 16, at); }")]),
    ("softmax_at_0.9", "raw", ANY, r"topk_weight: .*(function|logit|score)", [
        ("router.c", "        sum += exp(z[i] - top);\n    return exp(z[e] - top) / sum;",
         "        sum += exp((z[i] - top) / 0.9);\n    return exp((z[e] - top) / 0.9) / sum;")]),
    ("dX_mean_of_slots", "plain", ANY, r"dX: .*(factor|times)", [
        ("combine.c", DX_END, """    for (int64_t i = 0; i < l->T * d; i++)
        fy_out(l, MOE_T_DX)[i] /= (float)l->desc.K;
""" + DX_END)]),
]
