/* Memory of an operator's place between canaries. */
#ifndef MOE_BACKEND_PLUGIN_BOUND_MEMORY_H
#define MOE_BACKEND_PLUGIN_BOUND_MEMORY_H

#include "moeref/plugin.h"

/* Whose memory: the operator and the slots that allocate and copy. */
typedef struct moe_int_place {
    const moe_operator_slots *slots;
    void *op;
    int32_t place, device_index;
    const moe_log *log;
} moe_int_place;

typedef struct moe_int_bound_buffer {
    char *block;   /* canary, bytes, canary; NULL: none */
    int64_t bytes; /* of the middle part */
} moe_int_bound_buffer;

/* The former content is lost. Zero bytes: no buffer. */
moe_status moe_int_bound_alloc(const moe_int_place *at, int64_t bytes, moe_int_bound_buffer *ret);
void moe_int_bound_free(const moe_int_place *at, moe_int_bound_buffer *buffer);
void *moe_int_bound_data(const moe_int_bound_buffer *buffer);

/* *ret_hash (NULL: not wanted): what moe_int_bound_hash says of memory that nobody changed since.
 */
moe_status moe_int_bound_upload(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                                const void *src, uint64_t *ret_hash);
moe_status moe_int_bound_download(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                                  void *dst);
moe_status moe_int_bound_hash(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              uint64_t *ret);
/* Every byte becomes `byte`. */
moe_status moe_int_bound_fill(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              int byte);
/* *ret_broken: "before" or "after" where a canary is not whole, else NULL. */
moe_status moe_int_bound_look(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              const char **ret_broken);

#endif
