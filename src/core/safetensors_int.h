/* What the reader's parts share: one validated file image with its tensors, and checkpoints of
 * several. */
#ifndef MOE_CORE_SAFETENSORS_INT_H
#define MOE_CORE_SAFETENSORS_INT_H

#include "core/file.h"
#include "moeref/safetensors.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A tensor as the header describes it. */
typedef struct moe_int_st_entry {
    const char *name;    /* belongs to the image's JSON */
    uint64_t begin, end; /* bytes from the start of the data section */
    const void *data;    /* in the image, or `copy` */
    void *copy;          /* owned: the data where the file misaligns it; else NULL */
    bool readable;       /* false: a dtype or a rank that moe_tensor lacks */
    moe_dtype dtype;     /* of a readable entry, like ndim and shape */
    int32_t ndim;
    int64_t shape[MOE_MAX_DIMS];
} moe_int_st_entry;

/* A whole .safetensors file. Entries ascend by name in byte order. */
typedef struct moe_int_st_image {
    json_t *header;
    moe_int_st_entry *entries;
    size_t count;
} moe_int_st_image;

/* Validates a file image that must outlive *ret. MOE_E_FORMAT, MOE_E_NOMEM. */
moe_status moe_int_st_parse(const void *data, size_t size, const char *name, const moe_log *log,
                            moe_int_st_image *ret);
void moe_int_st_image_clear(moe_int_st_image *image);

/* Orders entries by name. */
int moe_int_st_by_name(const void *a, const void *b);

typedef struct moe_int_st_shard {
    char *name; /* as the index names it; NULL for a single file */
    moe_int_map map;
    moe_int_st_image image;
} moe_int_st_shard;

struct moe_safetensors {
    moe_int_st_shard *shards;
    size_t n_shards;
    moe_int_st_entry *entries; /* ascending by name; their copies belong to the images */
    size_t count;
};

/* With room for shards, of which there are none yet; NULL and a message: no memory. */
moe_safetensors *moe_int_st_new(size_t max_shards, const char *name, const moe_log *log);
/* Makes the only shard's tensors the checkpoint's. */
moe_status moe_int_st_adopt_single(moe_safetensors *file, const char *name, const moe_log *log);
/* *ret becomes the file, or the file is closed; returns the status. */
moe_status moe_int_st_finish(moe_status status, moe_safetensors *file, moe_safetensors **ret);

/* What was read of the files leaves this process's memory; reading on brings it back. */
void moe_int_st_forget(const moe_safetensors *file);

/* NULL when there is no such tensor. */
const moe_int_st_entry *moe_int_st_find(const moe_int_st_entry *entries, size_t count,
                                        const char *name);

#endif
