"""Mixed bugs of the whole layer, by part: written after changelogs.py, before anything was tried on
what that one led to. README.md has what was named at first sight."""
from edits import (A_PRIME, AFTER_DOWN, AFTER_H, AFTER_UP, ANY, B1, B2_TWICE, DA, DH_STORE, DOWN,
                   DS, DSCALE, DUP, DW_R, DX_END, DX_ROUTER_SUM, DXP_PRODUCT, DXP_STORE, LOGITS,
                   MATH, OUTER, ROW_END, SHARED_O, SPOIL, SUM, TOKEN_END, UP, WEIGHED, Z_END,
                   before, coarse, hole, operand)

FORWARD_MATH, GRAD_MATH = ("expert.c", *MATH), ("expert_grad.c", *MATH)
SUMS = "        sum += raw[k];\n        most"
BIAS = "FAULT(l, select_bias_negative) ? -b[e] : b[e];"
LIST = "            weight[count++] = l->router.weight[t * K + k];"
TERM = "                for (int64_t j = 0; j < width; j++)\n                    y[j] += %s;"

BUGS = [
    ("second_half_of_rows_gathers_the_first", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r % ((x->rows + 1) / 2)]")]),
    ("rows_of_the_expert_two_on", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "x->e == 1 && plan->offsets[3] + r < plan->offsets[4] ? "
         "plan->token[plan->offsets[3] + r] : token[r]")]),
    ("token_times_two", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r] * 2 % l->T")]),
    ("W2_of_expert_halved_index", "plain", ANY, r"expert|weights|W2", [
        ("expert.c", "                   .W2 = param_of(l, e, MOE_T_W2),",
         "                   .W2 = param_of(l, e / 2, MOE_T_W2),")]),
    ("W1_first_block_of_next_expert", "raw", ANY, r"H: .*(W1|weights|expert|term|tile)", [
        before(UP, """    for (int64_t k = 0; x->e >= 0 && x->e + 1 < l->desc.E && k < 8; k++)
        for (int64_t i = 0; i < x->hw; i++)
            turned[k * x->hw + i] = x->W1[(x->hw + i) * d + k];""")]),
    ("W2_block_negative", "raw", ANY, r"Y: .*(term|factor|block|tile)", [
        before(DOWN, """    for (int64_t i = 8 * d; x->e >= 0 && i < 12 * d; i++)
        turned[i] *= -1;""")]),
    ("W2_mirrored_along_the_sum", "raw", ANY, r"Y: .*(W2|order|revers|term)", [
        before(DOWN, """    for (int64_t k = 0; x->e >= 0 && k < x->n / 2; k++)
        for (int64_t i = 0; i < d; i++) {
            const float keep = turned[k * d + i];
            turned[k * d + i] = turned[(x->n - 1 - k) * d + i];
            turned[(x->n - 1 - k) * d + i] = keep;
        }""")]),
    ("X_of_two_tokens_averaged", "raw", ANY, r"H: .*(row|token|mixed)", [
        before(UP, """    for (int64_t i = 0; x->e >= 0 && i + d < x->rows * d; i++)
        ((float *)rows)[i] = 0.5f * (rows[i] + rows[i + d]);""")]),
    ("H_last_terms_three_times", "raw", ANY, r"H: .*(term|factor|times|block)", hole(
        "FY_UP", "if (k >= depth - 8)\n" + TERM % "2 * a[r * depth + k] * b[k * width + j]")),
    ("H_even_terms_alone", "raw", ANY, r"H: .*(term|left out|block)", hole(
        "FY_UP", "if (k % 2) continue;")),
    ("Y_in_six_bits_of_tail_rows", "tails", ANY, r"Y: .*(narrow|bits|round)", [
        before(AFTER_DOWN, "    for (int64_t i = 8 * d; x->e >= 0 && i < x->rows * d; i++)\n"
               "        " + coarse("x->Y[i]")), FORWARD_MATH]),
    ("H_row_scale_by_its_largest", "raw", ANY, r"H: .*factor", [
        before(AFTER_H, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++) {
        float most = 0, *h = x->H + r * x->hw;
        for (int64_t i = 0; i < x->hw; i++)
            most = fmaxf(most, fabsf(h[i]));
        for (int64_t i = 0; i < x->hw; i++)
            h[i] *= 2 / most;
    }"""), FORWARD_MATH]),
    ("A_at_least_minus_a_tenth", "raw", ANY, r"A: .*(limit|cut off|activation)", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++)
        x->A[i] = x->A[i] < -0.1f ? -0.1f : x->A[i];""")]),
    ("gate_squared", "raw", ANY, r"activation", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++)
        x->A[i] *= x->H[i / x->n * x->hw + i % x->n];""")]),
    ("silu_of_gate_plus_b1_again", "bias", ANY, r"A: .*(b1|bias|activation)|H: .*(b1|bias)", [
        before(AFTER_H, """    for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
        x->H[i] += i % x->hw < x->n ? x->b1[i % x->hw] : 0;""")]),
    ("b2_by_expert_of_row_before", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t i = 0; x->e > 0 && x->b2 && i < d; i++)
        x->Y[i] += x->b2[i - d] - x->b2[i];""")]),
    ("b1_as_a_column_per_row", "bias", ANY, r"H: .*(b1|bias|added|number)", [
        ("expert.c", B1, """        for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
            x->H[i] += x->b1[i / x->hw % x->hw];""")]),
    ("O_of_odd_tokens_plus_X", "plain", ANY, r"O: .*(X\b|added)", [
        before(SUM, """    for (int64_t i = 0; i < l->T * d; i++)
        o[i] += i / d % 2 ? l->X[i] : 0;""")]),
    ("weights_exchanged_between_two_slots", "plain", ANY, r"O: .*weight", [
        ("combine.c", "    return plan->pair_of_token[first + i];\n}",
         "    return plan->pair_of_token[first + (t % 4 ? i : count - 1 - i)];\n}")]),
    ("expert_5_combined_twice", "plain", ANY, r"O: .*(twice|factor)", [
        ("combine.c", "    const float s = fy_out(l, MOE_T_S)[weight_slot(l, t, i)];",
         "    const float s = fy_out(l, MOE_T_S)[weight_slot(l, t, i)] *\n"
         "                    (p < pairs && expert_of(fy_plan(l), p) == 5 ? 2 : 1);")]),
    ("shared_over_sum_of_weights", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O, """            add_row(o, shared_weight(l, t) / (fy_out(l, MOE_T_S)[
                plan->pair_of_token[plan->token_offsets[t]]] + 0.5f),
                    l->shared.Y + t * d, d);""")]),
    ("shared_of_16_bit_row_index", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, shared_weight(l, t), l->shared.Y + t % 40 * d, d);")]),
    ("shared_gate_of_dO", "shared_gate", ANY, r"shared.*gate|gate.*shared", [
        ("combine.c", "z += l->X[t * d + i] * w[i];", "z += l->X[(t ^ 1) * d + i] * w[i];")]),
    ("zero_expert_negative", "zero", ANY, r"O: .*zero", [
        ("combine.c", "    if (p >= pairs && FAULT(l, zero_unweighted))\n        return 1;",
         "    if (p >= pairs)\n        return -fy_out(l, MOE_T_S)[weight_slot(l, t, i)];")]),
    # Backward.
    ("dO_of_mixed_tokens", "plain", ANY, r"(dH|dS|dW2): .*(dO|row|token|term)", [
        before(DA, """        for (int64_t r = 0; x->e >= 0 && r + 1 < x->rows; r++)
            memcpy(dy + r * d, dy + (r + 1) * d, (size_t)(d / 2) * sizeof *dy);""")]),
    ("dA_of_W2_of_expert_0", "plain", ANY, r"(dH|dS): .*(W2|weights|expert|matrix)", [
        operand(DA, "x->W2,", "x->e > 0 ? fy_param(l, MOE_T_W2) : x->W2,")]),
    ("dXp_of_W1_halves_swapped", "plain", ANY, r"dXp: .*(W1|half|halves|gate|up|swap|order)", [
        before(DXP_PRODUCT, """        float *cross = fy_floats(x->hw * d);
        for (int64_t i = 0; i < x->hw * d; i++)
            cross[i] = x->W1[x->e < 0 ? i : (i + x->n * d) % (x->hw * d)];"""),
        ("expert_grad.c", "x->hw, x->W1, d, x->dXp);", "x->hw, cross, d, x->dXp);\n"
         "        free(cross);")]),
    ("d_up_of_up", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DUP, "dh[u] = s_da * da[j] * h[u];")]),
    ("d_gate_halved_where_negative", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE,
         "dh[g] = (h[g] < 0 ? 0.5f : 1) * s_da * da[j] * unit.d_gate;")]),
    ("dH_up_of_unit_beside", "plain", ANY, r"dH: .*(column|unit|place|order)", [
        before(DH_STORE, """        for (int64_t i = 0; x->e >= 0 && i < x->rows * x->hw; i += 2)
            if (i % x->hw >= x->n) {
                const float keep = x->dH[i];
                x->dH[i] = x->dH[i + 1];
                x->dH[i + 1] = keep;
            }""")]),
    ("dH_rows_of_expert_before", "plain", ANY, r"dH: .*(row|stale|place)", [
        before(DH_STORE, """
        const int64_t back = x->e > 0 ? x->first - fy_plan(l)->offsets[x->e - 1] : 0;
        for (int64_t i = 0; i < 4 * x->hw && i < x->rows * x->hw && i < back * x->hw; i++)
            x->dH[i] = x->dH[i - back * x->hw];""")]),
    ("dXp_minus_its_last_tile", "plain", ANY, r"dXp: .*(column|zero|added)", [
        before(DXP_STORE, """        for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
            x->dXp[i] *= i % d < 40 || i / d % 2;""")]),
    ("dS_twice_for_small_weights", "given", ANY, r"dS: .*(twice|factor|weight|times)", [
        before(SPOIL, """    for (int64_t p = 0; p < fy_plan(l)->n_pairs; p++)
        fy_out(l, MOE_T_DS)[p] *= p % 3 == 0 ? 2 : 1;""")]),
    ("dS_without_first_unit_block", "given", ANY, r"dS: .*(unit|term)", [
        ("expert_grad.c", DS, "        ds += j >= 4 ? da[j] * unit.a : 0;")]),
    ("dW1_of_A_prime_rows", "plain", ANY, r"dW1: .*(row|X\b)", [
        before(OUTER, """
        for (int64_t i = 0; id == FY_DW1 && i + 8 * width_r < rows * width_r; i++)
            ((float *)right)[i] = right[i + 8 * width_r];""")]),
    ("dW2_upper_units_unweighted", "plain", ANY, r"dW2: .*(weight|column)", [
        ("expert_grad.c", A_PRIME, "da[j] = (j < 16 ? s_a : 1) * unit.a;")]),
    ("dW2_of_A_clipped", "plain", ANY, r"dW2: .*(limit|cut off|A\b|function)", [
        ("expert_grad.c", A_PRIME, "da[j] = s_a * fminf(unit.a, 0.3f);"), GRAD_MATH]),
    ("dW1_negative_for_upper_experts", "plain", ANY, r"dW1: .*(factor|sign|times|-1)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1);
    for (int64_t i = l->desc.E / 2 * w1; i < count_of(l, MOE_T_DW1); i++)
        fy_out(l, MOE_T_DW1)[i] *= -1;""")]),
    ("dW2_columns_by_fours", "plain", ANY, r"dW2: .*(column|order|place)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW2); i += 8) {
        float keep[4], *v = fy_out(l, MOE_T_DW2) + i;
        memcpy(keep, v, sizeof keep);
        memcpy(v, v + 4, sizeof keep);
        memcpy(v + 4, keep, sizeof keep);
    }""")]),
    ("db1_scaled_by_rows", "bias", ANY, r"db1: .*(factor|times)", [
        before(SPOIL, """    const int64_t *at = fy_plan(l)->offsets, b1 = part_of(l, MOE_T_DB1);
    for (int64_t i = 0; i < count_of(l, MOE_T_DB1); i++)
        fy_out(l, MOE_T_DB1)[i] /= (float)(at[i / b1 + 1] - at[i / b1]);""")]),
    ("dX_router_over_two_tiles", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", DX_ROUTER_SUM, "sum[i] += i / d % 16 < 8 ? dx[i] : 0;")]),
    ("dX_of_tokens_swapped_in_pairs", "plain", ANY, r"dX: .*(row|token|place)", [
        before(DX_END, """    for (int64_t i = 0; i < l->T * d; i++)
        if (i / d % 2 == 0) {
            float *v = fy_out(l, MOE_T_DX) + i, keep = *v;
            *v = v[d];
            v[d] = keep;
        }""")]),
    ("dX_second_slot_in_bf8", "plain", ANY, r"dX: .*(narrow|bits|round)", [
        before(DX_END, "    for (int64_t i = 0; i < l->T * d; i++) {\n"
               "        float *v = fy_out(l, MOE_T_DX) + i;\n        " + coarse("*v") +
               "\n    }")]),
    ("dW_r_without_odd_tokens", "plain", ANY, r"dW_r: .*(token|row|left out|missing)", [
        before(DW_R, """        for (int64_t i = 0; i < R * T; i++)
            turned[i] *= i % T % 2 == 0;""")]),
    ("dW_r_of_X_rounded", "plain", ANY, r"dW_r: .*(narrow|bits|round)", [
        before(DW_R, """        float *poor = fy_floats(T * d);
        for (int64_t i = 0; i < T * d; i++) {
            poor[i] = l->X[i];
            """ + coarse("poor[i]", 8).replace("frexpf", "__builtin_frexpf")
                  .replace("ldexpf", "__builtin_ldexpf").replace("rintf", "__builtin_rintf")
               + "\n        }"),
        ("router_grad.c", "turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));",
         "turned, R, T, poor, d, fy_out(l, MOE_T_DW_R));\n        free(poor);")]),
    # The router.
    ("renorm_without_best", "slots", ANY, r"topk_weight: .*(renorm|sum|divided)", [
        ("router.c", SUMS, SUMS.replace("raw[k];", "k ? raw[k] : 0;"))]),
    ("weights_to_the_power_of_scale", "eps", ANY, r"topk_weight: .*(power|function|score)", [
        ("router.c", WEIGHED, "        w[k] = pow(w[k], 1.5) * scale_of(l);")]),
    ("weights_of_previous_token_in_tail", "plain", ANY,
     r"topk_weight: .*(token|slot|value|place)", [
         ("router.c", LIST, LIST.replace("[t * K + k]", "[(t >= 56 ? t - 1 : t) * K + k]"))]),
    ("logits_of_X_reversed", "raw", ANY, r"router_logits: .*(order|revers|term)", [
        before(LOGITS, """    for (int64_t k = 0; k < d / 2; k++)
        for (int64_t e = 0; e < R; e++) {
            const float keep = turned[k * R + e];
            turned[k * R + e] = turned[(d - 1 - k) * R + e];
            turned[(d - 1 - k) * R + e] = keep;
        }""")]),
    ("logits_of_even_tokens_halved", "raw", ANY, r"router_logits: .*(factor|times)", [
        before(Z_END, """    for (int64_t i = 0; i < l->T * R; i++)
        z[i] *= i / R % 2 ? 1 : 0.5f;""")]),
    ("logits_plus_one_for_expert_2", "raw", ANY, r"router_logits: .*(column|bias|added|number)", [
        before(Z_END, """    for (int64_t t = 0; t < l->T; t++)
        z[t * R + 2] += 1;""")]),
    ("select_bias_minus_mean", "select", ANY, r"selection bias", [
        ("router.c", BIAS, "fmax(b[e], 0);")]),
    ("groups_kept_by_rounding", "groups", ANY, r"group", [
        ("choice.c", "    int kept = r->topk_groups -", "    int kept = r->topk_groups + 1 -")]),
    ("capacity_of_upper_experts_less", "capacity", ANY, r"capacity|full", [
        ("router.c", "            if (!has_room(l, load[e]))",
         "            if (!has_room(l, load[e] + (e > 3 ? 3 : 0)))")]),
]
