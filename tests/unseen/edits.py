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
    "router_bias": "router_bias=1 seed=143",
    "reglu": "act=reglu seed=144",
    "shared_scale": "shared=32 scale=2.5 seed=145",
    "square_gated": ("T=64 d=64 n=32 E=8 K=2 seed=146", "T=512 d=512 n=256 E=64 K=4 seed=146"),
    "slots": ("T=64 d=48 n=32 E=16 K=8 renorm=1 seed=141", LARGE + "renorm=1 seed=141"),
}
ANY, FP32, BF16 = ("fp32", "bf16", "fp16"), ("fp32",), ("bf16",)
NOT_BF16 = ("fp32", "fp16")


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
DA = "        fy_product(l, FY_DA, dy, x->rows, d, x->W2, x->n, a);"
DXP_PRODUCT = "        fy_product(l, FY_DX, x->dH, x->rows, x->hw, x->W1, d, x->dXp);"
DW2 = "    moe_status status = outer(l, FY_DW2, dy, d, a, x->n, x->rows, x->dW2);"
DW1 = "        status = outer(l, FY_DW1, x->dH, x->hw, in, d, x->rows, x->dW1);"
DOWN = "    fy_product(l, FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);"
LOGITS = "    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);"
DW_R = "        fy_product(l, FY_DW_R, turned, R, T, l->X, d, fy_out(l, MOE_T_DW_R));"
DX_ROUTER = "        fy_product(l, FY_DX_ROUTER, dz, T, R, fy_param(l, MOE_T_W_R), d, dx);"
DH_STORE = "        fy_store(l, x->dH, x->rows * x->hw);"
DXP_STORE = "        fy_store(l, x->dXp, x->rows * d);"
DS = "        ds += da[j] * (FAULT(l, dS_of_slope) ? unit.d_gate : unit.a);"
DUP = "dh[u] = s_da * da[j] * unit.d_up;"
A_PRIME = "da[j] = s_a * unit.a;"
B1 = "        add_bias(x->b1, x->rows, x->hw, x->H);"
B2 = "    add_bias(x->b2, x->rows, d, x->Y);\n    if (FAULT(l, b2_twice))"
B2_TWICE = "    if (FAULT(l, b2_twice))"
WEIGHED = "        w[k] *= scale_of(l);"
SHARED_O = "            add_row(o, shared_weight(l, t), l->shared.Y + t * d, d);"
SHARED_DX = "        add_row(dx, 1, l->shared.dXp + t * d, d);"
DX_ROUTER_SUM = "sum[i] += (FAULT(l, dX_router_twice) ? 2 : 1) * dx[i];"
Z_END = "    free(turned);\n    for (int64_t t = 0; t < l->T; t++)"
MATH = "#include <stdlib.h>", "#include <math.h>\n#include <stdlib.h>"
SCORE = "            raw[k] = fy_score(l, t, chosen[k]);"
ROOM = "            if (!has_room(l, load[e]))\n                continue;"
PAIR = ("        const int64_t p = plan->pair_of_token[first + i];\n"
        "        const float s = output_weight(l, t, i, p);")
SKIPPED = "    if (FAULT(l, last_slot_skipped))"
Y_READ = "fy_out(l, MOE_T_Y) + row_read(l, p) * d, d);"
O_TERM = "        add_row(o, s, zero ? l->X + t * d : " + Y_READ
SEEN = "            ret[r * d + i] = x->on_input ? x->weight[r] * from[i] : from[i];"
W1, W2, B1_OF, B2_OF = ("                   .%s = param_of(l, e, MOE_T_%s)," % (i, i)
                        for i in ("W1", "W2", "b1", "b2"))
B1_OF, B2_OF = (b.replace("MOE_T_b", "MOE_T_B") for b in (B1_OF, B2_OF))
FIRST = "first = plan->offsets[e];"
COLUMN_SUM = "            ret[i] += s ? s[r] * g[r * width + i] : g[r * width + i];"
PARAMS_TAKEN = "    if (FAULT(l, weights_changed))"
DS_STORE = "    if (!x->on_input)\n        x->dS[r] = ds;"
FILE_OF = {
    AFTER_H: "expert.c", AFTER_UP: "expert.c", AFTER_DOWN: "expert.c", UP: "expert.c",
    DOWN: "expert.c", B2_TWICE: "expert.c", OUTER: "expert_grad.c", DA: "expert_grad.c",
    DH_STORE: "expert_grad.c", DXP_STORE: "expert_grad.c", DXP_PRODUCT: "expert_grad.c",
    SPOIL: "stores.c", SUM: "stores.c", DX_END: "combine.c", SHARED_O: "combine.c",
    DW_R: "router_grad.c", DX_ROUTER: "router_grad.c", LOGITS: "router.c", Z_END: "router.c"}


def before(place, code):
    """The edit that puts `code` before a place of FILE_OF."""
    return FILE_OF[place], place, "\n" + code + "\n" + place


def operand(place, old, new):
    """The edit of a place that takes another operand."""
    assert place.count(old) == 1, (place, old)
    file = FILE_OF.get(place, "expert_grad.c")
    return file, place, place.replace(old, new)


def coarse(value, steps=16):
    """C: the value with as many steps to a power of two as given; needs math.h."""
    return ("{ int at; const float m = frexpf(%s, &at); %s = ldexpf(rintf(m * %d) / %d, at); }"
            % (value, value, steps, steps))


def by_expert(line, index):
    """The edit by which a parameter is taken of another expert."""
    return "expert.c", line, line.replace("(l, e,", "(l, " + index + ",")


def h_of(rows, expert):
    """The edit by which rows' H is made with W1 of another expert."""
    return before(AFTER_H, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        for (int64_t i = 0; (%s) && i < x->hw; i++) {
            float sum = 0;
            for (int64_t k = 0; k < d; k++)
                sum += rows[r * d + k] * fy_param(l, MOE_T_W1)[((%s) * x->hw + i) * d + k];
            x->H[r * x->hw + i] = sum;
        }
    fy_store(l, x->H, x->rows * x->hw);""" % (rows, expert))
