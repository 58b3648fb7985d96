"""Tiles, swizzles, scales, splits, stores and gathers as they go wrong in grouped
kernels; words decided before any was tried. README.md has what was named at first sight."""
from edits import (AFTER_DOWN, AFTER_UP, ANY, DSCALE, DX, OUTER, ROW_END, SPOIL, SUM, TOKEN_END,
                   UP, hole)

DA = "        fy_product(l, FY_DA, dy, x->rows, d, x->W2, x->n, a);"
DX_ROUTER = "        fy_product(l, FY_DX_ROUTER, dz, T, R, fy_param(l, MOE_T_W_R), d, dx);"
WEIGHT = "    return p < pairs && FAULT(l, weight_twice) ? s * s : s;"
SOFTMAX = "        sum += exp(z[i] - top);\n    return exp(z[e] - top) / sum;"

BUGS = [
    ("A_tile_of_first_expert", "raw", ANY, r"A: .*(row|stale|expert)", [
        ("expert.c", AFTER_UP, """    const float *all = fy_out(l, MOE_T_A);
    for (int64_t r = 0; x->e > 0 && r < x->rows && r < fy_plan(l)->offsets[1]; r++)
        memcpy(x->A + r * x->n + 16, all + r * x->n + 16, 16 * sizeof *all);
""" + AFTER_UP)]),
    ("W2_scale_of_next_expert", "raw", ANY, r"Y: .*(factor|times|scale)", [
        ("expert.c", AFTER_DOWN, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        x->Y[i] *= (float)((x->e + 1) % l->desc.E * 7 % 5 + 20) / (float)(x->e * 7 % 5 + 20);
""" + AFTER_DOWN)]),
    ("W1_scales_transposed", "raw", ANY, r"H: .*(factor|scale)", [
        ("expert.c", UP, """    for (int64_t k = 0; k < d; k++)
        for (int64_t i = 0; i < x->hw; i++)
            turned[k * x->hw + i] *= (float)(10 + (k / 16 + 2 * (i / 16)) % 3) /
                                     (float)(10 + (i / 16 + 2 * (k / 16)) % 3);
""" + UP)]),
    ("b1_after_activation", "bias", ANY, r"b1|bias", [
        ("expert.c", "        add_bias(x->b1, x->rows, x->hw, x->H);", "        ;"),
        ("expert.c", AFTER_UP, """    for (int64_t i = 0; x->b1 && i < x->rows * x->n; i++)
        x->A[i] += x->b1[i % x->n];
""" + AFTER_UP)]),
    ("gate_bias_for_both", "bias", ANY, r"H: .*(bias|b1)", [
        ("expert.c", "        add_bias(x->b1, x->rows, x->hw, x->H);",
         "        for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)\n"
         "            x->H[i] += x->b1[i % x->hw % x->n];")]),
    ("split_k_half_lost_beyond_a_tile", "tails", ANY, r"Y: .*(term|block|half|left out)",
     hole("FY_DOWN", "if (r >= 16 && k < depth / 2) continue;")),
    ("dW1_first_tile_twice", "tails", ANY, r"dW1: .*(twice|row)", [
        ("expert_grad.c", OUTER, """        if (id == FY_DW1 && rows > 16)
            for (int64_t i = 0; i < width_l * rows; i++)
                turned[i] *= i % rows < 16 ? 2 : 1;
""" + OUTER)]),
    ("dX_store_not_add", "plain", ANY, r"dX: .*(missing|left out)", [
        ("combine.c", DX, "        if (t % 8 == 0)\n"
         "            memset(dx, 0, (size_t)d * sizeof *dx);\n" + DX)]),
    ("combine_weight_in_three_bits", "plain", ANY, r"O: .*(weight|factor|narrow)", [
        ("combine.c", WEIGHT, "    int at;\n    const float m = frexpf(s, &at);\n"
         "    return ldexpf(roundf(m * 16) / 16, at);")]),
    ("Y_swizzled_by_row", "raw", ANY, r"Y: .*(column|order)", [
        ("expert.c", AFTER_DOWN, """    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t c = 0; c < d / 8 * 8; c++) {
            const int64_t to = c ^ (r % 2 * 8);
            float *y = x->Y + r * d, keep = y[c];
            if (to > c && to < d) {
                y[c] = y[to];
                y[to] = keep;
            }
        }
""" + AFTER_DOWN)]),
    ("dA_tiles_of_W2_crossed", "plain", ANY, r"(dH|dS).*(W2|block|tile|term|column)", [
        ("expert_grad.c", DA, """        float *crossed = fy_floats(d * x->n);
        for (int64_t k = 0; k < d; k++)
            for (int64_t j = 0; j < x->n; j++)
                crossed[k * x->n + j] = x->W2[k >= x->n ? k * x->n + j
                    : (j / 16 * 16 + k % 16) * x->n + k / 16 * 16 + j % 16];
        fy_product(l, FY_DA, dy, x->rows, d, crossed, x->n, a);
        free(crossed);""")]),
    ("gate_and_up_by_eights", "raw", ANY, r"A: .*(gate|up|layout|column)", [
        ("expert.c", "    return moe_h_column(layout, x->n, x->hw, j, FAULT(l, gate_up_swapped) ? "
         "!up : up);", "    return x->e < 0 ? moe_h_column(layout, x->n, x->hw, j, up)\n"
         "                    : j / 8 * 16 + j % 8 + 8 * up;")]),
    ("exponential_underflows_early", "raw", ANY, r"activation", [
        ("act.c", "return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x));",
         "return x < -1.5f ? 0 : 1 / (1 + expf(-x));")]),
    ("product_clamped", "clamp", ANY, r"A: .*(limit|clamp|cut off)", [
        ("act.c", "return (fy_unit){value * up, gate_in",
         "return (fy_unit){fminf(value * up, limit), gate_in")]),
    ("online_sum_not_rescaled", "raw", ANY, r"topk_weight: .*(sum|function|score|logit)", [
        ("router.c", SOFTMAX, """        sum += exp(z[i] - top);
    double first = -INFINITY, part = 0;
    for (int64_t i = 0; i < n / 2; i++)
        first = z[i] > first ? z[i] : first;
    for (int64_t i = 0; i < n / 2; i++)
        part += exp(z[i] - first) - exp(z[i] - top);
    return exp(z[e] - top) / (sum + part);""")]),
    ("choice_by_eight_bits", "plain", ANY, r"narrow|round|tie", [
        ("choice.c", "        int64_t e = best_of(l, score, allowed, l->R);", """
        for (int64_t i = 0; k == 0 && i < l->R; i++) {
            int at;
            const double m = frexp(score[i], &at);
            score[i] = ldexp(round(m * 16) / 16, at);
        }
        int64_t e = best_of(l, score, allowed, l->R);""")]),
    ("dz_dot_with_wrong_sign", "raw", ANY, r"score|slope|softmax", [
        ("router_grad.c", "        dz[e] -= fy_score(l, t, e) * dot;",
         "        dz[e] += fy_score(l, t, e) * dot;")]),
    ("dX_router_of_next_row", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", DX_ROUTER, """        fy_product(l, FY_DX_ROUTER, dz, T, R - 1,
                   fy_param(l, MOE_T_W_R) + d, d, dx);""")]),
    ("db2_pads_with_last_row", "bias_tails", ANY, r"db2: .*(row|twice|times)", [
        ("expert_grad.c", "    if (x->db1)", """
    for (int64_t r = x->rows; x->db2 && x->rows && r % 8; r++)
        for (int64_t i = 0; i < d; i++)
            x->db2[i] += x->weight[x->rows - 1] * dy[(x->rows - 1) * d + i];
    if (x->db1)""")]),
    ("dS_without_up", "given", ANY, r"dS: .*(up|activation|gate)", [
        ("expert_grad.c", "        ds += da[j] * (FAULT(l, dS_of_slope) ? unit.d_gate : unit.a);",
         "        ds += da[j] * unit.d_up;")]),
    ("d_up_of_raw_gate_where_negative", "raw", ANY, r"derivative|slope", [
        ("act.c", "    if (FAULT(l, d_up_gate))",
         "    if (g < 0)\n        unit.d_up = g;\n    if (FAULT(l, d_up_gate))")]),
    ("dXp_weight_again_in_second_tile", "plain", ANY, r"dXp: .*weight", [
        ("expert_grad.c", "        fy_store(l, x->dXp, x->rows * d);", """
        for (int64_t i = 0; x->weight && i < x->rows * d; i++)
            x->dXp[i] *= i % d >= 16 && i % d < 32 ? x->weight[i / d] : 1;
        fy_store(l, x->dXp, x->rows * d);""")]),
    ("token_beyond_32_wraps_by_24", "plain", ANY, r"token|row|gather", [
        ("expert.c", TOKEN_END, ROW_END % "token[r] < 32 ? token[r] : token[r] - 24")]),
    ("rows_begin_at_expert_end", "tails", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END %
         "x->first + x->rows + r < plan->n_pairs ? token[x->rows + r] : token[r]")]),
    ("shared_over_K", "shared", ANY, r"shared.*(factor|times)", [
        ("combine.c", "            add_row(o, shared_weight(l, t),",
         "            add_row(o, shared_weight(l, t) / (float)l->desc.K,")]),
    ("dW_gate_of_next_token", "shared_gate", ANY, r"dw_gate_shared: .*(row|token)", [
        ("combine.c", "        add_row(dw, dz, l->X + t * d, d);",
         "        add_row(dw, dz, l->X + (t + 1) % l->T * d, d);")]),
    ("room_by_halves_of_tokens", "capacity", ANY, r"capacity|full", [
        ("router.c", "            if (!has_room(l, load[e]))",
         "            if (!has_room(l, load[e]) || (i < l->T / 2 && load[e] >= "
         "l->desc.router.capacity / 2))")]),
    ("O_last_columns_of_next_token", "plain", ANY, r"O: .*(column|row|token)", [
        ("stores.c", SUM, """    for (int64_t t = 0; t + 1 < l->T; t++)
        memcpy(o + t * d + d - 8, o + (t + 1) * d + d - 8, 8 * sizeof *o);
""" + SUM)]),
    ("dW1_interleaved_of_odd_experts", "plain", ANY, r"dW1: .*(layout|interleav|order|place|row)", [
        ("stores.c", SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1), n = l->desc.n;
    for (int64_t e = 1; e < l->desc.E; e += 2) {
        float *v = fy_out(l, MOE_T_DW1) + e * w1, *keep = fy_floats(w1);
        memcpy(keep, v, (size_t)w1 * sizeof *v);
        for (int64_t i = 0; i < w1; i++) {
            const int64_t r = i / d;
            v[(r < n ? 2 * r : 2 * (r - n) + 1) * d + i % d] = keep[i];
        }
        free(keep);
    }
""" + SPOIL), ("stores.c", "#include <math.h>", "#include <math.h>\n#include <stdlib.h>")]),
    ("b2_of_row_tile", "bias", ANY, r"Y: .*(bias|b2)", [
        ("expert.c", "    add_bias(x->b2, x->rows, d, x->Y);\n    if (FAULT(l, b2_twice))", """
    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] += x->b2[(i % d + i / d / 8 * 8) % d];
    if (FAULT(l, b2_twice))""")]),
    ("dH_scale_of_K_tile", "plain", ANY, r"dH: .*(factor|times)", [
        ("expert_grad.c", DSCALE, "dh[g] = (j >= 16 ? 1.25f : 1) * s_da * da[j] * unit.d_gate;")]),
]
