"""A wide set, part 3: the router, its gradient, the shared expert, what joins the experts, and
state. Written in one sitting, with its words, before any of it was tried."""
from edits import (ANY, DW_R, DX_ROUTER, DX_ROUTER_SUM, LOGITS, SHARED_DX, SHARED_O, SPOIL,
                   WEIGHED, Z_END, before, coarse, operand)

SUMS = """    for (int64_t k = 0; k < l->desc.K; k++) {
        sum += raw[k];"""
BIAS = "FAULT(l, select_bias_negative) ? -b[e] : b[e];"
ALLOW = "            allowed[g * size + i] = 1;"
ROOM = "    return load < r->capacity - FAULT(l, capacity_one_less);"
SHARED_W = "                       .W%d = fy_param(l, MOE_T_W%d_SHARED),"

BUGS = [
    # Weights.
    ("weight_is_the_logit", "raw", ANY, r"topk_weight: .*(logit|score|function)", [
        ("router.c", "            raw[k] = fy_score(l, t, chosen[k]);",
         "            raw[k] = l->logits[t * l->R + chosen[k]];")]),
    ("renorm_by_mean", "plain", ANY, r"topk_weight: .*(factor|times|renorm|sum)", [
        ("router.c", SUMS, SUMS.replace("raw[k];", "raw[k] / (double)l->desc.K;"))]),
    ("renorm_adds_a_tenth", "plain", ANY, r"topk_weight: .*(renorm|sum|eps)", [
        ("router.c", "                                        : sum + r->renorm_eps;",
         "                                        : sum + 0.1;")]),
    ("softmax_without_last_expert", "raw", ANY, r"topk_weight: .*(sum|score|softmax|expert)", [
        ("router.c", "        sum += exp(z[i] - top);\n    return exp(z[e] - top) / sum;",
         "        sum += i + 1 < n ? exp(z[i] - top) : 0;\n    return exp(z[e] - top) / sum;")]),
    ("sigmoid_of_twice_the_logit", "sigmoid", ANY,
     r"topk_weight: .*(score|function|logit|factor)", [
        ("router.c", "    return is_sigmoid(l) ? sigmoid(z[e])",
         "    return is_sigmoid(l) ? sigmoid(2 * z[e])")]),
    ("scale_in_first_slot_alone", "eps", ANY, r"topk_weight: .*(scale|factor|slot)", [
        ("router.c", WEIGHED, "        w[k] *= k == 0 ? scale_of(l) : 1;")]),
    ("last_slot_weighs_nothing", "slots", ANY, r"topk_weight: .*(zero|slot|factor)", [
        ("router.c", WEIGHED, WEIGHED + "\n        w[k] *= k + 1 < K;")]),
    ("weights_of_first_tile_for_second", "plain", ANY,
     r"topk_weight: .*(token|row|place|order|value|slot)", [
         ("router.c", "            weight[count++] = l->router.weight[t * K + k];",
          "            weight[count++] =\n"
          "                l->router.weight[(t >= 16 && t < 32 ? t - 16 : t) * K + k];")]),
    ("weights_of_nearby_steps", "plain", ANY, r"topk_weight: .*(narrow|round|bits|step)", [
        ("router.c", WEIGHED, WEIGHED + "\n        w[k] = rint(w[k] * 32) / 32;")]),
    # The choice.
    ("first_expert_never_chosen", "plain", ANY, r"never chosen", [
        ("choice.c", "        allowed[i] = i < width_of(l);", "        allowed[i] = i > 0;")]),
    ("groups_begin_one_late", "groups", ANY, r"group", [
        ("choice.c", ALLOW, "            allowed[(g * size + i + 1) % l->R] = 1;")]),
    ("one_group_alone", "groups", ANY, r"group", [
        ("choice.c", "    int kept = r->topk_groups -",
         "    int kept = 1 + 0 * r->topk_groups -")]),
    ("group_score_of_next_group", "groups", ANY, r"group", [
        ("choice.c", "group_score(l, score + g * size, size);",
         "group_score(l, score + (g + 1) % r->groups * size, size);")]),
    ("groups_of_half_the_size", "groups", ANY, r"group", [
        ("choice.c", ALLOW, "            allowed[g * size + i / 2] = 1;")]),
    ("group_score_of_first_members", "groups", ANY, r"group", [
        ("choice.c", "group_score(l, score + g * size, size);",
         "group_score(l, score + g * size, size / 2);")]),
    ("select_bias_doubled", "select", ANY, r"selection bias", [
        ("router.c", BIAS, "2 * b[e];")]),
    ("select_bias_of_upper_experts", "select", ANY, r"selection bias", [
        ("router.c", BIAS, "e >= l->R / 2 ? b[e] : 0;")]),
    ("select_bias_in_steps", "select", ANY, r"selection bias", [
        ("router.c", BIAS, "rint(4 * b[e]) / 4;")]),
    ("room_for_two_less", "capacity", ANY, r"capacity|full", [
        ("router.c", ROOM, "    return load + 2 < r->capacity;")]),
    ("room_for_less_at_first", "capacity", ANY, r"capacity|full|token|missing|left out|zero", [
        ("router.c", "            if (!has_room(l, load[e]))",
         "            if (!has_room(l, load[e] + (t < 40 ? 4 : 0)))")]),
    ("router_bias_twice", "router_bias", ANY, r"router_logits: .*bias", [
        ("router.c", "            *at += b ? b[e] : 0;", "            *at += b ? 2 * b[e] : 0;")]),
    ("router_bias_of_next", "router_bias", ANY, r"router_logits: .*bias", [
        ("router.c", "            *at += b ? b[e] : 0;",
         "            *at += b ? b[(e + 1) % R] : 0;")]),
    ("router_bias_for_choice_alone", "router_bias", ANY, r"(router_logits|topk_weight): .*bias", [
        ("router.c", "            raw[k] = fy_score(l, t, chosen[k]);",
         """ {
            double keep[64];
            memcpy(keep, l->logits + t * l->R, (size_t)l->R * sizeof *keep);
            for (int64_t e = 0; e < l->R; e++)
                l->logits[t * l->R + e] -= fy_param(l, MOE_T_B_R)[e];
            raw[k] = fy_score(l, t, chosen[k]);
            memcpy(l->logits + t * l->R, keep, (size_t)l->R * sizeof *keep);
        }""")]),
    # Logits.
    ("logits_of_half_the_width_doubled", "raw", ANY, r"router_logits: .*(term|block|half|input)", [
        before(LOGITS, """    for (int64_t i = 0; i < d / 2 * R; i++)
        turned[i] *= 2;
    for (int64_t i = d / 2 * R; i < d * R; i++)
        turned[i] = 0;""")]),
    ("logits_of_five_bits", "raw", ANY, r"router_logits: .*(narrow|bits|round)", [
        before(Z_END, "    for (int64_t i = 0; i < l->T * R; i++)\n        "
               + coarse("z[i]", 32).replace("frexpf", "(float)frexp"))]),
    ("logits_of_experts_beside", "raw", ANY, r"router_logits: .*(column|expert|place|order)", [
        before(Z_END, """    for (int64_t t = 0; t < l->T; t++)
        z[t * R + R - 1] = z[t * R];""")]),
    # The router's gradient.
    ("dW_r_of_dO", "plain", ANY, r"dW_r: .*(dO|X\b|operand)", [operand(DW_R, "l->X", "l->dO")]),
    ("dX_router_of_logits", "plain", ANY, r"dX: .*(router|logit)", [
        before(DX_ROUTER, """        for (int64_t i = 0; i < T * R; i++)
            dz[i] = (float)l->logits[i];""")]),
    ("dX_router_halved", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", DX_ROUTER_SUM, "sum[i] += dx[i] / 2;")]),
    ("dX_router_subtracted", "plain", ANY, r"dX: .*router", [
        ("router_grad.c", DX_ROUTER_SUM, "sum[i] -= dx[i];")]),
    ("dz_scale_twice", "eps", ANY, r"scale|factor|times", [
        ("router_grad.c", "FAULT(l, dz_without_scale) ? 1 : r->scale;",
         "r->scale * r->scale;")]),
    ("dz_at_next_expert", "plain", ANY, r"(dW_r|dX): .*(column|expert|order|row|place|router)", [
        ("router_grad.c", "double *at = &dz[chosen[k]];",
         "double *at = &dz[(chosen[k] + 1) % l->R];")]),
    ("dz_of_slots_swapped", "slots", ANY, r"slot|order|place|dS|row", [
        ("router_grad.c", "dr[k] = p >= 0 ? scale * dS[p] : 0;",
         "const int64_t q = l->router.row[t * K + (k ^ 1)];\n"
         "        dr[k] = p >= 0 ? scale * dS[q] : 0;")]),
    ("dW_r_last_columns_lost", "plain", ANY, r"dW_r: .*(column|zero)", [
        before(SPOIL, """    for (int64_t i = 0; i < count_of(l, MOE_T_DW_R); i++)
        fy_out(l, MOE_T_DW_R)[i] *= i % d < d - 8;""")]),
    # The shared expert.
    ("shared_with_W1_of_expert_0", "shared", ANY, r"shared.*(W1|weights|expert)", [
        ("expert.c", SHARED_W % (1, 1), "                       .W1 = fy_param(l, MOE_T_W1),")]),
    ("shared_with_W2_of_expert_3", "shared", ANY, r"shared.*(W2|weights|expert)", [
        ("expert.c", SHARED_W % (2, 2),
         "                       .W2 = (const float *)fy_param(l, MOE_T_W2) + 3 * desc->d * "
         "desc->n,")]),
    ("shared_halved", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, shared_weight(l, t) / 2, l->shared.Y + t * d, d);")]),
    ("shared_subtracted_gate", "shared_gate", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, 1 - shared_weight(l, t), l->shared.Y + t * d, d);")]),
    ("shared_not_in_last_columns", "shared", ANY, r"shared", [
        ("combine.c", SHARED_O,
         "            add_row(o, shared_weight(l, t), l->shared.Y + t * d, d - 8);")]),
    ("shared_dX_of_next_token", "shared", ANY, r"dX: .*(shared|row|token)", [
        ("combine.c", SHARED_DX,
         "        add_row(dx, 1, l->shared.dXp + (t + 1) % l->T * d, d);")]),
    ("shared_dX_halved", "shared", ANY, r"dX: .*shared", [
        ("combine.c", SHARED_DX, "        add_row(dx, 0.5f, l->shared.dXp + t * d, d);")]),
    ("shared_gate_of_half_the_width", "shared_gate", ANY, r"shared.*gate|gate.*shared", [
        ("combine.c", "for (int64_t i = 0; w && i < d; i++)",
         "for (int64_t i = 0; w && i < d / 2; i++)")]),
    ("shared_gate_gradient_of_weight", "shared_gate", ANY,
     r"dw_gate_shared: .*(gate|slope|factor)", [
        ("combine.c", "FAULT(l, shared_gate_slope) ? g : g * (1 - g)", "g * g")]),
    # Zero experts, weights on the input.
    ("zero_expert_twice", "zero", ANY, r"O: .*zero", [
        ("combine.c", "    if (p >= pairs && FAULT(l, zero_unweighted))\n        return 1;",
         "    if (p >= pairs)\n        return 2 * fy_out(l, MOE_T_S)[weight_slot(l, t, i)];")]),
    ("zero_expert_of_next_token", "zero", ANY, r"O: .*zero", [
        ("combine.c", "        add_row(o, s, zero ? l->X + t * d : fy_out(l, MOE_T_Y) + row_read",
         "        add_row(o, s, zero ? l->X + (t + 1) % l->T * d\n"
         "                           : fy_out(l, MOE_T_Y) + row_read")]),
    ("zero_expert_gradient_unweighted", "zero", ANY, r"dX: .*(zero|weight)", [
        ("combine.c", "add_row(fy_out(l, MOE_T_DX) + t * d, fy_out(l, MOE_T_S)[p], dO, d);",
         "add_row(fy_out(l, MOE_T_DX) + t * d, 1, dO, d);")]),
    ("input_weight_of_next_row", "on_input", ANY, r"H: .*weight|weight", [
        ("expert.c", "x->on_input ? x->weight[r] * from[i]",
         "x->on_input ? x->weight[r + 1 < x->rows ? r + 1 : 0] * from[i]")]),
    ("input_weight_squared", "on_input", ANY, r"weight", [
        ("expert.c", "x->on_input ? x->weight[r] * from[i]",
         "x->on_input ? x->weight[r] * x->weight[r] * from[i]")]),
    # State.
    ("second_input_in_first_half_alone", "plain", ANY, r"second input|stale|first input", [
        ("plugin.c", "moe_convert(l->X, MOE_F32, input->X.data, input->X.dtype, count);",
         "moe_convert(l->X, MOE_F32, input->X.data, input->X.dtype, again ? count / 2 : count);")]),
    ("dO_of_first_input_in_last_rows", "plain", ANY, r"second input|stale|first input", [
        ("plugin.c", "moe_convert(l->dO, MOE_F32, input->dO.data, input->dO.dtype, count);",
         "moe_convert(l->dO, MOE_F32, input->dO.data, input->dO.dtype, again ? count - 64 : "
         "count);")]),
]
