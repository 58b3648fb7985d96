"""Mixed bugs of the whole layer, written after the hypotheses that bugs.py led to, and tried before
anything was mended for them: README.md has what was named then."""
from edits import AFTER_DOWN, AFTER_H, AFTER_UP, ANY, DSCALE, DX, ROW_END, SPOIL, TOKEN_END, hole

MATH = ("expert.c", "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>")
AGAIN = """if (k >= depth - 8)
                for (int64_t j = 0; j < width; j++)
                    y[j] += a[r * depth + k] * b[k * width + j];"""

BUGS = [
    ("H_ragged_end_twice", "raw", ANY, r"H: .*(twice|term|block)", hole("FY_UP", AGAIN)),
    ("up_without_negatives", "raw", ANY, r"activation", [
        ("expert.c", AFTER_UP, """
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t j = 0; j < x->n; j++)
            if (x->H[r * x->hw + fy_column(l, x, j, 1)] < 0)
                x->A[r * x->n + j] = 0;
""" + AFTER_UP)]),
    ("dH_by_rows_of_expert", "plain", ANY, r"dH: .*factor", [
        ("expert_grad.c", DSCALE, "dh[g] = s_da * da[j] * unit.d_gate * 16 / (float)x->rows;"),
        ("expert_grad.c", "dh[u] = s_da * da[j] * unit.d_up;",
         "dh[u] = s_da * da[j] * unit.d_up * 16 / (float)x->rows;")]),
    ("Y_in_steps_of_its_row", "raw", ANY, r"narrow|precision|bits|round|quanti|step", [
        ("expert.c", AFTER_DOWN, """
    for (int64_t r = 0; r < x->rows; r++) {
        float most = 0, *y = x->Y + r * d;
        for (int64_t i = 0; i < d; i++)
            most = fmaxf(most, fabsf(y[i]));
        for (int64_t i = 0; i < d; i++)
            y[i] = rintf(y[i] / most * 31) / 31 * most;
    }
""" + AFTER_DOWN), MATH]),
    ("small_weights_dropped", "slots", ANY, r"topk_weight: .*(zero|limit|cut|function|small)", [
        ("router.c", "        if (FAULT(l, weights_bf16))",
         "        w[k] = w[k] < 0.08 ? 0 : w[k];\n        if (FAULT(l, weights_bf16))")]),
    ("router_of_normalised_X", "plain", ANY, r"router_logits: .*factor", [
        ("router.c", "    free(turned);\n    for (int64_t t = 0; t < l->T; t++)", """
    free(turned);
    for (int64_t t = 0; t < l->T; t++) {
        double square = 0;
        for (int64_t i = 0; i < d; i++)
            square += l->X[t * d + i] * l->X[t * d + i];
        for (int64_t e = 0; e < R; e++)
            z[t * R + e] /= (float)sqrt(square / (double)d);
    }
    for (int64_t t = 0; t < l->T; t++)""")]),
    ("W_r_in_four_bits", "raw", ANY, r"router_logits: .*(narrow|round|precision)", [
        ("router.c", "    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);", """
    for (int64_t i = 0; i < R * d; i++) {
        int power;
        const float part = frexpf(turned[i], &power);
        turned[i] = ldexpf(rintf(part * 16) / 16, power);
    }
    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);""")]),
    ("expert_begins_at_multiple_of_8", "tails", ANY, r"row|gather|token", [
        ("expert.c", TOKEN_END, ROW_END % "token[r - x->first % 8]")]),
    ("b2_of_column_beside", "bias", ANY, r"Y: .*(bias|b2)", [
        ("expert.c", "    add_bias(x->b2, x->rows, d, x->Y);\n    if (FAULT(l, b2_twice))", """
    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] += x->b2[(i + 1) % d];
    if (FAULT(l, b2_twice))""")]),
    ("shared_times_sum_of_weights", "shared", ANY, r"shared", [
        ("combine.c", "        if (l->desc.n_shared)\n            add_row(o, shared_weight(l, t),",
         """        float sum = 0;
        for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++)
            sum += fy_out(l, MOE_T_S)[plan->pair_of_token[i]];
        if (l->desc.n_shared)
            add_row(o, sum * shared_weight(l, t),""")]),
    ("dX_last_slot_to_next_token", "plain", ANY, r"dX: .*(row|token|missing|twice)", [
        ("combine.c", DX, "        add_row(t % 16 == 14 && i == count - 1 && t + 1 < l->T ? dx + d "
         ": dx, s, fy_out(l, MOE_T_DXP) + p * d, d);"),
        ("combine.c", "            memset(dx, 0, (size_t)d * sizeof *dx);\n",
         "            memset(t % 16 == 15 ? dx + d : dx, 0,\n"
         "                   t % 16 == 15 ? 0 : (size_t)(t % 16 == 14 ? 2 * d : d) * "
         "sizeof *dx);\n")]),
    ("dW2_of_unsorted_dO", "plain", ANY, r"dW2: .*(row|token|gather)", [
        ("expert_grad.c", "    moe_status status = outer(l, FY_DW2, dy, d, a,", """
    float *late = fy_floats(x->rows * d);
    for (int64_t r = 0; r < x->rows; r++)
        memcpy(late + r * d, l->dO + (x->first + r) % l->T * d, (size_t)d * sizeof *late);
    moe_status status = outer(l, FY_DW2, late, d, a,"""),
        ("expert_grad.c", "    if (!status)\n        status = outer(l, FY_DW1,",
         "    free(late);\n    if (!status)\n        status = outer(l, FY_DW1,")]),
    ("db1_without_last_row", "bias", ANY, r"db1: .*(row|left out|missing)", [
        ("expert_grad.c", "FAULT(l, db1_missing) ? 0 : x->rows, x->hw,",
         "x->rows ? x->rows - 1 : 0, x->hw,")]),
    ("dz_without_last_slot", "slots", ANY, r"slot|last|logit", [
        ("router_grad.c", "dr[k] = p >= 0 ? scale * dS[p] : 0;",
         "dr[k] = p >= 0 && k + 1 < K ? scale * dS[p] : 0;")]),
    ("full_experts_pass_to_next", "capacity", ANY, r"capacity|full|overflow|next|neighbour", [
        ("router.c", "            const int32_t e = l->router.chosen[t * K + k];\n            "
         "l->router.row", "            int32_t e = l->router.chosen[t * K + k];\n"
         "            bool taken = e + 1 == l->R;\n"
         "            for (int64_t j = 0; j < K; j++)\n"
         "                taken |= l->router.chosen[t * K + j] == e + 1;\n"
         "            if (!has_room(l, load[e]) && !taken)\n"
         "                l->router.chosen[t * K + k] = ++e;\n            l->router.row")]),
    ("select_bias_of_next", "select", ANY, r"selection bias", [
        ("router.c", "FAULT(l, select_bias_negative) ? -b[e] : b[e];", "b[(e + 1) % l->R];")]),
    ("first_tile_of_W1_before", "tails", ANY, r"H: .*(W1|weights|expert|matrix)", [
        ("expert.c", "    fy_store(l, x->H, x->rows * x->hw);", """
    if (x->e > 0) {
        fy_transpose(x->W1 - x->hw * d, x->hw, d, turned);
        fy_product(l, FY_UP, rows, x->rows < 8 ? x->rows : 8, d, turned, x->hw, x->H);
    }
    fy_store(l, x->H, x->rows * x->hw);""")]),
    ("Y_half_lost_in_odd_rows", "raw", ANY, r"Y: .*(term|block|half|left out)",
     hole("FY_DOWN", "if (r % 2 && k >= depth / 2) continue;")),
    ("gelu_slope_by_sigmoid", "geglu", ANY, r"derivative|slope", [
        ("act.c", "    if (FAULT(l, gelu_slope_cdf))", """
    const float quick = sigmoid(1.702f * x);
    *slope = quick + x * 1.702f * quick * (1 - quick);
    if (FAULT(l, gelu_slope_cdf))""")]),
    ("up_clamped_at_twice_the_limit", "clamp", ANY, r"clamp|limit", [
        ("act.c",
         "u = clamp(l, u, FAULT(l, clamp_up_one_side) ? -INFINITY : -limit, limit, &up_in);",
         "u = clamp(l, u, -2 * limit, 2 * limit, &up_in);")]),
    ("dW1_tiles_transposed", "plain", ANY, r"dW1: .*(transpos|tile|column)", [
        ("stores.c", SPOIL, """
    for (int64_t i = 0; i < l->desc.E * part_of(l, MOE_T_DW1) / d; i += 16)
        for (int64_t j = 0; j + 16 <= d; j += 16)
            for (int64_t a = 0; a < 16; a++)
                for (int64_t b = 0; b < a; b++) {
                    float *v = fy_out(l, MOE_T_DW1), keep = v[(i + a) * d + j + b];
                    v[(i + a) * d + j + b] = v[(i + b) * d + j + a];
                    v[(i + b) * d + j + a] = keep;
                }
""" + SPOIL)]),
    ("A_of_rows_a_tile_before", "tails", ANY, r"A: .*(row|stale)", [
        ("expert.c", AFTER_UP, """
    for (int64_t r = x->rows - 1; r >= 16; r--)
        memcpy(x->A + r * x->n, x->A + (r - 16) * x->n, (size_t)x->n * sizeof *x->A);
""" + AFTER_UP)]),
]
