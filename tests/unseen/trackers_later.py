"""More bugs as trackers of MoE kernels tell of them, written before anything was mended for
trackers.py and tried after. README.md has what was named at first sight."""
from edits import (AFTER_UP, ANY, B2_TWICE, COLUMN_SUM, DOWN, DS_STORE, DW_R, DX_ROUTER_SUM, FP32,
                   O_TERM, PAIR, PARAMS_TAKEN, ROOM, SCORE, SEEN, SHARED_O, SKIPPED, SPOIL, UP,
                   Y_READ, before, hole, operand)

GATE_SLOPE = ("        const float dz = l->shared.d_gate[t] * (FAULT(l, shared_gate_slope) ? g : "
              "g * (1 - g));")
VALUE = "    const float value = nonlinearity(l, g, &slope);\n    if (FAULT(l, up_missing))"
ALPHA = "(float)l->desc.act_alpha, slope);"
SOFTMAX_SUM = "        sum += exp(z[i] - top);\n    return exp(z[e] - top) / sum;"
SUM_OF_RAW = "        sum += raw[k];\n        most"
ADDS = "    const bool adds = (FAULT(l, dW_adds_up)"
DX_SHARED = "    if (l->desc.n_shared && !FAULT(l, dX_without_shared))"

BUGS = [
    # sglang#31475: what every rank has is summed over the ranks
    ("shared_summed_over_four_ranks", "shared", ANY, r"shared", [
        operand(SHARED_O, "shared_weight(l, t)", "4 * shared_weight(l, t)")]),
    # Pai-Megatron-Patch#397: no gradient through the shared expert's gate
    ("shared_gate_detached", "shared_gate", ANY, r"shared.*gate|gate.*shared", [
        ("combine.c", GATE_SLOPE, "        const float dz = 0 * g;")]),
    # vllm-xpu-kernels#454: channels from the 257th of 768 on are not written
    ("A_not_written_behind_a_third", "raw", ANY, r"A: .*(zero|column)", [
        before(AFTER_UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * x->n; i++)
        if (i % x->n > x->n / 3)
            x->A[i] = 0;""")]),
    # atlas#142: a row of A in a buffer that is too short
    ("Y_of_units_that_wrap", "raw", ANY, r"Y: .*(A\b|unit|term|column|W2)", [
        ("expert.c", DOWN, """    float *wrapped = fy_floats(x->rows * x->n + 1);
    for (int64_t i = 0; i < x->rows * x->n; i++)
        wrapped[i] = x->A[x->e < 0 || i % x->n < 24 ? i : i - 24];
""" + DOWN.replace("x->A", "wrapped") + "\n    free(wrapped);")]),
    # ROCm/mori#546: whether a row is to come is asked of another token's routing
    ("combine_asks_another_tokens_routing", "plain", ANY, r"O: .*(missing|left out)", [
        ("combine.c", "        if (is_skipped(l, i, count, p))\n            continue;",
         """        const int64_t next = t + 1 < l->T ? t + 1 : 0, half = l->desc.E / 2;
        bool comes = false;
        for (int64_t j = plan->token_offsets[next]; j < plan->token_offsets[next + 1]; j++)
            comes |= (expert_of(plan, plan->pair_of_token[j]) < half) ==
                     (expert_of(plan, p) < half);
        if (!comes)
            continue;""")]),
    # onnxruntime#28738: every gated activation is gpt-oss's
    ("swiglu_as_of_gpt_oss", "raw", ANY, r"A: .*(activation|alpha|clamp|1)", [
        ("act.c", VALUE, """    if (l->desc.act == MOE_ACT_SWIGLU) {
        const float v = silu(l, g, 1.702f, &slope);
        return (fy_unit){v * (u + 1), slope * (u + 1), v};
    }
""" + VALUE)]),
    # ROCm/hip-ep#146: an attribute that is left out is 0
    ("alpha_of_zero", "clamp", ANY, r"A: .*(activation|alpha|factor)", [
        ("act.c", ALPHA, "0, slope);")]),
    # onnxruntime#27360: the kernel for many rows adds the bias, and so does what follows
    ("b2_twice_for_many_rows", "bias_tails", ANY, r"Y: .*(b2|bias)", [
        ("expert.c", B2_TWICE, B2_TWICE.replace("FAULT(l, b2_twice)", "x->rows >= 16"))]),
    # sglang#8125: the slot that gives way is not the lightest
    ("heaviest_slot_not_summed", "slots", ANY, r"O: .*(missing|left out|slot)", [
        ("combine.c", "        if (is_skipped(l, i, count, p))\n            continue;",
         """        float most = 0;
        for (int64_t j = 0; j < count; j++)
            most = fmaxf(most, fy_out(l, MOE_T_S)[plan->pair_of_token[first + j]]);
        if (s == most)
            continue;""")]),
    # mirage#664: a mask of lanes that is too narrow for the last tokens
    ("last_tokens_sum_over_half_the_experts", "raw", ANY, r"topk_weight: .*(sum|softmax|score)", [
        ("router.c", SCORE, """            raw[k] = t < l->T / 8 * 7 ? fy_score(l, t, chosen[k])
                     : softmax(l->logits + t * l->R, l->R / 2, chosen[k]);""")]),
    # TransformerEngine#3234: a gradient that nobody computes
    ("dW2_never_written", "plain", ANY, r"dW2: .*(zero|missing|written)", [
        before(SPOIL, "    scale_all(l, MOE_T_DW2, 0);")]),
    # tpu-inference#3435: a shard of the shared expert is not summed with the others
    ("shared_of_its_own_shard", "shared", ANY, r"shared", [
        ("expert.c", DOWN, """    for (int64_t i = 0; x->e < 0 && i < x->rows * x->n; i++)
        x->A[i] *= i % x->n < x->n / 2;
""" + DOWN)]),
    # openxla/xla#45218: what stays where it is is not sent
    ("fixed_points_of_the_permutation_lost", "plain", ANY, r"O: .*(missing|left out|zero)", [
        ("combine.c", SKIPPED, "    if (plan->pair_of_token[p] == p)\n        return true;\n"
         + SKIPPED)]),
    # DeepEP: more tokens than a rank's buffer was made for
    ("tokens_beyond_the_buffer_not_sent", "plain", ANY, r"H: .*(zero|row|token|left out)", [
        ("expert.c", SEEN, SEEN.replace("x->on_input ?", "t >= l->T / 4 * 3 && x->e >= 0 ? 0 : "
                                        "x->on_input ?"))]),
    # mlx's gather_mm: a scatter in place of a sum over rows
    ("dW1_of_the_last_row", "plain", ANY, r"dW1: .*(row|left out|missing|term)", hole(
        "FY_DW1", "if (k != depth - 1) continue;")),
    # TensorRT-LLM: weights and rows sorted by two sorts
    ("weights_reversed_within_the_expert", "plain", ANY, r"O: .*weight", [
        ("combine.c", PAIR, PAIR.replace("        const float s = output_weight(l, t, i, p);", """
        const int64_t *at = plan->offsets + expert_of(plan, p);
        const float s = fy_out(l, MOE_T_S)[at[0] + at[1] - 1 - p];"""))]),
    # SmoothQuant: a scale of channels that the weights do not undo
    ("channel_scale_not_undone", "raw", ANY, r"H: .*(X\b|factor|scale|times)", [
        before(UP, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        ((float *)rows)[i] *= 1 + 0.25f * (float)(i % d % 4);""")]),
    # GPTQ and AWQ: a zero point that is off by one
    ("W1_zero_point_off", "raw", ANY, r"H: .*(W1|added|number|constant|sum)", [
        ("plugin.c", PARAMS_TAKEN, """    const moe_tensor *w = &l->param.t[MOE_T_W1];
    for (int64_t i = 0; i < moe_tensor_count(w); i++)
        ((float *)w->data)[i] += 0.03125f;
""" + PARAMS_TAKEN)]),
    # DeepSpeed#1827's neighbourhood: weights that carry no gradient
    ("weights_detached", "given", ANY, r"dS: .*zero", [
        ("expert_grad.c", DS_STORE, DS_STORE.replace("= ds", "= 0 * ds"))]),
    # tutel: the second choice's gate has no gradient
    ("dS_of_the_first_slot_alone", "given", ANY, r"dS: .*(zero|slot|left out)", [
        ("expert_grad.c", DS_STORE, """    {
        const moe_plan *plan = fy_plan(l);
        const int64_t t = plan->token[x->e < 0 ? 0 : x->first + r];
        if (x->e >= 0 && plan->pair_of_token[plan->token_offsets[t]] != x->first + r)
            ds = 0;
    }
""" + DS_STORE)]),
    # fp8 and int8: an activation of what has not been scaled back
    ("gate_not_scaled_back", "raw", ANY, r"A: .*(activation|factor|times)", [
        ("act.c", VALUE, VALUE.replace("(l, g,", "(l, 2 * g,"))]),
    # Megatron-LM: gradients fused into an accumulator, for one of the experts
    ("dW1_of_expert_0_adds_up", "plain", ANY, r"run|repeat|twice|second|adds|stale", [
        ("expert_grad.c", ADDS, ADDS.replace(
            "=", "= (id == FY_DW1 && ret == fy_out(l, MOE_T_DW1) && l->backwards > 1) ||"))]),
    # DeepEP: row -1 of a slot that was dropped
    ("dX_of_dropped_slots_reads_the_last_row", "capacity", ANY, r"dX: .*(row|added|slot|token)", [
        ("combine.c", DX_SHARED, """    for (int64_t i = count; i < l->desc.K; i++)
        add_row(dx, 1, fy_out(l, MOE_T_DXP) + (plan->n_pairs - 1) * d, d);
""" + DX_SHARED)]),
    # experts padded to the width of a warp, with logits of 0
    ("softmax_over_padded_experts", "raw", ANY, r"topk_weight: .*(sum|softmax|score|renorm)", [
        ("router.c", SOFTMAX_SUM, SOFTMAX_SUM.replace(
            "    return", "    sum += (double)n * exp(-top);\n    return"))]),
    # Megatron-LM#346: shards of gate and up put together in the wrong order
    ("up_of_the_other_shard", "raw", ANY, r"H: .*(column|order|up|row|place)", [
        ("expert.c", UP, UP + """
    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        for (int64_t j = 0; j < x->n / 2; j++) {
            float *v = x->H + r * x->hw + x->n + j, keep = *v;
            v[0] = v[x->n / 2];
            v[x->n / 2] = keep;
        }""")]),
    # and of W2's columns
    ("W2_of_the_other_shard", "raw", ANY, r"Y: .*(A\b|W2|order|half|block|term)", [
        ("expert.c", DOWN, """    float *shard = fy_floats(x->rows * x->n + 1);
    for (int64_t i = 0; i < x->rows * x->n; i++)
        shard[i] = x->A[x->e < 0 ? i : i / x->n * x->n + (i + x->n / 2) % x->n];
""" + DOWN.replace("x->A", "shard") + "\n    free(shard);")]),
    # vllm: a sum over ranks in 16 bits
    ("O_summed_over_ranks_in_bf16", "plain", FP32, r"O: .*(narrow|round|bits|bf16|precis)", [
        ("combine.c", O_TERM, """        const float *y = """ + Y_READ.replace(", d);", ";") + """
        for (int64_t j = 0; j < d; j++)
            o[j] += fy_bf16(s * y[j]);""")]),
    # sequence parallel: the router's part of dX stays on the rank
    ("dX_router_of_lower_tokens", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", DX_ROUTER_SUM, "if (i < T / 2 * d)\n                " + DX_ROUTER_SUM)]),
    # data parallel: the router's gradient once more over the ranks
    ("dW_r_over_the_ranks", "plain", ANY, r"dW_r: .*(factor|times)", [
        ("router_grad.c", DW_R, DW_R + "\n        for (int64_t i = 0; i < R * d; i++)\n"
         "            fy_out(l, MOE_T_DW_R)[i] *= 0.25f;")]),
    # TransformerEngine#1468: gradients of probabilities by token where rows are wanted
    ("dS_returned_by_token", "given", ANY, r"dS: .*(order|row|place|pair)", [
        before(SPOIL, """    float *was = fy_floats(count_of(l, MOE_T_DS));
    memcpy(was, fy_out(l, MOE_T_DS), (size_t)count_of(l, MOE_T_DS) * sizeof *was);
    for (int64_t i = 0; i < fy_plan(l)->n_pairs; i++)
        fy_out(l, MOE_T_DS)[i] = was[fy_plan(l)->pair_of_token[i]];""")]),
    # a gradient of a bias whose tiles overwrite each other
    ("db1_of_the_last_tile", "bias_tails", ANY, r"db1: .*(row|left out|missing)", [
        ("expert_grad.c", COLUMN_SUM,
         "            if (width == l->desc.d || r >= (rows - 1) / 8 * 8)\n    " + COLUMN_SUM)]),
    # GShard's second choices have their own room
    ("room_for_each_slot_by_itself", "capacity", ANY, r"capacity|full", [
        ("router.c", ROOM, """            int64_t had = 0;
            for (int64_t o = 0; o < t; o++)
                had += l->router.chosen[o * K + k] == e;
""" + ROOM.replace("load[e]", "had"))]),
    # a renormalisation of what was chosen by, not of what weighs
    ("renorm_by_scores_with_bias", "select", ANY, r"topk_weight: .*(sum|renorm|bias)", [
        ("router.c", SUM_OF_RAW, "        sum += raw[k] + fy_param(l, MOE_T_B_SELECT)"
         "[l->router.chosen[t * l->desc.K + k]];\n        most")]),
    # flashinfer#3547: ids of a shard begin at its own first expert
    ("upper_ranks_tokens_go_nowhere", "plain", ANY, r"O: .*(missing|left out|zero|expert)", [
        ("combine.c", SKIPPED, "    if (expert_of(plan, p) >= l->desc.E / 4 * 3)\n"
         "        return true;\n" + SKIPPED)]),
    # vllm#50220: a product of row and stride that is too large for its type
    ("combine_of_a_row_that_wraps_at_half", "plain", ANY, r"O: .*(row|token|read|place)", [
        ("combine.c", O_TERM, O_TERM.replace("row_read(l, p)", "p % (plan->n_pairs / 2)"))]),
]
