/* Tensors by name: of an image in memory, of single tensors in memory, or of the files that
 * safetensors_open.c has opened. */
#include "core/file.h"
#include "core/safetensors_int.h"

#include <stdlib.h>
#include <string.h>

moe_safetensors *moe_int_st_new(size_t max_shards, const char *name, const moe_log *log) {
    moe_safetensors *file = calloc(1, sizeof(*file));
    if (file)
        file->shards = calloc(max_shards, sizeof(*file->shards));
    if (file && file->shards)
        return file;
    free(file);
    moe_fail(log, MOE_E_NOMEM, "%s: no memory to open it", name);
    return NULL;
}

void moe_safetensors_close(moe_safetensors **file_ref) {
    moe_safetensors *file = file_ref ? *file_ref : NULL;
    if (!file)
        return;
    for (size_t i = 0; i < file->n_shards; i++) {
        moe_int_st_image_clear(&file->shards[i].image);
        moe_int_file_unmap(&file->shards[i].map);
        free(file->shards[i].name);
    }
    free(file->shards);
    free(file->entries);
    free(file);
    *file_ref = NULL;
}

void moe_int_st_forget(const moe_safetensors *file) {
    for (size_t i = 0; i < file->n_shards; i++)
        moe_int_file_forget(&file->shards[i].map);
}

moe_status moe_int_st_adopt_single(moe_safetensors *file, const char *name, const moe_log *log) {
    const moe_int_st_image *image = &file->shards[0].image;
    file->entries = malloc((image->count + 1) * sizeof(*file->entries));
    if (!file->entries)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for its tensor list", name);
    if (image->count > 0)
        memcpy(file->entries, image->entries, image->count * sizeof(*file->entries));
    file->count = image->count;
    return MOE_OK;
}

moe_status moe_int_st_finish(moe_status status, moe_safetensors *file, moe_safetensors **ret) {
    if (status == MOE_OK)
        *ret = file;
    else
        moe_safetensors_close(&file);
    return status;
}

moe_status moe_safetensors_open_memory(const void *data, size_t size, const char *name,
                                       const moe_log *log, moe_safetensors **ret) {
    moe_safetensors *file = moe_int_st_new(1, name, log);
    if (!file)
        return MOE_E_NOMEM;
    file->n_shards = 1;
    moe_status status = moe_int_st_parse(data, size, name, log, &file->shards[0].image);
    if (status == MOE_OK)
        status = moe_int_st_adopt_single(file, name, log);
    return moe_int_st_finish(status, file, ret);
}

/* Is there anything to read, and of a size that can be told? */
static moe_status check_given(const moe_named_tensor *t, const char *name, const moe_log *log) {
    char shape[96] = "with a rank that is none";
    bool ranked = t->tensor.ndim >= 0 && t->tensor.ndim <= MOE_MAX_DIMS;
    if (ranked)
        moe_tensor_shape_str(&t->tensor, shape, sizeof shape);
    if (!t->name || !t->tensor.data || !ranked || moe_dtype_size(t->tensor.dtype) == 0 ||
        moe_tensor_bytes(&t->tensor) < 0)
        return moe_fail(log, MOE_E_INVALID, "%s: %s %s is no tensor that can be read", name,
                        t->name ? t->name : "(no name)", shape);
    return MOE_OK;
}

/* The names become the keys of a header, which owns them, as it does in a file. */
static moe_status adopt_given(moe_safetensors *file, const moe_named_tensor *tensors, size_t count,
                              const char *name, const moe_log *log) {
    json_t *header = json_object();
    file->shards[0].image.header = header;
    file->entries = calloc(count + 1, sizeof *file->entries);
    if (!header || !file->entries)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for its tensor list", name);
    for (size_t i = 0; i < count; i++) {
        const moe_tensor *t = &tensors[i].tensor;
        moe_status status = check_given(&tensors[i], name, log);
        if (status)
            return status;
        if (json_object_get(header, tensors[i].name))
            return moe_fail(log, MOE_E_INVALID, "%s: there are two %s", name, tensors[i].name);
        if (json_object_set_new(header, tensors[i].name, json_null()))
            return moe_fail(log, MOE_E_INVALID, "%s: a name is not UTF-8", name);
        moe_int_st_entry *e = &file->entries[file->count++];
        *e = (moe_int_st_entry){
            .data = t->data, .readable = true, .dtype = t->dtype, .ndim = t->ndim};
        e->name = json_object_iter_key(json_object_iter_at(header, tensors[i].name));
        memcpy(e->shape, t->shape, sizeof e->shape);
    }
    return MOE_OK;
}

moe_status moe_safetensors_of(const moe_named_tensor *tensors, size_t count, const char *name,
                              const moe_log *log, moe_safetensors **ret) {
    moe_safetensors *file = moe_int_st_new(1, name, log);
    if (!file)
        return MOE_E_NOMEM;
    file->n_shards = 1;
    moe_status status = adopt_given(file, tensors, count, name, log);
    if (file->count > 0)
        qsort(file->entries, file->count, sizeof *file->entries, moe_int_st_by_name);
    return moe_int_st_finish(status, file, ret);
}

size_t moe_safetensors_count(const moe_safetensors *file) {
    return file->count;
}

const char *moe_safetensors_name(const moe_safetensors *file, size_t i) {
    return i < file->count ? file->entries[i].name : NULL;
}

moe_status moe_safetensors_get(const moe_safetensors *file, const char *name, moe_tensor *ret) {
    const moe_int_st_entry *entry = moe_int_st_find(file->entries, file->count, name);
    if (!entry)
        return MOE_E_NOTFOUND;
    if (!entry->readable)
        return MOE_E_UNSUPPORTED;
    /* The view is writable in C's eyes only: moe_tensor has one pointer type. */
    moe_tensor tensor = {.data = (void *)entry->data, .dtype = entry->dtype, .ndim = entry->ndim};
    memcpy(tensor.shape, entry->shape, sizeof(tensor.shape));
    *ret = tensor;
    return MOE_OK;
}

const char *moe_safetensors_metadata(const moe_safetensors *file, const char *key) {
    for (size_t i = 0; i < file->n_shards; i++) {
        const json_t *metadata = json_object_get(file->shards[i].image.header, "__metadata__");
        const char *value = json_string_value(json_object_get(metadata, key));
        if (value)
            return value;
    }
    return NULL;
}
