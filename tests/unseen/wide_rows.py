"""A wide set, part 1: rows, tiles, tails and stale buffers. Written in one sitting, with its words,
before any of it was tried; README.md has what was named at first sight."""
from edits import (AFTER_DOWN, AFTER_H, AFTER_UP, ANY, B2_TWICE, DA, DH_STORE, DOWN, DX_END,
                   DXP_STORE, LOGITS, OUTER, ROW_END, SPOIL, SUM, TOKEN_END, UP, Z_END, before,
                   hole)

GATHER = r"row|token|gather"


def gather(index):
    return [("expert.c", TOKEN_END, ROW_END % index)]


BUGS = [
    # Which token a row is of.
    ("row_is_taken_for_token", "plain", ANY, GATHER, gather("(x->first + r) % l->T")),
    ("token_over_K", "plain", ANY, GATHER, gather("token[r] / l->desc.K")),
    ("last_two_rows_read_token_0", "tails", ANY, GATHER, gather("r < x->rows - 2 ? token[r] : 0")),
    ("second_tile_gathers_the_first", "tails", ANY, GATHER,
     gather("token[r >= 16 ? r - 16 : r]")),
    ("rows_of_odd_experts_from_tail_on", "tails", ANY, GATHER,
     gather("x->e % 2 ? token[(r + 8) % x->rows] : token[r]")),
    ("token_ids_of_five_bits", "plain", ANY, GATHER, gather("l->T > 64 ? token[r] & 255 : "
                                                            "token[r] & 31")),
    ("four_tokens_by_one_id", "plain", ANY, GATHER, gather("token[r / 4 * 4]")),
    # How an operand is read.
    ("X_with_stride_of_n", "plain", ANY, r"H: .*(X\b|row|stride|term|gather)", [
        ("expert.c", "        const float *from = l->X + t * d + late;",
         "        const float *from = l->X + t * (x->e < 0 ? d : l->desc.n);")]),
    ("X_last_lanes_from_before", "raw", ANY, r"H: .*(term|input|X\b|column)", [
        ("expert.c", "x->weight[r] * from[i] : from[i];",
         "x->weight[r] * from[i] : from[i >= d - 4 ? i - 4 : i];")]),
    ("W2_read_flat", "raw", ANY, r"Y: .*(W2|transpos|layout|stride|order)", [
        before(DOWN, """    for (int64_t i = 0; x->e >= 0 && i < x->n * d; i++)
        turned[i] = x->W2[i];""")]),
    ("W2_block_a_term_late", "raw", ANY, r"Y: .*(W2|term|row|shift|block|tile)", [
        before(DOWN, """    for (int64_t i = 8 * d; x->e >= 0 && i < 16 * d; i++)
        turned[i] = turned[i + d];""")]),
    ("W2_tile_a_column_off", "raw", ANY, r"Y: .*(W2|tile|block|column|row)", [
        before(DOWN, """    for (int64_t k = 16; x->e >= 0 && k < 24; k++)
        for (int64_t i = 0; i + 1 < d; i++)
            turned[k * d + i] = turned[k * d + i + 1];""")]),
    ("W1_tile_a_row_off", "raw", ANY, r"H: .*(W1|tile|block|row|term)", [
        before(UP, """    for (int64_t k = 8; x->e >= 0 && k < 16; k++)
        for (int64_t i = x->hw - 1; i > 0; i--)
            turned[k * x->hw + i] = turned[k * x->hw + i - 1];""")]),
    ("W1_block_of_the_block_before", "raw", ANY, r"H: .*(W1|tile|block|term)", [
        before(UP, """    for (int64_t i = 0; x->e >= 0 && i < 8 * x->hw; i++)
        turned[24 * x->hw + i] = turned[16 * x->hw + i];""")]),
    ("W_r_tile_a_row_off", "raw", ANY, r"router_logits: .*(W_r|tile|block|term|row)", [
        before(LOGITS, """    for (int64_t i = 32 * R; i + 1 < 40 * R; i++)
        turned[i] = turned[i + 1];""")]),
    ("X_block_a_row_late", "raw", ANY, r"H: .*(X\b|term|block|row)", [
        before(UP, """    for (int64_t r = 0; x->e >= 0 && r + 1 < x->rows; r++)
        for (int64_t k = 8; k < 16; k++)
            ((float *)rows)[r * d + k] = rows[(r + 1) * d + k];""")]),
    ("A_block_a_unit_late", "raw", ANY, r"Y: .*(A\b|term|block|column|unit)", hole(
        "FY_DOWN", """if (k >= 8 && k < 16) {
                for (int64_t j = 0; j < width; j++)
                    y[j] += a[r * depth + k + 1] * b[k * width + j];
                continue;
            }""")),
    ("dO_swizzled_by_row", "plain", ANY, r"(dH|dS|dW2): .*(dO|term|order|column|input)", [
        before(DA, """        for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i += 16)
            for (int64_t j = 0; i / d % 2 && j < 8; j++) {
                const float keep = dy[i + j];
                dy[i + j] = dy[i + j + 8];
                dy[i + j + 8] = keep;
            }""")]),
    ("dA_block_of_stale_W2", "plain", ANY, r"(dH|dS): .*(W2|term|block|twice)", hole(
        "FY_DA", """if (k >= 16 && k < 24) {
                for (int64_t j = 0; j < width; j++)
                    y[j] += a[r * depth + k] * b[(k - 8) * width + j];
                continue;
            }""")),
    ("dXp_block_of_stale_dH", "plain", ANY, r"dXp: .*(dH|term|block|twice)", hole(
        "FY_DX", """if (k >= 40 && k < 48) {
                for (int64_t j = 0; j < width; j++)
                    y[j] += a[r * depth + k - 8] * b[k * width + j];
                continue;
            }""")),
    ("dW1_second_rows_of_first_X", "tails", ANY, r"dW1: .*(X\b|row|tile|block)", hole(
        "FY_DW1", """if (k >= 8 && k < 16) {
                for (int64_t j = 0; j < width; j++)
                    y[j] += a[r * depth + k] * b[(k - 8) * width + j];
                continue;
            }""")),
    # Which weights a tile is computed with.
    ("last_tile_by_next_expert", "tails", ANY, r"H: .*(W1|weights|expert|tile)", [
        before(AFTER_H, """    const int64_t last = (x->rows - 1) / 16 * 16;
    if (x->e >= 0 && x->e + 1 < l->desc.E && x->rows) {
        fy_transpose(x->W1 + x->hw * d, x->hw, d, turned);
        fy_product(l, FY_UP, rows + last * d, x->rows - last, d, turned, x->hw,
                   x->H + last * x->hw);
    }""")]),
    ("local_index_of_upper_experts", "plain", ANY, r"expert|weights", [
        ("expert.c", "    return e;\n}\n\nstatic const float *param_of",
         "    return e >= E / 2 ? e - E / 2 : e;\n}\n\nstatic const float *param_of")]),
    ("b2_of_mirrored_expert", "bias", ANY, r"Y: .*(b2|bias)", [
        ("expert.c", "                   .b2 = param_of(l, e, MOE_T_B2),",
         "                   .b2 = param_of(l, desc->E - 1 - e, MOE_T_B2),")]),
    ("W1_of_expert_by_rows_before", "tails", ANY, r"H: .*(W1|weights|expert)", [
        ("expert.c", "                   .W1 = param_of(l, e, MOE_T_W1),",
         "                   .W1 = param_of(l, first / 16 < desc->E ? first / 16 : e,\n"
         "                                  MOE_T_W1),")]),
    # Stale and shared buffers.
    ("A_last_units_of_expert_before", "raw", ANY, r"A: .*(row|stale|expert|column)", [
        before(AFTER_UP, """    const int64_t start = x->e > 0 ? fy_plan(l)->offsets[x->e - 1] : 0;
    for (int64_t r = 0; x->e > 0 && r < x->rows && r < x->first - start; r++)
        memcpy(x->A + r * x->n + x->n - 8, fy_out(l, MOE_T_A) + (start + r) * x->n + x->n - 8,
               8 * sizeof *x->A);""")]),
    ("dH_up_half_of_row_before", "plain", ANY, r"dH: .*(row|column|stale)", [
        before(DH_STORE, """        for (int64_t r = x->rows - 1; x->e >= 0 && r > 0; r--)
            memcpy(x->dH + r * x->hw + x->n, x->dH + (r - 1) * x->hw + x->n,
                   (size_t)x->n * sizeof *x->dH);""")]),
    ("dXp_second_tile_of_first", "tails", ANY, r"dXp: .*(row|stale|tile)", [
        before(DXP_STORE, """        for (int64_t r = 16; x->e >= 0 && r < x->rows; r++)
            memcpy(x->dXp + r * d, x->dXp + (r - 16) * d, (size_t)d * sizeof *x->dXp);""")]),
    ("Y_accumulators_not_cleared", "tails", ANY, r"Y: .*(row|added|mixed|twice)", [
        before(AFTER_DOWN, """    for (int64_t i = 16 * d; x->e >= 0 && i < x->rows * d; i++)
        x->Y[i] += x->Y[i - 16 * d];""")]),
    ("dW1_accumulators_not_cleared", "plain", ANY, r"dW1: .*(expert|added|mixed|row|sum)", [
        before(SPOIL, """
    for (int64_t i = count_of(l, MOE_T_DW1) - 1; i >= part_of(l, MOE_T_DW1); i--)
        fy_out(l, MOE_T_DW1)[i] += fy_out(l, MOE_T_DW1)[i - part_of(l, MOE_T_DW1)];""")]),
    ("dW2_adds_the_expert_before", "plain", ANY, r"dW2: .*(expert|added|mixed|row|sum)", [
        before(SPOIL, """    const int64_t w2 = part_of(l, MOE_T_DW2);
    for (int64_t i = count_of(l, MOE_T_DW2) - 1; i >= w2; i--)
        fy_out(l, MOE_T_DW2)[i] += i / w2 % 2 ? fy_out(l, MOE_T_DW2)[i - w2] : 0;""")]),
    ("O_tile_adds_the_tile_before", "plain", ANY, r"O: .*(token|row|added|mixed)", [
        before(SUM, """    for (int64_t i = 32 * d; i < 40 * d; i++)
        o[i] += o[i - 8 * d];""")]),
    ("dX_adds_dX_of_token_before", "plain", ANY, r"dX: .*(token|row|added|mixed)", [
        before(DX_END, """    for (int64_t i = l->T * d - 1; i >= d; i--)
        fy_out(l, MOE_T_DX)[i] += i / d % 8 == 7 ? fy_out(l, MOE_T_DX)[i - d] : 0;""")]),
    # Tails that are lost.
    ("gate_columns_tail_lost", "raw", ANY, r"H: .*(column|zero)", [
        before(AFTER_H, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->hw; i++)
        x->H[i] *= i % x->hw < x->n - 8 || i % x->hw >= x->n;""")]),
    ("dW1_last_rows_not_stored", "plain", ANY, r"dW1: .*(row|zero)", [
        before(SPOIL, """    const int64_t w1 = part_of(l, MOE_T_DW1);
    for (int64_t e = 0; e < l->desc.E; e++)
        memset(fy_out(l, MOE_T_DW1) + (e + 1) * w1 - 8 * d, 0, (size_t)(8 * d) * sizeof(float));
""")]),
    ("dW2_last_columns_not_stored", "plain", ANY, r"dW2: .*(column|zero)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW2); i++)
        fy_out(l, MOE_T_DW2)[i] *= i % l->desc.n < l->desc.n - 8;""")]),
    ("dXp_columns_tail_lost", "plain", ANY, r"dXp: .*(column|zero)", [
        before(DXP_STORE, """        for (int64_t i = 0; i < x->rows * d; i++)
            x->dXp[i] *= i % d < d - 8;""")]),
    ("dX_tile_without_experts", "plain", ANY, r"dX: .*(token|expert|missing|left out|zero)", [
        before(DX_END, """
    memset(fy_out(l, MOE_T_DX) + 16 * d, 0, (size_t)(16 * d) * sizeof(float));
""")]),
    ("logits_last_tokens_zero", "raw", ANY, r"router_logits: .*(zero|token|row)", [
        before(Z_END, """    memset(z + (l->T - 8) * R, 0, (size_t)(8 * R) * sizeof *z);""")]),
    ("dS_of_last_rows_zero", "given", ANY, r"dS: .*(zero|row|left out)", [
        before(SPOIL, """    for (int64_t e = 0; e < l->desc.E; e++)
        for (int64_t p = fy_plan(l)->offsets[e] + 8; p < fy_plan(l)->offsets[e + 1]; p++)
            fy_out(l, MOE_T_DS)[p] = 0;""")]),
    ("db1_last_columns_zero", "bias", ANY, r"db1: .*(zero|column)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DB1); i++)
        fy_out(l, MOE_T_DB1)[i] *= i % part_of(l, MOE_T_DB1) < part_of(l, MOE_T_DB1) - 8;""")]),
    ("A_tail_not_activated", "raw", ANY, r"A: .*(activation|column|factor|function)", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * 8; i++) {
        const float *h = x->H + i / 8 * x->hw + x->n - 8 + i % 8;
        x->A[i / 8 * x->n + x->n - 8 + i % 8] = h[0] * h[x->n];
    }""")]),
    ("b1_not_in_last_columns", "bias", ANY, r"H: .*(b1|bias)", [
        before(AFTER_H, """    for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
        x->H[i] -= i % x->hw >= x->hw - 8 ? x->b1[i % x->hw] : 0;""")]),
    ("b2_a_tile_on", "bias", ANY, r"Y: .*(b2|bias)", [
        before(B2_TWICE, """    for (int64_t i = 0; x->b2 && i < x->rows * d; i++)
        x->Y[i] += x->b2[(i + 8) % d] - x->b2[i % d];""")]),
    ("small_experts_without_b1", "bias_tails", ANY, r"H: .*(b1|bias)", [
        before(AFTER_H, """
    for (int64_t i = 0; x->rows < 16 && x->b1 && i < x->rows * x->hw; i++)
        x->H[i] -= x->b1[i % x->hw];""")]),
    ("dW1_rows_tile_twice", "tails", ANY, r"dW1: .*(twice|row)", [
        before(OUTER, """        for (int64_t i = 0; id == FY_DW1 && i < width_l * rows; i++)
            turned[i] *= i % rows >= 8 && i % rows < 16 ? 2 : 1;""")]),
    ("Y_of_last_experts_lost", "plain", ANY, r"zero|left out|missing", [
        before(AFTER_DOWN, """    for (int64_t i = 0; x->e >= l->desc.E - 2 && i < x->rows * d; i++)
        x->Y[i] = 0;""")]),
    ("upper_tokens_combine_lower_rows", "plain", ANY, r"O: .*(row|token|read|place|order)", [
        ("combine.c", "    if (!FAULT(l, row_overflow))\n        return p;",
         "    if (!FAULT(l, row_overflow))\n        return p >= pairs / 2 && p < pairs ? "
         "p - pairs / 2 : p;")]),
]
