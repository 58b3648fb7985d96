/* The safetensors file format (https://github.com/huggingface/safetensors, "Format"):
 * u64 little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, data.
 *
 * The reader trusts nothing: header length, duplicate names, unknown dtypes, overflowing
 * shapes, offsets that are out of range, overlap, leave holes or disagree with the shape are each
 * MOE_E_FORMAT with a sentence that names the file and the tensor. */
#ifndef MOEREF_SAFETENSORS_H
#define MOEREF_SAFETENSORS_H

#include "moeref/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An open checkpoint: one file, or the shards that an index file names. Tensors are views into a
 * read-only private mapping that lives as long as the object.
 * Thread-safety: const calls from any thread. */
typedef struct moe_safetensors moe_safetensors;

/* Opens PATH: a .safetensors file, a model.safetensors.index.json, or a directory that holds
 * model.safetensors or model.safetensors.index.json. A shard's name may not leave the
 * index's directory. Errors: MOE_E_IO, MOE_E_FORMAT, MOE_E_NOMEM. */
MOE_API moe_status moe_safetensors_open(const char *path, const moe_log *log,
                                        moe_safetensors **ret);

/* Opens a file image in memory, which must outlive the object. `name` appears in messages. */
MOE_API moe_status moe_safetensors_open_memory(const void *data, size_t size, const char *name,
                                               const moe_log *log, moe_safetensors **ret);

/* One tensor under its name.
 * Thread-safety: plain data. */
typedef struct moe_named_tensor {
    const char *name;
    moe_tensor tensor;
} moe_named_tensor;

/* Tensors that are in memory already, read like a file. Names are copied; data must outlive the
 * object. `name` appears in messages. MOE_E_INVALID: no data, a shape or type that is none, a name
 * twice. */
MOE_API moe_status moe_safetensors_of(const moe_named_tensor *tensors, size_t count,
                                      const char *name, const moe_log *log, moe_safetensors **ret);

MOE_API void moe_safetensors_close(moe_safetensors **file);

MOE_API size_t moe_safetensors_count(const moe_safetensors *file);

/* Name of tensor i in ascending byte order of names; NULL past the end. */
MOE_API const char *moe_safetensors_name(const moe_safetensors *file, size_t i);

/* Looks a tensor up; the view belongs to the file and must not be written.
 * MOE_E_NOTFOUND (no message is sent: callers often probe). MOE_E_UNSUPPORTED: the tensor exists
 * in a dtype that moe_dtype lacks, or has more than MOE_MAX_DIMS dimensions. */
MOE_API moe_status moe_safetensors_get(const moe_safetensors *file, const char *name,
                                       moe_tensor *ret);

/* A value of the header's __metadata__, or NULL. */
MOE_API const char *moe_safetensors_metadata(const moe_safetensors *file, const char *key);

/* Writes a file with `count` tensors and `n_meta` metadata pairs {key, value}. Written beside
 * PATH and renamed, so a full disk leaves nothing half-written. MOE_E_IO, MOE_E_INVALID
 * (duplicate name), MOE_E_NOMEM. */
MOE_API moe_status moe_safetensors_write(const char *path, const moe_named_tensor *tensors,
                                         size_t count, const char *const (*metadata)[2],
                                         size_t n_meta, const moe_log *log);

#ifdef __cplusplus
}
#endif
#endif
