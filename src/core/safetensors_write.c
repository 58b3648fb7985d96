/* Writes safetensors files: the header first, then the tensors, wide elements before narrow ones
 * so that every tensor is aligned to its element. */
#include "core/file.h"
#include "moeref/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DATA_ALIGNMENT 8 /* of the data section: the widest element */

static const char *const st_names[MOE_DTYPE_COUNT] = {
    [MOE_F64] = "F64", [MOE_F32] = "F32", [MOE_F16] = "F16", [MOE_BF16] = "BF16",
    [MOE_I64] = "I64", [MOE_I32] = "I32", [MOE_U8] = "U8",
};

/* A file that is being laid out. */
typedef struct layout {
    const char *path;
    const moe_log *log;
    const moe_named_tensor **order; /* as the data will be written */
    size_t count;
    json_t *header;
} layout;

static moe_status check_tensor(const layout *file, const moe_named_tensor *named) {
    int64_t bytes = moe_tensor_bytes(&named->tensor);
    if (!named->name || strcmp(named->name, "__metadata__") == 0)
        return moe_fail(file->log, MOE_E_INVALID, "%s: a tensor cannot be named %s", file->path,
                        named->name ? named->name : "NULL");
    if (bytes < 0)
        return moe_fail(file->log, MOE_E_INVALID,
                        "%s: tensor \"%s\" has an unknown dtype or an overflowing shape",
                        file->path, named->name);
    if (bytes > 0 && !named->tensor.data)
        return moe_fail(file->log, MOE_E_INVALID, "%s: tensor \"%s\" has no data", file->path,
                        named->name);
    return MOE_OK;
}

static int by_element_then_name(const void *a, const void *b) {
    const moe_named_tensor *x = *(const moe_named_tensor *const *)a;
    const moe_named_tensor *y = *(const moe_named_tensor *const *)b;
    size_t x_bytes = moe_dtype_size(x->tensor.dtype), y_bytes = moe_dtype_size(y->tensor.dtype);
    if (x_bytes != y_bytes)
        return x_bytes > y_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static moe_status order_tensors(layout *file, const moe_named_tensor *tensors) {
    file->order = malloc((file->count + 1) * sizeof(const moe_named_tensor *));
    if (!file->order)
        return moe_fail(file->log, MOE_E_NOMEM, "%s: no memory for its tensor list", file->path);
    for (size_t i = 0; i < file->count; i++) {
        moe_status status = check_tensor(file, &tensors[i]);
        if (status != MOE_OK)
            return status;
        file->order[i] = &tensors[i];
    }
    if (file->count > 0)
        qsort(file->order, file->count, sizeof(*file->order), by_element_then_name);
    return MOE_OK;
}

static json_t *shape_array(const moe_tensor *tensor) {
    json_t *shape = json_array();
    for (int i = 0; shape && i < tensor->ndim; i++) {
        if (json_array_append_new(shape, json_integer(tensor->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    }
    return shape;
}

/* Adds `value` (whose reference it takes) under a new key. jansson refuses a key or a string
 * that is not UTF-8 in the same way as it reports exhausted memory; the former is the likely. */
static moe_status add_member(const layout *file, json_t *object, const char *key, json_t *value) {
    bool duplicate = json_object_get(object, key) != NULL;
    if (!duplicate && json_object_set_new(object, key, value) == 0)
        return MOE_OK;
    if (duplicate) {
        json_decref(value);
        return moe_fail(file->log, MOE_E_INVALID, "%s: the name \"%s\" occurs twice", file->path,
                        key);
    }
    return moe_fail(file->log, MOE_E_INVALID, "%s: the name \"%s\" or its value is not UTF-8",
                    file->path, key);
}

static moe_status describe_metadata(const layout *file, const char *const (*metadata)[2],
                                    size_t n_meta) {
    json_t *object = json_object();
    moe_status status = MOE_OK;
    for (size_t i = 0; i < n_meta && status == MOE_OK; i++)
        status = add_member(file, object, metadata[i][0], json_string(metadata[i][1]));
    if (status == MOE_OK && n_meta > 0)
        return add_member(file, file->header, "__metadata__", object);
    json_decref(object);
    return status;
}

static moe_status describe_tensors(const layout *file) {
    int64_t begin = 0;
    for (size_t i = 0; i < file->count; i++) {
        const moe_tensor *tensor = &file->order[i]->tensor;
        int64_t end;
        if (__builtin_add_overflow(begin, moe_tensor_bytes(tensor), &end))
            return moe_fail(file->log, MOE_E_INVALID, "%s: the tensors' sizes overflow",
                            file->path);
        json_t *entry =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", st_names[tensor->dtype], "shape",
                      shape_array(tensor), "data_offsets", (json_int_t)begin, (json_int_t)end);
        moe_status status = add_member(file, file->header, file->order[i]->name, entry);
        if (status != MOE_OK)
            return status;
        begin = end;
    }
    return MOE_OK;
}

/* The length, the JSON text, and spaces up to the data section's alignment. */
static moe_status put_header(const layout *file, moe_int_writer *writer) {
    static const char spaces[DATA_ALIGNMENT] = "        ";
    char *text = json_dumps(file->header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text)
        return moe_fail(file->log, MOE_E_NOMEM, "%s: no memory for its header", file->path);
    size_t length = strlen(text);
    size_t padding = (DATA_ALIGNMENT - length % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    uint64_t stored = length + padding;
    moe_status status = moe_int_writer_put(writer, &stored, sizeof(stored));
    if (status == MOE_OK)
        status = moe_int_writer_put(writer, text, length);
    if (status == MOE_OK)
        status = moe_int_writer_put(writer, spaces, padding);
    free(text);
    return status;
}

static moe_status write_file(const layout *file) {
    moe_int_writer *writer = NULL;
    moe_status status = moe_int_writer_open(file->path, file->log, &writer);
    if (status != MOE_OK)
        return status;
    status = put_header(file, writer);
    for (size_t i = 0; i < file->count && status == MOE_OK; i++) {
        const moe_tensor *tensor = &file->order[i]->tensor;
        status = moe_int_writer_put(writer, tensor->data, (size_t)moe_tensor_bytes(tensor));
    }
    if (status == MOE_OK)
        return moe_int_writer_commit(&writer);
    moe_int_writer_discard(&writer);
    return status;
}

moe_status moe_safetensors_write(const char *path, const moe_named_tensor *tensors, size_t count,
                                 const char *const (*metadata)[2], size_t n_meta,
                                 const moe_log *log) {
    layout file = {.path = path, .log = log, .count = count, .header = json_object()};
    moe_status status = order_tensors(&file, tensors);
    if (status == MOE_OK)
        status = describe_metadata(&file, metadata, n_meta);
    if (status == MOE_OK)
        status = describe_tensors(&file);
    if (status == MOE_OK)
        status = write_file(&file);
    free(file.order);
    json_decref(file.header);
    return status;
}
