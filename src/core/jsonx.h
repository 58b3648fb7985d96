/* Thin helpers over jansson: strict parsing, and typed members with one sentence on error. */
#ifndef MOE_CORE_JSONX_H
#define MOE_CORE_JSONX_H

#include "moeref/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses `size` bytes that hold one JSON object: no duplicate keys, valid UTF-8, nothing after
 * it. `name` appears in messages. The caller json_decref()s *ret. MOE_E_FORMAT, MOE_E_NOMEM. */
moe_status moe_int_json_parse(const char *text, size_t size, const char *name, const moe_log *log,
                              json_t **ret);

/* The same for a file of at most 100 MB. Also MOE_E_IO. */
moe_status moe_int_json_load(const char *path, const moe_log *log, json_t **ret);

/* An object whose members are being read. */
typedef struct moe_int_json {
    const json_t *object;
    const moe_log *log;
    char where[512]; /* file and path of keys, for messages: "config.json: rope_scaling" */
} moe_int_json;

moe_int_json moe_int_json_root(const json_t *object, const char *name, const moe_log *log);

typedef enum moe_int_json_need {
    MOE_INT_JSON_OPTIONAL, /* absent or null: MOE_OK, and *ret keeps the caller's default */
    MOE_INT_JSON_REQUIRED  /* absent or null: MOE_E_FORMAT */
} moe_int_json_need;

/* True for a member that is there and is not null. */
bool moe_int_json_has(const moe_int_json *at, const char *key);

/* Members by type. A member of another type, or an integer outside [least, greatest], is
 * MOE_E_FORMAT; *ret is untouched on failure. Strings and objects belong to the parsed root.
 * A number may be written as an integer; an integer may not be written as 4.0. */
moe_status moe_int_json_i64(const moe_int_json *at, const char *key, moe_int_json_need need,
                            int64_t least, int64_t greatest, int64_t *ret);
moe_status moe_int_json_f64(const moe_int_json *at, const char *key, moe_int_json_need need,
                            double *ret);
moe_status moe_int_json_bool(const moe_int_json *at, const char *key, moe_int_json_need need,
                             bool *ret);
moe_status moe_int_json_str(const moe_int_json *at, const char *key, moe_int_json_need need,
                            const char **ret);
moe_status moe_int_json_array(const moe_int_json *at, const char *key, moe_int_json_need need,
                              const json_t **ret);
moe_status moe_int_json_object(const moe_int_json *at, const char *key, moe_int_json_need need,
                               moe_int_json *ret);

#endif
