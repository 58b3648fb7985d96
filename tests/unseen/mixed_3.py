"""Mixed bugs of the whole layer, by part: written with the wide set before either was tried, and
tried last. README.md has what was named."""
from edits import (A_PRIME, AFTER_DOWN, AFTER_H, AFTER_UP, ANY, B1, B2_TWICE, DA, DH_STORE, DS,
                   DSCALE, DUP, DW1, DW2, DW_R, DX, DX_END, DX_ROUTER, DX_ROUTER_SUM, DXP_PRODUCT,
                   DXP_STORE, LOGITS, MATH, OUTER, ROW_END, SHARED_O, SPOIL, SUM, TOKEN_END, UP,
                   WEIGHED, Z_END, before, coarse, operand)

FORWARD_MATH, GRAD_MATH = ("expert.c", *MATH), ("expert_grad.c", *MATH)

BUGS = [
    # Rows, tiles, stale buffers.
    ("rows_of_first_tile_rotated", "tails", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r < 8 && x->rows > 8 ? (r + 1) % 8 : r]")]),
    ("row_index_saturates_at_15", "tails", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r > 15 ? 15 : r]")]),
    ("padding_row_shifts_expert_2", "tails", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "x->e == 2 && r > 0 ? token[r - 1] : token[r]")]),
    ("W1_tile_two_columns_off", "raw", ANY, r"H: .*(W1|term|tile|block)", [
        before(UP, """    for (int64_t i = 16 * x->hw; x->e >= 0 && i < 22 * x->hw; i++)
        turned[i] = turned[i + 2 * x->hw];""")]),
    ("W2_last_rows_of_row_before", "raw", ANY, r"Y: .*(W2|column|tile|block|row)", [
        before(AFTER_DOWN, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        memmove(x->Y + r * d + d - 7, x->Y + r * d + d - 8, 7 * sizeof *x->Y);""")]),
    ("dXp_tile_of_W1_a_row_off", "plain", ANY, r"dXp: .*(W1|term|tile|block|row)", [
        before(DXP_PRODUCT, """        float *off = fy_floats(x->hw * d);
        for (int64_t i = 0; i < x->hw * d; i++)
            off[i] = x->W1[x->e >= 0 && i / d >= 16 && i / d < 24 ? i + d : i];"""),
        ("expert_grad.c", "x->hw, x->W1, d, x->dXp);", "x->hw, off, d, x->dXp);\n"
         "        free(off);")]),
    ("dX_router_tile_of_W_r_off", "plain", ANY, r"dX: .*router", [
        before(DX_ROUTER, """        for (int64_t i = 0; i < T * R; i++)
            dz[i] = i % R == R - 1 ? 0 : dz[i];""")]),
    ("X_tile_of_token_beside_in_dW1", "plain", ANY, r"dW1: .*(X\b|row|term|token|column)", [
        before(OUTER, """
        for (int64_t i = 0; id == FY_DW1 && i + width_r < rows * width_r; i++)
            if (i % width_r >= 16 && i % width_r < 24)
                ((float *)right)[i] = right[i + width_r];""")]),
    ("second_tile_keeps_first_H", "tails", ANY, r"H: .*(row|stale|tile|column)", [
        before(AFTER_H, """    for (int64_t r = 16; x->e >= 0 && r < x->rows; r++)
        memcpy(x->H + r * x->hw + 8, x->H + (r - 16) * x->hw + 8, 8 * sizeof *x->H);""")]),
    ("Y_rows_of_expert_before_added", "plain", ANY, r"Y: .*(row|added|mixed|expert)", [
        before(AFTER_DOWN, """
    const int64_t back = x->e > 0 ? x->first - fy_plan(l)->offsets[x->e - 1] : 0;
    for (int64_t i = 0; x->e > 0 && i < 4 * d && i < x->rows * d && i < back * d; i++)
        x->Y[i] += x->Y[i - back * d];""")]),
    ("dW2_stale_where_rows_are_few", "tails", ANY, r"dW2: .*(zero|stale|expert|left out|missing)", [
        before(SPOIL, """    const int64_t w2 = part_of(l, MOE_T_DW2);
    const int64_t *first = fy_plan(l)->offsets;
    for (int64_t i = 0; i < count_of(l, MOE_T_DW2); i++)
        fy_out(l, MOE_T_DW2)[i] *= first[i / w2 + 1] - first[i / w2] > 12;
""")]),
    ("H_last_row_lost", "tails", ANY, r"H: .*(row|zero|left out)", [
        before(AFTER_H, """    for (int64_t i = 0; x->e >= 0 && i < x->hw; i++)
        x->H[(x->rows - 1) * x->hw + i] = 0;""")]),
    ("dH_of_last_tile_zero", "tails", ANY, r"dH: .*(row|zero|left out)", [
        before(DH_STORE, """
        for (int64_t i = x->rows / 16 * 16 * x->hw; x->e >= 0 && i < x->rows * x->hw; i++)
            x->dH[i] = 0;""")]),
    ("O_column_tile_without_last_slot", "slots", ANY, r"O: .*(column|missing|left out|slot)", [
        ("combine.c",
         "        const bool zero = p >= plan->offsets[l->desc.E];\n        add_row(o, s,",
         "        const bool zero = p >= plan->offsets[l->desc.E];\n        if (i == count - 1) {\n"
         "            add_row(o + 8, s, fy_out(l, MOE_T_Y) + p * d + 8, d - 8);\n"
         "            continue;\n        }\n        add_row(o, s,")]),
    ("combine_rows_modulo_32", "plain", ANY, r"O: .*(row|read|token|place)", [
        ("combine.c", "    if (!FAULT(l, row_overflow))\n        return p;",
         "    if (!FAULT(l, row_overflow))\n        return p % 96;")]),
    ("dX_gathers_rows_modulo_96", "plain", ANY, r"dX: .*(row|read|token|place|dX~)", [
        ("combine.c", DX, DX.replace("+ p * d", "+ p % 96 * d"))]),
    ("dS_of_row_of_tile_before", "given", ANY, r"dS: .*(row|place|order|pair)", [
        before(SPOIL, """    for (int64_t p = fy_plan(l)->n_pairs - 1; p >= 16; p--)
        fy_out(l, MOE_T_DS)[p] = fy_out(l, MOE_T_DS)[p - 16];""")]),
    # Operands and terms.
    ("dW1_of_X_and_A_prime", "square", ANY, r"dW1: .*(A'|A\b|dH|operand)", [
        operand(DW1, "x->dH,", "a,")]),
    ("dW2_of_X_scaled", "on_input", ANY, r"dW2: .*(X\b|dO|operand)", [operand(DW2, "dy,", "in,")]),
    ("dXp_of_A", "square", ANY, r"dXp: .*(A\b|dH|operand)", [
        operand(DXP_PRODUCT, "x->dH,", "x->A,")]),
    ("dW_r_of_logits", "plain", ANY, r"dW_r: .*(logit|operand)", [
        before(DW_R, """        for (int64_t i = 0; i < T * R; i++)
            turned[i % R * T + i / R] = (float)l->logits[i];""")]),
    ("dX_router_through_W1", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", "T, R, fy_param(l, MOE_T_W_R), d, dx);",
         "T, R, fy_param(l, MOE_T_W1), d, dx);")]),
    ("logits_of_dO", "raw", ANY, r"router_logits: .*(dO|X\b|operand|input)", [
        before(LOGITS, "    const float *wrong = l->dO;"),
        ("router.c", "FY_LOGITS, l->X, l->T", "FY_LOGITS, wrong, l->T")]),
    ("db1_of_dA", "bias", ANY, r"db1: .*(dA|slope|derivative|operand|dH)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DB1); i++) {
        const int64_t e = i / part_of(l, MOE_T_DB1), j = i % part_of(l, MOE_T_DB1);
        float sum = 0;
        for (int64_t p = fy_plan(l)->offsets[e]; p < fy_plan(l)->offsets[e + 1]; p++)
            sum += fy_out(l, MOE_T_A)[p * l->desc.n + j % l->desc.n];
        fy_out(l, MOE_T_DB1)[i] = sum;
    }""")]),
    ("dS_of_weighted_dA", "given", ANY, r"dS: .*weight", [
        ("expert_grad.c", DS, "        ds += s_da * s_da * da[j] * unit.a;")]),
    ("dS_of_gate_units_alone", "given", ANY, r"dS: .*(unit|term|zero|left out)", [
        ("expert_grad.c", DS, "        ds += j % 2 ? 0 : da[j] * unit.a;")]),
    ("A_prime_weight_of_row_0", "plain", ANY, r"dW2: .*weight", [
        ("expert_grad.c", A_PRIME, "da[j] = (x->e < 0 ? s_a : x->weight[0]) * unit.a;")]),
    ("A_prime_of_unclamped", "clamp", ANY, r"dW2: .*(A'|A\b|activation|clamp|limit)", [
        ("expert_grad.c", A_PRIME, "da[j] = s_a * h[g] / (1 + expf(-1.702f * h[g])) * (h[u] + 1);"),
        GRAD_MATH]),
    ("d_up_slope_of_gate", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DUP, "dh[u] = s_da * da[j] * unit.d_gate;")]),
    ("d_gate_without_one_minus_sigma", "geglu", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE, "dh[g] = s_da * da[j] * h[u];")]),
    ("d_gate_of_halves", "plain", ANY, r"dH: .*(factor|times)", [
        ("expert_grad.c", DSCALE, "dh[g] = 0.5f * s_da * da[j] * unit.d_gate;")]),
    ("dW1_gate_rows_negative", "plain", ANY, r"dW1: .*(factor|times|sign)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW1); i++)
        fy_out(l, MOE_T_DW1)[i] *= i % part_of(l, MOE_T_DW1) < part_of(l, MOE_T_DW1) / 2 ? -1 : 1;
""")]),
    ("b1_half", "bias", ANY, r"H: .*(b1|bias)", [
        ("expert.c", B1, B1 + "\n    for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)\n"
         "        x->H[i] -= x->b1[i % x->hw] / 2;")]),
    ("b2_of_even_experts_for_odd", "bias", ANY, r"Y: .*(b2|bias)", [
        ("expert.c", "                   .b2 = param_of(l, e, MOE_T_B2),",
         "                   .b2 = param_of(l, e / 2 * 2, MOE_T_B2),")]),
    ("b2_subtracted", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] -= 2 * x->b2[i % d];""")]),
    ("O_adds_half_of_X", "plain", ANY, r"O: .*(X\b|input)", [
        before(SUM, "    for (int64_t i = 0; i < l->T * d; i++)\n        o[i] += l->X[i] / 2;")]),
    ("dX_adds_half_of_dO", "plain", ANY, r"dX: .*dO", [
        before(DX_END, "    for (int64_t i = 0; i < l->T * d; i++)\n"
                       "        fy_out(l, MOE_T_DX)[i] += l->dO[i] / 2;")]),
    ("dX_router_of_first_columns", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", DX_ROUTER_SUM, "sum[i] += i % d < d / 2 ? dx[i] : 0;")]),
    # Precision and limits.
    ("A_of_four_bits", "raw", ANY, r"A.*(narrow|bits|round)", [
        before(AFTER_UP, "    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++)\n        "
               + coarse("x->A[i]")), FORWARD_MATH]),
    ("W1_of_four_bits_in_dXp", "plain", ANY, r"(dXp|W1).*(narrow|bits|round)", [
        before(DXP_PRODUCT, """        float *poor = fy_floats(x->hw * d);
        for (int64_t i = 0; i < x->hw * d; i++) {
            poor[i] = x->W1[i];
            if (x->e >= 0)
                """ + coarse("poor[i]") + "\n        }"),
        ("expert_grad.c", "x->hw, x->W1, d, x->dXp);", "x->hw, poor, d, x->dXp);\n"
         "        free(poor);"), GRAD_MATH]),
    ("X_of_four_bits_in_dW1", "plain", ANY, r"(dW1|X).*(narrow|bits|round)", [
        before(OUTER, """        for (int64_t i = 0; id == FY_DW1 && i < rows * width_r; i++)
            """ + coarse("((float *)right)[i]")), GRAD_MATH]),
    ("dXp_saturates", "plain", ANY, r"dXp: .*(limit|cut off|clamp|satur)", [
        before(DXP_STORE, "        for (int64_t i = 0; i < x->rows * d; i++)\n"
               "            x->dXp[i] = fminf(fmaxf(x->dXp[i], -0.5f), 0.5f);"), GRAD_MATH]),
    ("silu_by_a_line_near_zero", "raw", ANY, r"activation", [
        ("act.c", "return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x));",
         "return fabsf(x) < 1 ? 0.5f + 0.25f * x : 1 / (1 + expf(-x));")]),
    ("dO_saturates", "plain", ANY, r"(dS|dH|dW2).*(dO|limit|cut off|clamp|satur)", [
        before(DA, "        for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)\n"
               "            dy[i] = fminf(fmaxf(dy[i], -1.5f), 1.5f);"), GRAD_MATH]),
    # The router and what joins.
    ("weights_of_the_token_after", "plain", ANY, r"topk_weight: .*(token|row|slot|place|order)", [
        ("router.c", "            weight[count++] = l->router.weight[t * K + k];",
         "            weight[count++] = l->router.weight[(t + 1) % l->T * K + k];")]),
    ("renorm_by_largest_two", "slots", ANY, r"topk_weight: .*(renorm|sum|divided)", [
        ("router.c", "        sum += raw[k];\n        most",
         "        sum += k < 2 ? raw[k] : 0;\n        most")]),
    ("scale_added", "eps", ANY, r"topk_weight: .*(scale|function|added|factor|sum)", [
        ("router.c", WEIGHED, "        w[k] = w[k] - 1 + scale_of(l);")]),
    ("weights_squared", "raw", ANY, r"topk_weight: .*(twice|square|function|score|weight)", [
        ("router.c", WEIGHED, WEIGHED + "\n        w[k] *= w[k];")]),
    ("choice_of_odd_tokens_reversed", "plain", ANY, r"lowest|smallest|token|choice|chose|routing", [
        ("router.c", "        selection_scores(l, t, score);",
         "        selection_scores(l, t, score);\n"
         "        for (int64_t e = 0; t % 8 == 7 && e < l->R; e++)\n            score[e] *= -1;")]),
    ("group_score_by_smallest", "groups", ANY, r"group", [
        ("choice.c", "    return size > 1 && !FAULT(l, group_by_best) ? first + second : first;",
         "    double least = INFINITY;\n    for (int64_t i = 0; i < size; i++)\n"
         "        least = score[i] < least ? score[i] : least;\n    return least;")]),
    ("groups_swapped_in_pairs", "groups", ANY, r"group", [
        ("choice.c", "            allowed[g * size + i] = 1;",
         "            allowed[(g ^ 1) * size + i] = 1;")]),
    ("select_bias_a_tenth", "select", ANY, r"selection bias", [
        ("router.c", "FAULT(l, select_bias_negative) ? -b[e] : b[e];", "b[e] / 10;")]),
    ("capacity_of_even_experts_alone", "capacity", ANY, r"capacity|full", [
        ("router.c", "            if (!has_room(l, load[e]))",
         "            if (e % 2 == 0 && !has_room(l, load[e]))")]),
    ("router_bias_halved", "router_bias", ANY, r"router_logits: .*bias", [
        ("router.c", "            *at += b ? b[e] : 0;", "            *at += b ? b[e] / 2 : 0;")]),
    ("logits_tile_of_zero_experts", "zero", ANY, r"router_logits: .*(zero|column|expert)", [
        before(Z_END, """    for (int64_t i = 0; i < l->T * R; i++)
        z[i] *= i % R < l->desc.E;""")]),
    ("shared_times_top_weight", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O, """            add_row(o, shared_weight(l, t) *
                fy_out(l, MOE_T_S)[plan->pair_of_token[plan->token_offsets[t]]],
                l->shared.Y + t * d, d);""")]),
    ("shared_of_first_tile_for_all", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, shared_weight(l, t), l->shared.Y + t % 16 * d, d);")]),
    ("shared_W1_halves_swapped", "shared", ANY, r"shared.*(gate|up|swap)", [
        ("expert.c", "    return x->hw == x->n ? j : column_of(l, x, j, up);",
         "    return x->hw == x->n ? j : column_of(l, x, j, x->e < 0 ? !up : up);")]),
    ("shared_in_every_slot", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O, """            add_row(o, (float)l->desc.K * shared_weight(l, t),
                    l->shared.Y + t * d, d);""")]),
    ("zero_experts_get_scale_twice", "zero", ANY, r"O: .*zero", [
        ("combine.c", "    if (p >= pairs && FAULT(l, zero_unweighted))\n        return 1;",
         "    if (p >= pairs)\n        return 0.5f * fy_out(l, MOE_T_S)[weight_slot(l, t, i)];")]),
]
