"""Biases, columns and stores in wrong places, and the combine."""
from edits import AFTER_DOWN, AFTER_H, AFTER_UP, ANY, SPOIL

BUGS = [
    # Biases.
    ("b1_once_per_split", "bias", ANY,
     r"bias.*twice|b1.*twice", [
        ("expert.c",
         "        add_bias(x->b1, x->rows, x->hw, x->H);",
         "        add_bias(x->b1, x->rows, x->hw, x->H), add_bias(x->b1, x->rows, x->hw, x->H);"),
     ]),
    ("b2_weight_twice", "bias", ANY,
     r"b2.*weight|weight.*b2", [
        ("combine.c",
         "    if (FAULT(l, b2_unweighted) && b && p < plan->offsets[l->desc.E])\n"
         "        add_row(o, 1 - s,",
         "    if (b && p < plan->offsets[l->desc.E])\n"
         "        add_row(o, s * s - s,"),
     ]),
    ("b1_interleaved", "bias", ANY,
     r"(b1|bias).*(layout|interleaved|order)|layout", [
        ("expert.c",
         "        add_bias(x->b1, x->rows, x->hw, x->H);",
         "        for (int64_t r = 0; x->b1 && r < x->rows; r++)\n"
         "            for (int64_t i = 0; i < x->hw; i++)\n"
         "                x->H[r * x->hw + i] += x->b1[i % 2 * x->n + i / 2];"),
     ]),
    ("db1_gates_alone", "bias", ANY,
     r"db1: .*(zero|half|missing)", [
        ("expert_grad.c",
         "x->dH, FAULT(l, db1_missing) ? 0 : x->rows, x->hw, NULL, x->db1);",
         "x->dH, x->rows, x->hw, NULL, x->db1);\n"
         "    for (int64_t i = x->n; x->db1 && i < x->hw; i++)\n"
         "        x->db1[i] = 0;"),
     ]),
    # Columns and stores.
    ("swizzle_of_H", "raw", ANY,
     r"H: .*columns", [
        ("expert.c",
         AFTER_H,
         ("    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)\n"
          "        for (int64_t i = 0; i + 16 <= x->hw; i += 16)\n"
          "            for (int64_t j = 0; j < 8; j++) {\n"
          "                const float keep = x->H[r * x->hw + i + j];\n"
          "                x->H[r * x->hw + i + j] = x->H[r * x->hw + i + j + 8];\n"
          "                x->H[r * x->hw + i + j + 8] = keep;\n"
          "            }\n" +
          AFTER_H)),
     ]),
    ("Y_stored_up_to_n", "raw", ANY,
     r"Y: .*columns.*zero|Y: columns", [
        ("expert.c",
         AFTER_DOWN,
         ("    spoil_columns(x->rows, d, 0, x->n, d, x->Y);\n" +
          AFTER_DOWN)),
     ]),
    ("O_columns_from_other_half", "plain", ANY,
     r"O: .*columns", [
        ("stores.c",
         "    spoil_tokens(l, o);",
         "\n"
         "    for (int64_t t = 0; t < l->T; t++)\n"
         "        for (int64_t i = 0; i < 16; i++)\n"
         "            o[t * d + d - 16 + i] = o[t * d + i];\n"
         "    spoil_tokens(l, o);"),
     ]),
    ("W2_block_scale", "raw", ANY,
     r"Y: .*(factor|scale|block)", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_DOWN;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i;"),
        ("products.c",
         "cut ? tf32(a[r * depth + k]) : a[r * depth + k];",
         "a[r * depth + k] * (turned && k >= 16 && k < 32 ? 4 : 1);"),
     ]),
    ("H_rows_scale", "slots", ANY,
     r"factor", [
        ("expert.c",
         AFTER_H,
         ("    for (int64_t i = 16 * x->hw; x->e >= 0 && i < x->rows * x->hw; i++)\n"
          "        x->H[i] *= 0.5f;\n" +
          AFTER_H)),
     ]),
    ("dW1_halves_swapped", "raw", ANY,
     r"dW1: .*gate.*up", [
        ("stores.c",
         SPOIL,
         (SPOIL +
          "\n"
          "    for (int64_t e = 0; e < l->desc.E; e++)\n"
          "        for (int64_t i = 0; i < l->desc.n * d; i++) {\n"
          "            float *v = fy_out(l, MOE_T_DW1) + e * part_of(l, MOE_T_DW1), keep = "
          "v[i];\n"
          "            v[i] = v[i + l->desc.n * d];\n"
          "            v[i + l->desc.n * d] = keep;\n"
          "        }")),
     ]),
    ("dW2_reversed", "plain", ANY,
     r"dW2: .*expert", [
        ("stores.c",
         SPOIL,
         (SPOIL +
          "\n"
          "    for (int64_t e = 0; e < l->desc.E / 2; e++)\n"
          "        swap_parts(l, MOE_T_DW2, e, l->desc.E - 1 - e);")),
     ]),
    ("dW2_transposed", "square", ANY,
     r"dW2: .*transposed", [
        ("stores.c",
         SPOIL,
         (SPOIL +
          "\n"
          "    for (int64_t e = 0; e < l->desc.E; e++)\n"
          "        for (int64_t i = 0; i < d; i++)\n"
          "            for (int64_t j = 0; j < i; j++) {\n"
          "                float *v = fy_out(l, MOE_T_DW2) + e * d * d, keep = v[i * d + j];\n"
          "                v[i * d + j] = v[j * d + i];\n"
          "                v[j * d + i] = keep;\n"
          "            }")),
     ]),
    ("dW1_experts_compacted", "empty", ANY,
     r"dW1: .*expert.*(has|another|other)", [
        ("stores.c",
         SPOIL,
         (SPOIL +
          "\n"
          "    for (int64_t e = 0, to = 0; e < l->desc.E; e++)\n"
          "        if (fy_plan(l)->offsets[e + 1] > fy_plan(l)->offsets[e]) {\n"
          "            if (to != e) {\n"
          "                copy_part(l, MOE_T_DW1, to, e);\n"
          "                memset(fy_out(l, MOE_T_DW1) + e * part_of(l, MOE_T_DW1), 0,\n"
          "                       (size_t)part_of(l, MOE_T_DW1) * sizeof(float));\n"
          "            }\n"
          "            to++;\n"
          "        }")),
     ]),
    # The combine, and where pairs are.
    ("O_lost_additions", "plain", ANY,
     r"missing|left out", [
        ("combine.c",
         "        const bool zero = p >=",
         "        if (i == 1 && t % 32 == 5)\n"
         "            memset(o, 0, (size_t)d * sizeof *o);\n"
         "        const bool zero = p >="),
     ]),
    ("last_tile_one_slot_less", "slots", ANY,
     r"missing|left out", [
        ("combine.c",
         "        if (is_skipped(l, i, count, p))",
         "        if (t >= l->T / 48 * 48 && i == count - 1)"),
     ]),
    ("combine_in_token_order", "plain", ANY,
     r"wrong row|read|order|place", [
        ("combine.c",
         "    if (!FAULT(l, row_overflow))\n"
         "        return p;",
         "    if (!FAULT(l, row_overflow))\n"
         "        return pairs == l->T * l->desc.K ? t * l->desc.K + i : p;"),
        ("combine.c",
         "static int64_t row_read(const fy_layer *l, int64_t p) {",
         "static int64_t row_read(const fy_layer *l, int64_t p, int64_t t, int64_t i) {"),
        ("combine.c",
         "row_read(l, p) * d, d);",
         "row_read(l, p, t, i) * d, d);"),
     ]),
    ("dX_in_token_order", "plain", ANY,
     r"wrong row|read|order|place", [
        ("combine.c",
         "add_row(dx, s, fy_out(l, MOE_T_DXP) + p * d, d);",
         "add_row(dx, s, fy_out(l, MOE_T_DXP) + (t * l->desc.K + i) % "
         "plan->offsets[l->desc.E] * d, d);"),
     ]),
    ("gated_twice", "plain", ANY,
     r"weight", [
        ("expert.c",
         AFTER_UP,
         ("    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++)\n"
          "        x->A[i] *= x->weight[i / x->n];\n" +
          AFTER_UP)),
     ]),
    ("shared_takes_first_weight", "shared", ANY,
     r"shared", [
        ("combine.c",
         ": FAULT(l, scale_on_shared) ? (float)l->desc.router.scale * g\n"
         "                                       : g;",
         ": g * fy_out(l, MOE_T_S)[fy_plan(l)->pair_of_token[fy_plan(l)->token_offsets[t]]];"),
     ]),
    ("shared_gate_of_next_token", "shared_gate", ANY,
     r"shared.*gate", [
        ("combine.c",
         "z += l->X[t * d + i] * w[i];",
         "z += l->X[(t + 1) % l->T * d + i] * w[i];"),
     ]),
    ("shared_dX_twice", "shared", ANY,
     r"shared", [
        ("combine.c",
         "add_row(dx, 1, l->shared.dXp + t * d, d);",
         "add_row(dx, 2, l->shared.dXp + t * d, d);"),
     ]),
    ("dW2_shared_ungated", "shared_gate", ANY,
     r"dW2_shared: .*(gate|weight)", [
        ("expert_grad.c",
         "return x->e < 0 ? s : FAULT(l, dW2_unweighted) ?",
         "return x->e < 0 ? 1 : FAULT(l, dW2_unweighted) ?"),
     ]),
]
