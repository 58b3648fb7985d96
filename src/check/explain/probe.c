/* A scene's worst place alone, at which most changes are refuted. */
#include "check/explain/scene.h"
#include "check/verdict/order.h"
#include "layer/traits.h"

#include <stdlib.h>

static bool is_by_pair(moe_tensor_id id) {
    return id == MOE_T_S || id == MOE_T_DS || moe_int_is_inner_stage(id);
}

/* The slice that row `group` of a weight gradient's spot is of. */
static int64_t slice_of(const moe_int_scene *s, moe_tensor_id id, int64_t group) {
    const bool shared = id == MOE_T_DW1_SHARED || id == MOE_T_DW2_SHARED;
    const bool halves = (id == MOE_T_DW1 || id == MOE_T_DB1 || id == MOE_T_DW1_SHARED) &&
                        moe_act_is_gated(s->evidence->problem->layer.act);
    int64_t left = halves ? group / 2 : group;
    for (int64_t i = 0; i < s->n_slices; i++)
        if (id == MOE_T_DB2 ? s->slice[i].e == s->expert[group]
                            : (s->slice[i].e < 0) == shared && left-- == 0)
            return i;
    return -1;
}

/* The group farthest from the truth. */
static int64_t worst_group(const moe_int_scene *s, moe_tensor_id id, const double *right) {
    int64_t worst = 0;
    double most = -1;
    for (int64_t g = 0; g < s->spot[id].groups; g++) {
        const double d2 = moe_int_scene_squares(s, id, g, g + 1, right, right).d2;
        if (d2 > most) {
            most = d2;
            worst = g;
        }
    }
    return worst;
}

moe_status moe_int_scene_probe(const moe_int_scene *s, const double *right, moe_int_scene *ret) {
    const moe_tensor_id id = s->evidence->first;
    const int64_t group = worst_group(s, id, right);
    *ret = (moe_int_scene){.evidence = s->evidence,
                           .n_tokens = 1,
                           .error = s->error,
                           .stored_error = s->stored_error,
                           .r2 = s->r2,
                           .probe = true};
    ret->tokens = malloc(sizeof *ret->tokens);
    if (!ret->tokens)
        return MOE_E_NOMEM;
    ret->tokens[0] = s->tokens[0];
    if (moe_int_is_expert_gradient(id)) {
        const int64_t i = slice_of(s, id, group);
        ret->n_slices = i >= 0;
        ret->slice[0] = s->slice[i >= 0 ? i : 0];
        ret->n_experts = i >= 0 && s->slice[i].e >= 0;
        ret->expert[0] = s->slice[i >= 0 ? i : 0].e;
    } else if (id == MOE_T_DW_R || id == MOE_T_DB_R) {
        ret->n_experts = 1;
        ret->expert[0] = s->expert[group];
    } else {
        ret->tokens[0] = s->tokens[is_by_pair(id) ? s->sub->token[group] : group];
    }
    return moe_int_scene_settle(ret);
}
