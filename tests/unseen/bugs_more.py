"""More of all subjects: once held out, and mended for since."""
from edits import AFTER_H, AFTER_UP, ANY, DSCALE, OUTER, ROW_END, SPOIL, TOKEN_END, UNIT, UP


BUGS = [
    ("W1_up_rows_late", "raw", ANY, r"H: .*column", [
        ("expert.c", UP, """    for (int64_t k = 0; x->e >= 0 && k < d; k++)
        memmove(turned + k * x->hw + x->n, turned + k * x->hw + x->n + 8,
                (size_t)(x->n - 8) * sizeof *turned);
""" + UP)]),
    ("dX_gate_part_for_both", "raw", ANY, r"dXp: .*(column|terms|half|gate)", [
        ("expert_grad.c",
         "        fy_product(l, FY_DX, x->dH, x->rows, x->hw, x->W1, d, x->dXp);", """
        float *both = fy_floats(x->rows * x->hw);
        for (int64_t i = 0; i < x->rows * x->hw; i++)
            both[i] = x->dH[i / x->hw * x->hw + i % x->n];
        fy_product(l, FY_DX, both, x->rows, x->hw, x->W1, d, x->dXp);
        free(both);""")]),
    ("Y_row_of_token_after", "plain", ANY, r"O: .*(row|token|read|place)", [
        ("combine.c", "        const int64_t p = plan->pair_of_token[first + i];\n"
         "        const float s = output_weight(l, t, i, p);",
         "        const int64_t p = plan->pair_of_token[first + i + (t % 16 == 15 && t + 1 < l->T "
         "? count : 0)];\n        const float s = output_weight(l, t, i, "
         "plan->pair_of_token[first + i]);")]),
    ("small_experts_skipped", "tails", ANY, r"zero|left out|missing", [
        ("expert.c", "    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)\n"
         "        if (is_dropped(l, x, r))",
         "    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)\n        if (x->rows < 10)")]),
    ("weights_of_halved_logits", "raw", ANY, r"topk_weight: .*(score|function|logit|sum)", [
        ("router.c", "        sum += exp(z[i] - top);\n    return exp(z[e] - top) / sum;",
         "        sum += exp((z[i] - top) / 2);\n    return exp((z[e] - top) / 2) / sum;")]),
    ("sigmoid_rational", "raw", ANY, r"activation", [
        ("act.c", "return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x));",
         "return 0.5f + 0.5f * x / (1 + fabsf(x));")]),
    ("slope_of_gelu", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", UNIT, """fy_unit unit = fy_activate(l, h[g], h[u]);
        unit.d_gate = h[u] * (0.5f * erfcf(-h[g] * 0.70710678f) +
                              h[g] * 0.39894228f * expf(-h[g] * h[g] / 2));"""),
        ("expert_grad.c", "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>")]),
    ("dW1_of_dH_row_before", "plain", ANY, r"dW1: .*row", [
        ("expert_grad.c", OUTER, """
        if (id == FY_DW1)
            for (int64_t i = 0; i < width_l; i++)
                memmove(turned + i * rows + 1, turned + i * rows,
                        rows > 1 ? (size_t)(rows - 1) * sizeof *turned : 0);
        fy_product(l, id, turned, width_l, rows, right, width_r, sum);""")]),
    ("dW2_upper_unweighted", "plain", ANY, r"dW2: .*weight|dW2.*weight", [
        ("expert_grad.c", "da[j] = s_a * unit.a;",
         "da[j] = (x->e >= l->desc.E / 2 ? 1 : s_a) * unit.a;")]),
    ("db1_weighted_again", "bias", ANY, r"db1: .*weight", [
        ("expert_grad.c", "x->hw, NULL, x->db1);", "x->hw, x->weight, x->db1);")]),
    ("dX_last_slot_twice", "plain", ANY, r"twice", [
        ("combine.c", "        add_row(dx, s, fy_out(l, MOE_T_DXP) + p * d, d);",
         "        add_row(dx, i == count - 1 && t % 4 == 0 ? 2 * s : s, fy_out(l, MOE_T_DXP) + "
         "p * d, d);")]),
    ("dS_of_first_slot", "given", ANY, r"dS: .*(slot|row|pair|expert)", [
        ("stores.c", SPOIL, """    for (int64_t t = 0; t < l->T; t++)
        for (int64_t i = fy_plan(l)->token_offsets[t] + 1;
             i < fy_plan(l)->token_offsets[t + 1]; i++)
            fy_out(l, MOE_T_DS)[fy_plan(l)->pair_of_token[i]] =
                fy_out(l, MOE_T_DS)[fy_plan(l)->pair_of_token[fy_plan(l)->token_offsets[t]]];
""" + SPOIL)]),
    ("logits_of_mixed_rows", "raw", ANY, r"router_logits: .*(term|token|row|block|input)", [
        ("router.c", "    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);", """
    float *mixed = fy_floats(l->T * d);
    for (int64_t i = 0; i < l->T * d; i++)
        mixed[i] = l->X[i % d < 16 && i + d < l->T * d ? i + d : i];
    fy_product(l, FY_LOGITS, mixed, l->T, d, turned, R, z);
    free(mixed);""")]),
    ("last_expert_never_chosen", "plain", ANY, r"never chosen", [
        ("choice.c", "    return cap < l->R ? cap : l->R;",
         "    return cap < l->R ? cap : l->R - 1;")]),
    ("odd_experts_b2_of_next", "bias", ANY, r"bias|b2", [
        ("expert.c", "                   .b2 = param_of(l, e, MOE_T_B2),",
         "                   .b2 = param_of(l, e % 2 && e + 1 < desc->E ? e + 1 : e, MOE_T_B2),")]),
    ("shared_misses_last_tile", "shared", ANY, r"shared", [
        ("combine.c", "        if (l->desc.n_shared)\n            add_row(o, shared_weight(l, t),",
         "        if (l->desc.n_shared && t < l->T - 16)\n            add_row(o, "
         "shared_weight(l, t),")]),
    ("dW_r_of_next_token", "plain", ANY, r"dW_r: .*(token|row|X\b)", [
        ("router_grad.c", "fy_product(l, FY_DW_R, turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));",
         """float *late = fy_floats(T * d);
        for (int64_t i = 0; i < T * d; i++)
            late[i] = l->X[(i + d) % (T * d)];
        fy_product(l, FY_DW_R, turned, R, T, late, d, fy_out(l, MOE_T_DW_R));
        free(late);""")]),
    ("O_tiles_reversed", "plain", ANY, r"O: .*column", [
        ("stores.c", "    spoil_tokens(l, o);", """
    for (int64_t i = 0; i < l->T * d; i += 16)
        for (int64_t j = 0; j < 8; j++) {
            const float keep = o[i + j];
            o[i + j] = o[i + 15 - j];
            o[i + 15 - j] = keep;
        }
    spoil_tokens(l, o);""")]),
    ("A_of_absolute_up", "raw", ANY, r"activation", [
        ("expert.c", AFTER_UP, """    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t j = 0; j < x->n; j++)
            if (x->H[r * x->hw + fy_column(l, x, j, 1)] < 0)
                x->A[r * x->n + j] *= -1;
""" + AFTER_UP)]),
    ("H_last_block_of_next_W1", "raw", ANY, r"H: .*(W1|weights|matrix|term|block)", [
        ("expert.c", UP, """    if (x->e >= 0 && x->e + 1 < l->desc.E)
        for (int64_t i = 0; i < x->hw; i++)
            for (int64_t k = d - 16; k < d; k++)
                turned[k * x->hw + i] = x->W1[(x->hw + i) * d + k];
""" + UP)]),
    ("rows_reversed", "plain", ANY, r"row|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[x->rows - 1 - r]")]),
    ("dH_weight_of_next_token", "slots", ANY, r"dH: .*weight", [
        ("expert_grad.c", DSCALE, "dh[g] = fy_out(l, MOE_T_S)[(x->first + r + 2) % "
         "fy_plan(l)->n_pairs] * da[j] * unit.d_gate;"),
        ("expert_grad.c", "dh[u] = s_da * da[j] * unit.d_up;", "dh[u] = fy_out(l, MOE_T_S)["
         "(x->first + r + 2) % fy_plan(l)->n_pairs] * da[j] * unit.d_up;")]),
    ("H_bias_of_first_expert", "bias", ANY, r"H: .*bias|b1|bias", [
        ("expert.c", AFTER_H, """
    for (int64_t i = 0; x->b1 && x->e > 0 && i < x->rows * x->hw; i++)
        x->H[i] += x->b1[i % x->hw - x->e * x->hw] - x->b1[i % x->hw];
""" + AFTER_H)]),
]
