"""Precision, state, and numbers that are none."""
from edits import AFTER_UP, ANY, BF16, FP32

BUGS = [
    # Precision, state, numbers that are none.
    ("store_truncates", "raw", BF16,
     r"trunc|toward|round", [
        ("products.c", "        moe_convert(stored, type, v + i, MOE_F32, some);",
         "        for (size_t k = 0; k < some; k++) {\n"
         "            uint32_t bits;\n"
         "            memcpy(&bits, v + i + k, 4);\n"
         "            bits &= 0xffff0000u;\n"
         "            memcpy(v + i + k, &bits, 4);\n"
         "        }\n"
         "        moe_convert(stored, type, v + i, MOE_F32, some);"),
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
