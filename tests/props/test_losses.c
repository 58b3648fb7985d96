/* Losses of routers: gradients by finite differences, and scopes. */
#include "losses.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 12, E = 6, K = 2 };

/* Every loss as a function of the batch alone. */
typedef moe_status (*loss_fn)(const moe_loss_batch *b, double *ret, double *ret_dz);

static moe_status of_batch(const moe_loss_batch *b, double *ret, double *ret_dz) {
    return moe_loss_balance(b, MOE_LOSS_BATCH, NULL, ret, ret_dz);
}
static moe_status of_sequences(const moe_loss_batch *b, double *ret, double *ret_dz) {
    return moe_loss_balance(b, MOE_LOSS_SEQUENCE, NULL, ret, ret_dz);
}
static moe_status of_z(const moe_loss_batch *b, double *ret, double *ret_dz) {
    return moe_loss_z(b, NULL, ret, ret_dz);
}
static moe_status of_importance(const moe_loss_batch *b, double *ret, double *ret_dz) {
    return moe_loss_importance(b, NULL, ret, ret_dz);
}
static moe_status of_load(const moe_loss_batch *b, double *ret, double *ret_dz) {
    return moe_loss_load(b, K, 0.7, NULL, ret, ret_dz);
}

static moe_status of_devices(const moe_loss_batch *b, double *ret, double *ret_dz) {
    static const int32_t device[E] = {0, 1, 0, 2, 2, 1};
    static const double eta[E] = {1, 1, 1, 1, 0.5, 0.25};
    return moe_loss_balance_weighted(b, device, eta, NULL, ret, ret_dz);
}
static moe_status of_locality(const moe_loss_batch *b, double *ret, double *ret_dz) {
    return moe_loss_locality(b, 1.5, NULL, ret, ret_dz);
}
/* Of z^2, since activations are not negative. */
static moe_status of_chunks(const moe_loss_batch *b, double *ret, double *ret_dz) {
    double x[T * E];
    moe_loss_batch squares = *b;
    squares.logits = x;
    for (int i = 0; i < T * E; i++)
        x[i] = b->logits[i] * b->logits[i];
    moe_status status = moe_loss_chunks(&squares, 3, NULL, ret, ret_dz);
    for (int i = 0; ret_dz && i < T * E; i++)
        ret_dz[i] *= 2 * b->logits[i];
    return status;
}

static moe_status of_alignment(const moe_loss_batch *b, double *ret, double *ret_dz) {
    double full[T * E];
    draw(full, T * E, 11);
    return moe_loss_alignment(b, full, NULL, ret, ret_dz);
}

/* Central differences with the error of the step's square taken out. */
static double slope(loss_fn loss, const moe_loss_batch *b, double *at) {
    const double kept = *at, h = 1e-3;
    double f[4];
    for (int i = 0; i < 4; i++) {
        *at = kept + h * (i < 2 ? i + 1 : 1 - i);
        cr_assert_eq(loss(b, &f[i], NULL), MOE_OK);
    }
    *at = kept;
    return (8 * (f[0] - f[2]) - (f[1] - f[3])) / (12 * h);
}

static void expect_gradient(loss_fn loss, int32_t sigmoid, const char *name) {
    double z[T * E], dz[T * E], value, error = 0, size = 0;
    draw(z, T * E, 3);
    moe_plan *plan = choose(T, E, K, z);
    const moe_loss_batch b = {z, T, E, sigmoid, 4, plan};
    cr_assert_eq(loss(&b, &value, dz), MOE_OK);
    cr_expect(value > 0, "%s: %g", name, value);
    for (int i = 0; i < T * E; i++) {
        const double want = slope(loss, &b, &z[i]);
        error += (dz[i] - want) * (dz[i] - want);
        size += want * want;
    }
    cr_expect(size > 0 && sqrt(error / size) < 1e-7, "%s, sigmoid %d: %g", name, (int)sigmoid,
              sqrt(error / size));
    moe_plan_destroy(&plan);
}

Test(losses, gradients_are_finite_differences) {
    static const struct {
        const char *name;
        loss_fn loss;
    } rows[] = {
        {"batch", of_batch},           {"sequence", of_sequences}, {"z", of_z},
        {"importance", of_importance}, {"load", of_load},          {"devices", of_devices},
        {"locality", of_locality},     {"chunks", of_chunks},      {"alignment", of_alignment}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int32_t sigmoid = 0; sigmoid < 2; sigmoid++)
            expect_gradient(rows[i].loss, sigmoid, rows[i].name);
}

static int agreeing(const double *z, const double *full) {
    moe_plan *a = choose(T, E, K, z), *b = choose(T, E, K, full);
    int same = 0;
    for (int e = 0; e < E; e++)
        for (int64_t i = a->offsets[e]; i < a->offsets[e + 1]; i++)
            for (int64_t j = b->offsets[e]; j < b->offsets[e + 1]; j++)
                same += a->token[i] == b->token[j];
    moe_plan_destroy(&a);
    moe_plan_destroy(&b);
    return same;
}

/* A router that goes down its alignment's gradient comes to choose what the full one chooses; where
 * they agree the loss is 0. */
Test(losses, alignment_brings_choices_together) {
    double full[T * E], z[T * E], dz[T * E], loss;
    draw(full, T * E, 12);
    draw(z, T * E, 13);
    for (int i = 0; i < T * E; i++)
        z[i] = full[i] + 0.7 * z[i];
    const moe_loss_batch b = {z, T, E, 0, 0, NULL};
    const int before = agreeing(z, full);
    for (int step = 0; step < 60; step++) {
        cr_assert_eq(moe_loss_alignment(&b, full, NULL, &loss, dz), MOE_OK);
        for (int i = 0; i < T * E; i++)
            z[i] -= 0.3 * T * dz[i];
    }
    cr_expect_lt(before, T * K);
    cr_expect_eq(agreeing(z, full), T * K);
    cr_expect_lt(loss, 1e-12);
    cr_assert_eq(moe_loss_alignment(&b, z, NULL, &loss, NULL), MOE_OK);
    cr_expect_lt(fabs(loss), 1e-15);
}

/* One device is one expert's share for all: 1 whatever the scores. Devices of one expert, and none,
 * are the plain balance. */
Test(losses, devices_are_between_one_and_all) {
    static const int32_t one[E] = {0}, each[E] = {5, 4, 3, 2, 1, 0};
    double z[T * E], all, apart, none, plain;
    draw(z, T * E, 4);
    moe_plan *plan = choose(T, E, K, z);
    const moe_loss_batch b = {z, T, E, 0, 0, plan};
    cr_assert_eq(moe_loss_balance_weighted(&b, one, NULL, NULL, &all, NULL), MOE_OK);
    cr_assert_eq(moe_loss_balance_weighted(&b, each, NULL, NULL, &apart, NULL), MOE_OK);
    cr_assert_eq(moe_loss_balance_weighted(&b, NULL, NULL, NULL, &none, NULL), MOE_OK);
    cr_assert_eq(moe_loss_balance(&b, MOE_LOSS_BATCH, NULL, &plain, NULL), MOE_OK);
    cr_expect_float_eq(all, 1, 1e-14);
    cr_expect_eq(apart, plain);
    cr_expect_eq(none, plain);
    cr_expect_gt(plain, 1.01);
    moe_plan_destroy(&plan);
}

/* Larger chunks are never sparser; tokens that are alike lose nothing. */
Test(losses, sparsity_of_chunks) {
    double z[T * E], alike[T * E];
    draw(z, T * E, 5);
    for (int i = 0; i < T * E; i++)
        alike[i] = z[i % E];
    int active = 0;
    for (int i = 0; i < T * E; i++)
        active += z[i] > 0;
    cr_expect_float_eq(moe_sparsity(z, T, E, 1), 1 - active / (double)(T * E), 1e-15);
    for (int64_t C = 1; C < T; C = C == 1 ? 3 : 2 * C)
        cr_expect_leq(moe_sparsity(z, T, E, C == 1 ? 3 : 2 * C), moe_sparsity(z, T, E, C));
    cr_expect_eq(moe_sparsity(alike, T, E, T), moe_sparsity(alike, T, E, 1));
}

/* Three unequal shards are one batch, bit for bit, and not three batches. */
Test(losses, shards_are_one_batch) {
    static const int64_t first[] = {0, 3, 8, T};
    double z[T * E], whole[T * E], parts[T * E], one, many, apart = 0;
    moe_loss_batch shards[3];
    double *to[3];
    moe_plan *plans[3];
    draw(z, T * E, 5);
    moe_plan *plan = choose(T, E, K, z);
    const moe_loss_batch b = {z, T, E, 0, 0, plan};
    for (int j = 0; j < 3; j++) {
        const int64_t n = first[j + 1] - first[j];
        double alone;
        plans[j] = choose(n, E, K, z + first[j] * E);
        shards[j] = (moe_loss_batch){z + first[j] * E, n, E, 0, 0, plans[j]};
        to[j] = parts + first[j] * E;
        cr_assert_eq(moe_loss_balance(&shards[j], MOE_LOSS_BATCH, NULL, &alone, NULL), MOE_OK);
        apart += alone / 3;
    }
    cr_assert_eq(moe_loss_balance(&b, MOE_LOSS_BATCH, NULL, &one, whole), MOE_OK);
    cr_assert_eq(moe_loss_balance_global(shards, 3, NULL, &many, to), MOE_OK);
    cr_expect_eq(one, many);
    cr_expect_eq(memcmp(whole, parts, sizeof whole), 0);
    cr_expect(fabs(apart - one) > 1e-3);
    moe_plan_destroy(&plan);
    for (int j = 0; j < 3; j++)
        moe_plan_destroy(&plans[j]);
}

/* E/K sequences, each wholly at its own K experts: each by itself is as unbalanced as can be, all
 * together are balanced. */
Test(losses, scopes_differ_most_where_sequences_specialise) {
    double z[T * E], sequence, batch;
    for (int t = 0; t < T; t++)
        for (int i = 0; i < E; i++)
            z[t * E + i] = i / K == t / (T * K / E) ? 0 : -1000;
    moe_plan *plan = choose(T, E, K, z);
    const moe_loss_batch b = {z, T, E, 0, (int64_t)T * K / E, plan};
    cr_assert_eq(moe_loss_balance(&b, MOE_LOSS_SEQUENCE, NULL, &sequence, NULL), MOE_OK);
    cr_assert_eq(moe_loss_balance(&b, MOE_LOSS_BATCH, NULL, &batch, NULL), MOE_OK);
    cr_expect_float_eq(sequence, (double)E / K, 1e-12);
    cr_expect_float_eq(batch, 1, 1e-12);
    moe_plan_destroy(&plan);
}

/* Balanced importance and load have no variance; logits of 0 have logsumexp ln E. */
Test(losses, uniform_logits) {
    double z[T * E] = {0}, value;
    const moe_loss_batch b = {z, T, E, 0, 0, NULL};
    cr_assert_eq(moe_loss_importance(&b, NULL, &value, NULL), MOE_OK);
    cr_expect(value < 1e-25, "%g", value);
    cr_assert_eq(moe_loss_load(&b, K, 1, NULL, &value, NULL), MOE_OK);
    cr_expect(value < 1e-25, "%g", value);
    cr_assert_eq(moe_loss_z(&b, NULL, &value, NULL), MOE_OK);
    cr_expect_float_eq(value, log(E) * log(E), 1e-12);
}

Test(losses, refuse_what_does_not_fit) {
    double z[T * E] = {0}, value = -1;
    moe_plan *plan = choose(T, E, K, z);
    moe_loss_batch b = {z, T, E, 0, 5, plan};
    cr_expect_eq(moe_loss_balance(&b, MOE_LOSS_SEQUENCE, NULL, &value, NULL), MOE_E_INVALID);
    b.sequence = 0, b.experts = E - 1;
    cr_expect_eq(moe_loss_balance(&b, MOE_LOSS_BATCH, NULL, &value, NULL), MOE_E_INVALID);
    b.experts = E;
    cr_expect_eq(moe_loss_load(&b, E + 1, 1, NULL, &value, NULL), MOE_E_INVALID);
    cr_expect_eq(moe_loss_load(&b, K, 0, NULL, &value, NULL), MOE_E_INVALID);
    cr_expect_eq(moe_loss_balance_global(&b, 0, NULL, &value, NULL), MOE_E_INVALID);
    cr_expect_eq(value, -1);
    moe_plan_destroy(&plan);
}
