/* Tensors and status codes: counts that overflow, alignment, casts. */
#include "moeref/tensor.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(tensor, counts_and_bytes) {
    static const struct {
        moe_tensor tensor;
        int64_t count, bytes;
    } cases[] = {
        {{.dtype = MOE_F32, .ndim = 0}, 1, 4},
        {{.dtype = MOE_BF16, .ndim = 2, .shape = {3, 5}}, 15, 30},
        {{.dtype = MOE_F64, .ndim = 4, .shape = {2, 3, 4, 5}}, 120, 960},
        {{.dtype = MOE_F64, .ndim = 2, .shape = {0, 5}}, 0, 0},
        {{.dtype = MOE_U8, .ndim = 1, .shape = {INT64_MAX}}, INT64_MAX, INT64_MAX},
        {{.dtype = MOE_BF16, .ndim = 1, .shape = {INT64_MAX}}, INT64_MAX, -1},
        {{.dtype = MOE_U8, .ndim = 2, .shape = {INT64_MAX, 2}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 2, .shape = {(int64_t)1 << 32, (int64_t)1 << 31}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 3, .shape = {0, INT64_MAX, 2}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 3, .shape = {INT64_MAX, 2, 0}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 1, .shape = {-1}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 2, .shape = {-1, -1}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 2, .shape = {0, -1}}, -1, -1},
        {{.dtype = MOE_U8, .ndim = 5}, -1, -1},
        {{.dtype = MOE_U8, .ndim = -1}, -1, -1},
        {{.dtype = MOE_DTYPE_COUNT, .ndim = 1, .shape = {1}}, 1, -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(moe_tensor_count(&cases[i].tensor), cases[i].count, "case %zu", i);
        cr_assert_eq(moe_tensor_bytes(&cases[i].tensor), cases[i].bytes, "case %zu", i);
    }
}

Test(tensor, allocation_is_aligned_and_zeroed) {
    static const int64_t shape[] = {3, 7, 5};
    moe_tensor tensor;
    cr_assert_eq(moe_tensor_alloc(MOE_F32, 3, shape, &tensor), MOE_OK);
    cr_assert_eq((uintptr_t)tensor.data % 64, 0);
    for (size_t i = 0; i < 105; i++)
        cr_assert_eq(((float *)tensor.data)[i], 0);
    moe_tensor_destroy(&tensor);
    cr_assert_null(tensor.data);
    cr_assert_eq(tensor.ndim, 0);
    moe_tensor_destroy(&tensor); /* twice is harmless */
    moe_tensor_destroy(NULL);
}

Test(tensor, empty_is_present) {
    static const int64_t shape[] = {0, 8};
    moe_tensor tensor = {0};
    cr_assert_eq(moe_tensor_alloc(MOE_F32, 2, shape, &tensor), MOE_OK);
    cr_assert_not_null(tensor.data);
    moe_tensor_destroy(&tensor);
}

Test(tensor, refused_allocations_leave_the_result_alone) {
    static const int64_t negative[] = {4, -1}, overflow[] = {INT64_MAX, 4},
                         huge[] = {(int64_t)1 << 59};
    static const struct {
        moe_dtype dtype;
        int32_t ndim;
        const int64_t *shape;
        moe_status want;
    } cases[] = {
        {MOE_F32, 2, negative, MOE_E_INVALID},   {MOE_F32, 2, overflow, MOE_E_INVALID},
        {MOE_F32, 5, negative, MOE_E_INVALID},   {MOE_F32, -1, negative, MOE_E_INVALID},
        {(moe_dtype)99, 0, NULL, MOE_E_INVALID}, {MOE_F64, 1, huge, MOE_E_NOMEM},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        moe_tensor tensor, before;
        memset(&tensor, 0x5a, sizeof(tensor));
        before = tensor;
        cr_assert_eq(moe_tensor_alloc(cases[i].dtype, cases[i].ndim, cases[i].shape, &tensor),
                     cases[i].want, "case %zu", i);
        cr_assert_eq(memcmp(&tensor, &before, sizeof(tensor)), 0, "case %zu", i);
    }
}

Test(tensor, cast_keeps_shape_and_rounds) {
    double values[] = {1, 1 + 0x1p-8 + 0x1p-40, -3, 1e39, 0, 0.1};
    moe_tensor src = {.data = values, .dtype = MOE_F64, .ndim = 2, .shape = {2, 3}}, cast;
    cr_assert_eq(moe_tensor_cast(&src, MOE_BF16, &cast), MOE_OK);
    cr_assert(moe_tensor_same_shape(&src, &cast));
    cr_assert_eq(cast.dtype, MOE_BF16);
    for (size_t i = 0; i < 6; i++)
        cr_assert_eq(((uint16_t *)cast.data)[i], moe_bf16_from_f64(values[i]));
    moe_tensor_destroy(&cast);

    moe_tensor absent = {.dtype = MOE_F32, .ndim = 1, .shape = {4}};
    cr_assert_eq(moe_tensor_cast(&absent, MOE_F64, &cast), MOE_E_INVALID);
}

Test(tensor, same_shape) {
    moe_tensor a = {.ndim = 2, .shape = {2, 3}}, b = a;
    b.shape[3] = 9; /* beyond ndim: does not count */
    cr_assert(moe_tensor_same_shape(&a, &b));
    b.shape[1] = 4;
    cr_assert_not(moe_tensor_same_shape(&a, &b));
    b = a;
    b.ndim = 1;
    cr_assert_not(moe_tensor_same_shape(&a, &b));
}

Test(tensor, shape_text) {
    char buf[128];
    moe_tensor scalar = {.ndim = 0}, matrix = {.ndim = 2, .shape = {4, 128}},
               wide = {.ndim = 4, .shape = {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN}};
    cr_assert_str_eq(moe_tensor_shape_str(&scalar, buf, sizeof(buf)), "[]");
    cr_assert_str_eq(moe_tensor_shape_str(&matrix, buf, sizeof(buf)), "[4, 128]");
    cr_assert_str_eq(moe_tensor_shape_str(&matrix, buf, 5), "[4, ");
    cr_assert_eq(strlen(moe_tensor_shape_str(&wide, buf, sizeof(buf))), 4 * 20 + 3 * 2 + 2);
}

static void remember(void *user, moe_log_level level, const char *message) {
    snprintf(user, 64, "%d %s", (int)level, message);
}

Test(status, names_and_messages) {
    static const moe_status codes[] = {MOE_OK,       MOE_E_INVALID,     MOE_E_NOMEM,    MOE_E_IO,
                                       MOE_E_FORMAT, MOE_E_UNSUPPORTED, MOE_E_NOTFOUND, MOE_E_ABI,
                                       MOE_E_DEVICE, MOE_E_CONTRACT};
    for (int i = 0; i < 9; i++) {
        cr_assert_eq(codes[i], -i, "pinned value");
        for (int j = 0; j < i; j++)
            cr_assert_str_neq(moe_status_str(codes[i]), moe_status_str(codes[j]));
    }
    cr_assert_not_null(moe_status_str((moe_status)-99));

    char seen[64] = "";
    const moe_log log = {remember, seen}, silent = {NULL, seen};
    cr_assert_eq(moe_fail(&log, MOE_E_IO, "%s is %d", "x", 4), MOE_E_IO);
    cr_assert_str_eq(seen, "0 x is 4");
    moe_log_send(&log, MOE_LOG_WARN, "plain");
    cr_assert_str_eq(seen, "1 plain");
    cr_assert_eq(moe_fail(NULL, MOE_E_ABI, "nobody listens"), MOE_E_ABI);
    cr_assert_eq(moe_fail(&silent, MOE_E_ABI, "nobody listens"), MOE_E_ABI);
    cr_assert_str_eq(seen, "1 plain");
}
