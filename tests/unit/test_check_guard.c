/* Canaries, poison and the hash that tells whether an input changed. */
#include "check/subject/guard.h"
#include "core/bytes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static moe_int_guarded guarded(moe_dtype dtype, int64_t count) {
    moe_tensor shape = {.ndim = 1, .shape = {count}};
    moe_int_guarded g;
    cr_assert_eq(moe_int_guard_alloc(&shape, dtype, &g), MOE_OK);
    return g;
}

Test(check_guard, canaries_see_one_byte) {
    moe_int_guarded g = guarded(MOE_F32, 13);
    unsigned char *data = g.tensor.data;
    cr_expect_null(moe_int_guard_broken(&g));
    memset(data, 0, 13 * 4);
    cr_expect_null(moe_int_guard_broken(&g));
    data[13 * 4] ^= 1;
    cr_expect_str_eq(moe_int_guard_broken(&g), "after");
    data[13 * 4] ^= 1;
    data[-1] ^= 0x80;
    cr_expect_str_eq(moe_int_guard_broken(&g), "before");
    data[-1] ^= 0x80;
    data[13 * 4 + 4095] = 0;
    cr_expect_str_eq(moe_int_guard_broken(&g), "after");
    moe_int_guard_destroy(&g);
    cr_expect_null(g.block);
}

Test(check_guard, empty_tensors_are_guarded_too) {
    moe_int_guarded g = guarded(MOE_BF16, 0);
    cr_expect_not_null(g.tensor.data);
    cr_expect_null(moe_int_guard_broken(&g));
    *(unsigned char *)g.tensor.data ^= 1;
    cr_expect_str_eq(moe_int_guard_broken(&g), "after");
    moe_int_guard_destroy(&g);
}

/* Poison is a NaN in every type, and no NaN that arithmetic makes. */
Test(check_guard, poison_is_its_own_nan) {
    static const moe_dtype types[] = {MOE_F64, MOE_F32, MOE_F16, MOE_BF16};
    for (int k = 0; k < 4; k++) {
        moe_int_guarded g = guarded(types[k], 3);
        cr_expect(isnan(moe_load(g.tensor.data, types[k], 1)));
        cr_expect(moe_int_is_poison(&g.tensor, 1));
        moe_store(g.tensor.data, types[k], 1, NAN);
        cr_expect(!moe_int_is_poison(&g.tensor, 1));
        moe_store(g.tensor.data, types[k], 1, -NAN);
        cr_expect(!moe_int_is_poison(&g.tensor, 1));
        cr_expect(moe_int_is_poison(&g.tensor, 0) && moe_int_is_poison(&g.tensor, 2));
        moe_int_guard_destroy(&g);
    }
}

Test(check_guard, overflowing_shape_is_refused) {
    moe_tensor shape = {.ndim = 2, .shape = {INT64_MAX / 2, 4}};
    moe_int_guarded g;
    cr_expect_eq(moe_int_guard_alloc(&shape, MOE_F32, &g), MOE_E_INVALID);
}

/* Every single bit of a buffer matters to the hash, at any length. */
Test(check_guard, hash_sees_every_bit) {
    unsigned char data[41] = {0};
    for (size_t n = 1; n <= sizeof data; n++) {
        uint64_t h = moe_int_hash(data, n);
        for (size_t bit = 0; bit < 8 * n; bit++) {
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            cr_expect_neq(moe_int_hash(data, n), h, "length %zu bit %zu", n, bit);
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        cr_expect_eq(moe_int_hash(data, n), h);
    }
}

/* Also of memory that is hashed in slices, whose ends fall anywhere. */
Test(check_guard, hash_sees_every_byte_of_large_memory) {
    const size_t bytes = ((size_t)1 << 24) + 37, each = bytes / 64;
    unsigned char *data = calloc(1, bytes);
    cr_assert(data);
    const uint64_t h = moe_int_hash(data, bytes);
    for (int i = 0; i < 64; i += 21) {
        const size_t at[] = {(size_t)i * each, (size_t)(i + 1) * each - 1, bytes - 1};
        for (int k = 0; k < 3; k++) {
            data[at[k]] ^= 0x40;
            cr_expect_neq(moe_int_hash(data, bytes), h, "byte %zu", at[k]);
            data[at[k]] ^= 0x40;
        }
    }
    cr_expect_eq(moe_int_hash(data, bytes), h);
    free(data);
}

/* Of memory that many threads fill, copy and compare: its ends, and those of a thread's part. */
Test(check_guard, large_memory_is_filled_copied_and_compared_to_its_end) {
    const size_t bytes = ((size_t)1 << 26) + 37, part = (size_t)1 << 21;
    const size_t at[] = {0, part - 1, part, bytes - 38, bytes - 1};
    unsigned char *a = malloc(bytes + 1), *b = malloc(bytes + 1);
    cr_assert(a && b);
    a[bytes] = b[bytes] = 7;
    moe_int_fill(a, 0x5a, bytes);
    moe_int_copy(b, a, bytes);
    cr_expect(moe_int_same_bytes(a, b, bytes));
    for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
        cr_expect_eq(a[at[k]], 0x5a);
        a[at[k]] = (unsigned char)k;
        cr_expect(!moe_int_same_bytes(a, b, bytes), "byte %zu", at[k]);
        moe_int_copy(b, a, bytes);
        cr_expect(moe_int_same_bytes(a, b, bytes), "byte %zu", at[k]);
    }
    cr_expect(a[bytes] == 7 && b[bytes] == 7, "written behind the end");
    free(a);
    free(b);
}

Test(check_guard, hash_of_pieces_sees_their_order) {
    const unsigned char data[16] = {1};
    const uint64_t first = moe_int_hash_next(0, data, 8),
                   second = moe_int_hash_next(0, data + 8, 8);
    cr_expect_neq(moe_int_hash_next(first, data + 8, 8), moe_int_hash_next(second, data, 8));
    cr_expect_neq(moe_int_hash_next(first, data + 8, 8), first);
    cr_expect_eq(moe_int_hash_next(first, data + 8, 8), moe_int_hash_next(first, data + 8, 8));
}
