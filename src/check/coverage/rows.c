/* Who gets rows, and what is left of them beside whole tiles. */
#include "check/coverage/coverage.h"

static int64_t rows_of(const moe_int_view *v, int64_t e) {
    return v->plan->offsets[e + 1] - v->plan->offsets[e];
}

static int64_t experts_of(const moe_int_view *v, int64_t t) {
    return v->plan->token_offsets[t + 1] - v->plan->token_offsets[t];
}

static int64_t real_pairs(const moe_int_view *v) {
    return v->plan->offsets[v->desc->E];
}

int64_t moe_int_count_row_tails(const moe_int_view *v, int64_t tile) {
    int64_t n = 0;
    for (int64_t e = 0; e < v->desc->E; e++)
        n += rows_of(v, e) % tile;
    return n;
}

int64_t moe_int_count_rows_beyond(const moe_int_view *v, int64_t tile) {
    int64_t n = 0;
    for (int64_t e = 0; e < v->desc->E; e++)
        if (rows_of(v, e) > tile)
            n += rows_of(v, e) - tile;
    return n;
}

int64_t moe_int_count_d_tails(const moe_int_view *v, int64_t tile) {
    return v->T * (v->desc->d % tile);
}

int64_t moe_int_count_n_tails(const moe_int_view *v, int64_t tile) {
    return real_pairs(v) * (v->desc->n % tile);
}

int64_t moe_int_count_empty(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t n = 0;
    for (int64_t e = 0; e < v->desc->E; e++)
        n += rows_of(v, e) == 0;
    return n;
}

int64_t moe_int_count_idle(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t n = 0;
    for (int64_t t = 0; t < v->T; t++)
        n += experts_of(v, t) == 0;
    return n;
}

int64_t moe_int_count_uneven(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t n = 0;
    for (int64_t t = 0; t < v->T; t++)
        n += experts_of(v, t) != v->desc->K;
    return n;
}

int64_t moe_int_count_masked(const moe_int_view *v, int64_t arg) {
    const bool masked = v->c && v->c->masked > 0;
    return masked ? moe_int_count_idle(v, arg) : 0;
}

int64_t moe_int_count_slots(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t n = 0;
    for (int64_t t = 0; t < v->T; t++)
        if (experts_of(v, t) > 0 && experts_of(v, t) < v->desc->K)
            n += v->desc->K - experts_of(v, t);
    return n;
}

/* Rows of experts that have more than twice their even share. */
int64_t moe_int_count_hot(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t n = 0;
    for (int64_t e = 0; e < v->desc->E; e++)
        if (rows_of(v, e) * v->desc->E > 2 * real_pairs(v))
            n += rows_of(v, e);
    return n;
}

int64_t moe_int_count_experts_from(const moe_int_view *v, int64_t first) {
    return v->plan->n_experts > first ? v->plan->n_pairs - v->plan->offsets[first] : 0;
}

int64_t moe_int_count_more_than(const moe_int_view *v, int64_t experts) {
    int64_t n = 0;
    for (int64_t t = 0; t < v->T; t++)
        n += experts_of(v, t) > experts;
    return n;
}

int64_t moe_int_count_single(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->K == 1 ? v->plan->n_pairs : 0;
}

int64_t moe_int_count_zero_experts(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->plan->n_pairs - real_pairs(v);
}

int64_t moe_int_count_given(const moe_int_view *v, int64_t given) {
    return (v->logits == NULL) == (given != 0) ? v->plan->n_pairs : 0;
}
