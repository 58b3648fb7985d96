/* What the reader's two halves share: one validated file image, and its tensors. */
#ifndef MOE_CORE_SAFETENSORS_INT_H
#define MOE_CORE_SAFETENSORS_INT_H

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

/* What was read of the files leaves this process's memory; reading on brings it back. */
void moe_int_st_forget(const moe_safetensors *file);

/* NULL when there is no such tensor. */
const moe_int_st_entry *moe_int_st_find(const moe_int_st_entry *entries, size_t count,
                                        const char *name);

#endif
