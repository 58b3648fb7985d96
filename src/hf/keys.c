#include "hf/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_SIZE INT32_MAX /* moe_layer_desc_check has the real limits */
#define WORD_BYTES   128

const char *moe_int_hf_next_word(const char *list, char *word, size_t size) {
    size_t length = strcspn(list, "|");
    snprintf(word, size, "%.*s", (int)length, list);
    return list[length] ? list + length + 1 : NULL;
}

/* The member at a path of keys that full stops divide, or NULL. */
static const json_t *follow(const json_t *object, const char *path) {
    char key[WORD_BYTES];
    for (;;) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        object = json_is_array(object) ? json_array_get(object, (size_t)strtoul(key, NULL, 10))
                                       : json_object_get(object, key);
        if (!path[length] || !object)
            return json_is_null(object) ? NULL : object;
        path += length + 1;
    }
}

/* The setting's value; `word` becomes the spelling that it was found under. */
static const json_t *find(const moe_int_hf_keys *k, const char *spellings, char *word) {
    for (const char *next = spellings; next;) {
        next = moe_int_hf_next_word(next, word, WORD_BYTES);
        const json_t *value = follow(k->at->object, word);
        if (json_is_array(value))
            value = json_array_get(value, k->layer < 0 ? 0 : (size_t)k->layer);
        if (value && !json_is_null(value))
            return value;
    }
    return NULL;
}

bool moe_int_hf_has(const moe_int_hf_keys *k, const char *spellings) {
    char word[WORD_BYTES];
    return find(k, spellings, word) != NULL;
}

/* The setting as the one member of an object of its own, under the spelling that it was found
 * under, for the typed readers of core. Absent: an empty object. NULL without memory. */
static json_t *lone(const moe_int_hf_keys *k, const char *spellings, char *word) {
    const json_t *value = find(k, spellings, word);
    json_t *object = json_object();
    if (object && value && json_object_set(object, word, (json_t *)value)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static moe_status fail_missing(const moe_int_hf_keys *k, const char *spellings) {
    char word[WORD_BYTES], list[512] = "";
    size_t used = 0;
    for (const char *next = spellings; next && used < sizeof list;) {
        next = moe_int_hf_next_word(next, word, sizeof word);
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s\"%s\"", used ? " or " : "", word);
    }
    return moe_fail(k->at->log, MOE_E_FORMAT, "%s: %s is missing or null", k->at->where, list);
}

/* The begin and end of every typed reader; `read` sees `at` and `word`. */
#define READ(read)                                                                                 \
    char word[WORD_BYTES];                                                                         \
    json_t *object = lone(k, spellings, word);                                                     \
    if (!object)                                                                                   \
        return moe_fail(k->at->log, MOE_E_NOMEM, "%s: out of memory", k->at->where);               \
    moe_int_json at = moe_int_json_root(object, k->at->where, k->at->log);                         \
    moe_status status = read;                                                                      \
    json_decref(object);                                                                           \
    return status

moe_status moe_int_hf_size(const moe_int_hf_keys *k, const char *spellings, moe_int_json_need need,
                           int64_t *ret) {
    if (need == MOE_INT_JSON_REQUIRED && !moe_int_hf_has(k, spellings))
        return fail_missing(k, spellings);
    READ(moe_int_json_i64(&at, word, MOE_INT_JSON_OPTIONAL, 0, LARGEST_SIZE, ret));
}

moe_status moe_int_hf_real(const moe_int_hf_keys *k, const char *spellings, moe_int_json_need need,
                           double *ret) {
    if (need == MOE_INT_JSON_REQUIRED && !moe_int_hf_has(k, spellings))
        return fail_missing(k, spellings);
    READ(moe_int_json_f64(&at, word, MOE_INT_JSON_OPTIONAL, ret));
}

moe_status moe_int_hf_flag(const moe_int_hf_keys *k, const char *spellings, bool *ret) {
    READ(moe_int_json_bool(&at, word, MOE_INT_JSON_OPTIONAL, ret));
}

moe_status moe_int_hf_word(const moe_int_hf_keys *k, const char *spellings, const char **ret) {
    READ(moe_int_json_str(&at, word, MOE_INT_JSON_OPTIONAL, ret));
}
