/* Parses and validates one safetensors image. Nothing in it is trusted: every number is checked
 * before it is used, and the tensors must tile the data section without holes or overlap. */
#include "core/jsonx.h"
#include "core/safetensors_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_LIMIT 100000000 /* bytes; the format's own limit */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are mapped as they are stored: little-endian"
#endif

/* The format's element types. `dtype` is MOE_DTYPE_COUNT where this library has none. */
typedef struct st_dtype {
    const char *name;
    uint8_t bits;
    moe_dtype dtype;
} st_dtype;

static const st_dtype st_dtypes[] = {
    {"F64", 64, MOE_F64},
    {"F32", 32, MOE_F32},
    {"F16", 16, MOE_F16},
    {"BF16", 16, MOE_BF16},
    {"I64", 64, MOE_I64},
    {"I32", 32, MOE_I32},
    {"U8", 8, MOE_U8},
    {"BOOL", 8, MOE_DTYPE_COUNT},
    {"I8", 8, MOE_DTYPE_COUNT},
    {"I16", 16, MOE_DTYPE_COUNT},
    {"U16", 16, MOE_DTYPE_COUNT},
    {"U32", 32, MOE_DTYPE_COUNT},
    {"U64", 64, MOE_DTYPE_COUNT},
    {"C64", 64, MOE_DTYPE_COUNT},
    {"F8_E5M2", 8, MOE_DTYPE_COUNT},
    {"F8_E4M3", 8, MOE_DTYPE_COUNT},
    {"F8_E8M0", 8, MOE_DTYPE_COUNT},
    {"F8_E4M3FNUZ", 8, MOE_DTYPE_COUNT},
    {"F8_E5M2FNUZ", 8, MOE_DTYPE_COUNT},
    {"F6_E2M3", 6, MOE_DTYPE_COUNT},
    {"F6_E3M2", 6, MOE_DTYPE_COUNT},
    {"F4", 4, MOE_DTYPE_COUNT},
};

/* Where an error message says it is. */
typedef struct st_place {
    const char *file;
    const char *tensor;
    const moe_log *log;
} st_place;

#define ST_FAIL(place, format, ...)                                                                \
    moe_fail((place)->log, MOE_E_FORMAT, "%s: tensor \"%s\": " format, (place)->file,              \
             (place)->tensor, __VA_ARGS__)

static const st_dtype *find_dtype(const char *name) {
    for (size_t i = 0; i < sizeof(st_dtypes) / sizeof(st_dtypes[0]); i++)
        if (strcmp(name, st_dtypes[i].name) == 0)
            return &st_dtypes[i];
    return NULL;
}

/* A JSON array element as a natural number. */
static bool natural(const json_t *array, size_t i, uint64_t *ret) {
    const json_t *value = json_array_get(array, i);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

/* Reads "shape" into the entry and computes its size in bits. Extents multiply without the zeros,
 * so that an empty tensor cannot hide an overflowing one. */
static moe_status read_shape(const st_place *place, const json_t *shape, const st_dtype *dtype,
                             moe_int_st_entry *entry, uint64_t *ret_bits) {
    uint64_t bits = dtype->bits;
    bool empty = false;
    size_t ndim = json_array_size(shape);
    if (!json_is_array(shape))
        return ST_FAIL(place, "\"%s\" is missing or not an array", "shape");
    for (size_t i = 0; i < ndim; i++) {
        uint64_t extent;
        if (!natural(shape, i, &extent))
            return ST_FAIL(place, "extent %zu of the shape is not a natural number", i);
        if (i < MOE_MAX_DIMS)
            entry->shape[i] = (int64_t)extent;
        if (extent == 0)
            empty = true;
        else if (__builtin_mul_overflow(bits, extent, &bits))
            return ST_FAIL(place, "the shape overflows at extent %zu", i);
    }
    entry->readable = dtype->dtype != MOE_DTYPE_COUNT && ndim <= MOE_MAX_DIMS;
    entry->dtype = dtype->dtype;
    entry->ndim = entry->readable ? (int32_t)ndim : 0;
    *ret_bits = empty ? 0 : bits;
    return MOE_OK;
}

static moe_status read_offsets(const st_place *place, const json_t *offsets, uint64_t data_size,
                               moe_int_st_entry *entry) {
    if (json_array_size(offsets) != 2 || !natural(offsets, 0, &entry->begin) ||
        !natural(offsets, 1, &entry->end))
        return ST_FAIL(place, "\"%s\" must be two natural numbers", "data_offsets");
    if (entry->begin > entry->end)
        return ST_FAIL(place, "data_offsets are reversed: %" PRIu64 " > %" PRIu64, entry->begin,
                       entry->end);
    if (entry->end > data_size)
        return ST_FAIL(place,
                       "data_offsets end at %" PRIu64 ", out of range: the file has %" PRIu64
                       " data bytes (truncated?)",
                       entry->end, data_size);
    return MOE_OK;
}

/* One member of the header. */
static moe_status read_entry(const st_place *place, const json_t *object, uint64_t data_size,
                             moe_int_st_entry *entry) {
    if (!json_is_object(object))
        return ST_FAIL(place, "its description is %s", "not an object");
    const char *type = json_string_value(json_object_get(object, "dtype"));
    if (!type)
        return ST_FAIL(place, "\"%s\" is missing or not a string", "dtype");
    const st_dtype *dtype = find_dtype(type);
    if (!dtype)
        return ST_FAIL(place, "unknown dtype \"%.32s\"", type);
    uint64_t bits = 0;
    moe_status status = read_shape(place, json_object_get(object, "shape"), dtype, entry, &bits);
    if (status == MOE_OK)
        status = read_offsets(place, json_object_get(object, "data_offsets"), data_size, entry);
    if (status != MOE_OK)
        return status;
    if (bits % 8 != 0)
        return ST_FAIL(place, "%" PRIu64 " bits are not whole bytes", bits);
    if (bits / 8 != entry->end - entry->begin)
        return ST_FAIL(place, "its shape needs %" PRIu64 " bytes, its data_offsets give %" PRIu64,
                       bits / 8, entry->end - entry->begin);
    return MOE_OK;
}

static moe_status check_metadata(const json_t *metadata, const char *file, const moe_log *log) {
    const char *key;
    json_t *value;
    if (json_is_null(metadata)) /* as good as absent */
        return MOE_OK;
    if (!json_is_object(metadata))
        return moe_fail(log, MOE_E_FORMAT, "%s: __metadata__ is not an object", file);
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return moe_fail(log, MOE_E_FORMAT, "%s: __metadata__ \"%s\" is not a string", file,
                            key);
    }
    return MOE_OK;
}

static int by_offset(const void *a, const void *b) {
    const moe_int_st_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

int moe_int_st_by_name(const void *a, const void *b) {
    return strcmp(((const moe_int_st_entry *)a)->name, ((const moe_int_st_entry *)b)->name);
}

/* In the order of offsets each tensor must begin where the last one ended. */
static moe_status check_tiling(moe_int_st_image *image, uint64_t data_size, const char *file,
                               const moe_log *log) {
    uint64_t end = 0;
    if (image->count > 0)
        qsort(image->entries, image->count, sizeof(*image->entries), by_offset);
    for (size_t i = 0; i < image->count; i++) {
        const moe_int_st_entry *entry = &image->entries[i];
        const st_place place = {file, entry->name, log};
        if (entry->begin < end)
            return ST_FAIL(&place, "it overlaps \"%s\"", image->entries[i - 1].name);
        if (entry->begin > end)
            return ST_FAIL(&place, "a hole of %" PRIu64 " bytes lies before it",
                           entry->begin - end);
        end = entry->end;
    }
    if (end != data_size)
        return moe_fail(log, MOE_E_FORMAT, "%s: %" PRIu64 " trailing bytes after the last tensor",
                        file, data_size - end);
    return MOE_OK;
}

/* Points the entries at their data. C must not read a misaligned number, and writers other than
 * the usual ones may misalign: such a tensor is copied. */
static moe_status attach_data(moe_int_st_image *image, const unsigned char *data, const char *file,
                              const moe_log *log) {
    for (size_t i = 0; i < image->count; i++) {
        moe_int_st_entry *entry = &image->entries[i];
        size_t size = (size_t)(entry->end - entry->begin);
        entry->data = data + entry->begin;
        if (!entry->readable || (uintptr_t)entry->data % moe_dtype_size(entry->dtype) == 0)
            continue;
        entry->copy = malloc(size > 0 ? size : 1);
        if (!entry->copy)
            return moe_fail(log, MOE_E_NOMEM, "%s: tensor \"%s\": no memory to align its %zu bytes",
                            file, entry->name, size);
        memcpy(entry->copy, entry->data, size);
        entry->data = entry->copy;
    }
    return MOE_OK;
}

static moe_status read_entries(moe_int_st_image *image, uint64_t data_size, const char *file,
                               const moe_log *log) {
    const char *key;
    json_t *value;
    image->entries = calloc(json_object_size(image->header) + 1, sizeof(*image->entries));
    if (!image->entries)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for its tensor list", file);
    json_object_foreach(image->header, key, value) {
        moe_status status;
        if (strcmp(key, "__metadata__") == 0) {
            status = check_metadata(value, file, log);
        } else {
            const st_place place = {file, key, log};
            moe_int_st_entry *entry = &image->entries[image->count++];
            entry->name = key;
            status = read_entry(&place, value, data_size, entry);
        }
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* Finds the header's text. */
static moe_status locate_header(const unsigned char *bytes, size_t size, const char *file,
                                const moe_log *log, size_t *ret_length) {
    uint64_t length;
    if (size < sizeof(length))
        return moe_fail(log, MOE_E_FORMAT,
                        "%s: %zu bytes are too short for a safetensors file (truncated?)", file,
                        size);
    memcpy(&length, bytes, sizeof(length));
    if (length > HEADER_LIMIT)
        return moe_fail(log, MOE_E_FORMAT,
                        "%s: header length %" PRIu64 " exceeds %d: not a safetensors file?", file,
                        length, HEADER_LIMIT);
    if (length > size - sizeof(length))
        return moe_fail(log, MOE_E_FORMAT,
                        "%s: header length %" PRIu64
                        " exceeds the file's %zu bytes (truncated, or not safetensors?)",
                        file, length, size);
    if (length == 0 || bytes[sizeof(length)] != '{')
        return moe_fail(log, MOE_E_FORMAT, "%s: the header does not begin with {", file);
    *ret_length = (size_t)length;
    return MOE_OK;
}

moe_status moe_int_st_parse(const void *data, size_t size, const char *name, const moe_log *log,
                            moe_int_st_image *ret) {
    const unsigned char *bytes = data;
    moe_int_st_image image = {0};
    size_t length = 0;
    moe_status status = locate_header(bytes, size, name, log, &length);
    if (status != MOE_OK)
        return status;
    const unsigned char *section = bytes + sizeof(uint64_t) + length;
    size_t section_size = size - sizeof(uint64_t) - length;

    status = moe_int_json_parse((const char *)bytes + sizeof(uint64_t), length, name, log,
                                &image.header);
    if (status == MOE_OK)
        status = read_entries(&image, section_size, name, log);
    if (status == MOE_OK)
        status = check_tiling(&image, section_size, name, log);
    if (status == MOE_OK)
        status = attach_data(&image, section, name, log);
    if (status != MOE_OK) {
        moe_int_st_image_clear(&image);
        return status;
    }
    if (image.count > 0)
        qsort(image.entries, image.count, sizeof(*image.entries), moe_int_st_by_name);
    *ret = image;
    return MOE_OK;
}

void moe_int_st_image_clear(moe_int_st_image *image) {
    for (size_t i = 0; i < image->count; i++)
        free(image->entries[i].copy);
    free(image->entries);
    json_decref(image->header);
    *image = (moe_int_st_image){0};
}

static int name_order(const void *key, const void *entry) {
    return strcmp(key, ((const moe_int_st_entry *)entry)->name);
}

const moe_int_st_entry *moe_int_st_find(const moe_int_st_entry *entries, size_t count,
                                        const char *name) {
    return count > 0 ? bsearch(name, entries, count, sizeof(*entries), name_order) : NULL;
}
