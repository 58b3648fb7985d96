/* Tokens that 8 bits cannot hold: what their owners see is their codes times their scales. */
#include "core/coded.h"
#include "check/ranks/ranks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = MOE_INT_CODED_BLOCK };

typedef struct coded {
    moe_tensor X;    /* as tokens are at home */
    moe_tensor want; /* as owners should see them */
} coded;

static double at(const moe_tensor *rows, int64_t row, int64_t i) {
    return moe_load(rows->data, rows->dtype, (size_t)(row * rows->shape[1] + i));
}

/* The largest value of a block, in which the scale is what is left of it. */
static double largest(const moe_tensor *rows, int64_t row, int64_t block) {
    double most = 0;
    for (int64_t i = block * BLOCK; i < rows->shape[1] && i < (block + 1) * BLOCK; i++)
        most = fmax(most, fabs(at(rows, row, i)));
    return most;
}

/* The token whose scale has been taken for that of `token`'s block; -1: no one's. */
static int64_t other_scale(const coded *c, const moe_int_arrival *a, int64_t block) {
    const double factor = largest(a->rows, a->row, block) / largest(&c->want, a->token, block);
    for (int64_t t = 0; t < c->want.shape[0]; t++) {
        const double due = largest(&c->want, t, block) / largest(&c->want, a->token, block);
        if (t != a->token && fabs(factor - due) <= 0.01 * due)
            return t;
    }
    return -1;
}

static void say(const coded *c, const moe_int_arrival *a, int64_t i, moe_ranks *found) {
    const int64_t other = other_scale(c, a, i / BLOCK);
    char cause[64] = "";
    if (other >= 0)
        snprintf(cause, sizeof cause, ": the scale of token %lld", (long long)other);
    moe_int_ranks_fail(
        found, MOE_VERDICT_FAIL,
        "dispatch in e4m3: token %lld on rank %d: value %lld is %.9g, its code times "
        "its scale is %.9g%s",
        (long long)a->token, (int)a->rank, (long long)i, at(a->rows, a->row, i),
        at(&c->want, a->token, i), cause);
}

static void look_at_values(const moe_int_arrival *a, moe_ranks *found, void *user) {
    const coded *c = user;
    const int64_t d = c->want.shape[1];
    const size_t size = moe_dtype_size(c->want.dtype);
    if (a->backward) /* goes as it is */
        return;
    for (int64_t i = 0; i < d; i++)
        if (memcmp((const char *)a->rows->data + (size_t)(a->row * d + i) * size,
                   (const char *)c->want.data + (size_t)(a->token * d + i) * size, size) != 0) {
            say(c, a, i, found);
            return;
        }
}

/* The problem's own tokens, each value a little further on by a factor of its own. */
static moe_status make(const moe_problem *p, coded *c) {
    const moe_tensor *X = &p->in.t[MOE_T_X];
    const int64_t d = p->layer.d, bytes = d * (int64_t)moe_dtype_size(X->dtype);
    moe_status status = moe_tensor_cast(X, X->dtype, &c->X);
    for (int64_t i = 0; !status && i < p->T * d; i++)
        moe_store(c->X.data, X->dtype, (size_t)i,
                  moe_load(X->data, X->dtype, (size_t)i) * (1 + (double)(7 * i % 11) / 32));
    if (!status)
        status = moe_tensor_cast(&c->X, X->dtype, &c->want);
    void *row = status ? NULL : malloc((size_t)moe_int_coded_bytes(d) + 1);
    for (int64_t t = 0; row && t < p->T; t++) {
        char *values = (char *)c->want.data + t * bytes;
        moe_int_code_row(values, X->dtype, d, row);
        moe_int_decode_row(row, d, X->dtype, values);
    }
    free(row);
    return status || row ? status : MOE_E_NOMEM;
}

moe_status moe_int_ranks_coded(const moe_int_ranks *k, moe_backend *backend) {
    const moe_problem *p = k->problem;
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    coded c = {.X = {0}};
    moe_layer *layer = NULL;
    moe_status status = make(p, &c);
    const moe_input input = {
        .tokens = p->T, .X = c.X, .dO = p->in.t[MOE_T_DO], .plan = p->plan, .seed = p->seed};
    if (!status)
        status = moe_layer_prepare(backend, &p->layer, &use, &p->in, &layer);
    if (!status)
        status = moe_layer_set_input(layer, &input);
    if (!status)
        status = moe_layer_forward(layer);
    if (!status)
        status = moe_int_ranks_arrivals(k, backend, layer, look_at_values, &c);
    moe_layer_destroy(&layer);
    moe_tensor_destroy(&c.X);
    moe_tensor_destroy(&c.want);
    return status;
}
