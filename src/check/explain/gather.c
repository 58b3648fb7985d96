/* Which token's row a changed kernel gathers for a pair. */
#include "check/explain/scene.h"

/* A tail that is computed as a whole tile which ends with it, its rows written from its start. */
static int64_t early_token(const moe_int_change *c, int64_t e, int64_t at) {
    const int64_t first = c->plan->offsets[e], rows = c->plan->offsets[e + 1] - first;
    const int64_t tail = rows % c->early, back = c->early - tail;
    const bool moved = tail > 0 && rows > c->early && at >= rows - tail;
    return c->plan->token[first + at - (moved ? back : 0)];
}

int64_t moe_int_gathered_token(const moe_int_change *c, int64_t e, int64_t at, int64_t t) {
    const moe_plan *full = c->plan;
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
