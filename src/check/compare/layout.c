/* Which elements of a tensor are judged together: a token's row, a pair's row, an expert's slice.
 */
#include "check/compare/layout.h"
#include "route/route.h"

static moe_int_grouping grouping_of(moe_tensor_id id) {
    switch ((int)id) {
    case MOE_T_LOGITS:
    case MOE_T_O:
    case MOE_T_DX:
        return MOE_INT_BY_TOKEN;
    case MOE_T_S:
    case MOE_T_H:
    case MOE_T_A:
    case MOE_T_Y:
    case MOE_T_DS:
    case MOE_T_DH:
    case MOE_T_DXP:
        return MOE_INT_BY_PAIR;
    case MOE_T_DW_R:
    case MOE_T_DB_R:
    case MOE_T_DW1:
    case MOE_T_DB1:
    case MOE_T_DW2:
    case MOE_T_DB2:
        return MOE_INT_BY_EXPERT;
    default:
        return MOE_INT_WHOLE;
    }
}

moe_int_layout moe_int_layout_of(moe_tensor_id id, const moe_tensor *tensor) {
    moe_int_layout l = {.by = grouping_of(id), .stride = 1};
    int64_t count = moe_tensor_count(tensor);
    l.groups = l.by == MOE_INT_WHOLE ? 1 : tensor->shape[0];
    l.width = l.groups > 0 ? count / l.groups : 0;
    bool rows = l.by == MOE_INT_BY_TOKEN || l.by == MOE_INT_BY_PAIR;
    l.tiled = rows && tensor->ndim > 1;
    return l;
}

int64_t moe_int_layout_flat(const moe_int_layout *layout, int64_t g, int64_t c) {
    int64_t first = layout->base ? layout->base[g] : g * layout->width;
    return first + c * layout->stride;
}

int64_t moe_int_layout_group(const moe_int_layout *layout, int64_t g) {
    if (!layout->base)
        return g;
    if (layout->by == MOE_INT_BY_EXPERT)
        return layout->expert[g];
    return layout->width > 0 ? layout->base[g] / layout->width : g;
}

int64_t moe_int_layout_expert(const moe_int_layout *layout, const moe_plan *plan, int64_t g) {
    if (layout->expert)
        return layout->expert[g];
    if (layout->by == MOE_INT_BY_EXPERT)
        return g;
    if (layout->by == MOE_INT_BY_PAIR && plan)
        return moe_int_plan_expert_of(plan, moe_int_layout_group(layout, g));
    return -1;
}

/* Rows of pairs that meet in a group. */
static int64_t pairs_of_group(const moe_int_layout *layout, const moe_plan *plan, int64_t g) {
    int64_t i = moe_int_layout_group(layout, g);
    if (!plan || layout->by == MOE_INT_BY_PAIR)
        return 1;
    if (layout->by == MOE_INT_BY_TOKEN && i < plan->n_tokens)
        return plan->token_offsets[i + 1] - plan->token_offsets[i];
    if (layout->by == MOE_INT_BY_EXPERT && i < plan->n_experts)
        return plan->offsets[i + 1] - plan->offsets[i];
    return plan->n_tokens;
}

int64_t moe_int_layout_sources(const moe_int_layout *layout, moe_tensor_id id,
                               const moe_layer_desc *desc, const moe_plan *plan, int64_t g) {
    bool router = id == MOE_T_DW_R || id == MOE_T_DB_R || id == MOE_T_DW_GATE_SHARED;
    bool slice = layout->base && (layout->by == MOE_INT_BY_EXPERT || layout->by == MOE_INT_WHOLE);
    int64_t each = layout->by == MOE_INT_WHOLE ? desc->n_shared : desc->n;
    if (router || slice) /* one dS, or one hidden unit, of a row errs in all elements alike */
        each = 1;
    if (id == MOE_T_LOGITS || id == MOE_T_S) /* each is a sum of its own */
        return layout->width;
    int64_t sources = pairs_of_group(layout, plan, g) * each / 3;
    return sources > 0 ? sources : 1;
}
