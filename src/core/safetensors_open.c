/* Opens checkpoints: one file, or the shards that an index names. */
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

static moe_status open_shard(moe_int_st_shard *s, const char *path, const moe_log *log) {
    moe_status status = moe_int_file_map(path, log, &s->map);
    if (status != MOE_OK)
        return status;
    return moe_int_st_parse(s->map.data, s->map.size, path, log, &s->image);
}

static moe_status open_single(const char *path, const moe_log *log, moe_safetensors **ret) {
    moe_safetensors *file = moe_int_st_new(1, path, log);
    if (!file)
        return MOE_E_NOMEM;
    file->n_shards = 1;
    moe_status status = open_shard(&file->shards[0], path, log);
    if (status == MOE_OK)
        status = moe_int_st_adopt_single(file, path, log);
    return moe_int_st_finish(status, file, ret);
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
                             const moe_log *log, const moe_int_st_shard **ret) {
    for (size_t i = 0; i < file->n_shards; i++) {
        if (strcmp(file->shards[i].name, name) == 0) {
            *ret = &file->shards[i];
            return MOE_OK;
        }
    }
    const char *slash = strrchr(index, '/');
    char *path = join(index, slash ? (size_t)(slash - index) + 1 : 0, name);
    moe_int_st_shard *s = &file->shards[file->n_shards];
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
    const moe_int_st_shard *s = NULL;
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
        qsort(file->entries, count, sizeof(*file->entries), moe_int_st_by_name);
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
        file = moe_int_st_new(json_object_size(weight_map.object) + 1, path, log);
        status = file ? read_index(file, path, weight_map.object, log) : MOE_E_NOMEM;
    }
    json_decref(root);
    return moe_int_st_finish(status, file, ret);
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
