/* Hostile safetensors images: each is refused with the right status and a sentence that names
 * what is wrong; and well-formed ones that are unusual are read. */
#include "capture.h"
#include "moeref/safetensors.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* A file image in memory of exactly its size, so that a sanitizer sees any read past it. */
typedef struct image {
    unsigned char *bytes;
    size_t size;
} image;

static image make_image(uint64_t length, const char *header, size_t header_size, size_t data_size) {
    image made = {.size = 8 + header_size + data_size};
    made.bytes = malloc(made.size);
    memcpy(made.bytes, &length, 8);
    memcpy(made.bytes + 8, header, header_size);
    for (size_t i = 0; i < data_size; i++)
        made.bytes[8 + header_size + i] = (unsigned char)i;
    return made;
}

static image from_header(const char *header, size_t data_size) {
    return make_image(strlen(header), header, strlen(header), data_size);
}

static void assert_refused(image hostile, const char *what, const char *needle) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_safetensors *file = NULL;
    moe_status status =
        moe_safetensors_open_memory(hostile.bytes, hostile.size, "hostile.st", &log, &file);
    cr_assert_eq(status, MOE_E_FORMAT, "%s: status %d", what, status);
    cr_assert_null(file, "%s: the result must stay untouched", what);
    cr_assert_eq(seen.messages, 1, "%s: %d messages", what, seen.messages);
    cr_assert(strstr(seen.text, "hostile.st"), "%s: no file name in: %s", what, seen.text);
    cr_assert(strstr(seen.text, needle), "%s: no \"%s\" in: %s", what, needle, seen.text);
    /* Without a log the same, silently. */
    cr_assert_eq(moe_safetensors_open_memory(hostile.bytes, hostile.size, "x", NULL, &file),
                 MOE_E_FORMAT);
    free(hostile.bytes);
}

#define ONE(dtype, shape, offsets)                                                                 \
    "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(offsets_a, offsets_b)                                                                  \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets_a "},"                      \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets_b "}}"

Test(safetensors, hostile_headers) {
    static const struct {
        const char *header;
        size_t data;
        const char *needle;
    } cases[] = {
        {"[]", 0, "begin with {"},
        {" {}", 0, "begin with {"},
        {"\"a\"", 0, "begin with {"},
        {"{", 0, "JSON"},
        {"{} x", 0, "JSON"},
        {"{}{}", 0, "JSON"},
        {"{\"a\":nope}", 0, "JSON"},
        {"{\"\xff\":1}", 0, "unable to decode byte 0xff"},
        {"{\"a\xc0\x80\":1}", 0, "unable to decode"},
        {"{\"a\xed\xa0\x80\":1}", 0, "unable to decode"},
        {"{\"a\\u0000b\":1}", 0, "JSON"},
        {"{\"a\":\"\\ud800\"}", 0, "JSON"},
        {"{\"w\":1}", 0, "\"w\""},
        {"{\"w\":null}", 0, "\"w\""},
        {"{\"w\":[]}", 0, "\"w\""},
        {"{\"w\":{}}", 0, "dtype"},
        {"{\"w\":{\"dtype\":\"F32\"}}", 0, "shape"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, "data_offsets"},
        {ONE("7", "[1]", "[0,4]"), 4, "dtype"},
        {ONE("\"F31\"", "[1]", "[0,4]"), 4, "F31"},
        {ONE("\"f32\"", "[1]", "[0,4]"), 4, "f32"},
        {ONE("\"\"", "[1]", "[0,4]"), 4, "dtype"},
        {ONE("\"F32\"", "1", "[0,4]"), 4, "shape"},
        {ONE("\"F32\"", "{}", "[0,4]"), 4, "shape"},
        {ONE("\"F32\"", "[-1]", "[0,4]"), 4, "natural"},
        {ONE("\"F32\"", "[1.0]", "[0,4]"), 4, "natural"},
        {ONE("\"F32\"", "[1.5]", "[0,4]"), 4, "natural"},
        {ONE("\"F32\"", "[\"1\"]", "[0,4]"), 4, "natural"},
        {ONE("\"F32\"", "[[1]]", "[0,4]"), 4, "natural"},
        {ONE("\"F32\"", "[null]", "[0,4]"), 4, "natural"},
        {ONE("\"F32\"", "[9223372036854775808]", "[0,4]"), 4, "JSON"},
        {ONE("\"F32\"", "[1e999]", "[0,4]"), 4, "JSON"},
        {ONE("\"F32\"", "[9223372036854775807]", "[0,4]"), 4, "overflows"},
        {ONE("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4, "overflows"},
        {ONE("\"F32\"", "[0,4294967296,4294967296]", "[0,0]"), 0, "overflows"},
        {ONE("\"F32\"", "[4294967296,4294967296,0]", "[0,0]"), 0, "overflows"},
        /* 2^61 elements of 8 bytes wrap to a size of 0. */
        {ONE("\"F64\"", "[2305843009213693952]", "[0,0]"), 0, "overflows"},
        {ONE("\"F32\"", "[1]", "[4,0]"), 4, "reversed"},
        {ONE("\"F32\"", "[1]", "[0]"), 4, "data_offsets"},
        {ONE("\"F32\"", "[1]", "[0,4,8]"), 4, "data_offsets"},
        {ONE("\"F32\"", "[1]", "[-4,0]"), 4, "data_offsets"},
        {ONE("\"F32\"", "[1]", "[0,4.0]"), 4, "data_offsets"},
        {ONE("\"F32\"", "[1]", "{\"0\":0}"), 4, "data_offsets"},
        {ONE("\"F32\"", "[1]", "[0,4]"), 3, "out of range"},
        {ONE("\"F32\"", "[1]", "[4,8]"), 4, "out of range"},
        {ONE("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "out of range"},
        {ONE("\"F32\"", "[1]", "[0,8]"), 8, "needs 4 bytes"},
        {ONE("\"F32\"", "[3]", "[0,8]"), 8, "needs 12 bytes"},
        {ONE("\"F32\"", "[0]", "[0,4]"), 4, "needs 0 bytes"},
        {ONE("\"F32\"", "[]", "[0,0]"), 0, "needs 4 bytes"},
        {ONE("\"F4\"", "[3]", "[0,2]"), 2, "whole bytes"},
        {ONE("\"I8\"", "[3]", "[0,4]"), 4, "needs 3 bytes"},
        {ONE("\"F32\"", "[1]", "[0,4]"), 5, "trailing"},
        {ONE("\"F32\"", "[1]", "[1,5]"), 5, "hole"},
        {"{}", 1, "trailing"},
        {TWO("[0,4]", "[0,4]"), 4, "overlaps"},
        {TWO("[0,4]", "[3,7]"), 7, "overlaps"},
        {TWO("[3,7]", "[0,4]"), 7, "overlaps"},
        {TWO("[0,4]", "[5,9]"), 9, "hole"},
        {TWO("[0,4]", "[4,8]"), 12, "trailing"},
        {"{\"w\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
         "duplicate"},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0, "duplicate"},
        {"{\"__metadata__\":7}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"k\":7}}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(from_header(cases[i].header, cases[i].data), cases[i].header,
                       cases[i].needle);
}

Test(safetensors, hostile_lengths) {
    assert_refused(make_image(2, "", 0, 0), "header beyond the end", "header length 2");
    assert_refused(make_image(3, "{}", 2, 0), "one byte short", "header length 3");
    assert_refused(make_image(0, "{}", 2, 0), "no header", "begin with {");
    assert_refused(make_image(1, "{}", 2, 0), "half a header", "JSON");
    assert_refused(make_image(UINT64_MAX, "{}", 2, 0), "length wraps", "header length");
    assert_refused(make_image(UINT64_MAX - 7, "{}", 2, 0), "length + 8 wraps", "header length");
    assert_refused(make_image(100000001, "{}", 2, 0), "above the limit", "100000000");
    for (size_t size = 0; size < 8; size++) {
        image cut = make_image(2, "{}", 2, 0);
        cut.bytes = realloc(cut.bytes, size ? size : 1);
        cut.size = size;
        assert_refused(cut, "shorter than the length", "too short");
    }
}

/* Brackets nested deeper than any parser's stack. */
Test(safetensors, depth_bombs) {
    static const char *const openers[] = {"[", "{\"a\":"};
    for (size_t k = 0; k < 2; k++) {
        const size_t depth = 1000000, width = strlen(openers[k]);
        char *header = malloc(5 + depth * width + 1);
        strcpy(header, "{\"a\":");
        for (size_t i = 0; i < depth; i++)
            memcpy(header + 5 + i * width, openers[k], width);
        header[5 + depth * width] = '\0';
        assert_refused(from_header(header, 0), "depth bomb", "depth");
        free(header);
    }
}

/* Every prefix of a good file is refused, and no byte beyond it is read. */
Test(safetensors, every_truncation) {
    image good = from_header(TWO("[0,4]", "[4,8]"), 8);
    for (size_t size = 0; size < good.size; size++) {
        unsigned char *cut = malloc(size ? size : 1);
        moe_safetensors *file = NULL;
        memcpy(cut, good.bytes, size);
        cr_assert_eq(moe_safetensors_open_memory(cut, size, "cut", NULL, &file), MOE_E_FORMAT,
                     "%zu bytes", size);
        free(cut);
    }
    free(good.bytes);
}

static moe_safetensors *open_good(image good) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_safetensors *file = NULL;
    moe_status status = moe_safetensors_open_memory(good.bytes, good.size, "good", &log, &file);
    cr_assert_eq(status, MOE_OK, "%s", seen.text);
    return file;
}

Test(safetensors, unusual_but_valid) {
    static const char *const headers[] = {
        "{}",
        "{}   \n",
        "{\"__metadata__\":{}}",
        "{\"__metadata__\":null}",
        ONE("\"U8\"", "[4]", "[0,4]") "      ",
        /* an unknown member beside the three */
        "{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"note\":1}}",
    };
    static const size_t data[] = {0, 0, 0, 0, 4, 4};
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        image good = from_header(headers[i], data[i]);
        moe_safetensors *file = open_good(good);
        cr_assert_eq(moe_safetensors_count(file), data[i] ? 1 : 0);
        moe_safetensors_close(&file);
        cr_assert_null(file);
        moe_safetensors_close(&file);
        free(good.bytes);
    }
}

/* Tensors of length 0 share their offset with a neighbour, in any order of names. */
Test(safetensors, empty_tensors_tile_too) {
    image good = from_header("{\"z\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
                             "\"m\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                             "\"a\":{\"dtype\":\"F64\",\"shape\":[3,0],\"data_offsets\":[2,2]}}",
                             2);
    moe_safetensors *file = open_good(good);
    moe_tensor tensor;
    cr_assert_eq(moe_safetensors_count(file), 3);
    cr_assert_str_eq(moe_safetensors_name(file, 0), "a");
    cr_assert_str_eq(moe_safetensors_name(file, 1), "m");
    cr_assert_str_eq(moe_safetensors_name(file, 2), "z");
    cr_assert_null(moe_safetensors_name(file, 3));
    cr_assert_eq(moe_safetensors_get(file, "a", &tensor), MOE_OK);
    cr_assert_eq(moe_tensor_count(&tensor), 0);
    cr_assert_not_null(tensor.data, "present but empty");
    moe_safetensors_close(&file);
    free(good.bytes);
}

Test(safetensors, dtypes_and_ranks_without_a_view) {
    image good =
        from_header("{\"fp8\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]},"
                    "\"flags\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[3,4]},"
                    "\"fp4\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[4,7]},"
                    "\"deep\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1],\"data_offsets\":[7,8]},"
                    "\"plain\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1],\"data_offsets\":[8,9]}}",
                    9);
    static const char *const unsupported[] = {"fp8", "flags", "fp4", "deep"};
    moe_safetensors *file = open_good(good);
    moe_tensor tensor, before;
    memset(&tensor, 0x33, sizeof(tensor));
    before = tensor;
    for (int i = 0; i < 4; i++)
        cr_assert_eq(moe_safetensors_get(file, unsupported[i], &tensor), MOE_E_UNSUPPORTED);
    cr_assert_eq(moe_safetensors_get(file, "absent", &tensor), MOE_E_NOTFOUND);
    cr_assert_eq(moe_safetensors_get(file, "", &tensor), MOE_E_NOTFOUND);
    cr_assert_eq(memcmp(&tensor, &before, sizeof(tensor)), 0, "untouched on failure");
    cr_assert_eq(moe_safetensors_get(file, "plain", &tensor), MOE_OK);
    cr_assert_eq(*(unsigned char *)tensor.data, 8);
    moe_safetensors_close(&file);
    free(good.bytes);
}

/* A header without padding, and a byte tensor before a wide one. */
Test(safetensors, misaligned_data_is_readable) {
    image good = from_header("{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                             "\"w\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]}}",
                             17);
    for (size_t shift = 0; shift < 8; shift++) {
        unsigned char *moved = malloc(good.size + shift);
        memcpy(moved + shift, good.bytes, good.size);
        moe_safetensors *file = open_good((image){moved + shift, good.size});
        moe_tensor tensor;
        cr_assert_eq(moe_safetensors_get(file, "w", &tensor), MOE_OK);
        cr_assert_eq((uintptr_t)tensor.data % 8, 0);
        for (int i = 0; i < 16; i++)
            cr_assert_eq(((unsigned char *)tensor.data)[i], i + 1);
        moe_safetensors_close(&file);
        free(moved);
    }
    free(good.bytes);
}

Test(safetensors, metadata) {
    image good = from_header("{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\"}}", 0);
    moe_safetensors *file = open_good(good);
    cr_assert_str_eq(moe_safetensors_metadata(file, "format"), "pt");
    cr_assert_str_eq(moe_safetensors_metadata(file, "note"), "");
    cr_assert_null(moe_safetensors_metadata(file, "absent"));
    moe_safetensors_close(&file);
    free(good.bytes);
    good = from_header("{}", 0);
    file = open_good(good);
    cr_assert_null(moe_safetensors_metadata(file, "format"));
    moe_safetensors_close(&file);
    free(good.bytes);
}
