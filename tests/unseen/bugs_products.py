"""Rows, weights and sums of products that are not the right ones."""
from edits import ANY, TOKEN_END

BUGS = [
    # Which rows, whose weights.
    ("prefix_one_early", "tails", ANY,
     r"row before|row after|shift|neighbour", [
        ("expert.c",
         TOKEN_END,
         "        return token[r] + 1 < l->T ? token[r] + 1 : 0;\n"
         "    return x->e > 2 ? token[r - 1] : token[r];"),
     ]),
    ("tail_tile_next_W1", "tails", ANY,
     r"H: .*(W1|weights).*(tile|tail|last|rows)", [
        ("expert.c",
         "    fy_store(l, x->H, x->rows * x->hw);",
         "\n"
         "    if (x->e >= 0 && x->e + 1 < l->desc.E && x->rows % 16) {\n"
         "        int64_t tail = x->rows / 16 * 16;\n"
         "        fy_transpose(x->W1 + x->hw * d, x->hw, d, turned);\n"
         "        fy_product(l, FY_UP, rows + tail * d, x->rows - tail, d, turned, x->hw, "
         "x->H + tail * x->hw);\n"
         "    }\n"
         "    fy_store(l, x->H, x->rows * x->hw);"),
     ]),
    ("tile_of_two_experts_W2", "tails", ANY,
     r"Y: .*(W2|weights).*(tile|first|rows|straddle)", [
        ("expert.c",
         "    add_bias(x->b2, x->rows, d, x->Y);\n"
         "    if (FAULT(l, b2_twice))",
         "\n"
         "    if (x->e > 0) {\n"
         "        int64_t begin = x->first / 16 * 16, e = x->e, head = (16 - x->first % "
         "16) % 16;\n"
         "        head = head < x->rows ? head : x->rows;\n"
         "        while (fy_plan(l)->offsets[e] > begin) e--;\n"
         "        fy_transpose(x->W2 - (x->e - e) * d * x->n, d, x->n, turned);\n"
         "        fy_product(l, FY_DOWN, x->A, head, x->n, turned, d, x->Y);\n"
         "    }\n"
         "    add_bias(x->b2, x->rows, d, x->Y);\n"
         "    if (FAULT(l, b2_twice))"),
     ]),
    ("token_rounded_to_even", "plain", ANY,
     r"gather|token|row before|wrong place", [
        ("expert.c",
         TOKEN_END,
         "        return token[r] + 1 < l->T ? token[r] + 1 : 0;\n"
         "    return token[r] & ~1;"),
     ]),
    ("token_of_int8", "plain", ANY,
     r"gather|token|wrong place", [
        ("expert.c",
         TOKEN_END,
         "        return token[r] + 1 < l->T ? token[r] + 1 : 0;\n"
         "    return l->T > 128 ? token[r] & 255 : token[r] & 15;"),
     ]),
    ("wrong_tile_order", "slots", ANY,
     r"row|tile|gather|moved", [
        ("expert.c",
         TOKEN_END,
         "        return token[r] + 1 < l->T ? token[r] + 1 : 0;\n"
         "    return x->rows >= 32 && r < 32 ? token[r < 16 ? r + 16 : r - 16] : token[r];"),
     ]),
    ("last_row_repeats", "tails", ANY,
     r"row before|gather|last row|end", [
        ("expert.c",
         TOKEN_END,
         "        return token[r] + 1 < l->T ? token[r] + 1 : 0;\n"
         "    return r && r == x->rows - 1 ? token[r - 1] : token[r];"),
     ]),
    ("experts_striped", "plain", ANY,
     r"weights of (a neighbour|another)|index of an expert|expert", [
        ("expert.c",
         "    return e;\n"
         "}\n"
         "\n"
         "static const float *param_of",
         "    return E % 2 ? e : e % 2 * (E / 2) + e / 2;\n"
         "}\n"
         "\n"
         "static const float *param_of"),
     ]),
    ("upper_experts_gate_up", "raw", ANY,
     r"gate.*up", [
        ("expert.c",
         "FAULT(l, gate_up_swapped) ? !up : up",
         "x->e >= l->desc.E / 2 ? !up : up"),
     ]),
    ("dA_of_next_W2", "plain", ANY,
     r"W2.*neighbour|neighbour.*W2|W2 of", [
        ("expert_grad.c",
         "fy_product(l, FY_DA, dy, x->rows, d, x->W2, x->n, a);",
         "fy_product(l, FY_DA, dy, x->rows, d, x->e + 1 < l->desc.E && x->e >= 0 ? x->W2 + "
         "d * x->n : x->W2, x->n, a);"),
     ]),
    ("dX_of_first_W1", "plain", ANY,
     r"dX.*W1|W1|weights", [
        ("expert_grad.c",
         "x->hw, x->W1, d, x->dXp);",
         "x->hw, x->e > 0 ? x->W1 - x->e * x->hw * d : x->W1, d, x->dXp);"),
     ]),
    # Sums of products.
    ("H_block_missing", "raw", ANY,
     r"H: .*(block|left out|missing)", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_UP;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i; if (turned) { if (k >= 16 && k < 32) continue; }"),
     ]),
    ("logits_block_missing", "raw", ANY,
     r"router.*(left out|block)|inputs", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_LOGITS;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i; if (turned) { if (k >= 16 && k < 32) continue; }"),
     ]),
    ("dA_block_twice", "plain", ANY,
     r"(block|sum|part).*twice|twice.*(block|sum)", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_DA;"),
        ("products.c",
         "    range_of(l, id, depth, &first, &end);",
         "    range_of(l, id, depth, &first, &end);\n"
         "    if (turned) end += 16;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i < depth ? i : i - depth;"),
     ]),
    ("Y_block_stale", "raw", ANY,
     r"Y: .*(block|columns|stale|repeat)", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_DOWN;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i;"),
        ("products.c",
         "cut ? tf32(a[r * depth + k]) : a[r * depth + k];",
         "a[r * depth + (turned && k >= 16 && k < 32 ? k - 16 : k)];"),
     ]),
    ("dX_half_missing", "plain", ANY,
     r"dX.*(left out|half|block|missing)", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_DX;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i; if (turned) { if (k >= depth / 2) continue; }"),
     ]),
    ("dW1_half_overwritten", "tails", ANY,
     r"dW1: .*rows.*(left out|missing)|rows are left out", [
        ("expert_grad.c",
         "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);",
         "\n"
         "        if (id == FY_DW1 && rows > 8)\n"
         "            for (int64_t i = 0; i < width_l * rows; i++)\n"
         "                if (i % rows < rows / 2) turned[i] = 0;\n"
         "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);"),
     ]),
    ("dW2_rows_over_16", "slots", ANY,
     r"rows.*left out|left out.*rows", [
        ("expert_grad.c",
         "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);",
         "\n"
         "        if (id == FY_DW2)\n"
         "            for (int64_t i = 0; i < width_l * rows; i++)\n"
         "                if (i % rows >= 16) turned[i] = 0;\n"
         "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);"),
     ]),
    ("dW1_last_row_twice", "tails", ANY,
     r"row.*twice|twice.*row", [
        ("expert_grad.c",
         "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);",
         "\n"
         "        if (id == FY_DW1 && rows)\n"
         "            for (int64_t i = 0; i < width_l; i++)\n"
         "                turned[i * rows + rows - 1] *= 2;\n"
         "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);"),
     ]),
    ("dW2_unmasked_tail", "tails", ANY,
     r"rows.*(next|beyond|other)|next.*rows", [
        ("expert_grad.c",
         "    moe_status status = outer(l, FY_DW2, dy, d, a, x->n, x->rows, x->dW2);",
         "\n"
         "    const moe_plan *plan = fy_plan(l);\n"
         "    int64_t whole = (x->rows + 15) / 16 * 16, rest = plan->offsets[l->desc.E] - "
         "x->first;\n"
         "    if (x->e < 0 || whole > rest) whole = x->rows;\n"
         "    float *left = fy_floats(whole * d), *right = fy_floats(whole * x->n);\n"
         "    memcpy(left, dy, (size_t)(x->rows * d) * sizeof *left);\n"
         "    memcpy(right, a, (size_t)(x->rows * x->n) * sizeof *right);\n"
         "    for (int64_t r = x->rows; r < whole; r++)\n"
         "        for (int64_t i = 0; i < d || i < x->n; i++) {\n"
         "            if (i < d) left[r * d + i] = l->dO[plan->token[x->first + r] * d + i];\n"
         "            if (i < x->n) right[r * x->n + i] = x->weight[r] * x->A[r * x->n + i];\n"
         "        }\n"
         "    moe_status status = outer(l, FY_DW2, left, d, right, x->n, whole, x->dW2);\n"
         "    free(left);\n"
         "    free(right);"),
     ]),
    ("db2_unmasked_tail", "bias_tails", ANY,
     r"rows.*(next|beyond|other)|next.*rows", [
        ("expert_grad.c",
         "column_sums(l, dy, FAULT(l, db2_missing) ? 0 : x->rows, d,",
         "for (int64_t i = 0; i < d; i++) x->db2[i] = 0;\n"
         "    if (x->db2)\n"
         "        column_sums(l, dy, x->rows, d,"),
        ("expert_grad.c",
         "    if (x->db1)",
         "\n"
         "    if (x->db2)\n"
         "        for (int64_t r = x->rows; r < (x->rows + 15) / 16 * 16 && x->first + r < "
         "fy_plan(l)->n_pairs;\n"
         "             r++)\n"
         "            for (int64_t i = 0; i < d; i++)\n"
         "                x->db2[i] += x->weight[r] * l->dO[fy_plan(l)->token[x->first + "
         "r] * d + i];\n"
         "    if (x->db2)\n"
         "        fy_store(l, x->db2, d);\n"
         "    if (x->db1)"),
     ]),
    ("dW1_not_gathered", "plain", ANY,
     r"dW1: .*(gather|X|row)", [
        ("expert_grad.c",
         "        fy_gather(l, x, in);",
         "        for (int64_t r = 0; r < x->rows; r++)\n"
         "            memcpy(in + r * d, l->X + (x->first + r) % l->T * d, (size_t)d * "
         "sizeof *in);"),
     ]),
    ("dW2_dO_of_next_row", "plain", ANY,
     r"dW2: .*(dO|row|token)", [
        ("expert_grad.c",
         "    moe_status status = outer(l, FY_DW2, dy, d, a, x->n, x->rows, x->dW2);",
         "\n"
         "    float *late = fy_floats(x->rows * d);\n"
         "    for (int64_t r = 0; r < x->rows; r++)\n"
         "        memcpy(late + r * d, dy + (r + 1 < x->rows ? r + 1 : 0) * d, (size_t)d * "
         "sizeof *late);\n"
         "    moe_status status = outer(l, FY_DW2, late, d, a, x->n, x->rows, x->dW2);\n"
         "    free(late);"),
     ]),
    ("dW2_of_A_before", "plain", ANY,
     r"dW2: .*(row|A\b|neighbour)", [
        ("expert_grad.c",
         "    moe_status status = outer(l, FY_DW2, dy, d, a, x->n, x->rows, x->dW2);",
         "\n"
         "    float *late = fy_floats(x->rows * x->n);\n"
         "    for (int64_t r = 0; r < x->rows; r++)\n"
         "        memcpy(late + r * x->n, a + (r ? r - 1 : 0) * x->n, (size_t)x->n * "
         "sizeof *late);\n"
         "    moe_status status = outer(l, FY_DW2, dy, d, late, x->n, x->rows, x->dW2);\n"
         "    free(late);"),
     ]),
    ("dW_r_half_the_tokens", "plain", ANY,
     r"dW_r: .*tokens.*left out|dW_r: .*(left out|missing)", [
        ("router_grad.c",
         "        fy_product(l, FY_DW_R, turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));",
         "        for (int64_t i = 0; i < R * T; i++)\n"
         "            if (i % T < T / 2) turned[i] = 0;\n"
         "        fy_product(l, FY_DW_R, turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));"),
     ]),
]
