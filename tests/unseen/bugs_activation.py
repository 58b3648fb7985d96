"""Activations that are not the right ones, and their slopes."""
from edits import AFTER_UP, ANY, UNIT

BUGS = [
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
]
