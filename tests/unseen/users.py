"""Bugs of the kinds that users of MoE libraries have reported: chunks and splits that keep what was
the one before's, padding that is stored, masks of another order, what two ranks exchange. README.md
has what was named at first sight."""
from edits import (AFTER_DOWN, AFTER_H, ANY, B1, DS, DSCALE, LOGITS, ROW_END, SUM, TOKEN_END, UP,
                   before, coarse, hole)

SELECT = "FAULT(l, select_bias_negative) ? -b[e] : b[e];"
LIST = "            weight[count++] = l->router.weight[t * K + k];"
LISTED = "    return count;\n}\n\n/* router.row"
W1, W2 = ("                   .W%d = param_of(l, e, MOE_T_W%d)," % (i, i) for i in (1, 2))
COMBINE = "void fy_combine(fy_layer *l) {\n    const int64_t d = l->desc.d;\n"
SEEN = "            ret[r * d + i] = x->on_input ? x->weight[r] * from[i] : from[i];"
GROUP = "        group[g] = group_score(l, score + g * size, size);"
BEST_GROUP = "        const int64_t g = best_of(l, group, open, r->groups);"
DX_TERM = "        add_row(dx, s, fy_out(l, MOE_T_DXP) + p * d, d);"
O_TERM = "        add_row(o, s, zero ? l->X + t * d : fy_out(l, MOE_T_Y) + row_read(l, p) * d, d);"
PREVIOUS = "param_of(l, e > 0 && plan->offsets[e] == plan->offsets[e - 1] ? e - 1 : e,"
MOVED = """    float *was = fy_floats(l->T * d);
    memcpy(was, o, (size_t)(l->T * d) * sizeof *o);
    for (int64_t t = 0; t < l->T; t++)
        memcpy(o + t * d, was + (%s) * d, (size_t)d * sizeof *o);
    free(was);"""

BUGS = [
    ("selection_bias_in_two_bits", "select", ANY, r"selection bias|b_select", [
        ("router.c", SELECT, "b[e];\n        if (r->select_bias) {\n            double v = b[e];\n"
         "            ret[e] -= v;\n            " + coarse("v", 2) + "\n            ret[e] += v;\n"
         "        }")]),
    ("groups_ranked_without_bias", "groups", ANY, r"group", [
        ("choice.c", GROUP, "        double plain[512];\n"
         "        for (int64_t i = 0; i < size; i++)\n"
         "            plain[i] = score[g * size + i] - fy_param(l, MOE_T_B_SELECT)[g * size + i];\n"
         "        group[g] = group_score(l, plain, size);")]),
    ("weight_on_both_sides", "on_input", ANY, r"O: .*weight", [
        ("combine.c", "    if (p < pairs && (on_input || FAULT(l, weight_missing)))",
         "    if (p < pairs && FAULT(l, weight_missing))")]),
    ("weights_of_the_empty_expert_before", "empty", ANY, r"H: .*(expert|W1|weights)", [
        ("expert.c", W1, W1.replace("param_of(l, e,", PREVIOUS)),
        ("expert.c", W2, W2.replace("param_of(l, e,", PREVIOUS))]),
    ("padding_stored_over_the_next_expert", "tails", ANY, r"Y: .*(zero|row)", [
        ("combine.c", COMBINE, COMBINE + """    for (int64_t e = 0; e + 1 < l->desc.E; e++) {
        const int64_t *at = fy_plan(l)->offsets + e, tail = (at[1] - at[0]) % 8;
        for (int64_t r = at[1]; tail && r < at[1] + 8 - tail && r < at[2]; r++)
            memset(fy_out(l, MOE_T_Y) + r * d, 0, (size_t)d * sizeof(float));
    }
""")]),
    ("mask_of_K_repeats_the_last_term", "raw", ANY, r"H: .*(term|times|factor)", hole(
        "FY_UP", "if (k == depth - 1) for (int64_t j = 0; j < width; j++) "
        "y[j] += 15 * a[r * depth + k] * b[k * width + j];")),
    ("tiles_beyond_the_grid_lost", "plain", ANY, r"Y: .*zero", [
        before(AFTER_DOWN, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        if ((x->first + r) / 8 * 4 >= fy_plan(l)->n_pairs / 8 * 3)
            memset(x->Y + r * d, 0, (size_t)d * sizeof *x->Y);""")]),
    ("b1_by_row_not_by_expert", "bias", ANY, r"H: .*(b1|bias)", [
        ("expert.c", B1, """        for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
            x->H[i] += (x->e < 0 ? x->b1 : x->b1 - x->e * x->hw)
                [(x->e < 0 ? 0 : i / x->hw % l->desc.E) * x->hw + i % x->hw];""")]),
    ("second_chunk_keeps_the_firsts_weights", "raw", ANY, r"topk_weight: .*(token|row|weight)", [
        ("router.c", LIST, LIST.replace("[t * K + k]", "[t % (l->T / 2) * K + k]"))]),
    ("shared_expert_sees_O_in_place_of_X", "shared", ANY, r"shared", [
        ("expert.c", SEEN, SEEN.replace(": from[i];", """: x->e >= 0 ? from[i]
                : from[i] + fy_out(l, MOE_T_Y)[fy_plan(l)->pair_of_token
                      [fy_plan(l)->token_offsets[t]] * d + i];"""))]),
    ("dS_of_up_activated", "given", ANY, r"dS: .*(gate|up|swap)", [
        ("expert_grad.c", DS, "        ds += da[j] * fy_activate(l, h[u], h[g]).a;")]),
    ("score_slope_at_the_weight", "eps", ANY, r"(dX|dW_r): .*(score|sigmoid|slope)", [
        ("router_grad.c", "dr[k] * raw[k] * (1 - raw[k]);\n        else if (FAULT(l, dz_diag",
         "dr[k] * l->router.weight[t * K + k] * (1 - l->router.weight[t * K + k]);\n"
         "        else if (FAULT(l, dz_diag")]),
    ("renorm_gradient_without_eps", "eps", ANY, r"(dX|dW_r): .*eps", [
        ("router_grad.c", "    double sum = l->desc.router.renorm_eps;", "    double sum = 0;")]),
    ("halves_of_two_ranks_exchanged", "plain", ANY, r"O: .*(token|row|order)", [
        before(SUM, MOVED % "(t + l->T / 2) % l->T")]),
    ("ranks_rows_dealt_in_turn", "plain", ANY, r"O: .*(token|row|order)", [
        before(SUM, MOVED % "t % 2 * (l->T / 2) + t / 2")]),
    ("router_of_X_in_four_bits", "raw", ANY, r"router_logits: .*(bits|narrow|round)", [
        ("router.c", LOGITS, "    float *few = fy_floats(l->T * d);\n"
         "    for (int64_t i = 0; i < l->T * d; i++) {\n        few[i] = l->X[i];\n        "
         + coarse("few[i]") + "\n    }\n" + LOGITS.replace("l->X", "few") + "\n    free(few);")]),
    ("every_split_adds_b1", "bias", ANY, r"H: .*(b1|bias)", [
        ("expert.c", B1, "        for (int split = 0; split < 3; split++)\n    " + B1)]),
    ("sigmoid_of_the_gate_unclamped", "clamp", ANY, r"A: .*(clamp|limit|activation)", [
        ("act.c", "    bool gate_in = true, up_in = true;",
         "    bool gate_in = true, up_in = true;\n    const float whole = g;"),
        ("act.c", "    float value = nonlinearity(l, g, &slope);\n    if (late)",
         "    float value = nonlinearity(l, g, &slope);\n"
         "    value = g * sigmoid((float)l->desc.act_alpha * whole);\n    if (late)")]),
    ("one_added_before_the_limit", "clamp", ANY, r"A: .*(clamp|limit|activation|1)", [
        ("act.c", "FAULT(l, plus_one_missing) ? u : u + 1;", "fminf(u + 1, limit);")]),
    ("X_in_the_order_of_another_quantiser", "raw", ANY, r"H: .*(order|X|column|term)", [
        before(UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        if (i % d < d / 2) {
            float *v = (float *)rows + i, keep = *v;
            v[0] = v[d / 2];
            v[d / 2] = keep;
        }""")]),
    ("dW_r_of_the_first_chunk", "plain", ANY, r"dW_r: .*(term|token|left out|missing)", hole(
        "FY_DW_R", "if (k >= depth / 2) continue;")),
    ("last_slot_overwrites_dX", "given", ANY, r"dX: .*(slot|missing|left out|pair|term)", [
        ("combine.c", DX_TERM, "        memset(dx, 0, (size_t)d * sizeof *dx);\n" + DX_TERM)]),
    ("last_slot_overwrites_O", "plain", ANY, r"O: .*(slot|missing|left out|pair|term)", [
        ("combine.c", O_TERM, "        memset(o, 0, (size_t)d * sizeof *o);\n" + O_TERM)]),
    ("dW2_from_the_second_tile_on", "tails", ANY, r"dW2: .*(row|term|left out|missing)", hole(
        "FY_DW2", "if (k < 8 && depth > 8) continue;")),
    ("dO_gathered_in_reverse", "plain", ANY, r"dO|revers|order|row", [
        ("expert_grad.c", "        int64_t t = fy_token(l, x, r);",
         "        int64_t t = fy_token(l, x, x->e < 0 ? r : x->rows - 1 - r);")]),
    ("slope_of_a_relu_beside_silu", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE, DSCALE.replace("unit.d_gate", "(h[g] > 0 ? unit.d_gate : 0)"))]),
    ("up_with_the_gates_scale", "raw", ANY, r"H: .*(factor|times)", [
        before(AFTER_H, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->hw; i++)
        x->H[i] *= i % x->hw < x->n ? 1 : 1.25f;""")]),
    ("first_group_always_kept", "groups", ANY, r"group", [
        ("choice.c", BEST_GROUP, BEST_GROUP.replace("= best", "= k == 0 ? 0 : best"))]),
    ("renorm_over_kept_slots", "capacity", ANY, r"topk_weight: .*(sum|renorm)", [
        ("router.c", LISTED, """    double sum[4096] = {0};
    for (int64_t i = 0; i < count; i++)
        sum[token[i] % 4096] += weight[i];
    for (int64_t i = 0; i < count; i++)
        weight[i] /= sum[token[i] % 4096];
""" + LISTED)]),
    ("rows_of_the_tile_start", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r / 4 * 4]")]),
]
