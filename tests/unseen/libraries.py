"""What goes wrong with a mechanism that a library of MoE kernels has, written with trackers.py:
wires in few bits, lists of problems, copies of experts. README.md has what was named at first
sight."""
from edits import (ANY, B2_OF, FIRST, MATH, NOT_BF16, O_TERM, ROOM, SKIPPED, SPOIL, TOKEN_END, UP,
                   W2, Y_READ, before, by_expert, h_of)

ALPHA = "return silu(l, x, FAULT(l, alpha_missing) ? 1 : (float)l->desc.act_alpha, slope);"
SILU = "    float a = gated(x, s, alpha * s * (1 - s), slope);"
CHOSEN = "        ret[k] = (int32_t)e;"
ACTIVATE = "static void activate(const fy_layer *l, const fy_expert *x) {"

BUGS = [
    # DeepEP's dispatch in few bits with a scale to each row, vllm#28942's path in int8
    ("X_in_int8_by_row", "raw", ANY, r"H: .*(X\b|narrow|bits|round|step)", [
        ("expert.c", *MATH), before(UP, """    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++) {
        float *v = (float *)rows + r * d, most = 0;
        for (int64_t i = 0; i < d; i++)
            most = fmaxf(most, fabsf(v[i]));
        for (int64_t i = 0; i < d; i++)
            v[i] = rintf(v[i] / most * 127) * most / 127;
    }""")]),
    # DeepEP: a combine that carries logarithms in few bits
    ("combine_in_logarithmic_steps", "plain", ANY, r"O: .*(narrow|round|bits|step|precis)", [
        ("combine.c", O_TERM,
         "        const float *y = zero ? l->X + t * d : " + Y_READ.replace(", d);", ";") + """
        for (int64_t j = 0; j < d; j++)
            o[j] += s * copysignf(exp2f(rintf(log2f(fabsf(y[j])) * 8) / 8), y[j]);""")]),
    # ggml's mul_mat_id: rows of X by slot and their remainder
    ("X_row_of_the_slots_number", "plain", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, TOKEN_END.replace("    return token[r];", """    int64_t slot = 0;
    while (plan->pair_of_token[slot] != x->first + r)
        slot++;
    return slot % l->T;"""))]),
    # gpt-oss: alpha in the gate and before it
    ("alpha_outside_too", "clamp", ANY, r"A: .*(activation|alpha|factor|times)", [
        ("act.c", ALPHA, ALPHA.replace("return silu", "return (float)l->desc.act_alpha * silu"))]),
    # flashinfer: limits and alphas by expert
    ("limit_of_odd_experts_doubled", "clamp", ANY, r"A: .*(clamp|limit|activation)", [
        ("expert.c", ACTIVATE, ACTIVATE + "\n    ((fy_layer *)l)->desc.act_limit = "
         "x->e % 2 ? 2 : 1;")]),
    # ids of 64 bits read as of 32
    ("second_choice_reads_as_expert_0", "plain", ANY, r"expert 0|slot|second choice|last choice", [
        ("choice.c", CHOSEN, "        ret[k] = (int32_t)(k == 1 ? ret[0] == 0 : e);")]),
    # DeepEP: -1 stands for none, and is an index elsewhere
    ("dropped_slots_go_to_the_last_expert", "capacity", ANY, r"capacity|full|expert", [
        ("router.c", ROOM, """            if (!has_room(l, load[e]) && e < l->R - 1 && k == 0 &&
                l->router.chosen[t * K + 1] < l->R - 1)
                expert[count] = (int32_t)l->R - 1;
            else if (!has_room(l, load[e]))
                continue;
            else
                expert[count] = e;"""),
        ("router.c", "            expert[count] = e;\n            weight", "            weight")]),
    # sglang's moe_sum_reduce: kernels for some K
    ("sum_of_the_first_four_slots", "slots", ANY, r"O: .*(slot|missing|left out)", [
        ("combine.c", SKIPPED, "    if (i >= 4)\n        return true;\n" + SKIPPED)]),
    # CUTLASS's grouped GEMM: problems that are empty are left out of a list
    ("W2_by_number_of_problem", "empty", ANY, r"Y: .*(expert|weights|W2)", [
        ("expert.c", FIRST, FIRST + """
    int64_t problem = 0;
    for (int64_t o = 0; o < e; o++)
        problem += plan->offsets[o] < plan->offsets[o + 1];"""),
        by_expert(W2, "problem")]),
    # megablocks: blocks of a transposed matrix that are not turned themselves
    ("dW2_tiles_not_turned", "plain", ANY, r"dW2: .*(transpos|tile|order|block)", [
        before(SPOIL, """    float *v = fy_out(l, MOE_T_DW2);
    for (int64_t e = 0, n = l->desc.n; e < l->desc.E; e++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j < n; j++)
                if (i % 16 < j % 16) {
                    float *at = v + e * d * n, keep = at[i * n + j];
                    const int64_t to = (i / 16 * 16 + j % 16) * n + j / 16 * 16 + i % 16;
                    at[i * n + j] = at[to];
                    at[to] = keep;
                }""")]),
    # megablocks: a radix sort over too few bits
    ("sorted_by_the_low_bits", "plain", ANY, r"row|token|gather|order", [
        ("expert.c", TOKEN_END, TOKEN_END.replace("    return token[r];", """
    int64_t left = x->first + r;
    for (int64_t key = 0; key < 4; key++)
        for (int64_t slot = 0; slot < plan->n_pairs; slot++) {
            const int64_t p = plan->pair_of_token[slot];
            int64_t e = 0;
            while (plan->offsets[e + 1] <= p)
                e++;
            if (e % 4 == key && left-- == 0)
                return plan->token[p];
        }
    return token[r];"""))]),
    # TransformerEngine: a backward that computes the activation again in bf16
    ("slope_of_a_rounded_sigmoid", "raw", NOT_BF16, r"derivative|slope|narrow|round", [
        ("act.c", SILU, SILU + "\n    const float b = fy_bf16(s);\n"
         "    *slope = b + x * alpha * b * (1 - b);")]),
    # EPLB: a copy of an expert that has not been brought up to date
    ("every_other_row_by_a_wrong_copy", "plain", ANY, r"H: .*(expert|weights|W1)", [
        h_of("x->e == 2 && r % 2", "5")]),
    # EPLB: an expert is moved and its bias is not
    ("b2_not_moved_with_its_expert", "bias", ANY, r"Y: .*(b2|bias)", [
        by_expert(B2_OF, "e == 2 || e == 5 ? 7 - e : e")]),
    # scattermoe: sums of counts that lack their first zero
    ("dW2_of_the_next_experts_rows", "plain", ANY, r"dW2: .*(expert|place|order|zero)", [
        before(SPOIL, """    for (int64_t e = 0; e + 1 < l->desc.E; e++)
        copy_part(l, MOE_T_DW2, e, e + 1);
    scale(l, MOE_T_DW2, (l->desc.E - 1) * part_of(l, MOE_T_DW2), part_of(l, MOE_T_DW2), 0);""")]),
]
