/* Which token's row a changed kernel gathers for a pair. */
#include "check/explain/scene.h"

/* A tail that is computed as a whole tile which ends with it, its rows written from its start. */
static int64_t early_token(const moe_int_change *c, int64_t e, int64_t at) {
    const int64_t first = c->plan->offsets[e], rows = c->plan->offsets[e + 1] - first;
    const int64_t tail = rows % c->early, back = c->early - tail;
    const bool moved = tail > 0 && rows > c->early && at >= rows - tail;
    return c->plan->token[first + at - (moved ? back : 0)];
}

/* Row `at` of expert e, whose tile's rows are in another order. */
static int64_t ordered_token(const moe_int_change *c, int64_t e, int64_t at) {
    const int64_t first = c->plan->offsets[e], end = c->plan->offsets[e + 1];
    const int64_t from = c->rows_of_expert ? first : 0, row = first + at - from;
    const int64_t tile = row / c->row_tile * c->row_tile;
    int64_t out = 0, place = row - tile;
    c->row_order->map(c->row_order->size, c->row_tile, &out, &place);
    const int64_t is = from + tile + place;
    const int64_t last = c->rows_of_expert ? end : c->plan->n_pairs;
    return c->plan->token[is < last ? is : first + at];
}

/* Row `at` of expert e, by a wrong index. */
static int64_t ruled_token(const moe_int_change *c, int64_t e, int64_t at, int64_t t) {
    const moe_int_token_rule *rule = c->token_rule;
    const int64_t is = rule->of(c->plan, c->plan->offsets[e] + at, rule->size);
    return is >= 0 && is < c->plan->n_tokens ? is : t;
}

int64_t moe_int_gathered_token(const moe_int_change *c, int64_t e, int64_t at, int64_t t) {
    const moe_plan *full = c->plan;
    if (c->token_rule)
        return ruled_token(c, e, at, t);
    if (c->row_order)
        return ordered_token(c, e, at);
    if (c->early > 0)
        return early_token(c, e, at);
    if (c->beyond == 0 || (c->beyond_expert >= 0 && c->beyond_expert != e))
        return t;
    int64_t rows = full->offsets[e + 1] - full->offsets[e];
    bool last = c->beyond == 1;
    int64_t from = full->offsets[e + 1] + (last ? 0 : at);
    bool over = last ? at == rows - 1 : at >= rows - rows % c->beyond;
    return over && from < full->n_pairs ? full->token[from] : t;
}
