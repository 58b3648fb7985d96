/* Internal: the one table of the case grammar. Parser, printer, help and the suggestion for a
 * misspelt key all read these rows. */
#ifndef MOE_LAYER_CASE_KEYS_H
#define MOE_LAYER_CASE_KEYS_H

#include "layer/number.h"
#include "moeref/case.h"

#include <stdbool.h>

/* renorm's default: SonicMoE's token rounding weighs a kept pair by its renormalised top-K score,
 * every other choice by the raw one. */
int32_t moe_int_case_default_renorm(const moe_case *c);

/* A word and the enum value that it stands for; lists end with a NULL word. */
typedef struct moe_int_name {
    const char *name;
    int32_t value;
} moe_int_name;

typedef enum moe_int_key_kind {
    MOE_INT_KEY_I64,   /* int64_t, not negative */
    MOE_INT_KEY_I32,   /* int32_t, not negative */
    MOE_INT_KEY_U64,   /* uint64_t */
    MOE_INT_KEY_FLAG,  /* int32_t, 0 or 1 */
    MOE_INT_KEY_REAL,  /* double, finite */
    MOE_INT_KEY_NAME,  /* int32_t out of `names` */
    MOE_INT_KEY_LIST,  /* moe_int_list, as many as `+` say */
    MOE_INT_KEY_ROUTE, /* route, route_arg and counts: NAME or NAME:ARGUMENT */
    MOE_INT_KEY_INJECT /* inject and inject_token: NAME or NAME@TOKEN */
} moe_int_key_kind;

/* How a list lies in moe_case. */
typedef struct moe_int_list {
    int64_t *at;
    int64_t count;
} moe_int_list;

typedef struct moe_int_case_key {
    const char *name;
    moe_int_key_kind kind;
    size_t offset; /* of the field in moe_case */
    const moe_int_name *names;
    bool required;
    const char *fallback; /* the default as text; "" when required */
    const char *meaning;
} moe_int_case_key;

#define MOE_INT_CASE_KEYS_MAX 64 /* the parser keeps the keys it saw in 64 bits */
extern const moe_int_case_key moe_int_case_keys[];
extern const size_t moe_int_case_key_count;

/* The row of that name, or NULL. */
const moe_int_case_key *moe_int_case_key_find(moe_int_word name);

/* The row whose name differs least (letter case ignored), or NULL when none is near. */
const moe_int_case_key *moe_int_case_key_nearest(moe_int_word name);

/* NULL when the value has no name. */
const char *moe_int_name_of(const moe_int_name *names, int32_t value);

/* Whether a case has the key's default. An argument (of route, inject) counts for nothing where the
 * key's own field has its default. */
bool moe_int_case_is_default(const moe_int_case_key *key, const moe_case *c,
                             const moe_case *fallback);

/* Warns of the keys that such a case does not read, as groups= without select=group_topk. */
void moe_int_case_tell_idle(const moe_case *c, const moe_log *log);

/* What a case must fulfil beyond the layer's own rules, for parsed and hand-made cases alike. */
moe_status moe_int_case_check(const moe_case *c, const moe_log *log);

#endif
