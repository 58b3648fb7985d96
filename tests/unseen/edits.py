"""What bugs are made of: layers, element types, places in backends/faulty.

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
UP = "    fy_product(l, FY_UP, rows, x->rows, d, turned, x->hw, x->H);"
OUTER = "        fy_product(l, id, turned, width_l, rows, right, width_r, sum);"
DX = "        add_row(dx, s, fy_out(l, MOE_T_DXP) + p * d, d);"
SUM = "    spoil_tokens(l, o);"
DX_END = "    zero_experts_backward(l);"
