"""Bugs as trackers of MoE kernels tell of them, each with where it is told. README.md has what was
named at first sight."""
from edits import (AFTER_DOWN, ANY, B1, B1_OF, COLUMN_SUM, DOWN, DS_STORE, DX, FIRST, FP32,
                   NOT_BF16, O_TERM, PAIR, PARAMS_TAKEN, ROOM, ROW_END, SCORE, SEEN, SHARED_O,
                   SPOIL, SUM, TOKEN_END, UP, W1, WEIGHED, before, by_expert, h_of, hole, operand)

BY_LOGITS = "        ret[e] = chooses_by_logits(r) ? z[e]"
BY_SIGMOID = "                 : is_sigmoid(l)      ? sigmoid(z[e])"
SELECT = "FAULT(l, select_bias_negative) ? -b[e] : b[e];"
TOLD = "    for (int64_t t = 0; FAULT(l, logit_of_neighbour) && R > 3 && t < l->T; t++)"
CLEARED = "            memset(load, 0, (size_t)l->R * sizeof *load);"
S_READ = "    const float s = fy_out(l, MOE_T_S)[weight_slot(l, t, i)];"
ROWS = "                   .rows = plan->offsets[e + 1] - first,"
EACH = "    status = each_expert(l, fy_expert_forward);"
DZ_TURN = "        fy_transpose(dz, T, R, turned);"
EMPTY = "fy_plan(l)->offsets[e] == fy_plan(l)->offsets[e + 1]"

BUGS = [
    # MetaX-MACA/vLLM-metax#270: right choice, weights by another score in one template
    ("weights_by_softmax_beside_sigmoid", "select", ANY, r"topk_weight: .*(softmax|score)", [
        ("router.c", SCORE,
         "            raw[k] = softmax(l->logits + t * l->R, l->R, chosen[k]);")]),
    # flashinfer#2822: lanes of padding hold 0 and win over negative logits
    ("negative_logits_lose_to_padding", "slots", ANY,
     r"negative|limit|cut off|clamp|function|tie|below", [
         ("router.c", BY_LOGITS, BY_LOGITS.replace("z[e]", "fmax(z[e], 0)"))]),
    # meta-pytorch/applied-ai#25: pid % grid_n with pid // grid_m
    ("tiles_by_the_wrong_grid", "plain", ANY, r"Y: .*(zero|tile)", [
        before(AFTER_DOWN, """    const int64_t gm = (x->rows + 7) / 8, gn = d / 8;
    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        for (int64_t i = 0; i < d; i++) {
            int seen = 0;
            for (int64_t pid = 0; pid < gm * gn; pid++)
                seen |= pid % gn == r / 8 && pid / gm == i / 8;
            x->Y[r * d + i] *= seen;
        }""")]),
    # vllm-xpu-kernels#66: weights by token where K > 1
    ("weights_by_token_not_by_slot", "plain", ANY, r"O: .*weight", [
        ("combine.c", S_READ, S_READ.replace("weight_slot(l, t, i)",
                                             "fy_plan(l)->pair_of_token[t]"))]),
    # llama.cpp#26310: lists of rows that are too short run into the next expert's
    ("row_list_runs_into_the_next_experts", "tails", ANY, r"row|token|gather", [
        ("expert.c", TOKEN_END, ROW_END % "r >= 12 && x->first + x->rows + r - 12 < plan->n_pairs"
         " ? token[x->rows + r - 12] : token[r]")]),
    # llama.cpp#23695: a copy slot keeps the weights of who had it before
    ("W1_not_loaded_for_few_rows", "tails", ANY, r"H: .*(expert|weights|W1)", [
        by_expert(W1, "e > 0 && plan->offsets[e + 1] - first < 14 ? e - 1 : e")]),
    # ik_llama.cpp#913: a split over SMs that are no power of two
    ("remainder_of_a_split_lost_in_some_tiles", "plain", ANY, r"H: .*(term|block|left out)", hole(
        "FY_UP", "if (k >= depth - 8 && r / 8 % 2) continue;")),
    # transformers#45120: what is called logits has been through the softmax
    ("told_logits_are_probabilities", "raw", ANY, r"router_logits: .*(softmax|function|probab)", [
        ("router.c", TOLD, """    for (int64_t t = 0; t < l->T; t++) {
        double sum = 0;
        for (int64_t e = 0; e < R; e++)
            sum += exp(l->logits[t * R + e]);
        for (int64_t e = 0; e < R; e++)
            z[t * R + e] = (float)(exp(l->logits[t * R + e]) / sum);
    }
""" + TOLD)]),
    # Megatron-LM#5694: a loss of balance that nobody asked for
    ("dz_with_a_balance_loss", "raw", ANY, r"(dW_r|dX): .*(router|added|balance|loss)", [
        ("router_grad.c", DZ_TURN, """        for (int64_t t = 0; t < T; t++) {
            const int64_t *at = fy_plan(l)->offsets;
            double dot = 0;
            for (int64_t e = 0; e < R; e++)
                dot += fy_score(l, t, e) * (double)(at[e + 1] - at[e]) / (double)T;
            for (int64_t e = 0; e < R; e++)
                dz[t * R + e] += (float)(2 * fy_score(l, t, e) *
                                         ((double)(at[e + 1] - at[e]) / (double)T - dot));
        }
""" + DZ_TURN)]),
    # tokamax#887: experts without a row get the gradient of others
    ("dW1_of_empty_experts_is_anothers", "empty", ANY, r"dW1: .*(expert|copy|stale|zero)", [
        before(SPOIL, "    for (int64_t e = 1; e < l->desc.E; e++)\n        if (" + EMPTY + ")\n"
               "            copy_part(l, MOE_T_DW1, e, e - 1);")]),
    # databricks/megablocks#20: weight gradients and the number of ranks
    ("dW2_over_the_ranks", "plain", ANY, r"dW2: .*(factor|times)", [
        before(SPOIL, "    scale_all(l, MOE_T_DW2, 0.25f);")]),
    # transformers#45621: rows that nobody wrote, times a weight of 0
    ("dropped_slots_times_nothing", "capacity", ANY, r"NaN|nan|finite", [
        before(SUM, """    for (int64_t t = 0; t < l->T; t++)
        for (int64_t i = 0; fy_plan(l)->token_offsets[t + 1] - fy_plan(l)->token_offsets[t] <
                                l->desc.K && i < d; i++)
            o[t * d + i] += 0 * NAN;""")]),
    # mlx#3960: the stride of an axis of size 1
    ("A_rows_a_unit_apart", "raw", ANY, r"Y: .*(A\b|row|stride)", [
        ("expert.c", DOWN, """    float *apart = fy_floats(x->rows * x->n + 1);
    for (int64_t i = 0; i < x->rows * x->n; i++)
        apart[i] = x->A[x->e < 0 ? i : i / x->n + i % x->n];
""" + DOWN.replace("x->A", "apart") + "\n    free(apart);")]),
    # mlx#4009: a bound of rows compared with one of columns
    ("half_the_columns_lose_the_tail", "raw", ANY, r"H: .*(term|block|left out)", hole(
        "FY_UP", "if (k >= depth - 16) { for (int64_t j = 0; j < width; j++) if (j % 16 < 8) "
        "y[j] += a[r * depth + k] * b[k * width + j]; continue; }")),
    # mlx#4055: half of a matrix taken for a whole one
    ("experts_half_a_matrix_apart", "raw", ANY, r"H: .*(W1|weights|expert|stride)", [
        ("expert.c", W1, "                   .W1 = fy_param(l, MOE_T_W1) + e * n * d,")]),
    # PaddleFormers#2844: sigmoid scores over their sum
    ("sigmoid_over_the_sum_of_all", "sigmoid", ANY, r"topk_weight: .*(sum|renorm|divided|normal)", [
        ("router.c", SCORE, "            {\n            double all = 0;\n"
         "            for (int64_t e = 0; e < l->R; e++)\n"
         "                all += fy_score(l, t, e);\n"
         "            raw[k] = fy_score(l, t, chosen[k]) / all;\n            }")]),
    # sglang#28237: the shared expert over the scale of the others
    ("shared_over_the_scale", "shared_scale", ANY, r"shared", [
        operand(SHARED_O, "shared_weight(l, t)",
                "shared_weight(l, t) / (float)l->desc.router.scale")]),
    # sglang#8511: the scale is applied in some of the experts' paths
    ("scale_for_lower_experts_alone", "eps", ANY, r"topk_weight: .*(scale|factor|expert|times)", [
        ("router.c", WEIGHED, "        if (chosen[k] < l->R / 2)\n    " + WEIGHED)]),
    # vllm#35161: tiles of padding carry expert 0
    ("tail_tile_is_expert_0s", "tails", ANY, r"H: .*(expert|weights|W1)", [
        h_of("x->e == l->desc.E - 1 && r >= x->rows / 8 * 8", "0")]),
    # aiter#3208: -1 as an index is the last
    ("b1_of_the_last_expert_for_the_lower", "bias", ANY, r"H: .*(b1|bias)", [
        by_expert(B1_OF, "e < desc->E / 2 ? desc->E - 1 : e")]),
    # Megatron-LM#5231: as many slots to a token as the first has
    ("as_many_slots_as_the_first_token", "capacity", ANY, r"O: .*(row|slot|token|read|place)", [
        ("combine.c", PAIR, """        const int64_t at = t * plan->token_offsets[1] + i;
        const int64_t p = plan->pair_of_token[at < plan->n_pairs ? at : plan->n_pairs - 1];
        const float s = fy_out(l, MOE_T_S)[p];""")]),
    # NeMo Automodel#1260: a rank's dX has what its own experts gave
    ("dX_of_own_ranks_experts", "plain", ANY, r"dX: .*(missing|left out|expert)", [
        ("combine.c", DX, "        if ((t < l->T / 2) != (expert_of(plan, p) < l->desc.E / 2))\n"
         "            continue;\n" + DX)]),
    # NeMo Automodel#3387: gradients of biases reduced in bf16
    ("bias_gradients_summed_in_bf16", "bias", NOT_BF16,
     r"db[12]: .*(narrow|bits|round|bf16|precis)", [
         ("expert_grad.c", COLUMN_SUM, "            ret[i] = fy_bf16(ret[i] + (s ? s[r] : 1) *"
          " g[r * width + i]);")]),
    # unsloth-zoo#607: half of the first matrix never sees a gradient
    ("dW1_of_gates_dropped", "raw", ANY, r"dW1: .*(zero|gate|half|missing)", [
        before(SPOIL, """    for (int64_t e = 0; e < l->desc.E; e++)
        scale(l, MOE_T_DW1, e * part_of(l, MOE_T_DW1), part_of(l, MOE_T_DW1) / 2, 0);""")]),
    # unsloth-zoo#1269: the expert is the fastest index of a matrix
    ("W2_with_experts_fastest", "raw", ANY, r"Y: .*(W2|weights|order|layout)", [
        ("plugin.c", PARAMS_TAKEN, """    if (!status) {
        float *w = l->param.t[MOE_T_W2].data;
        const int64_t E = l->desc.E, all = moe_tensor_count(&l->param.t[MOE_T_W2]);
        float *was = fy_floats(all);
        memcpy(was, w, (size_t)all * sizeof *w);
        for (int64_t i = 0; i < all; i++)
            w[i] = was[i % (all / E) * E + i / (all / E)];
        free(was);
    }
""" + PARAMS_TAKEN)]),
    # unsloth-zoo#849: a layout guessed from a shape that is square
    ("W1_turned_where_2n_is_d", "square_gated", ANY, r"H: .*(W1|transpos)", [
        ("plugin.c", PARAMS_TAKEN, "    if (!status)\n"
         "        status = turn(l, &l->param.t[MOE_T_W1]);\n" + PARAMS_TAKEN)]),
    # DeepSpeed#8155: room by probability for room by position
    ("room_for_the_heaviest", "capacity", ANY, r"capacity|full", [
        ("router.c", ROOM, """            int64_t above = 0;
            for (int64_t o = 0; o < l->T * K; o++)
                above += l->router.chosen[o] == e &&
                         l->router.weight[o] > l->router.weight[t * K + k];
""" + ROOM.replace("load[e]", "above"))]),
    # vllm#46645: weights put in another order, their biases not
    ("b1_halves_exchanged", "bias", ANY, r"H: .*(b1|bias)", [
        ("expert.c", B1, """        for (int64_t i = 0; x->b1 && i < x->rows * x->hw; i++)
            x->H[i] += x->b1[(i % x->hw + x->n) % x->hw];""")]),
    # composable_kernel#3735: an epilogue that adds to what an earlier run left
    ("H_adds_up_over_runs", "given", ANY, r"run|repeat|stale|second input|first input", [
        ("expert.c", UP, """    float *was = fy_floats(x->rows * x->hw);
    memcpy(was, x->H, (size_t)(x->rows * x->hw) * sizeof *was);
""" + UP + """
    for (int64_t i = 0; x->e >= 0 && l->forwards > 1 && i < x->rows * x->hw; i++)
        x->H[i] += was[i];
    free(was);""")]),
    # TensorRT-LLM#3492: weights cast to the inputs' type
    ("input_weight_in_bf16", "on_input", FP32, r"H: .*(weight|narrow|round|bits|bf16)", [
        ("expert.c", SEEN, SEEN.replace("x->weight[r] *", "fy_bf16(x->weight[r]) *"))]),
    # mlx-lm#1883: softmax and a bias choose where sigmoid should
    ("choice_by_softmax_and_bias", "select", ANY, r"score|softmax", [
        ("router.c", BY_SIGMOID, BY_SIGMOID.replace("is_sigmoid(l)     ",
                                                    "is_sigmoid(l) && !r->select_bias"))]),
    # flashinfer#3835: the sum begins before the last product has ended
    ("O_summed_before_Y_was_written", "plain", ANY, r"O: .*(zero|stale|missing|left out)", [
        ("plugin.c", "static void take_weights", "float *fy_old;\nstatic void take_weights"),
        ("plugin.c", EACH, "    const size_t size = (size_t)(fy_plan(l)->n_pairs * l->desc.d);\n"
         "    fy_old = realloc(fy_old, size * sizeof *fy_old);\n"
         "    memcpy(fy_old, fy_out(l, MOE_T_Y), size * sizeof *fy_old);\n" + EACH),
        ("combine.c", "static void add_routed", "extern float *fy_old;\nstatic void add_routed"),
        ("combine.c", O_TERM, O_TERM.replace(
            "fy_out(l, MOE_T_Y)", "(t >= l->T / 4 * 3 ? fy_old : fy_out(l, MOE_T_Y))"))]),
    # vllm#52383: a graph replays the X that it was captured with, the router's is new
    ("graph_keeps_the_captured_X", "plain", ANY, r"second input|first input|stale", [
        ("expert.c", "void fy_gather(const fy_layer *l, const fy_expert *x, float *ret) {",
         "void fy_gather(const fy_layer *l, const fy_expert *x, float *ret) {\n"
         "    static float *captured;\n    static int64_t size;\n"
         "    if (size != l->T * l->desc.d) {\n        size = l->T * l->desc.d;\n"
         "        captured = fy_floats(size);\n"
         "        memcpy(captured, l->X, (size_t)size * sizeof *captured);\n    }"),
        ("expert.c", "        const float *from = l->X + t * d + late;",
         "        const float *from = captured + t * d + late;")]),
    # vllm#28942: inputs that are changed where they lie
    ("input_weighted_in_place", "on_input", ANY, r"H: .*(weight|factor|times)", [
        ("expert.c", SEEN, SEEN.replace("ret[r * d + i] =",
                                        "ret[r * d + i] = ((float *)from)[i] ="))]),
    # InternLM/xtuner#2053: counts of another list than the rows
    ("boundary_of_experts_one_late", "plain", ANY, r"H: .*(expert|weights|row|W1|offset)", [
        ("expert.c", FIRST, FIRST.replace(";", " + (e == 3);")),
        ("expert.c", ROWS, ROWS.replace("- first,", "+ (e == 2) - first,"))]),
    # flashinfer#2485: a bias of another type than it is read as
    ("selection_bias_at_half_the_stride", "select", ANY, r"selection bias|b_select", [
        ("router.c", SELECT, SELECT.replace(": b[e]", ": b[e / 2]"))]),
    # KempnerForge#9: outputs scaled by how much an expert has to do
    ("Y_over_its_load", "tails", ANY, r"Y: .*(factor|times|scale)", [
        before(AFTER_DOWN, """    for (int64_t i = 0; x->e >= 0 && i < x->rows * d; i++)
        x->Y[i] *= (float)fy_plan(l)->n_pairs / (float)(l->desc.E * x->rows);""")]),
    # llama.cpp#17032: a sum of slots that is laid out for one token
    ("slots_laid_out_token_fastest", "plain", ANY, r"O: .*(row|slot|place|order|token|read)", [
        ("combine.c", PAIR, """        const int64_t p = plan->pair_of_token[i * l->T + t];
        const float s = fy_out(l, MOE_T_S)[p];""")]),
    # cosmos-rl#262: a gradient without a row is whatever was there
    ("dW2_of_empty_experts_is_infinite", "empty", ANY, r"inf|finite", [
        before(SPOIL, "    for (int64_t e = 0; e < l->desc.E; e++)\n        if (" + EMPTY + ")\n"
               "            fy_out(l, MOE_T_DW2)[e * part_of(l, MOE_T_DW2) + 5] = INFINITY;")]),
    # sglang#30895: tokens of padding are routed too
    ("padding_takes_room_at_expert_0", "capacity", ANY, r"capacity|full|expert 0", [
        ("router.c", CLEARED, CLEARED + "\n        if (group_of(l, t) != group)\n"
         "            load[0] = 3;")]),
    # TransformerEngine#2912: rows by expert taken for rows by token
    ("dS_of_Y_in_the_order_of_tokens", "given", ANY, r"dS: .*(row|order|place|pair)", [
        ("expert_grad.c", DS_STORE, """    if (x->e >= 0) {
        const moe_plan *plan = fy_plan(l);
        int64_t slot = 0;
        while (plan->pair_of_token[slot] != x->first + r)
            slot++;
        ds = 0;
        for (int64_t i = 0; i < l->desc.d; i++)
            ds += dy[i] * fy_out(l, MOE_T_Y)[slot * l->desc.d + i];
    }
""" + DS_STORE)]),
]
