"""Bugs of kernels as people write them, each an edit of backends/faulty: (name, layer, the element
types in which it is a bug, what a report must say, edits). The words are a regular expression for
"first wrong tensor: explanation", decided when the bug was written, before it was tried.

A layer is a row of LAYERS, an edit (file, what stands there once, what is put there)."""

SMALL, LARGE = "T=64 d=48 n=32 E=8 K=2 ", "T=512 d=768 n=256 E=64 K=4 "
TAILS = "route=counts:21+18+9+20+16+13+11+20 seed=47", "route=zipf:1.2 seed=47"
LAYERS = {
    "plain": "renorm=1 seed=105",
    "raw": "seed=106",
    "sigmoid": "score=sigmoid seed=107",
    "eps": "score=sigmoid renorm=1 eps=0.25 scale=2.5 seed=109",
    "bias": "bias=1 score=sigmoid seed=111",
    "select": "score=sigmoid select_bias=1 renorm=1 seed=113",
    "groups": ("T=64 d=48 n=32 E=16 K=4 score=sigmoid select=group_topk groups=4 "
               "topk_groups=2 select_bias=1 renorm=1 seed=115",
               LARGE + "score=sigmoid select=group_topk groups=16 topk_groups=2 "
               "select_bias=1 renorm=1 seed=115"),
    "capacity": (SMALL + "select=capacity capacity=12 renorm=1 seed=117",
                 LARGE + "select=capacity capacity=28 renorm=1 seed=117"),
    "square": ("T=64 d=48 n=48 E=8 K=2 act=silu seed=121",
               "T=512 d=256 n=256 E=64 K=4 act=silu seed=121"),
    "clamp": "act=swiglu_clamp limit=1 seed=123",
    "geglu": "act=geglu seed=125",
    "relu2": "act=relu2 seed=127",
    "shared": "shared=32 seed=129",
    "shared_gate": "shared=32 shared_gate=1 seed=130",
    "zero": ("T=64 d=48 n=32 E=8 K=3 zero=3 renorm=1 seed=132",
             LARGE + "zero=32 renorm=1 seed=132"),
    "on_input": "on=input score=sigmoid seed=133",
    "empty": (SMALL + "route=counts:0+40+30+20+0+18+12+8 seed=134",
              LARGE + "route=zipf:2 seed=134"),
    "tails": (SMALL + TAILS[0], LARGE + TAILS[1]),
    "bias_tails": (SMALL + "bias=1 " + TAILS[0], LARGE + "bias=1 " + TAILS[1]),
    "deep": ("T=64 d=192 n=384 E=4 K=2 seed=142", LARGE + "seed=142"),
    "given": "route=uniform seed=137",
    "nan": "route=uniform inject=nan@3 seed=138",
    "slots": ("T=64 d=48 n=32 E=16 K=8 renorm=1 seed=141", LARGE + "renorm=1 seed=141"),
}
ANY, FP32, BF16 = ("fp32", "bf16", "fp16"), ("fp32",), ("bf16",)


def layer(name, large):
    line = LAYERS[name]
    if isinstance(line, str):
        line = SMALL + line, LARGE + line
    return line[large]


def hole(product, body):
    """An edit of products.c: `body` stands at the head of the sum's loop of one product."""
    return [("products.c", "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
             "const bool turned = id == %s;" % product),
            ("products.c", "const int64_t k = turned ? end - 1 - (i - first) : i;",
             "const int64_t k = i; if (turned) { %s }" % body)]


TOKEN_END = "        return token[r] + 1 < l->T ? token[r] + 1 : 0;\n    return token[r];"
ROW_END = TOKEN_END.replace("return token[r];", "return %s;")
AFTER_UP = "    if (FAULT(l, A_columns_repeat))"
AFTER_DOWN = "    if (FAULT(l, Y_block_zero))"
AFTER_H = "    activate(l, x);"
SPOIL = "    spoil_weight_gradients(l);"
UNIT = "const fy_unit unit = fy_activate(l, h[g], h[u]);"
DSCALE = "dh[g] = s_da * da[j] * unit.d_gate;"

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
    # Activation and its slope.
    ("slope_at_A", "raw", ANY,
     r"derivative|slope", [
        ("expert_grad.c",
         UNIT,
         "fy_unit unit = fy_activate(l, h[g], h[u]);\n"
         "        unit.d_gate = fy_activate(l, x->A[r * x->n + j], h[u]).d_gate;"),
     ]),
    ("slope_sigmoid_of_up", "raw", ANY,
     r"derivative|slope", [
        ("expert_grad.c",
         UNIT,
         "fy_unit unit = fy_activate(l, h[g], h[u]);\n"
         "        const float sg = 1 / (1 + expf(-h[u]));\n"
         "        unit.d_gate = h[u] * (sg * (1 + h[g] * (1 - sg)));"),
        ("expert_grad.c",
         "#include <stdlib.h>",
         "#include <math.h>\n"
         "#include <stdlib.h>"),
     ]),
    ("d_up_of_gate_times_up", "raw", ANY,
     r"derivative|slope", [
        ("expert_grad.c",
         "dh[u] = s_da * da[j] * unit.d_up;",
         "dh[u] = s_da * da[j] * unit.a;"),
     ]),
    ("A_saturates", "raw", ANY,
     r"clamp|satur|limit|clip", [
        ("expert.c",
         AFTER_UP,
         ("    for (int64_t i = 0; i < x->rows * x->n; i++)\n"
          "        x->A[i] = x->A[i] > 0.5f ? 0.5f : x->A[i] < -0.5f ? -0.5f : x->A[i];\n" +
          AFTER_UP)),
     ]),
    ("exp_off_by_2_permille", "raw", ANY,
     r"activation|sigmoid|exp", [
        ("act.c",
         "return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x));",
         "return x >= 0 ? 1 / (1 + 1.02f * expf(-x)) : 1.02f * expf(x) / (1 + 1.02f * expf(x));"),
     ]),
    ("sigmoid_hard", "raw", ANY,
     r"activation|sigmoid", [
        ("act.c",
         "return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x));",
         "return x > 3 ? 1 : x < -3 ? 0 : x / 6 + 0.5f;"),
     ]),
    ("up_of_next_unit", "raw", ANY,
     r"up.*(unit|column|next|neighbour)|column|layout|shift", [
        ("expert.c",
         "fy_activate(l, h[fy_column(l, x, j, 0)], h[fy_column(l, x, j, 1)]).a;",
         "fy_activate(l, h[fy_column(l, x, j, 0)], h[fy_column(l, x, j + 1 < x->n ? j + 1 "
         ": 0, 1)]).a;"),
     ]),
    ("gelu_without_root", "geglu", ANY,
     r"gelu|activation", [
        ("act.c",
         "float a = gated(x, 0.5f * erfcf(-x * 0.70710678f), 0.39894228f * expf(-x * x / "
         "2), slope);",
         "float a = gated(x, 0.5f * erfcf(-x), 0.56418958f * expf(-x * x), slope);"),
     ]),
    ("relu2_slope_of_square", "relu2", ANY,
     r"derivative|slope", [
        ("act.c",
         "*slope *= FAULT(l, relu2_slope_half) ? a : 2 * a;",
         "*slope *= 2 * a * a;"),
     ]),
    ("clamp_slope_other_side", "clamp", ANY,
     r"derivative|slope|clamp", [
        ("act.c",
         "return (fy_unit){value * up, gate_in ? slope * up : 0, up_in ? value : 0};",
         "return (fy_unit){value * up, up_in ? slope * up : 0, gate_in ? value : 0};"),
     ]),
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
    # The router.
    ("weights_by_rank", "slots", ANY,
     r"weight.*(slot|neighbour|order|other)", [
        ("router.c",
         "            weight[count++] = l->router.weight[t * K + k];",
         "\n"
         "            int64_t rank = 0;\n"
         "            for (int64_t j = 0; j < K; j++)\n"
         "                rank += l->router.chosen[t * K + j] < e;\n"
         "            weight[count++] = l->router.weight[t * K + rank];"),
     ]),
    ("weights_reversed", "slots", ANY,
     r"weight.*(slot|neighbour|order|other)", [
        ("router.c",
         "weight[count++] = l->router.weight[t * K + k];",
         "weight[count++] = l->router.weight[t * K + K - 1 - k];"),
     ]),
    ("softmax_over_tokens", "raw", ANY,
     r"score|softmax|sum", [
        ("router.c",
         "return is_sigmoid(l) ? sigmoid(z[e]) : softmax(z, l->R, e);",
         "\n"
         "    double sum = 0;\n"
         "    for (int64_t i = 0; i < l->T; i++)\n"
         "        sum += exp(l->logits[i * l->R + e]);\n"
         "    return exp(z[e]) / sum;"),
     ]),
    ("half_of_each_half", "plain", ANY,
     r"half|halves|parts of the experts", [
        ("choice.c",
         "        allowed[e] = 0;\n"
         "        const bool spoilt",
         "        allowed[e] = 0;\n"
         "        if (k == K / 2 - 1)\n"
         "            for (int64_t i = 0; i < l->R; i++)\n"
         "                allowed[i] = e < l->R / 2 ? i >= l->R / 2 : i < l->R / 2;\n"
         "        const bool spoilt"),
     ]),
    ("groups_without_bias", "groups", ANY,
     r"group.*bias|bias.*group", [
        ("choice.c",
         "        group[g] = group_score(l, score + g * size, size);",
         "{\n"
         "        double own[512];\n"
         "        for (int64_t i = 0; i < size && i < 512; i++)\n"
         "            own[i] = score[g * size + i] - (r->select_bias ? fy_param(l, "
         "MOE_T_B_SELECT)[g * size + i] : 0);\n"
         "        group[g] = group_score(l, own, size);\n"
         "    }"),
        ("choice.c",
         "        open[g] = 1;\n",
         ""),
        ("choice.c",
         "    for (int64_t i = 0; i < l->R; i++)\n"
         "        allowed[i] = FAULT(l, groups_ignored);",
         "    for (int64_t g = 0; g < r->groups && g < 512; g++)\n"
         "        open[g] = 1;\n"
         "    for (int64_t i = 0; i < l->R; i++)\n"
         "        allowed[i] = FAULT(l, groups_ignored);"),
     ]),
    ("capacity_one_more", "capacity", ANY,
     r"full|capacity", [
        ("router.c",
         "load < r->capacity - FAULT(l, capacity_one_less)",
         "load <= r->capacity"),
     ]),
    ("select_bias_multiplies", "select", ANY,
     r"selection bias", [
        ("router.c",
         "ret[e] += FAULT(l, select_bias_negative) ? -b[e] : b[e];",
         "ret[e] *= 1 + b[e];"),
     ]),
    ("sigmoid_then_softmax", "sigmoid", ANY,
     r"score", [
        ("router.c",
         "return is_sigmoid(l) ? sigmoid(z[e]) : softmax(z, l->R, e);",
         "\n"
         "    double sum = 0;\n"
         "    for (int64_t i = 0; i < l->R; i++)\n"
         "        sum += exp(sigmoid(z[i]));\n"
         "    return exp(sigmoid(z[e])) / sum;"),
     ]),
    ("renorm_at_least_1", "eps", ANY,
     r"renorm|another sum|divided", [
        ("router.c",
         ": sum + r->renorm_eps;",
         ": fmax(sum + r->renorm_eps, 1.6);"),
     ]),
    ("renorm_without_zero_experts", "zero", ANY,
     r"another sum|renorm|zero", [
        ("router.c",
         "        sum += raw[k];\n"
         "        most",
         "        sum += l->router.chosen[t * l->desc.K + k] < l->desc.E ? raw[k] : 0;\n"
         "        most"),
     ]),
    ("router_tf32", "raw", FP32,
     r"narrow", [
        ("products.c",
         "const bool turned = FAULT(l, batch_variant) && l->T < 100;",
         "const bool turned = id == FY_LOGITS;"),
        ("products.c",
         "const int64_t k = turned ? end - 1 - (i - first) : i;",
         "const int64_t k = i; if (turned) { for (int64_t j = 0; j < width; j++) y[j] += "
         "fy_bf16(a[r * depth + k]) * fy_bf16(b[k * width + j]); continue; }"),
     ]),
    ("W_r_row_late", "raw", ANY,
     r"router_logits: .*(column|row|expert|neighbour)", [
        ("router.c",
         "    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);",
         "\n"
         "    for (int64_t i = 0; i < d; i++)\n"
         "        for (int64_t e = R / 2; e + 1 < R; e++)\n"
         "            turned[i * R + e] = turned[i * R + e + 1];\n"
         "    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);"),
     ]),
    ("tile_routed_as_before", "plain", ANY,
     r"neighbour|token (before|beside)|another token", [
        ("router.c",
         "        fy_choose(l, t, score, allowed, l->router.chosen + t * l->desc.K);",
         "\n"
         "        if (t >= 32 && t < 40)\n"
         "            selection_scores(l, t - 1, score);\n"
         "        fy_choose(l, t, score, allowed, l->router.chosen + t * l->desc.K);"),
     ]),
    # Gradients of the router.
    ("dS_of_O", "given", ANY,
     r"dS: .*\bO\b", [
        ("expert_grad.c",
         "    if (!x->on_input)\n"
         "        x->dS[r] = ds;",
         "\n"
         "    for (int64_t i = ds = 0; x->e >= 0 && i < l->desc.d; i++)\n"
         "        ds += dy[i] * fy_out(l, MOE_T_O)[fy_token(l, x, r) * l->desc.d + i];\n"
         "    if (!x->on_input)\n"
         "        x->dS[r] = ds;"),
     ]),
    ("dS_half_the_units", "given", ANY,
     r"dS: .*(units|half|sum|block|left out)", [
        ("expert_grad.c",
         "        ds += da[j] *",
         "        if (j < x->n / 2)\n"
         "            ds += da[j] *"),
     ]),
    ("dS_in_token_order", "given", ANY,
     r"dS: .*(row|order|place)", [
        ("stores.c",
         SPOIL,
         ("    if (l->T > 1) {\n"
          "        const moe_plan *plan = fy_plan(l);\n"
          "        float *ds = fy_out(l, MOE_T_DS), *keep = fy_floats(plan->n_pairs);\n"
          "        memcpy(keep, ds, (size_t)plan->n_pairs * sizeof *ds);\n"
          "        for (int64_t p = 0; p < plan->n_pairs; p++)\n"
          "            ds[p] = keep[plan->pair_of_token[p]];\n"
          "        free(keep);\n"
          "    }\n" +
          SPOIL)),
        ("stores.c",
         "#include <math.h>",
         "#include <math.h>\n"
         "#include <stdlib.h>"),
     ]),
    ("renorm_slope_not_squared", "eps", ANY,
     r"renormalisation", [
        ("router_grad.c",
         "dr[k] / norm - dot / (norm * norm);",
         "dr[k] / norm - dot / norm;"),
     ]),
    ("dz_of_final_weight", "eps", ANY,
     r"score|slope", [
        ("router_grad.c",
         "static void through_score(const fy_layer *l, int64_t t, const double *dr, double "
         "*dz) {\n"
         "    const int64_t K = l->desc.K;\n"
         "    const int32_t *chosen = l->router.chosen + t * K;\n"
         "    const double *raw = l->router.raw + t * K;",
         "static void through_score(const fy_layer *l, int64_t t, const double *dr, double "
         "*dz) {\n"
         "    const int64_t K = l->desc.K;\n"
         "    const int32_t *chosen = l->router.chosen + t * K;\n"
         "    const double *raw = l->router.weight + t * K;"),
     ]),
    ("dz_of_first_slot", "plain", ANY,
     r"(dW_r|dX): .*(slot|first|chosen|best)", [
        ("router_grad.c",
         "dr[k] = p >= 0 ? scale * dS[p] : 0;",
         "dr[k] = p >= 0 && k == 0 ? scale * dS[p] : 0;"),
     ]),
    ("dX_router_of_chosen", "raw", ANY,
     r"router|chosen", [
        ("router_grad.c",
         "        fy_product(l, FY_DX_ROUTER, dz, T, R, fy_param(l, MOE_T_W_R), d, dx);",
         "\n"
         "        for (int64_t t = 0; t < T; t++)\n"
         "            for (int64_t e = 0; e < R; e++) {\n"
         "                bool taken = false;\n"
         "                for (int64_t k = 0; k < l->desc.K; k++)\n"
         "                    taken |= l->router.chosen[t * l->desc.K + k] == e;\n"
         "                dz[t * R + e] *= taken ? 1 : 0;\n"
         "            }\n"
         "        fy_product(l, FY_DX_ROUTER, dz, T, R, fy_param(l, MOE_T_W_R), d, dx);"),
     ]),
    ("dW2_weight_of_next_row", "slots", ANY,
     r"dW2: .*weight", [
        ("expert_grad.c",
         "da[j] = s_a * unit.a;",
         "da[j] = (x->e < 0 ? s_a : x->weight[r + 1 < x->rows ? r + 1 : 0]) * unit.a;"),
     ]),
    ("dH_weight_of_next_row", "slots", ANY,
     r"dH: .*weight", [
        ("expert_grad.c",
         DSCALE,
         "dh[g] = weight_next(x, r) * da[j] * unit.d_gate;"),
        ("expert_grad.c",
         "dh[u] = s_da * da[j] * unit.d_up;",
         "dh[u] = weight_next(x, r) * da[j] * unit.d_up;"),
        ("expert_grad.c",
         "/* Row r: from dA'",
         "static float weight_next(const fy_expert *x, int64_t r) {\n"
         "    return x->weight[r + 1 < x->rows ? r + 1 : 0];\n"
         "}\n"
         "\n"
         "/* Row r: from dA'"),
        ("expert_grad.c",
         "s_da = weight_of_dA(l, x, r);",
         "s_da = weight_of_dA(l, x, r); (void)s_da;"),
     ]),
    ("input_weight_in_dX_alone", "on_input", ANY,
     r"dW1: .*(weight|input)", [
        ("expert_grad.c",
         "        fy_gather(l, x, in);",
         "        fy_expert bare = *x;\n"
         "        bare.on_input = false;\n"
         "        fy_gather(l, &bare, in);"),
     ]),
    # Precision, state, numbers that are none.
    ("store_truncates", "raw", BF16,
     r"trunc|toward|round", [
        ("products.c",
         "v[i] = moe_bf16_to_f32(moe_bf16_from_f32(v[i]));",
         "{\n"
         "            uint32_t bits;\n"
         "            memcpy(&bits, v + i, 4);\n"
         "            bits &= 0xffff0000u;\n"
         "            memcpy(v + i, &bits, 4);\n"
         "        }"),
     ]),
    ("dA_sums_bf16", "deep", ANY,
     r"narrow", [
        ("products.c",
         "(FAULT(l, accumulate_bf16_dX) && id == FY_DX)",
         "id == FY_DA"),
     ]),
    ("order_of_calls", "slots", FP32,
     r"determin", [
        ("combine.c",
         "        const int64_t p = plan->pair_of_token[first + i];\n"
         "        const float s = output_weight(l, t, i, p);",
         "        const int64_t p = plan->pair_of_token[first + (l->forwards % 2 ? i : "
         "count - 1 - i)];\n"
         "        const float s = fy_out(l, MOE_T_S)[p];"),
     ]),
    ("stale_dX_of_tails", "tails", ANY,
     r"second input|stale", [
        ("expert_grad.c",
         "fy_product(l, FY_DX, x->dH, x->rows,",
         "fy_product(l, FY_DX, x->dH, l->backwards > 1 && x->e >= 0 ? x->rows / 16 * 16 : "
         "x->rows,"),
     ]),
    ("weights_cached_by_first_plan", "given", ANY,
     r"second input|stale", [
        ("plugin.c",
         "    const moe_plan *plan = fy_plan(l);\n"
         "    moe_convert(fy_out(l, MOE_T_S)",
         "    const moe_plan *plan = fy_plan(l);\n"
         "    if (l->forwards > 1)\n"
         "        return;\n"
         "    moe_convert(fy_out(l, MOE_T_S)"),
     ]),
    ("A_loses_nan", "nan", ANY,
     r"finite|NaN", [
        ("expert.c",
         AFTER_UP,
         ("    for (int64_t i = 0; i < x->rows * x->n; i++)\n"
          "        x->A[i] = x->A[i] > -3e38f ? x->A[i] : -3e38f;\n" +
          AFTER_UP)),
     ]),
]
