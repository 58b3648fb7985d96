"""Shuffles, strides, splits, stale tiles and lost halves, written after what was mended for
tiles.py. README.md has what was named at first sight."""
from edits import AFTER_DOWN, AFTER_H, ANY, DX, OUTER, SPOIL, UP, hole

DOWN = "    fy_product(l, FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);"
ADD = "        const bool zero = p >= plan->offsets[l->desc.E];\n        add_row(o, s,"
LOGITS = "    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);"
DW_R = "        fy_product(l, FY_DW_R, turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));"
DH_STORE = "        fy_store(l, x->dH, x->rows * x->hw);"

BUGS = [
    ("up_rows_not_shuffled_back", "raw", ANY, r"H: .*(column|row|order|place)", [
        ("expert.c", AFTER_H, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++) {
        float keep[32], *h = x->H + r * x->hw + x->n;
        memcpy(keep, h, sizeof keep);
        for (int64_t j = 0; j < 32; j++)
            h[j] = keep[j % 4 * 8 + j / 4];
    }
""" + AFTER_H)]),
    ("A_read_with_short_stride", "raw", ANY, r"Y: .*(A\b|row|stride|term)", [
        ("expert.c", DOWN, """    float *read = fy_floats(x->rows * x->n);
    for (int64_t i = 0; i < x->rows * x->n; i++)
        read[i] = x->A[i / x->n * (x->n - 4) + i % x->n];
    fy_product(l, FY_DOWN, read, x->rows, x->n, turned, d, x->Y);
    free(read);""")]),
    ("dW2_tail_rows_of_tile_before", "tails", ANY, r"dW2: .*(row|A\b)", [
        ("expert_grad.c", OUTER, """        float *stale = fy_floats(rows * width_r);
        for (int64_t i = 0; i < rows * width_r; i++) {
            const int64_t r = i / width_r;
            stale[i] = right[i - (id == FY_DW2 && r >= 16 ? 16 * width_r : 0)];
        }
        fy_product(l, id, turned, width_l, rows, stale, width_r, sum);
        free(stale);""")]),
    ("shared_gate_hard", "shared_gate", ANY, r"O: .*(gate|shared)", [
        ("combine.c", ": 1 / (1 + expf(-z));", ": fminf(fmaxf(0.5f + 0.25f * z, 0), 1);")]),
    ("weights_of_coarse_logits", "raw", ANY, r"topk_weight: .*(narrow|function|logit|round)", [
        ("router.c", "            raw[k] = fy_score(l, t, chosen[k]);", """ {
            double *z = l->logits + t * l->R + chosen[k], keep = *z;
            int at;
            const double m = frexp(*z, &at);
            *z = ldexp(round(m * 16) / 16, at);
            raw[k] = fy_score(l, t, chosen[k]);
            *z = keep;
        }""")]),
    ("best_masks_the_expert_beside", "plain", ANY, r"beside|neighbour|mask|sight", [
        ("choice.c", "        allowed[e] = 0;",
         "        allowed[e] = allowed[(e ^ 1) % l->R] = 0;")]),
    ("dX_rows_wrap_at_48", "plain", ANY, r"dX: .*(row|token|missing|read)", [
        ("combine.c", "        gather_dX(l, t, dx);",
         "        gather_dX(l, t < 48 ? t : t - 48, dx);")]),
    ("H_not_cleared_between_experts", "raw", ANY, r"H: .*(row|added|stale|mixed|twice)", [
        ("expert.c", AFTER_H, """
    const int64_t before = x->e > 0 ? x->first - fy_plan(l)->offsets[x->e - 1] : 0;
    const int64_t most = before < x->rows ? before : x->rows;
    for (int64_t i = 0; i < x->hw * (most < 8 ? most : 8); i++)
        x->H[i] += 0.5f * x->H[i - before * x->hw];
""" + AFTER_H)]),
    ("odd_rows_weighted_twice", "raw", ANY, r"Y: .*weight", [
        ("expert.c", AFTER_DOWN, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        x->Y[i] *= i / d % 2 ? x->weight[i / d] : 1;
""" + AFTER_DOWN)]),
    ("db1_up_of_odd_experts_lost", "bias", ANY, r"db1: .*(zero|missing|left out|half|up\b)", [
        ("stores.c", SPOIL, """    const int64_t b1 = part_of(l, MOE_T_DB1);
    for (int64_t e = 1; e < l->desc.E; e += 2)
        memset(fy_out(l, MOE_T_DB1) + e * b1 + b1 / 2, 0, (size_t)b1 / 2 * sizeof(float));
""" + SPOIL)]),
    ("dH_halves_swapped_in_last_columns", "plain", ANY,
     r"dH: .*(gate|up\b|halves|column|swap|order)", [
         ("expert_grad.c", DH_STORE, """
        for (int64_t r = 0; r < x->rows; r++)
            for (int64_t j = x->n - 8; j < x->n; j++) {
                float *h = x->dH + r * x->hw + j, keep = *h;
                *h = h[x->n];
                h[x->n] = keep;
            }
""" + DH_STORE)]),
    ("dS_times_the_scale", "eps", ANY, r"dS: .*(factor|scale|times)", [
        ("expert_grad.c", "        x->dS[r] = ds;",
         "        x->dS[r] = ds * (x->e < 0 ? 1 : (float)l->desc.router.scale);")]),
    ("zero_experts_by_first_weight", "zero", ANY, r"O: .*zero", [
        ("combine.c", ADD,
         "        const bool zero = p >= plan->offsets[l->desc.E];\n"
         "        add_row(o, zero ? fy_out(l, MOE_T_S)[plan->pair_of_token[first]] : s,")]),
    ("capacity_in_eights", "capacity", ANY, r"capacity|full", [
        ("router.c", "    return load < r->capacity -",
         "    return load < r->capacity / 8 * 8 -")]),
    ("relu2_slope_of_absolute", "relu2", ANY, r"derivative|slope", [
        ("act.c", "    *slope *= FAULT(l, relu2_slope_half) ? a : 2 * a;",
         "    *slope = 2 * fabsf(x);")]),
    ("gelu_with_a_wrong_cubic", "geglu", ANY, r"activation|gelu", [
        ("act.c", "    if (FAULT(l, gelu_sigmoid)) {", """    {
        const float t = tanhf(0.79788456f * (x + 0.3f * x * x * x));
        *slope = 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 0.9f * x * x);
        return 0.5f * x * (1 + t);
    }
    if (FAULT(l, gelu_sigmoid)) {""")]),
    ("last_row_of_W_r_not_loaded", "raw", ANY, r"router_logits: .*(zero|column)", [
        ("router.c", LOGITS, "    for (int64_t i = 0; i < d; i++)\n"
         "        turned[i * R + R - 1] = 0;\n" + LOGITS)]),
    ("logits_second_tile_of_first", "raw", ANY, r"router_logits: .*(row|token)", [
        ("router.c", LOGITS,
         LOGITS + "\n    memcpy(z + 16 * R, z, (size_t)(16 * R) * sizeof *z);")]),
    ("dW_r_rows_in_pairs", "plain", ANY, r"dW_r: .*(row|expert|order|swap|place)", [
        ("router_grad.c", DW_R, """        float *crossed = fy_floats(R * T);
        for (int64_t i = 0; i < R * T; i++)
            crossed[i] = turned[((i / T) ^ 1) * T + i % T];
        fy_product(l, FY_DW_R, crossed, R, T, l->X, d, fy_out(l, MOE_T_DW_R));
        free(crossed);""")]),
    ("dX_router_over_K", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", "sum[i] += (FAULT(l, dX_router_twice) ? 2 : 1) * dx[i];",
         "sum[i] += dx[i] / (float)l->desc.K;")]),
    ("last_slot_half_its_columns", "plain", ANY, r"O: .*(missing|left out)", [
        ("combine.c", ADD,
         "        const bool zero = p >= plan->offsets[l->desc.E];\n"
         "        if (i == count - 1) {\n"
         "            add_row(o, s, fy_out(l, MOE_T_Y) + p * d, d / 2);\n            continue;\n"
         "        }\n        add_row(o, s,")]),
    ("W1_in_eight_bits", "raw", ANY, r"H: .*(bits|narrow|round)", [
        ("expert.c", UP, """    for (int64_t i = 0; i < d * x->hw; i++) {
        int at;
        const float m = frexpf(turned[i], &at);
        turned[i] = ldexpf(rintf(m * 16) / 16, at);
    }
""" + UP), ("expert.c", "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>")]),
    ("b2_with_first_slot_alone", "bias", ANY, r"Y: .*(bias|b2)", [
        ("expert.c", "    add_bias(x->b2, x->rows, d, x->Y);\n    if (FAULT(l, b2_twice))", """
    for (int64_t r = 0; x->b2 && r < x->rows; r++) {
        const moe_plan *plan = fy_plan(l);
        if (plan->pair_of_token[plan->token_offsets[plan->token[x->first + r]]] == x->first + r)
            add_bias(x->b2, 1, d, x->Y + r * d);
    }
    if (FAULT(l, b2_twice))""")]),
    ("dX_reads_padded_rows", "plain", ANY, r"dX: .*(row|read|dX~)", [
        ("combine.c", DX, "        const int64_t at = p + 2 * expert_of(plan, p);\n"
         "        add_row(dx, s, fy_out(l, MOE_T_DXP) + (at < plan->n_pairs ? at : p) * d, d);")]),
    ("dW1_with_weight_decay", "raw", ANY, r"dW1: .*W1", [
        ("stores.c", SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW1); i++)
        fy_out(l, MOE_T_DW1)[i] += 0.1f * fy_param(l, MOE_T_W1)[i];
""" + SPOIL)]),
    ("Y_first_terms_by_half", "raw", ANY, r"Y: .*(term|block|factor)",
     hole("FY_DOWN", "if (r % 4 == 3 && k < 8) continue;")),
]
