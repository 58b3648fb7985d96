"""Mixed bugs of the whole layer, written after everything that was mended for mixed_1, mixtures,
tiles and splits. README.md has what was named at first sight."""
from edits import (AFTER_DOWN, AFTER_H, AFTER_UP, ANY, DSCALE, DX_END, ROW_END, SPOIL, SUM,
                   TOKEN_END, UP, hole)

DX_PRODUCT = "        fy_product(l, FY_DX, x->dH, x->rows, x->hw, x->W1, d, x->dXp);"
OUTER_DW2 = "    moe_status status = outer(l, FY_DW2, dy, d, a, x->n, x->rows, x->dW2);"
SUMS = """    for (int64_t k = 0; k < l->desc.K; k++) {
        sum += raw[k];"""
TWICE = """if (k < 8)
                for (int64_t j = 0; j < width; j++)
                    y[j] += a[r * depth + k] * b[k * width + j];"""

BUGS = [
    ("first_rows_gathered_as_before", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "x->e > 0 && r < 8 ? plan->token[plan->offsets[x->e - 1] "
         "+ (r < plan->offsets[x->e] - plan->offsets[x->e - 1] ? r : 0)] : token[r]")]),
    ("sigmoid_of_more_than_x", "raw", ANY, r"activation|alpha", [
        ("act.c", "    const float s = sigmoid(alpha * x);",
         "    const float s = sigmoid(1.1f * alpha * x);")]),
    ("W1_tail_of_next_row", "raw", ANY, r"H: .*(term|W1|tile)", [
        ("expert.c", UP, """    for (int64_t k = d - 8; k < d; k++)
        for (int64_t i = 0; i + 1 < x->hw; i++)
            turned[k * x->hw + i] = turned[k * x->hw + i + 1];
""" + UP)]),
    ("weights_swapped_in_odd_tokens", "raw", ANY, r"topk_weight: .*(slot|order|place|value)", [
        ("router.c", "            weight[count++] = l->router.weight[t * K + k];",
         "            weight[count++] = l->router.weight[t * K + (t % 2 ? K - 1 - k : k)];")]),
    ("renorm_by_root_of_squares", "plain", ANY, r"topk_weight: .*(sum|renorm)", [
        ("router.c", SUMS, SUMS.replace("sum += raw[k];",
                                        "sum = sqrt(sum * sum + raw[k] * raw[k]);"))]),
    ("dX_of_last_tokens_lost", "plain", ANY, r"dX: .*(zero|token)", [
        ("combine.c", DX_END, DX_END + "\n    memset(fy_out(l, MOE_T_DX) + (l->T - 4) * d, 0,"
         "\n           (size_t)(4 * d) * sizeof(float));")]),
    ("dW1_columns_a_tile_on", "plain", ANY, r"dW1: .*column", [
        ("stores.c", SPOIL, """    const int64_t rows = count_of(l, MOE_T_DW1) / d;
    for (int64_t r = 0; r < rows; r++) {
        float *v = fy_out(l, MOE_T_DW1) + r * d, keep[16];
        memcpy(keep, v + d - 16, sizeof keep);
        memmove(v + 16, v, (size_t)(d - 16) * sizeof *v);
        memcpy(v, keep, sizeof keep);
    }
""" + SPOIL)]),
    ("dW2_of_X", "plain", ANY, r"dW2: .*(X\b|dO|operand)", [
        ("expert_grad.c", OUTER_DW2, OUTER_DW2.replace("FY_DW2, dy,", "FY_DW2, in,"))]),
    ("dS_without_last_units", "given", ANY, r"dS: .*(unit|term)", [
        ("expert_grad.c", "        ds += da[j] * (FAULT(l, dS_of_slope) ? unit.d_gate : unit.a);",
         "        ds += j < x->n - 8 ? da[j] * unit.a : 0;")]),
    ("slope_at_the_up", "raw", ANY, r"derivative|slope", [
        ("expert_grad.c", DSCALE,
         "dh[g] = s_da * da[j] * fy_activate(l, h[u], 1).d_gate * h[u];")]),
    ("dXp_first_terms_twice", "plain", ANY, r"dXp: .*(term|twice)", hole("FY_DX", TWICE)),
    ("dXp_of_interleaved_W1", "plain", ANY, r"dXp: .*(order|interleav|layout)", [
        ("expert_grad.c", DX_PRODUCT, """        float *mixed = fy_floats(x->hw * d);
        for (int64_t i = 0; i < x->hw * d; i++)
            mixed[i] = x->W1[(i / d % 2 * x->n + i / d / 2) * d + i % d];
        fy_product(l, FY_DX, x->dH, x->rows, x->hw, mixed, d, x->dXp);
        free(mixed);""")]),
    ("shared_tile_lost", "shared", ANY, r"shared", [
        ("combine.c", "        if (l->desc.n_shared)\n            add_row(o,",
         "        if (l->desc.n_shared && t / 16 != 2)\n            add_row(o,")]),
    ("shared_with_W2_of_expert_0", "shared", ANY, r"shared", [
        ("expert.c", "                       .W2 = fy_param(l, MOE_T_W2_SHARED),",
         "                       .W2 = fy_param(l, MOE_T_W2),")]),
    ("select_bias_halved", "select", ANY, r"selection bias", [
        ("router.c", "FAULT(l, select_bias_negative) ? -b[e] : b[e];", "b[e] / 2;")]),
    ("groups_by_remainder", "groups", ANY, r"group", [
        ("choice.c", "            allowed[g * size + i] = 1;",
         "            allowed[g + i * r->groups] = 1;")]),
    ("b1_of_even_columns", "bias", ANY, r"H: .*(bias|b1)", [
        ("expert.c", "        add_bias(x->b1, x->rows, x->hw, x->H);",
         "        for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)\n"
         "            x->H[i] += x->b1[i % x->hw / 2 * 2];")]),
    ("late_tokens_halved", "plain", ANY, r"O: .*(factor|times)", [
        ("stores.c", SUM, SUM + "\n    for (int64_t i = l->T / 2 * d; i < l->T * d; i++)\n"
         "        o[i] /= 2;")]),
    ("every_16th_pair_not_added", "plain", ANY, r"O: .*(missing|left out)", [
        ("combine.c", "        if (is_skipped(l, i, count, p))",
         "        if (p % 16 == 15)")]),
    ("H_second_tile_is_first", "raw", ANY, r"H: .*row", [
        ("expert.c", AFTER_H, """    if (x->e >= 0 && x->rows >= 16)
        memcpy(x->H + 8 * x->hw, x->H, (size_t)(8 * x->hw) * sizeof *x->H);
""" + AFTER_H)]),
    ("db2_not_cleared", "bias", ANY, r"db2: .*(row|expert|added|mixed)", [
        ("stores.c", SPOIL, """    for (int64_t i = d; i < count_of(l, MOE_T_DB2); i++)
        fy_out(l, MOE_T_DB2)[i] += fy_out(l, MOE_T_DB2)[i - d];
""" + SPOIL)]),
    ("dW_r_mean_of_an_experts_rows", "plain", ANY, r"dW_r: .*(factor|times)", [
        ("stores.c", SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW_R); i++) {
        const int64_t *first = fy_plan(l)->offsets + i / d;
        fy_out(l, MOE_T_DW_R)[i] /= (float)(first[1] - first[0] + 1);
    }
""" + SPOIL)]),
    ("A_never_negative", "raw", ANY, r"A: .*(limit|cut off|activation)", [
        ("expert.c", AFTER_UP, """    for (int64_t i = 0; i < x->rows * x->n; i++)
        x->A[i] = x->A[i] < 0 ? 0 : x->A[i];
""" + AFTER_UP)]),
    ("Y_columns_in_pairs_of_odd_experts", "raw", ANY, r"Y: .*(column|order)", [
        ("expert.c", AFTER_DOWN, """
    for (int64_t i = 0; x->e % 2 == 1 && i + 1 < x->rows * d; i += 2) {
        const float keep = x->Y[i];
        x->Y[i] = x->Y[i + 1];
        x->Y[i + 1] = keep;
    }
""" + AFTER_DOWN)]),
]
