/* One expert's feed-forward over its rows: H = x W1^T + b1, A = act(H), Y = A W2^T + b2. */
#include "faulty.h"

#include <stdlib.h>
#include <string.h>

enum { TILE = 16, TWO_TILES = 2 * TILE, ONE_EXPERT = 3 };

/* Whose parameters expert e is computed with: its own. */
static int64_t owner_of(const fy_layer *l, int64_t e, moe_tensor_id id) {
    const int64_t E = l->desc.E, next = e + 1 < E ? e + 1 : 0;
    const bool first = id == MOE_T_W1 || id == MOE_T_B1;
    if ((FAULT(l, neighbour_W1) && id == MOE_T_W1) || (FAULT(l, neighbour_W2) && id == MOE_T_W2) ||
        (FAULT(l, neighbour_b1) && id == MOE_T_B1) || (FAULT(l, neighbour_b2) && id == MOE_T_B2) ||
        FAULT(l, neighbour_expert))
        return next;
    if (FAULT(l, experts_swapped) && (e == 2 || e == 3) && E > 3)
        return 5 - e;
    if (FAULT(l, W2_index_cut) && id == MOE_T_W2)
        return e % 4;
    if (FAULT(l, one_expert_of_another) && e == ONE_EXPERT && first)
        return 0;
    return e;
}

static const float *param_of(const fy_layer *l, int64_t e, moe_tensor_id id) {
    const moe_tensor *t = &l->param.t[id];
    if (!t->data)
        return NULL;
    if ((FAULT(l, b1_missing) && id == MOE_T_B1) || (FAULT(l, b2_missing) && id == MOE_T_B2))
        return NULL;
    const int64_t step = moe_tensor_count(t) / l->desc.E;
    const int64_t less = FAULT(l, W1_stride) && id == MOE_T_W1 ? l->desc.d : 0;
    return (const float *)t->data + owner_of(l, e, id) * (step - less);
}

/* Row `row` of a result of `width` columns, or NULL where it is not kept. */
static float *rows_of(const fy_layer *l, moe_tensor_id id, int64_t row, int64_t width) {
    float *all = fy_out(l, id);
    return all ? all + row * width : NULL;
}

fy_expert fy_expert_of(const fy_layer *l, int64_t e) {
    const moe_layer_desc *desc = &l->desc;
    const moe_plan *plan = fy_plan(l);
    const int64_t d = desc->d, n = desc->n, hw = moe_h_width(desc, n), first = plan->offsets[e];
    fy_expert x = {.e = e,
                   .first = first,
                   .rows = plan->offsets[e + 1] - first,
                   .n = n,
                   .hw = hw,
                   .layout = desc->glu_layout,
                   .weight = rows_of(l, MOE_T_S, first, 1),
                   .on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT,
                   .W1 = param_of(l, e, MOE_T_W1),
                   .b1 = param_of(l, e, MOE_T_B1),
                   .W2 = param_of(l, e, MOE_T_W2),
                   .b2 = param_of(l, e, MOE_T_B2),
                   .H = rows_of(l, MOE_T_H, first, hw),
                   .A = rows_of(l, MOE_T_A, first, n),
                   .Y = rows_of(l, MOE_T_Y, first, d),
                   .dS = rows_of(l, MOE_T_DS, first, 1),
                   .dH = rows_of(l, MOE_T_DH, first, hw),
                   .dXp = rows_of(l, MOE_T_DXP, first, d),
                   .dW1 = rows_of(l, MOE_T_DW1, e * hw, d),
                   .db1 = rows_of(l, MOE_T_DB1, e, hw),
                   .dW2 = rows_of(l, MOE_T_DW2, e * d, n),
                   .db2 = rows_of(l, MOE_T_DB2, e, d)};
    if (FAULT(l, weight_on_input) || FAULT(l, weight_on_output))
        x.on_input = !x.on_input;
    return x;
}

/* The shared expert sees every token, weighs it by its gate, and is concat always. */
fy_expert fy_shared_expert(const fy_layer *l) {
    const fy_shared *s = &l->shared;
    const moe_layer_desc *desc = &l->desc;
    return (fy_expert){.e = -1,
                       .rows = l->T,
                       .n = desc->n_shared,
                       .hw = moe_h_width(desc, desc->n_shared),
                       .layout =
                           FAULT(l, shared_interleaved) ? MOE_GLU_INTERLEAVED : MOE_GLU_CONCAT,
                       .weight = s->gate,
                       .W1 = fy_param(l, MOE_T_W1_SHARED),
                       .W2 = fy_param(l, MOE_T_W2_SHARED),
                       .H = s->H,
                       .A = s->A,
                       .Y = s->Y,
                       .dS = s->d_gate,
                       .dH = s->dH,
                       .dXp = s->dXp,
                       .dW1 = fy_out(l, MOE_T_DW1_SHARED),
                       .dW2 = fy_out(l, MOE_T_DW2_SHARED)};
}

/* The token of row r. */
int64_t fy_token(const fy_layer *l, const fy_expert *x, int64_t r) {
    const moe_plan *plan = fy_plan(l);
    const int32_t *token = plan->token + x->first;
    if (x->e < 0)
        return r;
    if (FAULT(l, rows_shifted))
        return token[r + 1 < x->rows ? r + 1 : 0];
    const bool last = r == x->rows - 1 && x->first + x->rows < plan->n_pairs;
    if (FAULT(l, row_of_next_expert) && last)
        return token[r + 1];
    if (FAULT(l, tail_of_next_expert) && x->e == ONE_EXPERT && r >= x->rows / TILE * TILE &&
        x->first + x->rows + r < plan->n_pairs)
        return token[x->rows + r];
    const int64_t tail = x->rows % TILE;
    if (FAULT(l, tail_early) && tail && x->rows > TILE && r >= x->rows - tail)
        return token[r - (TILE - tail)];
    if (FAULT(l, token_mirrored))
        return l->T - 1 - token[r];
    if (FAULT(l, token_cut))
        return token[r] % 32;
    if (FAULT(l, gather_off_by_one))
        return token[r] + 1 < l->T ? token[r] + 1 : 0;
    return token[r];
}

void fy_gather(const fy_layer *l, const fy_expert *x, float *ret) {
    const int64_t d = l->desc.d;
    for (int64_t r = 0; r < x->rows; r++) {
        const int64_t t = fy_token(l, x, r), late = FAULT(l, X_late) && t + 1 < l->T;
        const float *from = l->X + t * d + late;
        for (int64_t i = 0; i < d; i++)
            ret[r * d + i] = x->on_input ? x->weight[r] * from[i] : from[i];
    }
    if (x->on_input)
        fy_store(l, ret, x->rows * d);
}

/* y[r][i] += bias[i] */
static void add_bias(const float *bias, int64_t rows, int64_t width, float *y) {
    for (int64_t r = 0; bias && r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            y[r * width + i] += bias[i];
}

/* Columns that are wrong in rows of `width` columns. */
static void spoil_columns(int64_t rows, int64_t width, int64_t period, int64_t zero_from,
                          int64_t zero_end, float *v) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) {
            if (period > 0)
                v[r * width + i] = v[r * width + i % period];
            if (i >= zero_from && i < zero_end)
                v[r * width + i] = 0;
        }
}

/* Column of H of unit j: of its gate, or of its up. */
static int64_t column_of(const fy_layer *l, const fy_expert *x, int64_t j, int up) {
    int32_t layout = x->layout;
    if ((FAULT(l, interleaved_as_concat) || FAULT(l, concat_as_interleaved)) && x->e >= 0)
        layout = !layout;
    return moe_h_column(layout, x->n, x->hw, j, FAULT(l, gate_up_swapped) ? !up : up);
}

int64_t fy_column(const fy_layer *l, const fy_expert *x, int64_t j, int up) {
    return x->hw == x->n ? j : column_of(l, x, j, up);
}

static void activate(const fy_layer *l, const fy_expert *x) {
    for (int64_t r = 0; r < x->rows; r++) {
        const float *h = x->H + r * x->hw;
        for (int64_t j = 0; j < x->n; j++)
            x->A[r * x->n + j] =
                fy_activate(l, h[fy_column(l, x, j, 0)], h[fy_column(l, x, j, 1)]).a;
    }
}

/* Rows that a kernel never computes: their Y stays 0. */
static bool is_dropped(const fy_layer *l, const fy_expert *x, int64_t r) {
    const int64_t tail = x->rows / TILE * TILE;
    const bool last_expert = x->e == l->desc.E - 1;
    return (FAULT(l, first_rows_dropped) && r == 0) ||
           (FAULT(l, last_rows_dropped) && r == x->rows - 1) ||
           (FAULT(l, tail_dropped) && r >= tail) ||
           (FAULT(l, tail_dropped_of_one) && r >= tail && x->e == ONE_EXPERT) ||
           (FAULT(l, tail_dropped_of_last) && r >= tail && last_expert) ||
           (FAULT(l, second_tile_dropped) && r >= TILE && r < TWO_TILES && x->e == ONE_EXPERT) ||
           (FAULT(l, rows_over_128_dropped) && r >= 128) ||
           (FAULT(l, odd_rows_dropped) && r % 2 == 1 && x->e == 0) ||
           (FAULT(l, last_expert_dropped) && last_expert);
}

static void drop_rows(const fy_layer *l, const fy_expert *x) {
    const int64_t d = l->desc.d;
    for (int64_t r = 0; x->e >= 0 && r < x->rows; r++)
        if (is_dropped(l, x, r))
            memset(x->Y + r * d, 0, (size_t)d * sizeof *x->Y);
}

/* The next expert's up rows of W1, among those that are turned. */
static void take_next_up(const fy_layer *l, const fy_expert *x, float *turned) {
    const int64_t d = l->desc.d, next = x->e + 1 < l->desc.E ? x->e + 1 : 0;
    const float *from = fy_param(l, MOE_T_W1) + next * x->hw * d;
    for (int64_t i = x->n; i < x->hw; i++)
        for (int64_t k = 0; k < d; k++)
            turned[k * x->hw + i] = from[i * d + k];
}

static void up(const fy_layer *l, const fy_expert *x, const float *rows, float *turned) {
    const int64_t d = l->desc.d;
    fy_transpose(x->W1, x->hw, d, turned);
    if (FAULT(l, neighbour_up) && x->e >= 0)
        take_next_up(l, x, turned);
    fy_product(l, FY_UP, rows, x->rows, d, turned, x->hw, x->H);
    if (FAULT(l, b1_gate_only) && x->b1 && x->hw > x->n)
        for (int64_t r = 0; r < x->rows; r++)
            add_bias(x->b1, 1, x->n, x->H + r * x->hw);
    else if (FAULT(l, b1_of_gate_twice) && x->b1 && x->hw > x->n)
        for (int64_t r = 0; r < 2 * x->rows; r++)
            add_bias(x->b1, 1, x->n, x->H + r * x->n);
    else
        add_bias(x->b1, x->rows, x->hw, x->H);
    fy_store(l, x->H, x->rows * x->hw);
    activate(l, x);
    for (int64_t r = 0; FAULT(l, b1_after_activation) && x->b1 && r < x->rows; r++)
        add_bias(x->b1, 1, x->n, x->A + r * x->n);
    fy_store(l, x->A, x->rows * x->n);
    if (FAULT(l, A_columns_repeat))
        spoil_columns(x->rows, x->n, TILE, 0, 0, x->A);
    if (FAULT(l, A_block_zero))
        spoil_columns(x->rows, x->n, 0, TILE, TWO_TILES, x->A);
}

static void down(const fy_layer *l, const fy_expert *x, float *turned) {
    const int64_t d = l->desc.d;
    fy_transpose(x->W2, d, x->n, turned);
    fy_product(l, FY_DOWN, x->A, x->rows, x->n, turned, d, x->Y);
    add_bias(x->b2, x->rows, d, x->Y);
    if (FAULT(l, b2_twice))
        add_bias(x->b2, x->rows, d, x->Y);
    fy_store(l, x->Y, x->rows * d);
    if (FAULT(l, Y_block_zero))
        spoil_columns(x->rows, d, 0, TILE, TWO_TILES, x->Y);
    if (FAULT(l, Y_columns_repeat))
        spoil_columns(x->rows, d, TWO_TILES, 0, 0, x->Y);
    if (FAULT(l, Y_last_columns))
        spoil_columns(x->rows, d, 0, d - d % TILE - (d % TILE ? 0 : TILE), d, x->Y);
    for (int64_t i = 0; FAULT(l, expert_scaled) && i < x->rows * d; i++)
        x->Y[i] *= 1 + 0.1f * (float)x->e;
    for (int64_t i = 0; FAULT(l, expert_halved) && x->e == ONE_EXPERT && i < x->rows * d; i++)
        x->Y[i] *= 0.5f;
    drop_rows(l, x);
}

moe_status fy_expert_forward(const fy_layer *l, const fy_expert *x) {
    const int64_t d = l->desc.d, large = x->hw > x->n ? x->hw : x->n;
    float *rows = fy_floats(x->rows * d), *turned = fy_floats(large * d);
    moe_status status = rows && turned ? MOE_OK : fy_no_memory(l);
    if (!status) {
        fy_gather(l, x, rows);
        up(l, x, rows, turned);
        down(l, x, turned);
    }
    free(rows);
    free(turned);
    return status;
}
