"""Mixed bugs of the whole layer, by part, of other reports and other places: written after the
hypotheses that the wide set and mixed_3 led to. README.md has what was named."""
from edits import (A_PRIME, AFTER_DOWN, AFTER_H, AFTER_UP, ANY, B1, B2_TWICE, DH_STORE, DSCALE,
                   DUP, DW1, DW_R, DX, DX_END, DXP_STORE, MATH, OUTER, ROW_END, SHARED_O, SPOIL,
                   SUM, TOKEN_END, UNIT, UP, Z_END, before, coarse, hole)

FORWARD_MATH, GRAD_MATH = ("expert.c", *MATH), ("expert_grad.c", *MATH)
GRADIENT_TOKEN = "        int64_t t = fy_token(l, x, r);"
RENORM_BACK = "dr[k] / norm - dot / (norm * norm);"
NORM = "                                        : sum + r->renorm_eps;"
BIAS = "FAULT(l, select_bias_negative) ? -b[e] : b[e];"
PICK = "            raw[k] = fy_score(l, t, chosen[k]);"

BUGS = [
    # Rows and operands of the forward pass.
    ("rows_swapped_in_pairs", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[(r ^ 1) < x->rows ? r ^ 1 : r]")]),
    ("every_eighth_row_of_token_0", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "r % 8 == 7 ? 0 : token[r]")]),
    ("token_of_row_counted_from_end", "tails", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "r < 4 ? token[x->rows - 1 - r] : token[r]")]),
    ("W2_of_short_stride", "raw", ANY, r"Y: .*(W2|stride|step|weights)|W2", [
        ("expert.c", "                   .W2 = param_of(l, e, MOE_T_W2),",
         "                   .W2 = param_of(l, e, MOE_T_W2) - (e > 0) * n,")]),
    ("gate_tile_made_with_up_rows", "raw", ANY, r"H: .*(column|up|gate)", [
        before(AFTER_H, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        memcpy(x->H + r * x->hw + 8, x->H + r * x->hw + x->n + 8, 8 * sizeof *x->H);""")]),
    ("W1_columns_rotated_by_four", "raw", ANY, r"H: .*(W1|term|order|shift)", [
        before(UP, """    float *turn = fy_floats(d * x->hw);
    for (int64_t k = 0; k < d; k++)
        memcpy(turn + k * x->hw, turned + (k + 4) % d * x->hw, (size_t)x->hw * sizeof *turn);
    if (x->e >= 0)
        memcpy(turned, turn, (size_t)(d * x->hw) * sizeof *turn);
    free(turn);""")]),
    ("X_mean_subtracted", "raw", ANY, r"H: .*(X\b|added|operand|term)", [
        before(UP, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++) {
        float mean = 0;
        for (int64_t k = 0; k < d; k++)
            mean += rows[r * d + k] / (float)d;
        for (int64_t k = 0; k < d; k++)
            ((float *)rows)[r * d + k] -= mean;
    }""")]),
    ("A_of_expert_before_in_first_rows", "plain", ANY, r"A: .*(row|stale|expert)", [
        before(AFTER_UP, """
    for (int64_t i = 0; x->e > 0 && i < 4 * x->n && i < x->rows * x->n; i++)
        x->A[i] = x->A[i - 4 * x->n];""")]),
    ("Y_last_block_counts_half", "raw", ANY, r"Y: .*(term|factor|block)",
     hole("FY_DOWN", """if (k >= depth - 8) {
                for (int64_t j = 0; j < width; j++)
                    y[j] += 0.5f * a[r * depth + k] * b[k * width + j];
                continue;
            }""")),
    ("H_scale_of_tile_row", "raw", ANY, r"H: .*(factor|times|scale)", [
        before(AFTER_H, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->hw; i++)
        x->H[i] *= 1 + 0.25f * (float)(i / x->hw / 4 % 3);""")]),
    ("Y_scale_of_column_block", "raw", ANY, r"Y: .*(factor|times|scale)", [
        before(AFTER_DOWN, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        x->Y[i] *= i % d / 8 == 3 ? 1.25f : 1;""")]),
    # Activations and biases.
    ("silu_of_the_product", "raw", ANY, r"activation", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++) {
        const float *h = x->H + i / x->n * x->hw + i % x->n, v = h[0] * h[x->n];
        x->A[i] = v / (1 + expf(-v));
    }"""), FORWARD_MATH]),
    ("up_added_not_multiplied", "raw", ANY, r"activation", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++) {
        const float *h = x->H + i / x->n * x->hw + i % x->n;
        x->A[i] = h[0] / (1 + expf(-h[0])) + h[x->n];
    }"""), FORWARD_MATH]),
    ("relu_in_rows_after_a_tile", "tails", ANY, r"A: .*activation", [
        before(AFTER_UP, """    for (int64_t i = 16 * x->n; x->e >= 0 && i < x->rows * x->n; i++) {
        const float *h = x->H + i / x->n * x->hw + i % x->n;
        x->A[i] = (h[0] > 0 ? h[0] : 0) * h[x->n];
    }""")]),
    ("gelu_without_a_half", "geglu", ANY, r"activation|factor", [
        ("act.c", "    if (FAULT(l, gelu_sigmoid)) {", """
    *slope = erfcf(-x * 0.70710678f) + 2 * x * 0.39894228f * expf(-x * x / 2);
    if (l)
        return x * erfcf(-x * 0.70710678f);
    if (FAULT(l, gelu_sigmoid)) {""")]),
    ("limit_of_the_gate_halved", "clamp", ANY, r"clamp|limit|activation", [
        ("act.c", "        g = clamp(l, g, FAULT(l, clamp_gate_below) ? -limit : -INFINITY, limit, "
         "&gate_in);", "        g = clamp(l, g, -INFINITY, limit / 2, &gate_in);")]),
    ("b1_of_up_twice", "bias", ANY, r"H: .*(b1|bias)", [
        ("expert.c", B1, B1 + """
    for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
        x->H[i] += i % x->hw >= x->n ? x->b1[i % x->hw] : 0;""")]),
    ("b2_over_K", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] += x->b2[i % d] / (float)l->desc.K - x->b2[i % d];""")]),
    ("b1_of_expert_0_in_a_tile", "bias", ANY, r"H: .*(b1|bias)", [
        before(AFTER_H, """    for (int64_t i = 0; x->b1 && x->e > 0 && i < x->rows * x->hw; i++)
        if (i % x->hw / 16 == 1)
            x->H[i] += fy_param(l, MOE_T_B1)[i % x->hw] - x->b1[i % x->hw];""")]),
    # Joining.
    ("O_over_sum_of_weights", "raw", ANY, r"O: .*(factor|weight|sum|times)", [
        before(SUM, """    for (int64_t t = 0; t < l->T; t++) {
        float sum = 0;
        for (int64_t i = fy_plan(l)->token_offsets[t]; i < fy_plan(l)->token_offsets[t + 1]; i++)
            sum += fy_out(l, MOE_T_S)[fy_plan(l)->pair_of_token[i]];
        for (int64_t i = 0; i < d; i++)
            o[t * d + i] /= sum;
    }""")]),
    ("first_slot_unweighted", "plain", ANY, r"O: .*weight", [
        ("combine.c", "    return p < pairs && FAULT(l, weight_twice) ? s * s : s;",
         "    return i == 0 ? 1 : s;")]),
    ("late_tokens_miss_last_slot", "slots", ANY, r"O: .*(missing|left out)", [
        ("combine.c", "        if (is_skipped(l, i, count, p))",
         "        if (t >= l->T - 5 && i == count - 1)")]),
    ("O_of_token_two_on_in_first_tile", "plain", ANY, r"O: .*(token|row|place)", [
        before(SUM, "    memmove(o, o + 2 * d, (size_t)(14 * d) * sizeof *o);")]),
    ("zero_expert_adds_rest_of_weight", "zero", ANY, r"O: .*zero", [
        ("combine.c", "    if (p >= pairs && FAULT(l, zero_unweighted))\n        return 1;",
         "    if (p >= pairs)\n        return 1 - fy_out(l, MOE_T_S)[weight_slot(l, t, i)];")]),
    ("zero_expert_gradient_of_X", "zero", ANY, r"dX: .*zero", [
        ("combine.c", "fy_out(l, MOE_T_S)[p], dO, d);", "fy_out(l, MOE_T_S)[p], x, d);")]),
    ("shared_gate_by_tanh", "shared_gate", ANY, r"shared.*gate|gate.*shared", [
        ("combine.c", ": 1 / (1 + expf(-z));", ": tanhf(z);")]),
    ("shared_of_half_the_row", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, shared_weight(l, t), l->shared.Y + t / 2 * d, d);")]),
    ("shared_negative_in_odd_tokens", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, t % 2 ? -shared_weight(l, t) : shared_weight(l, t),\n"
         "                    l->shared.Y + t * d, d);")]),
    ("dW1_shared_of_dO", "shared", ANY, r"dW1_shared: .*(dO|X\b|row)", [
        ("expert_grad.c", DW1, DW1.replace("in, d,", "x->e < 0 ? dy : in, d,"))]),
    # Backward.
    ("dO_not_gathered", "plain", ANY, r"(dH|dS|dW2): .*(dO|row|token|gather)", [
        ("expert_grad.c", GRADIENT_TOKEN,
         "        int64_t t = x->e < 0 ? r : (x->first + r) % l->T;")]),
    ("dO_of_tile_before", "tails", ANY, r"(dH|dS|dW2): .*(dO|row|token|gather)", [
        ("expert_grad.c", GRADIENT_TOKEN,
         "        int64_t t = fy_token(l, x, x->e >= 0 && r >= 16 ? r - 16 : r);")]),
    ("d_up_by_sigmoid", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DUP, "dh[u] = s_da * da[j] / (1 + expf(-h[g]));"), GRAD_MATH]),
    ("d_gate_with_up_squared", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE, "dh[g] = s_da * da[j] * unit.d_gate * h[u];")]),
    ("dH_tail_rows_unweighted", "tails", ANY, r"dH: .*weight", [
        before(DH_STORE, """
        for (int64_t i = 16 * x->hw; x->e >= 0 && i < x->rows * x->hw; i++)
            x->dH[i] /= x->weight[i / x->hw];""")]),
    ("A_prime_of_weights_from_0", "plain", ANY, r"dW2: .*weight", [
        ("expert_grad.c", A_PRIME, "da[j] = (x->e < 0 ? s_a : fy_out(l, MOE_T_S)[r]) * unit.a;")]),
    ("slope_of_rounded_H", "raw", ANY, r"derivative|slope|narrow|bits|round", [
        ("expert_grad.c", UNIT, "float hg = h[g];\n        " + coarse("hg", 4) +
         "\n        fy_unit unit = fy_activate(l, h[g], h[u]);\n"
         "        unit.d_gate = fy_activate(l, hg, h[u]).d_gate;"), GRAD_MATH]),
    ("dW1_every_fourth_row_lost", "plain", ANY, r"dW1: .*(row|left out)", [
        before(OUTER, """        for (int64_t i = 0; id == FY_DW1 && i < width_l * rows; i++)
            turned[i] *= i % rows % 4 != 3;""")]),
    ("dW2_rows_reversed", "plain", ANY, r"dW2: .*(row|A\b|dO)", [
        before(OUTER, """        for (int64_t i = 0; id == FY_DW2 && i < width_l; i++)
            for (int64_t r = 0; r < rows / 2; r++) {
                const float keep = turned[i * rows + r];
                turned[i * rows + r] = turned[i * rows + rows - 1 - r];
                turned[i * rows + rows - 1 - r] = keep;
            }""")]),
    ("dW1_gate_half_of_next_expert", "plain", ANY, r"dW1: .*(expert|gate|half|row)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1);
    for (int64_t e = 0; e + 1 < l->desc.E; e++)
        memcpy(fy_out(l, MOE_T_DW1) + e * w1, fy_out(l, MOE_T_DW1) + (e + 1) * w1,
               (size_t)w1 / 2 * sizeof(float));""")]),
    ("dW2_of_sum_of_slots", "plain", ANY, r"dW2: .*(weight|factor)", [
        ("expert_grad.c", A_PRIME, "da[j] = (x->e < 0 ? s_a : 1 - s_a) * unit.a;")]),
    ("db1_with_first_row_twice", "bias", ANY, r"db1: .*(row|twice)", [
        ("expert_grad.c", "    if (x->db1)", """    float *first = x->dH;
    for (int64_t i = 0; x->db1 && x->rows && i < x->hw; i++)
        first[i] *= 2;
    if (x->db1)""")]),
    ("db2_of_negative_dO", "bias", ANY, r"db2: .*(sign|factor|-1|times)", [
        ("expert_grad.c", "            ret[i] += s ? s[r] * g",
         "            ret[i] += s ? -s[r] * g")]),
    ("dXp_scaled_by_rows", "tails", ANY, r"dXp: .*(factor|times)", [
        before(DXP_STORE, """        for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
            x->dXp[i] *= 16 / (float)x->rows;""")]),
    ("dX_adds_Y_in_last_slot", "plain", ANY, r"dX: .*(Y\b|slot|missing|left out)", [
        ("combine.c", DX, "        if (i == count - 1)\n"
         "            add_row(dx, s, fy_out(l, MOE_T_Y) + p * d, d);\n        else\n    " + DX)]),
    ("dX_gate_of_shared_twice", "shared_gate", ANY, r"dX: .*(shared|gate)", [
        ("combine.c", "            add_row(fy_out(l, MOE_T_DX) + t * d, dz, w, d);",
         "            add_row(fy_out(l, MOE_T_DX) + t * d, 2 * dz, w, d);")]),
    ("dX_minus_mean", "plain", ANY, r"dX: .*(added|mean|something)", [
        before(DX_END, """    for (int64_t t = 0; t < l->T; t++) {
        float *dx = fy_out(l, MOE_T_DX) + t * d, mean = 0;
        for (int64_t i = 0; i < d; i++)
            mean += dx[i] / (float)d;
        for (int64_t i = 0; i < d; i++)
            dx[i] -= mean;
    }""")]),
    ("renorm_gradient_by_norm_once", "eps", ANY, r"weights and score|renorm|slope", [
        ("router_grad.c", RENORM_BACK, "dr[k] / norm - dot / norm;")]),
    ("dW_r_times_K", "plain", ANY, r"dW_r: .*(factor|times)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW_R); i++)
        fy_out(l, MOE_T_DW_R)[i] *= (float)l->desc.K;""")]),
    ("dW_r_of_X_in_expert_order", "plain", ANY, r"dW_r: .*(row|token|X\b)", [
        before(DW_R, """        float *sorted = fy_floats(T * d);
        for (int64_t i = 0; i < T * d; i++)
            sorted[i] = l->X[fy_plan(l)->token[i / d] * d + i % d];"""),
        ("router_grad.c", "turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));",
         "turned, R, T, sorted, d, fy_out(l, MOE_T_DW_R));\n        free(sorted);")]),
    # The router.
    ("renorm_adds_every_second", "slots", ANY, r"topk_weight: .*(renorm|sum|divided)", [
        ("router.c", "        sum += raw[k];\n        most",
         "        sum += k % 2 ? 0 : raw[k];\n        most")]),
    ("renorm_by_all_but_chosen", "plain", ANY, r"topk_weight: .*(renorm|sum|divided)", [
        ("router.c", NORM, "                                        : 1.25 - sum;")]),
    ("weight_less_the_least", "raw", ANY, r"topk_weight: .*(function|score|sum|least)", [
        ("router.c", PICK, PICK[:-1] + " - 0.5 / (double)l->R;")]),
    ("weight_by_tanh", "sigmoid", ANY, r"topk_weight: .*(function|score|logit)", [
        ("router.c", PICK, "            raw[k] = tanh(fabs(l->logits[t * l->R + chosen[k]]));")]),
    ("logits_of_centred_X", "raw", ANY, r"router_logits: .*(X\b|added|term|operand)", [
        before(Z_END, """    for (int64_t t = 0; t < l->T; t++) {
        float mean = 0, *w = (float *)fy_param(l, MOE_T_W_R);
        for (int64_t i = 0; i < d; i++)
            mean += l->X[t * d + i] / (float)d;
        for (int64_t i = 0; i < R * d; i++)
            z[t * R + i / d] -= mean * w[i];
    }""")]),
    ("last_expert_logit_halved", "raw", ANY, r"router_logits: .*(factor|times|column)", [
        before(Z_END, """    for (int64_t t = 0; t < l->T; t++)
        z[t * R + R - 1] /= 2;""")]),
    ("select_bias_for_odd_tokens_alone", "select", ANY, r"selection bias", [
        ("router.c", BIAS, "t % 2 ? b[e] : 0;")]),
    ("late_tokens_take_next_best", "plain", ANY, r"token|choice|second|next best|chose", [
        ("choice.c", "        if (spoilt && k == K - 1) {",
         "        if (t >= l->T / 2 && k == K - 1) {")]),
    ("groups_of_the_token_before", "groups", ANY, r"group", [
        ("choice.c", "        group[g] = group_score(l, score + g * size, size);",
         """        static double last[512];
        const double own = group_score(l, score + g * size, size);
        group[g] = last[g];
        last[g] = own;""")]),
    ("two_experts_of_each_group", "groups", ANY, r"group|part", [
        ("choice.c", "        allowed[e] = 0;", """        allowed[e] = 0;
        const int64_t g = e / (l->R / l->desc.router.groups);
        int taken = 1;
        for (int64_t i = 0; i < k; i++)
            taken += ret[i] / (l->R / l->desc.router.groups) == g;
        for (int64_t i = 0; taken >= 2 && i < l->R / l->desc.router.groups; i++)
            allowed[g * (l->R / l->desc.router.groups) + i] = 0;""")]),
    ("capacity_by_pairs_of_experts", "capacity", ANY, r"capacity|full", [
        ("router.c", "            if (!has_room(l, load[e]))",
         "            if (!has_room(l, (load[e] + load[e ^ 1]) / 2))")]),
    ("backward_with_first_H", "plain", ANY, r"second input|stale|first input", [
        ("plugin.c", "    moe_status status = each_expert(l, fy_expert_backward);",
         """    static float *kept;
    const size_t size = (size_t)moe_tensor_count(&l->out.t[MOE_T_H]) * sizeof *kept;
    if (l->inputs == 1) {
        kept = realloc(kept, size);
        memcpy(kept, fy_out(l, MOE_T_H), size);
    } else {
        memcpy(fy_out(l, MOE_T_H), kept, size);
    }
    moe_status status = each_expert(l, fy_expert_backward);""")]),
]
