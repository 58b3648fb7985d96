"""Bugs as libraries' changelogs and issues tell of them, written after all that was mended for
mixed_4 and those before it. README.md has what was named at first sight."""
from edits import (A_PRIME, AFTER_DOWN, AFTER_H, AFTER_UP, ANY, B1, B2_TWICE, DH_STORE, DOWN, DS,
                   DSCALE, DUP, DW2, DW_R, DX, DX_END, FP32, LOGITS, MATH, OUTER, ROW_END,
                   SHARED_DX, SHARED_O, SPOIL, SUM, TOKEN_END, UNIT, UP, WEIGHED, Z_END, before,
                   coarse, hole)

FORWARD_MATH, GRAD_MATH = ("expert.c", *MATH), ("expert_grad.c", *MATH)
OWN = "    return e;\n}\n\nstatic const float *param_of"
DZ_STORE = "        fy_transpose(dz, T, R, turned);"
GATE_SHARED = ": 1 / (1 + expf(-z));"
ROOM = "            if (!has_room(l, load[e]))"
TERM = "                for (int64_t j = 0; j < width; j++)\n                    y[j] += %s;"

BUGS = [
    # Which expert, which row.
    ("absent_experts_become_expert_0", "plain", ANY, r"expert|weights", [
        ("expert.c", OWN, OWN.replace("return e;", "return e >= 6 ? 0 : e;"))]),
    ("experts_in_reverse_pairs", "plain", ANY, r"expert|weights", [
        ("expert.c", OWN, OWN.replace("return e;", "return E % 2 ? e : e ^ 1;"))]),
    ("W1_of_rank_one_twice", "plain", ANY, r"expert|weights|W1", [
        ("expert.c", "                   .W1 = param_of(l, e, MOE_T_W1),",
         "                   .W1 = param_of(l, e % 4 + 4, MOE_T_W1),")]),
    ("full_tile_runs_on_into_next", "tails", ANY, r"Y: .*(W2|weights|expert|row)", [
        before(B2_TWICE, """    const int64_t *at = fy_plan(l)->offsets;
    if (x->e > 0 && (at[x->e] - at[x->e - 1]) % 16 == 0) {
        fy_transpose(x->W2 - d * x->n, d, x->n, turned);
        fy_product(l, FY_DOWN, x->A, x->rows < 16 ? x->rows : 16, x->n, turned, d, x->Y);
    }""")]),
    ("odd_number_of_tiles_drops_the_last", "tails", ANY, r"zero|left out|missing", [
        before(AFTER_DOWN, """    const int64_t tiles = (x->rows + 7) / 8;
    for (int64_t i = (tiles - 1) * 8 * d; x->e >= 0 && tiles % 2 && i < x->rows * d; i++)
        x->Y[i] = 0;""")]),
    ("rows_of_tile_by_bit_reversal", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[(r & ~3) + (r & 1) * 2 + (r >> 1 & 1) < x->rows "
         "? (r & ~3) + (r & 1) * 2 + (r >> 1 & 1) : r]")]),
    ("tokens_beyond_40_read_token_40", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r] > 40 ? 40 : token[r]")]),
    # Sums of products.
    ("K_runs_over_into_the_next_row", "raw", ANY, r"H: .*(term|twice|row|block|added)", hole(
        "FY_UP", "if (k + 4 >= depth && r + 1 < rows)\n" + TERM %
        "a[(r + 1) * depth + k + 4 - depth] * b[(k + 4 - depth) * width + (j + 1) % width]")),
    ("odd_blocks_of_K_count_twice", "raw", ANY, r"Y: .*(term|twice|factor|block)",
     hole("FY_DOWN", "if (k / 8 % 2)\n" + TERM % "a[r * depth + k] * b[k * width + j]")),
    ("first_terms_of_row_0", "raw", ANY, r"Y: .*(A\b|row|term|block)", hole(
        "FY_DOWN", "if (k < 4) {\n" + TERM % "a[k] * b[k * width + j]" +
        "\n                continue;\n            }")),
    ("X_clipped_for_int8", "raw", ANY, r"H: .*(X\b|limit|cut off|clip)", [
        before(UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        ((float *)rows)[i] = fminf(fmaxf(rows[i], -1.75f), 1.75f);"""), FORWARD_MATH]),
    ("W1_rows_in_tiles_of_8_by_2", "raw", ANY, r"H: .*(column|order|place|layout)", [
        before(AFTER_H, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        for (int64_t c = 0; c + 8 <= x->hw; c += 8) {
            float keep[8], *h = x->H + r * x->hw + c;
            memcpy(keep, h, sizeof keep);
            for (int64_t i = 0; i < 8; i++)
                h[i] = keep[i % 2 * 4 + i / 2];
        }""")]),
    ("H_stores_over_the_next_row", "raw", ANY, r"H: .*(column|row|place)", [
        before(AFTER_H, """    for (int64_t r = x->rows - 1; x->e >= 0 && r > 0; r--)
        memcpy(x->H + r * x->hw, x->H + (r - 1) * x->hw + x->hw - 4, 4 * sizeof *x->H);""")]),
    ("A_group_scale_of_other_group", "raw", ANY, r"A: .*(factor|times|scale)", [
        before(AFTER_UP, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        for (int64_t j = 16; j < 32; j++)
            x->A[r * x->n + j] *= 0.5f + (float)(r % 5) / 8;""")]),
    ("upper_experts_lose_their_scale", "plain", ANY, r"Y: .*(factor|times|scale)", [
        before(AFTER_DOWN, """    for (int64_t i = 0; x->e >= 4 && i < x->rows * d; i++)
        x->Y[i] *= 0.5f;""")]),
    ("Y_of_A_in_fp8", "raw", ANY, r"(Y|A).*(narrow|bits|round)", [
        before(DOWN, """    float *poor = fy_floats(x->rows * x->n);
    for (int64_t i = 0; i < x->rows * x->n; i++) {
        poor[i] = x->A[i];
        if (x->e >= 0)
            """ + coarse("poor[i]") + "\n    }"),
        ("expert.c", "FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);",
         "FY_DOWN, poor, x->rows, x->n, turned, d, x->Y);\n    free(poor);"), FORWARD_MATH]),
    # Activations, biases.
    ("relu2_of_both_signs", "relu2", ANY, r"activation", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++)
        x->A[i] = x->H[i] * x->H[i];""")]),
    ("sigmoid_cut_at_4", "raw", ANY, r"activation", [
        ("act.c", "    const float s = sigmoid(alpha * x);",
         "    const float s = sigmoid(x > 1 ? alpha : alpha * x);")]),
    ("up_of_the_tile_beside", "raw", ANY, r"A: .*(up|column|unit)", [
        ("expert.c", "fy_activate(l, h[fy_column(l, x, j, 0)], h[fy_column(l, x, j, 1)]).a;",
         "fy_activate(l, h[fy_column(l, x, j, 0)],\n"
         "                            h[fy_column(l, x, x->e < 0 ? j : j ^ 8, 1)]).a;")]),
    ("limit_of_up_by_magnitude_of_gate", "clamp", ANY, r"activation|clamp|limit", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++) {
        const float *h = x->H + i / x->n * x->hw + i % x->n;
        x->A[i] *= h[0] > 1 ? 0.5f : 1;
    }""")]),
    ("b1_after_the_gate_is_taken", "bias", ANY, r"H: .*(b1|bias)", [
        ("expert.c", B1, B1 + """
    for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
        x->H[i] -= i % 8 == 7 ? x->b1[i % x->hw] : 0;""")]),
    ("b2_in_first_expert_of_token", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t r = 0; x->b2 && r < x->rows; r++)
        for (int64_t i = 0; i < d; i++)
            x->Y[r * d + i] += x->b2[i] * (2 * x->weight[r] - 1);""")]),
    ("b2_of_the_block_before", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] += i % d >= 16 ? x->b2[i % d - 16] - x->b2[i % d] : 0;""")]),
    # Joining.
    ("slots_clipped_at_the_second", "slots", ANY, r"O: .*(missing|twice|left out|row|slot)", [
        ("combine.c", "        const int64_t p = plan->pair_of_token[first + i];\n"
         "        const float s = output_weight(l, t, i, p);",
         "        const int64_t p = plan->pair_of_token[first + (i > 6 ? 6 : i)];\n"
         "        const float s = output_weight(l, t, i > 6 ? 6 : i, p);")]),
    ("weights_of_pairs_not_dropped", "capacity", ANY, r"weight", [
        ("router.c", "            weight[count++] = l->router.weight[t * K + k];",
         "            weight[count] = l->router.weight[count], count++;")]),
    ("dX_by_argsort_for_its_inverse", "plain", ANY, r"dX: .*(row|dX~|place|read|order)", [
        ("combine.c", DX, DX.replace("+ p * d", "+ plan->pair_of_token[p] * d"))]),
    ("O_adds_shared_of_tile_start", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, shared_weight(l, t), l->shared.Y + t / 8 * 8 * d, d);")]),
    ("shared_gate_sigmoid_twice", "shared_gate", ANY, r"shared.*gate|gate.*shared", [
        ("combine.c", GATE_SHARED, ": 1 / (1 + expf(-1 / (1 + expf(-z))));")]),
    ("shared_gate_of_logit_0", "shared_gate", ANY, r"shared.*gate|gate.*shared", [
        ("combine.c", GATE_SHARED, ": 1 / (1 + expf(-(float)l->logits[t * l->R]));")]),
    ("shared_dX_without_gate", "shared_gate", ANY, r"dX: .*shared", [
        ("combine.c", SHARED_DX,
         "        add_row(dx, 1 / l->shared.gate[t], l->shared.dXp + t * d, d);")]),
    ("shared_dW1_of_upper_tokens", "shared", ANY, r"dW1_shared: .*(row|token|left out)", [
        before(OUTER, """
        const bool shared = id == FY_DW1 && ret == fy_out(l, MOE_T_DW1_SHARED);
        for (int64_t i = 0; shared && i < width_l * rows; i++)
            turned[i] *= i % rows >= rows / 2;""")]),
    ("shared_dW2_of_Y", "shared", ANY, r"dW2_shared: .*(Y\b|dO|row|other)", [
        ("expert_grad.c", DW2, DW2.replace("dy, d,", "x->e < 0 ? x->Y : dy, d,"))]),
    ("dw_gate_shared_over_T", "shared_gate", ANY, r"dw_gate_shared: .*(factor|times)", [
        before(SPOIL, """    for (int64_t i = 0; i < d; i++)
        fy_out(l, MOE_T_DW_GATE_SHARED)[i] /= (float)l->T;""")]),
    ("zero_expert_in_first_half_of_columns", "zero", ANY, r"O: .*(zero|column)", [
        ("combine.c", "row_read(l, p) * d, d);", "row_read(l, p) * d, zero ? d / 2 : d);")]),
    # Backward.
    ("backward_H_without_b1", "bias", ANY,
     r"(dH|dS|dW2|db1).*(b1|bias|slope|derivative|function)", [
         ("expert_grad.c", UNIT,
          "const fy_unit unit = fy_activate(l, h[g] - (x->b1 ? x->b1[g] : 0),\n"
          "                                     h[u] - (x->b1 ? x->b1[u] : 0));")]),
    ("geglu_backward_swapped", "geglu", ANY, r"derivative|slope|gate.*up|up.*gate", [
        ("expert_grad.c", UNIT, "const fy_unit unit = fy_activate(l, h[u], h[g]);")]),
    ("d_gate_of_absolute_gate", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", UNIT, "fy_unit unit = fy_activate(l, h[g], h[u]);\n"
         "        unit.d_gate = fy_activate(l, h[g] < 0 ? -h[g] : h[g], h[u]).d_gate;")]),
    ("dH_weight_of_first_slot", "slots", ANY, r"dH: .*weight", [
        ("expert_grad.c", DSCALE,
         "const moe_plan *pl = fy_plan(l);\n"
         "        const int64_t at = x->e < 0 ? 0 : pl->token_offsets[pl->token[x->first + r]];\n"
         "        const float w0 = x->e < 0 ? s_da : fy_out(l, MOE_T_S)[pl->pair_of_token[at]];\n"
         "        dh[g] = w0 * da[j] * unit.d_gate;"),
        ("expert_grad.c", DUP, "dh[u] = w0 * da[j] * unit.d_up;")]),
    ("dH_columns_tail_stale", "plain", ANY, r"dH: .*(column|row|zero|place)", [
        before(DH_STORE, """        for (int64_t r = x->rows - 1; x->e >= 0 && r > 0; r--)
            memcpy(x->dH + r * x->hw + x->hw - 8, x->dH + (r - 1) * x->hw + x->hw - 8,
                   8 * sizeof *x->dH);""")]),
    ("dS_weighted_by_next", "given", ANY, r"dS: .*weight", [
        before(SPOIL, """    for (int64_t p = 0; p < fy_plan(l)->n_pairs; p++)
        fy_out(l, MOE_T_DS)[p] *= fy_out(l, MOE_T_S)[(p + 1) % fy_plan(l)->n_pairs];""")]),
    ("dS_of_positive_units", "given", ANY, r"dS: .*(unit|term|product|activation)", [
        ("expert_grad.c", DS, "        ds += unit.a > 0 ? da[j] * unit.a : 0;")]),
    ("dW_of_small_experts_lost", "tails", ANY, r"dW1: .*(zero|left out|missing|expert)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1), *at = fy_plan(l)->offsets;
    for (int64_t i = 0; i < count_of(l, MOE_T_DW1); i++)
        fy_out(l, MOE_T_DW1)[i] *= at[i / w1 + 1] - at[i / w1] > 12;""")]),
    ("dW2_rows_of_tile_once_more", "tails", ANY, r"dW2: .*(twice|row)", [
        before(OUTER, """        for (int64_t i = 0; id == FY_DW2 && i < width_l * rows; i++)
            turned[i] *= i % rows / 4 == 1 ? 2 : 1;""")]),
    ("dW2_A_prime_of_row_weight_before", "slots", ANY, r"dW2: .*weight", [
        ("expert_grad.c", A_PRIME,
         "da[j] = (x->e < 0 ? s_a : x->weight[r ? r - 1 : x->rows - 1]) * unit.a;")]),
    ("dW1_interleaved_store", "plain", ANY, r"dW1: .*(layout|interleav|order|place|row)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1), n = l->desc.n;
    float *v = fy_out(l, MOE_T_DW1), keep[32 * 2 * 48];
    for (int64_t e = 0; w1 <= 32 * 2 * 48 && e < l->desc.E; e++, v += w1) {
        memcpy(keep, v, (size_t)w1 * sizeof *v);
        for (int64_t i = 0; i < w1; i++)
            v[(i / d % n * 2 + i / d / n) * d + i % d] = keep[i];
    }""")]),
    ("db2_unsorted_dO", "bias", ANY, r"db2: .*(dO|row|gather|token)", [
        before(SPOIL, """    for (int64_t e = 0; e < l->desc.E; e++)
        for (int64_t i = 0; i < d; i++) {
            float sum = 0;
            for (int64_t p = fy_plan(l)->offsets[e]; p < fy_plan(l)->offsets[e + 1]; p++)
                sum += fy_out(l, MOE_T_S)[p] * l->dO[p % l->T * d + i];
            fy_out(l, MOE_T_DB2)[e * d + i] = sum;
        }""")]),
    ("db1_of_gates_in_both", "bias", ANY, r"db1: .*(gate|up|half|column|place)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DB1); i++)
        if (i % part_of(l, MOE_T_DB1) >= l->desc.n)
            fy_out(l, MOE_T_DB1)[i] = fy_out(l, MOE_T_DB1)[i - l->desc.n];""")]),
    ("dX_first_slot_of_token_before", "plain", ANY, r"dX: .*(row|token|dX~|place)", [
        ("combine.c", DX, DX.replace("+ p * d", "+ (i == 0 && t > 0 ? plan->pair_of_token["
                                     "plan->token_offsets[t - 1]] : p) * d"))]),
    ("dX_of_dO_for_tokens_without", "plain", ANY, r"dX: .*(dO|added|token)", [
        before(DX_END, """    for (int64_t i = 0; i < l->T * d; i++)
        fy_out(l, MOE_T_DX)[i] += i / d % 4 == 3 ? 0.5f * l->dO[i] : 0;""")]),
    # The router.
    ("dz_has_a_z_loss", "plain", ANY, r"(dW_r|dX): .*(router|logit|slope|added|gradient)", [
        before(DW_R, """        for (int64_t i = 0; i < T * R; i++) {
            dz[i] += 0.05f * (float)l->logits[i];
            turned[i % R * T + i / R] = dz[i];
        }""")]),
    ("dz_of_last_token_tile_zero", "plain", ANY, r"(dW_r|dX): .*(router|token|row|left out|zero)", [
        ("router_grad.c", DZ_STORE, "        for (int64_t i = (T - 8) * R; i < T * R; i++)\n"
         "            dz[i] = 0;\n" + DZ_STORE)]),
    ("router_sees_scaled_X", "raw", ANY, r"router_logits: .*(factor|times)", [
        before(Z_END, """    for (int64_t i = 0; i < l->T * R; i++)
        z[i] *= 1 + 0.1f * (float)(i / R % 7 - 3);""")]),
    ("W_r_in_bf16", "raw", FP32, r"router_logits: .*(narrow|bits|round)", [
        before(LOGITS, """    for (int64_t i = 0; i < d * R; i++)
        turned[i] = fy_bf16(turned[i]);""")]),
    ("W_r_normalised", "raw", ANY, r"router_logits: .*(factor|column|times|expert)", [
        before(LOGITS, """    for (int64_t e = 0; e < R; e++) {
        float square = 0;
        for (int64_t k = 0; k < d; k++)
            square += turned[k * R + e] * turned[k * R + e];
        for (int64_t k = 0; k < d; k++)
            turned[k * R + e] /= sqrtf(square);
    }""")]),
    ("renorm_by_root_of_sum", "plain", ANY, r"topk_weight: .*(renorm|sum|divided)", [
        ("router.c", "    return FAULT(l, renorm_eps_missing) ? sum", "    sum = sqrt(sum);\n"
         "    return FAULT(l, renorm_eps_missing) ? sum")]),
    ("weight_at_least_a_tenth", "slots", ANY, r"topk_weight: .*(limit|cut off|function)", [
        ("router.c", WEIGHED, WEIGHED + "\n        w[k] = fmax(w[k], 0.1);")]),
    ("weights_of_rank_zero_for_tail", "slots", ANY, r"topk_weight: .*(slot|value|place|factor)", [
        ("router.c", "            weight[count++] = l->router.weight[t * K + k];",
         "            weight[count++] = l->router.weight[t * K + (k > 5 ? 5 : k)];")]),
    ("select_bias_by_rows_of_four", "select", ANY, r"selection bias", [
        ("router.c", "FAULT(l, select_bias_negative) ? -b[e] : b[e];", "b[e / 4 * 4];")]),
    ("choice_skips_the_best", "plain", ANY, r"best|choice|chose|second|worst", [
        ("choice.c", "    for (int64_t k = 0; k < K; k++) {\n        int64_t e = best_of(",
         "    allowed[best_of(l, score, allowed, l->R)] = 0;\n"
         "    for (int64_t k = 0; k < K; k++) {\n        int64_t e = best_of(")]),
    ("groups_of_first_three_alone", "groups", ANY, r"group", [
        ("choice.c", "        open[g] = 1;", "        open[g] = g < 3;")]),
    ("capacity_twice_for_expert_0", "capacity", ANY, r"capacity|full", [
        ("router.c", ROOM, "            if (e > 0 && !has_room(l, load[e]))")]),
    ("O_and_X_exchanged_at_the_end", "plain", ANY, r"O: .*(X\b|token|column)", [
        before(SUM, """    for (int64_t i = (l->T - 8) * d; i < l->T * d; i++)
        o[i] = l->X[i];""")]),
]
