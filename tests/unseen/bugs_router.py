"""The router and its gradients."""
from edits import ANY, DSCALE, FP32, SPOIL

BUGS = [
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
]
