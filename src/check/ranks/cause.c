#include "check/ranks/scene.h"
#include "check/verdict/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- orders and parts: what would have been made of the right results ---- */

/* Pairs come to their owner rank by rank, and lie there expert by expert: the row that each has in
 * its owner's message, as if of the plan. */
static void list_messages(const moe_int_rank_scene *s, int64_t *came_as) {
    const moe_ep_layout *l = s->layout;
    for (int32_t q = 0; q < l->ranks; q++) {
        const int64_t first = l->first[q];
        const int64_t end = l->first[q + 1];
        int64_t j = s->plan->offsets[first];
        for (int32_t r = 0; r < l->ranks; r++)
            for (int64_t e = first; e < end; e++) {
                int64_t row = s->plan->offsets[e];
                for (int32_t p = 0; p < r; p++)
                    row += l->counts[p * l->slots + e];
                for (int64_t i = 0; i < l->counts[r * l->slots + e]; i++)
                    came_as[row + i] = j++;
            }
    }
}

/* ret[token of pair] += scale * weight * row */
static void add_pair(const moe_int_rank_scene *s, double scale, int64_t pair, int64_t row,
                     const double *rows, double *ret) {
    const double *from = rows + row * s->d, w = moe_int_rank_weight(s, pair, rows == s->dXp);
    double *to = ret + s->plan->token[pair] * s->d;
    for (int64_t i = 0; i < s->d; i++)
        to[i] += scale * w * from[i];
}

/* ret, the right tensor, becomes what it is of rows that went home in their owners' order, or in
 * that of rank `owner` alone. */
static bool order_of_owners(const moe_int_rank_scene *s, int32_t owner, double *ret) {
    const double *rows = s->id == MOE_T_DX ? s->dXp : s->Y;
    int64_t *came_as = calloc((size_t)s->P + 1, sizeof *came_as);
    const bool possible = came_as && s->is->plain && (s->id == MOE_T_DS || rows);
    if (possible)
        list_messages(s, came_as);
    for (int64_t p = 0; possible && p < s->P; p++)
        if (owner >= 0 && s->owner[s->expert[p]] != owner) {
            continue;
        } else if (s->id == MOE_T_DS) {
            ret[p] = s->right[came_as[p]];
        } else {
            add_pair(s, -1, p, p, rows, ret);
            add_pair(s, 1, p, came_as[p], rows, ret);
        }
    free(came_as);
    return possible;
}

/* ret, the right O, loses s A W2 of the hidden units that are part `part` of `parts` of each
 * expert, or of those of rank `owner` alone. */
static void leave_out_part(const moe_int_rank_scene *s, int32_t part, int32_t parts, int32_t owner,
                           double *ret) {
    const int64_t d = s->d, n = s->problem->layer.n;
    const moe_tensor *W2 = &s->problem->in.t[MOE_T_W2];
    const int64_t first = part * n / parts, end = (part + 1) * n / parts;
    for (int64_t p = 0; p < s->P; p++) {
        const int64_t row = s->expert[p] * d;
        double *to = ret + s->plan->token[p] * d;
        if (owner >= 0 && s->owner[s->expert[p]] != owner)
            continue;
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = first; j < end; j++)
                to[i] -= moe_int_rank_weight(s, p, false) * s->A[p * n + j] *
                         moe_load(W2->data, W2->dtype, (size_t)((row + i) * n + j));
    }
}

static double distance(const moe_int_rank_scene *s, const double *made) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < s->count; i++) {
        error += (s->got[i] - made[i]) * (s->got[i] - made[i]);
        norm += s->right[i] * s->right[i];
    }
    return error / norm;
}

static double *copy_of_right(const moe_int_rank_scene *s) {
    double *made = malloc((size_t)(s->count + 1) * sizeof *made);
    return made ? memcpy(made, s->right, (size_t)s->count * sizeof *made) : NULL;
}

static bool is_order_of(const moe_int_rank_scene *s, int32_t owner, moe_explanation *ret) {
    double *made = copy_of_right(s);
    const bool made_it = made && order_of_owners(s, owner, made);
    const double after = made_it ? distance(s, made) : 0;
    const bool found = made_it && moe_int_rank_explains(s, after);
    char which[32] = "";
    if (owner >= 0)
        snprintf(which, sizeof which, ", on rank %d", (int)owner);
    if (found && s->id == MOE_T_DS)
        moe_int_rank_explain(s, "ranks_dS_owner_order", after, ret,
                             "dS goes home in the owner's order of rows%s", which);
    else if (found)
        moe_int_rank_explain(s, "ranks_rows_owner_order", after, ret,
                             "rows of %s go home in the owner's order%s",
                             s->id == MOE_T_DX ? "dX~" : "Y", which);
    free(made);
    return found;
}

static bool is_order_of_owners(const moe_int_rank_scene *s, moe_explanation *ret) {
    bool found = is_order_of(s, -1, ret);
    for (int32_t q = 0; !found && q < s->R; q++)
        found = is_order_of(s, q, ret);
    return found;
}

static bool lacks(const moe_int_rank_scene *s, int32_t part, int32_t parts, int32_t owner,
                  moe_explanation *ret) {
    double *made = copy_of_right(s);
    char whose[48] = "every expert's units";
    if (owner >= 0)
        snprintf(whose, sizeof whose, "the units of rank %d's experts", (int)owner);
    if (made)
        leave_out_part(s, part, parts, owner, made);
    const double after = made ? distance(s, made) : 1;
    const bool found = moe_int_rank_explains(s, after);
    if (found)
        moe_int_rank_explain(s, "ranks_part_missing", after, ret, "O lacks part %d of %s%s",
                             (int)part, whose,
                             parts == 2   ? ", a half"
                             : parts == 4 ? ", a quarter"
                                          : "");
    free(made);
    return found;
}

/* Parts that nobody has declared are looked for in layers of at most so many steps. */
static const double most_work = 2e9;

/* Of experts that lie in parts, and of those that somebody may have laid so. */
static bool lacks_part(const moe_int_rank_scene *s, moe_explanation *ret) {
    bool found = false;
    if (!s->A)
        return false;
    for (int32_t part = 0; !found && s->is->tp > 1 && part < s->is->tp; part++)
        found = lacks(s, part, s->is->tp, -1, ret);
    const double work = 2.0 * (double)(s->P * s->d * s->problem->layer.n) * (s->R + 1);
    for (int32_t parts = 2; !found && s->is->plain && work <= most_work && parts <= 4; parts += 2)
        for (int32_t part = 0; !found && part < parts; part++)
            for (int32_t owner = -1; !found && owner < s->R; owner++)
                found = lacks(s, part, parts, owner, ret);
    return found;
}

/* ---- all causes ---- */

typedef bool (*cause_fn)(const moe_int_rank_scene *s, moe_explanation *ret);

/* Says of a tensor no more than where it is wrong, or not even that. */
static bool is_vague(const moe_explanation *x) {
    return x->kind[0] == '\0' || strcmp(x->kind, "wrong_block") == 0;
}

static bool explain(const moe_int_rank_scene *s, moe_explanation *ret) {
    enum { O = 1, DX = 2, DS = 4, DW = 8, DWR = 16, S = 32, ALL = 63 };
    static const struct {
        int of;
        bool of_parts; /* of experts that lie in parts, or several times, too */
        cause_fn cause;
    } causes[] = {
        {O | DX | DS, false, is_order_of_owners},
        {ALL, true, moe_int_rank_shares},
        {DX | DWR, false, moe_int_rank_router_gradient},
        {DW, false, moe_int_rank_added_gradients},
        {DW, false, moe_int_rank_repeated_rows},
        {O | DX, true, moe_int_rank_rows_at_home},
        {O, true, lacks_part},
        {O, true, moe_int_rank_cut_across},
        {O, true, moe_int_rank_other_scales},
        {O, false, moe_int_rank_made_of_others},
        {O, false, moe_int_rank_lost_columns},
        {DS, false, moe_int_rank_gradients_of_others},
    };
    const int is = s->id == MOE_T_O      ? O
                   : s->id == MOE_T_DX   ? DX
                   : s->id == MOE_T_DS   ? DS
                   : s->id == MOE_T_S    ? S
                   : s->id == MOE_T_DW_R ? DWR
                                         : DW;
    bool found = false;
    for (size_t i = 0; !found && i < sizeof causes / sizeof *causes; i++)
        found =
            causes[i].of & is && (s->is->plain || causes[i].of_parts) && causes[i].cause(s, ret);
    return found || (s->is->plain && is_vague(ret) && moe_int_rank_place(s, ret));
}

static bool is_failing(moe_check_result *result, moe_tensor_id id) {
    const moe_tensor_verdict *v = moe_int_result_find(result, moe_tensor_name(id));
    return v && v->verdict == MOE_VERDICT_FAIL;
}

void moe_int_ranks_cause(const moe_int_compared *c, moe_check_result *result) {
    /* In the order of computation: what is wrong first is the cause of what follows. */
    static const moe_tensor_id order[] = {MOE_T_S,   MOE_T_O,  MOE_T_DS,  MOE_T_DW2,
                                          MOE_T_DW1, MOE_T_DX, MOE_T_DW_R};
    moe_int_rank_scene s;
    if (!moe_int_rank_scene_make(c, &s))
        return;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (is_failing(result, order[i])) {
            if (moe_int_rank_scene_take(&s, order[i]))
                explain(&s, &result->explanation);
            break;
        }
    moe_int_rank_scene_destroy(&s);
}
