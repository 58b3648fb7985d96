/* Opens checkpoints: one file, an image in memory, or the shards that an index names. */
#include "core/file.h"
#include "core/jsonx.h"
#include "core/safetensors_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME  "model.safetensors.index.json"

typedef struct shard {
    char *name; /* as the index names it; NULL for a single file */
    moe_int_map map;
    moe_int_st_image image;
} shard;

struct moe_safetensors {
    shard *shards;
    size_t n_shards;
    moe_int_st_entry *entries; /* ascending by name; their copies belong to the images */
    size_t count;
};

static moe_safetensors *new_file(size_t max_shards, const char *name, const moe_log *log) {
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

/* Makes the only shard's tensors the checkpoint's. */
static moe_status adopt_single(moe_safetensors *file, const char *name, const moe_log *log) {
    const moe_int_st_image *image = &file->shards[0].image;
    file->entries = malloc((image->count + 1) * sizeof(*file->entries));
    if (!file->entries)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for its tensor list", name);
    if (image->count > 0)
        memcpy(file->entries, image->entries, image->count * sizeof(*file->entries));
    file->count = image->count;
    return MOE_OK;
}

static moe_status finish(moe_status status, moe_safetensors *file, moe_safetensors **ret) {
    if (status == MOE_OK)
        *ret = file;
    else
        moe_safetensors_close(&file);
    return status;
}

moe_status moe_safetensors_open_memory(const void *data, size_t size, const char *name,
                                       const moe_log *log, moe_safetensors **ret) {
    moe_safetensors *file = new_file(1, name, log);
    if (!file)
        return MOE_E_NOMEM;
    file->n_shards = 1;
    moe_status status = moe_int_st_parse(data, size, name, log, &file->shards[0].image);
    if (status == MOE_OK)
        status = adopt_single(file, name, log);
    return finish(status, file, ret);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const moe_int_st_entry *)a)->name, ((const moe_int_st_entry *)b)->name);
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
    moe_safetensors *file = new_file(1, name, log);
    if (!file)
        return MOE_E_NOMEM;
    file->n_shards = 1;
    moe_status status = adopt_given(file, tensors, count, name, log);
    if (file->count > 0)
        qsort(file->entries, file->count, sizeof *file->entries, by_name);
    return finish(status, file, ret);
}

static moe_status open_shard(shard *s, const char *path, const moe_log *log) {
    moe_status status = moe_int_file_map(path, log, &s->map);
    if (status != MOE_OK)
        return status;
    return moe_int_st_parse(s->map.data, s->map.size, path, log, &s->image);
}

static moe_status open_single(const char *path, const moe_log *log, moe_safetensors **ret) {
    moe_safetensors *file = new_file(1, path, log);
    if (!file)
        return MOE_E_NOMEM;
    file->n_shards = 1;
    moe_status status = open_shard(&file->shards[0], path, log);
    if (status == MOE_OK)
        status = adopt_single(file, path, log);
    return finish(status, file, ret);
}

/* The first `length` bytes of `folder`, then `name`. The caller frees it. */
static char *join(const char *folder, size_t length, const char *name) {
    char *joined = malloc(length + strlen(name) + 1);
    if (joined) {
        memcpy(joined, folder, length);
        strcpy(joined + length, name);
    }
    return joined;
}

/* Hugging Face names shards without folders; anything with one could leave the directory. */
static bool is_plain_name(const char *name) {
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* Finds the shard or opens it beside the index. */
static moe_status need_shard(moe_safetensors *file, const char *index, const char *name,
                             const moe_log *log, const shard **ret) {
    for (size_t i = 0; i < file->n_shards; i++) {
        if (strcmp(file->shards[i].name, name) == 0) {
            *ret = &file->shards[i];
            return MOE_OK;
        }
    }
    const char *slash = strrchr(index, '/');
    char *path = join(index, slash ? (size_t)(slash - index) + 1 : 0, name);
    shard *s = &file->shards[file->n_shards];
    s->name = strdup(name);
    file->n_shards++;
    moe_status status = path && s->name
                            ? open_shard(s, path, log)
                            : moe_fail(log, MOE_E_NOMEM, "%s: no memory to open a shard", index);
    free(path);
    *ret = s;
    return status;
}

/* One pair of the weight map. */
static moe_status add_mapped(moe_safetensors *file, const char *index, const char *tensor,
                             const json_t *shard_name, const moe_log *log) {
    const char *name = json_string_value(shard_name);
    const shard *s = NULL;
    if (!name || !is_plain_name(name))
        return moe_fail(log, MOE_E_FORMAT,
                        "%s: weight_map: tensor \"%s\": the shard must be a file name without a "
                        "folder, not \"%.100s\"",
                        index, tensor, name ? name : "(not a string)");
    moe_status status = need_shard(file, index, name, log, &s);
    if (status != MOE_OK)
        return status;
    const moe_int_st_entry *entry = moe_int_st_find(s->image.entries, s->image.count, tensor);
    if (!entry)
        return moe_fail(log, MOE_E_FORMAT, "%s: weight_map: tensor \"%s\" is not in shard %s",
                        index, tensor, name);
    file->entries[file->count++] = *entry;
    return MOE_OK;
}

static moe_status read_index(moe_safetensors *file, const char *path, const json_t *weight_map,
                             const moe_log *log) {
    const char *tensor;
    json_t *shard_name;
    size_t count = json_object_size(weight_map);
    file->entries = calloc(count + 1, sizeof(*file->entries));
    if (!file->entries)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for its tensor list", path);
    json_object_foreach((json_t *)weight_map, tensor, shard_name) {
        moe_status status = add_mapped(file, path, tensor, shard_name, log);
        if (status != MOE_OK)
            return status;
    }
    if (count > 0)
        qsort(file->entries, count, sizeof(*file->entries), by_name);
    return MOE_OK;
}

static moe_status open_index(const char *path, const moe_log *log, moe_safetensors **ret) {
    json_t *root = NULL;
    moe_int_json weight_map;
    moe_safetensors *file = NULL;
    moe_status status = moe_int_json_load(path, log, &root);
    if (status != MOE_OK)
        return status;
    const moe_int_json at = moe_int_json_root(root, path, log);
    status = moe_int_json_object(&at, "weight_map", MOE_INT_JSON_REQUIRED, &weight_map);
    if (status == MOE_OK) {
        file = new_file(json_object_size(weight_map.object) + 1, path, log);
        status = file ? read_index(file, path, weight_map.object, log) : MOE_E_NOMEM;
    }
    json_decref(root);
    return finish(status, file, ret);
}

static bool is_there(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

/* A directory in the layout of Hugging Face: one file, or an index. */
static moe_status open_directory(const char *path, const moe_log *log, moe_safetensors **ret) {
    char *single = join(path, strlen(path), "/" SINGLE_NAME);
    char *index = join(path, strlen(path), "/" INDEX_NAME);
    moe_status status;
    if (!single || !index)
        status = moe_fail(log, MOE_E_NOMEM, "%s: no memory to open it", path);
    else if (is_there(single))
        status = open_single(single, log, ret);
    else if (is_there(index))
        status = open_index(index, log, ret);
    else
        status = moe_fail(log, MOE_E_IO, "%s: holds neither " SINGLE_NAME " nor " INDEX_NAME, path);
    free(single);
    free(index);
    return status;
}

moe_status moe_safetensors_open(const char *path, const moe_log *log, moe_safetensors **ret) {
    struct stat info;
    size_t length = strlen(path);
    if (stat(path, &info) != 0)
        return moe_fail(log, MOE_E_IO, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return open_directory(path, log, ret);
    if (length > 5 && strcmp(path + length - 5, ".json") == 0)
        return open_index(path, log, ret);
    return open_single(path, log, ret);
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
