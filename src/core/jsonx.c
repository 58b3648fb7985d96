/* Strict JSON parsing and typed access to members. */
#include "core/jsonx.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>

#define FILE_LIMIT 100000000 /* bytes; real configurations and indices stay under a few MB */

moe_status moe_int_json_parse(const char *text, size_t size, const char *name, const moe_log *log,
                              json_t **ret) {
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory to parse it", name);
    if (!root)
        return moe_fail(log, MOE_E_FORMAT, "%s: not valid JSON at line %d column %d: %s", name,
                        error.line, error.column, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return moe_fail(log, MOE_E_FORMAT, "%s: the JSON is not an object", name);
    }
    *ret = root;
    return MOE_OK;
}

moe_status moe_int_json_load(const char *path, const moe_log *log, json_t **ret) {
    char *text = NULL;
    size_t size = 0;
    moe_status status = moe_int_file_read(path, FILE_LIMIT, log, &text, &size);
    if (status != MOE_OK)
        return status;
    status = moe_int_json_parse(text, size, path, log, ret);
    free(text);
    return status;
}

moe_int_json moe_int_json_root(const json_t *object, const char *name, const moe_log *log) {
    moe_int_json root = {.object = object, .log = log};
    snprintf(root.where, sizeof(root.where), "%s", name);
    return root;
}

bool moe_int_json_has(const moe_int_json *at, const char *key) {
    const json_t *value = json_object_get(at->object, key);
    return value && !json_is_null(value);
}

/* What a member may be. */
typedef enum member_kind {
    KIND_INTEGER,
    KIND_NUMBER,
    KIND_BOOLEAN,
    KIND_STRING,
    KIND_ARRAY,
    KIND_OBJECT
} member_kind;

static bool is_kind(const json_t *value, member_kind kind) {
    switch (kind) {
    case KIND_INTEGER:
        return json_is_integer(value);
    case KIND_NUMBER:
        return json_is_number(value);
    case KIND_BOOLEAN:
        return json_is_boolean(value);
    case KIND_STRING:
        return json_is_string(value);
    case KIND_ARRAY:
        return json_is_array(value);
    case KIND_OBJECT:
        return json_is_object(value);
    }
    return false;
}

static const char *type_name(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array",  [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a fraction", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null",
    };
    return names[json_typeof(value)];
}

/* A member of the wanted kind. NULL: *ret_status says whether it may be absent or is an error. */
static const json_t *find(const moe_int_json *at, const char *key, moe_int_json_need need,
                          member_kind kind, moe_status *ret_status) {
    static const char *const wanted[] = {
        [KIND_INTEGER] = "an integer", [KIND_NUMBER] = "a number", [KIND_BOOLEAN] = "a boolean",
        [KIND_STRING] = "a string",    [KIND_ARRAY] = "an array",  [KIND_OBJECT] = "an object",
    };
    *ret_status = MOE_OK;
    if (!moe_int_json_has(at, key)) {
        if (need == MOE_INT_JSON_REQUIRED)
            *ret_status = moe_fail(at->log, MOE_E_FORMAT, "%s: \"%s\" is missing", at->where, key);
        return NULL;
    }
    const json_t *value = json_object_get(at->object, key);
    if (is_kind(value, kind))
        return value;
    *ret_status = moe_fail(at->log, MOE_E_FORMAT, "%s: \"%s\" must be %s, not %s", at->where, key,
                           wanted[kind], type_name(value));
    return NULL;
}

moe_status moe_int_json_i64(const moe_int_json *at, const char *key, moe_int_json_need need,
                            int64_t least, int64_t greatest, int64_t *ret) {
    moe_status status;
    const json_t *value = find(at, key, need, KIND_INTEGER, &status);
    if (!value)
        return status;
    int64_t number = json_integer_value(value);
    if (number < least || number > greatest)
        return moe_fail(at->log, MOE_E_FORMAT, "%s: \"%s\" is %lld, outside %lld ... %lld",
                        at->where, key, (long long)number, (long long)least, (long long)greatest);
    *ret = number;
    return MOE_OK;
}

moe_status moe_int_json_f64(const moe_int_json *at, const char *key, moe_int_json_need need,
                            double *ret) {
    moe_status status;
    const json_t *value = find(at, key, need, KIND_NUMBER, &status);
    if (!value)
        return status;
    *ret = json_number_value(value);
    return MOE_OK;
}

moe_status moe_int_json_bool(const moe_int_json *at, const char *key, moe_int_json_need need,
                             bool *ret) {
    moe_status status;
    const json_t *value = find(at, key, need, KIND_BOOLEAN, &status);
    if (!value)
        return status;
    *ret = json_is_true(value);
    return MOE_OK;
}

moe_status moe_int_json_str(const moe_int_json *at, const char *key, moe_int_json_need need,
                            const char **ret) {
    moe_status status;
    const json_t *value = find(at, key, need, KIND_STRING, &status);
    if (!value)
        return status;
    *ret = json_string_value(value);
    return MOE_OK;
}

moe_status moe_int_json_array(const moe_int_json *at, const char *key, moe_int_json_need need,
                              const json_t **ret) {
    moe_status status;
    const json_t *value = find(at, key, need, KIND_ARRAY, &status);
    if (!value)
        return status;
    *ret = value;
    return MOE_OK;
}

moe_status moe_int_json_object(const moe_int_json *at, const char *key, moe_int_json_need need,
                               moe_int_json *ret) {
    moe_status status;
    const json_t *value = find(at, key, need, KIND_OBJECT, &status);
    if (!value)
        return status;
    moe_int_json child = {.object = value, .log = at->log};
    snprintf(child.where, sizeof(child.where), "%.380s: %.120s", at->where, key);
    *ret = child;
    return MOE_OK;
}
