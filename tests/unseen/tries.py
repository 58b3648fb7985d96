"""What someone who is shown a judge tries first, as edits: halves that are not written, sums that
are not cleared, weights, biases and scales at the wrong place. Words and edits were fixed before
the first was tried; numpy_tries_forward.py and numpy_tries_backward.py are their sisters."""
from edits import (A_PRIME, AFTER_DOWN, AFTER_H, AFTER_UP, ANY, B2_OF, B2_TWICE, DA, DH_STORE,
                   DW_R, DX_ROUTER, FP32, NOT_BF16, PAIR, ROW_END, SHARED_O, SPOIL, SUM, TOKEN_END,
                   UP, W1, W2, WEIGHED, Y_READ, Z_END, before, by_expert, hole, operand)

UNIT = "    fy_unit unit = {value * u, slope * u, value};"
SILU = "    const float s = sigmoid(alpha * x);"
SUMS = "        sum += raw[k];\n        most"
TERM = "                for (int64_t j = 0; j < width; j++)\n                    y[j] += %s;"
WEIGHT_SLOT = "    return plan->pair_of_token[first + i];\n}\n\nstatic float output"
NONEMPTY = ("({ int64_t c = 0; for (int64_t i = 0; i < e; i++) "
            "c += fy_plan(l)->offsets[i + 1] > fy_plan(l)->offsets[i]; c; })")
RENORM = "dr[k] = FAULT(l, dz_renorm_half) ? dr[k] / norm : dr[k] / norm - dot / (norm * norm);"
SLOPE = "*at += FAULT(l, dz_sigmoid_slope) ? dr[k] * raw[k] : dr[k] * raw[k] * (1 - raw[k]);"
GRADIENT_SCALE = "scale = FAULT(l, dz_without_scale) ? 1 : r->scale;"

BUGS = [
    ("O_upper_half_of_tokens_zero", "plain", ANY, r"O: .*zero", [
        before(SUM, """    for (int64_t i = l->T / 2 * d; i < l->T * d; i++)
        o[i] = 0;""")]),
    ("O_right_half_zero", "plain", ANY, r"O: .*zero", [
        before(SUM, """    for (int64_t i = 0; i < l->T * d; i++)
        o[i] *= i % d < d / 2;""")]),
    ("Y_read_in_order_of_tokens", "plain", ANY, r"O: .*(row|order|pair|place)", [
        ("combine.c", Y_READ, "fy_out(l, MOE_T_Y) + (first + i) * d, d);")]),
    ("weights_read_in_order_of_tokens", "raw", ANY, r"O: .*weight", [
        ("combine.c", WEIGHT_SLOT, WEIGHT_SLOT.replace(
            "plan->pair_of_token[first + i]", "first + i"))]),
    ("renorm_by_root_of_squares", "plain", ANY, r"topk_weight: .*(renorm|sum|divided|function)", [
        ("router.c", SUMS, SUMS.replace("raw[k];", "raw[k] * raw[k];")),
        ("router.c", "                                        : sum + r->renorm_eps;",
         "                                        : sqrt(sum) + r->renorm_eps;")]),
    ("logits_over_root_of_d", "raw", ANY, r"router_logits: .*factor", [
        before(Z_END, """    for (int64_t i = 0; i < l->T * R; i++)
        z[i] /= __builtin_sqrtf((float)d);""")]),
    ("quick_gelu_for_silu", "raw", ANY, r"A: .*(activation|gelu|alpha)", [
        ("act.c", SILU, "    alpha = 1.702f;\n" + SILU)]),
    ("hard_swish_for_silu", "raw", ANY, r"A: .*(activation|function)", [
        ("act.c", "    float a = gated(x, s, alpha * s * (1 - s), slope);",
         "    const float hard = x < -3 ? 0 : x > 3 ? 1 : (x + 3) / 6;\n"
         "    float a = gated(x, hard, hard > 0 && hard < 1 ? 1.0f / 6 : 0, slope);")]),
    ("up_added_not_multiplied", "raw", ANY, r"A: .*(activation|function)", [
        ("act.c", UNIT, "    fy_unit unit = {value + u, slope, 1};")]),
    ("up_plus_one_unasked", "raw", ANY, r"A: .*(activation|function|\b1\b)", [
        ("act.c", UNIT, "    fy_unit unit = {value * (u + 1), slope * (u + 1), value};")]),
    ("clamp_unasked", "raw", ANY, r"A: .*(activation|limit|clamp|cut off)", [
        ("act.c", UNIT, "    const float v = u > 1 ? 1 : u < -1 ? -1 : u;\n"
         "    fy_unit unit = {value * v, slope * v, u == v ? value : 0};")]),
    ("b1_after_the_activation", "bias", ANY, r"(A|H): .*(b1|bias|added)", [
        before(AFTER_UP, """    for (int64_t i = 0; x->b1 && i < x->rows * x->n; i++)
        x->A[i] += x->b1[i % x->n];""")]),
    ("b2_over_K", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] -= x->b2[i % d] / 2;""")]),
    ("b2_of_the_first_expert", "bias", ANY, r"Y: .*(b2|bias)", [by_expert(B2_OF, "0")]),
    ("W1_by_number_of_nonempty_expert", "empty", ANY, r"H: .*(W1|weights|expert)", [
        by_expert(W1, NONEMPTY)]),
    ("W2_by_number_of_nonempty_expert", "empty", ANY, r"Y: .*(W2|weights|expert)", [
        by_expert(W2, NONEMPTY)]),
    ("grid_over_all_rows_rounded_down", "tails", ANY, r"Y: .*(zero|row|tile)", [
        before(AFTER_DOWN, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        if (x->first + r >= fy_plan(l)->n_pairs / 24 * 24)
            memset(x->Y + r * d, 0, (size_t)d * sizeof *x->Y);""")]),
    ("H_last_block_twice", "raw", ANY, r"H: .*(term|block|twice|times)", hole(
        "FY_UP", "if (k >= depth - 16)\n" + TERM % "a[r * depth + k] * b[k * width + j]")),
    ("Y_sums_not_cleared_between_experts", "plain", ANY, r"Y: .*(row|added|expert|stale)", [
        before(AFTER_DOWN, """    const int64_t *plan = fy_plan(l)->offsets;
    const int64_t back = x->e > 0 ? x->first - plan[x->e - 1] : 0;
    for (int64_t i = 0; i < x->rows * d && i < back * d; i++)
        x->Y[i] += x->Y[i - back * d];""")]),
    ("H_saturates", "raw", ANY, r"H: .*(limit|cut off|clamp)", [
        before(AFTER_H, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->hw; i++)
        x->H[i] = x->H[i] > 1.5f ? 1.5f : x->H[i] < -1.5f ? -1.5f : x->H[i];""")]),
    ("logits_summed_in_bf16", "raw", NOT_BF16, r"router_logits: .*(narrow|bits|round)", hole(
        "FY_LOGITS", "for (int64_t j = 0; k % 8 == 0 && j < width; j++)\n"
        "                y[j] = fy_bf16(y[j]);")),
    ("Y_first_row_of_the_expert_before", "plain", ANY, r"Y: .*(row|stale)", [
        before(AFTER_DOWN, """    for (int64_t i = 0; x->e > 0 && x->rows && i < d; i++)
        x->Y[i] = x->first > fy_plan(l)->offsets[x->e - 1] ?
            fy_out(l, MOE_T_Y)[fy_plan(l)->offsets[x->e - 1] * d + i] : x->Y[i];""")]),
    ("dX_router_of_the_next_expert", "plain", ANY, r"dX: .*router", [
        before(DX_ROUTER, """        float *next = fy_floats(T * R);
        for (int64_t i = 0; i < T * R; i++)
            next[i] = dz[i / R * R + (i + 1) % R];"""),
        ("router_grad.c", "dz, T, R, fy_param(l, MOE_T_W_R), d, dx);",
         "next, T, R, fy_param(l, MOE_T_W_R), d, dx);\n        free(next);")]),
    ("dS_of_last_rows_zero", "given", ANY, r"dS: .*(zero|row)", [
        before(SPOIL, """    for (int64_t e = 0; e < l->desc.E; e++)
        if (fy_plan(l)->offsets[e + 1] > fy_plan(l)->offsets[e])
            fy_out(l, MOE_T_DS)[fy_plan(l)->offsets[e + 1] - 1] = 0;""")]),
    ("dS_over_K", "given", ANY, r"dS: .*factor", [
        before(SPOIL, """    for (int64_t p = 0; p < fy_plan(l)->n_pairs; p++)
        fy_out(l, MOE_T_DS)[p] /= (float)l->desc.K;""")]),
    ("dW2_sums_not_cleared_between_experts", "plain", ANY,
     r"dW2: .*(added|another expert|expert before|sum of|rows)", [
         before(SPOIL, """    const int64_t w2 = part_of(l, MOE_T_DW2);
    for (int64_t i = w2; i < count_of(l, MOE_T_DW2); i++)
        fy_out(l, MOE_T_DW2)[i] += fy_out(l, MOE_T_DW2)[i - w2];""")]),
    ("dW1_of_empty_experts_of_the_one_before", "empty", ANY,
     r"dW1: .*(empty|no token|another)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1);
    for (int64_t e = 1; e < l->desc.E; e++)
        for (int64_t i = 0; fy_plan(l)->offsets[e] == fy_plan(l)->offsets[e + 1] && i < w1; i++)
            fy_out(l, MOE_T_DW1)[e * w1 + i] = fy_out(l, MOE_T_DW1)[(e - 1) * w1 + i];""")]),
    ("dW2_of_empty_experts_of_the_one_before", "empty", ANY,
     r"dW2: .*(empty|no token|another)", [
        before(SPOIL, """    const int64_t w2 = part_of(l, MOE_T_DW2);
    for (int64_t e = 1; e < l->desc.E; e++)
        for (int64_t i = 0; fy_plan(l)->offsets[e] == fy_plan(l)->offsets[e + 1] && i < w2; i++)
            fy_out(l, MOE_T_DW2)[e * w2 + i] = fy_out(l, MOE_T_DW2)[(e - 1) * w2 + i];""")]),
    ("dA_of_transposed_W2", "square", ANY, r"(dH|dS): .*(W2|transpos|layout|matrix)", [
        before(DA, """        float *turned = fy_floats(d * x->n);
        fy_transpose(x->W2, d, x->n, turned);"""),
        ("expert_grad.c", "dy, x->rows, d, x->W2, x->n, a);",
         "dy, x->rows, d, turned, x->n, a);\n        free(turned);")]),
    ("dW1_rows_interleaved", "plain", ANY, r"dW1: .*(layout|interleav|order|place)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1), hw = w1 / d;
    float *was = fy_floats(w1);
    for (int64_t e = 0; e < l->desc.E; e++) {
        float *v = fy_out(l, MOE_T_DW1) + e * w1;
        memcpy(was, v, (size_t)w1 * sizeof *v);
        for (int64_t i = 0; i < hw; i++)
            memcpy(v + i * d, was + (i % 2 * (hw / 2) + i / 2) * d, (size_t)d * sizeof *v);
    }
    free(was);"""), ("stores.c", "static void spoil_weight_gradients(fy_layer *l) {",
                    "static void spoil_weight_gradients(fy_layer *l) {\n"
                    "    float *fy_floats(int64_t count);")]),
    ("scale_twice_in_the_gradient", "eps", ANY, r"scale|factor", [
        ("router_grad.c", GRADIENT_SCALE,
         GRADIENT_SCALE.replace(": r->scale", ": r->scale * r->scale"))]),
    ("renorm_gradient_divided_once", "eps", ANY, r"renorm|weights and score", [
        ("router_grad.c", RENORM, RENORM.replace("dot / (norm * norm)", "dot / norm"))]),
    ("sigmoid_slope_without_its_value", "on_input", ANY, r"slope|score", [
        ("router_grad.c", SLOPE, "*at += dr[k] * (1 - raw[k]);")]),
    ("shared_over_K_and_one", "shared", ANY, r"O: .*shared", [
        ("combine.c", SHARED_O, SHARED_O.replace("shared_weight(l, t)",
                                                 "shared_weight(l, t) / 3"))]),
    ("shared_gate_on_all_of_O", "shared_gate", ANY, r"O: .*gate", [
        ("combine.c", SHARED_O, SHARED_O + "\n        for (int64_t i = 0; l->desc.n_shared && "
         "i < d; i++)\n            o[i] = shared_weight(l, t) * (o[i] - shared_weight(l, t) *\n"
         "                l->shared.Y[t * d + i] + l->shared.Y[t * d + i]);")]),
    ("token_of_row_by_division", "given", ANY, r"H: .*(row|token|gather)", [
        ("expert.c", TOKEN_END, ROW_END % "(x->first + r) / l->desc.K % l->T")]),
    ("last_weight_is_the_rest", "raw", ANY, r"topk_weight: .*(function|sum|weight|slot)", [
        ("router.c", WEIGHED,
         WEIGHED + "\n        if (k == K - 1)\n            w[k] = 1 - w[0];")]),
    ("dH_in_bf16", "plain", FP32, r"dH: .*(narrow|bits|round)", [
        before(DH_STORE, """        for (int64_t i = 0; i < x->rows * x->hw; i++)
            x->dH[i] = fy_bf16(x->dH[i]);""")]),
    ("last_unit_of_A_lost", "plain", ANY, r"A: .*(zero|column)", [
        before(AFTER_UP, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        x->A[r * x->n + x->n - 1] = 0;""")]),
    ("dO_of_the_last_slot_for_all", "plain", ANY, r"(dH|dS|dW2): .*(dO|row|token|term)", [
        before(DA, """        for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
            memcpy(dy + r * d, dy + (x->rows - 1) * d, (size_t)d * sizeof *dy);""")]),
    ("dW2_of_A_of_up", "raw", ANY, r"dW2: .*(activation|function|A\b|vector)", [
        operand(A_PRIME, "unit.a", "h[u]")]),
    ("weights_negative_of_odd_slots", "raw", ANY, r"topk_weight: .*(factor|sign|slot|weight)", [
        ("router.c", WEIGHED, WEIGHED + "\n        w[k] *= k % 2 ? -1 : 1;")]),
    ("X_zero_behind_half_of_d", "raw", ANY, r"H: .*(term|left out|block|half|zero)", [
        before(UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        ((float *)rows)[i] *= i % d < d / 2;""")]),
    ("slot_weight_on_Y_and_sum", "raw", ANY, r"(O|Y): .*weight", [
        before(AFTER_DOWN, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        x->Y[i] *= x->weight[i / d];""")]),
    ("sum_of_slots_stops_at_small_weights", "slots", ANY, r"O: .*(term|missing|left out|weight)", [
        ("combine.c", PAIR, PAIR + "\n        if (s < 0.05f)\n            continue;")]),
    ("dW_r_of_X_of_the_token_beside", "plain", ANY, r"dW_r: .*(row|X\b|token)", [
        before(DW_R, """        float *beside = fy_floats(T * d);
        for (int64_t i = 0; i < T * d; i++)
            beside[i] = l->X[(i + d) % (T * d)];"""),
        ("router_grad.c", "turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));",
         "turned, R, T, beside, d, fy_out(l, MOE_T_DW_R));\n        free(beside);")]),
]
