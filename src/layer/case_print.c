/* From a case to its canonical line. */
#include "layer/case_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_BYTES 32

/* A bounded buffer that counts what would not fit, as snprintf does. */
typedef struct line {
    char *buf;
    size_t size, length;
} line;

static void put(line *out, const char *text) {
    size_t n = strlen(text);
    if (out->length < out->size) {
        size_t room = out->size - out->length - 1;
        size_t fits = n < room ? n : room;
        memcpy(out->buf + out->length, text, fits);
        out->buf[out->length + fits] = '\0';
    }
    out->length += n;
}

static void put_int(line *out, int64_t value) {
    char text[NUMBER_BYTES];
    snprintf(text, sizeof text, "%" PRId64, value);
    put(out, text);
}

static void put_real(line *out, double value) {
    char text[NUMBER_BYTES];
    moe_int_print_real(value, text, sizeof text);
    put(out, text);
}

static void put_name(line *out, const moe_int_case_key *key, int32_t value) {
    const char *name = moe_int_name_of(key->names, value);
    put(out, name ? name : "?");
}

static void put_list(line *out, const int64_t *list, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        put(out, i ? "+" : "");
        put_int(out, list[i]);
    }
}

static void put_route(line *out, const moe_int_case_key *key, const moe_case *c) {
    put_name(out, key, c->route);
    if (c->route == MOE_ROUTE_ZIPF || c->route == MOE_ROUTE_HOT) {
        put(out, ":");
        put_real(out, c->route_arg);
    }
    if (c->route == MOE_ROUTE_COUNTS) {
        put(out, ":");
        put_list(out, c->counts, c->n_counts);
    }
}

static void put_inject(line *out, const moe_int_case_key *key, const moe_case *c) {
    put_name(out, key, c->inject);
    if (c->inject) {
        put(out, "@");
        put_int(out, c->inject_token);
    }
}

static void put_value(line *out, const moe_int_case_key *key, const moe_case *c) {
    const void *field = (const char *)c + key->offset;
    char text[NUMBER_BYTES];
    switch (key->kind) {
    case MOE_INT_KEY_I64:
        put_int(out, *(const int64_t *)field);
        break;
    case MOE_INT_KEY_I32:
    case MOE_INT_KEY_FLAG:
        put_int(out, *(const int32_t *)field);
        break;
    case MOE_INT_KEY_U64:
        snprintf(text, sizeof text, "%" PRIu64, *(const uint64_t *)field);
        put(out, text);
        break;
    case MOE_INT_KEY_REAL:
        put_real(out, *(const double *)field);
        break;
    case MOE_INT_KEY_NAME:
        put_name(out, key, *(const int32_t *)field);
        break;
    case MOE_INT_KEY_LIST:
        put_list(out, ((const moe_int_list *)field)->at, ((const moe_int_list *)field)->count);
        break;
    case MOE_INT_KEY_ROUTE:
        put_route(out, key, c);
        break;
    case MOE_INT_KEY_INJECT:
        put_inject(out, key, c);
        break;
    }
}

bool moe_int_case_is_default(const moe_int_case_key *key, const moe_case *c,
                             const moe_case *fallback) {
    const void *a = (const char *)c + key->offset, *b = (const char *)fallback + key->offset;
    switch (key->kind) {
    case MOE_INT_KEY_I64:
    case MOE_INT_KEY_U64:
        return memcmp(a, b, sizeof(int64_t)) == 0;
    case MOE_INT_KEY_LIST:
        return ((const moe_int_list *)a)->count == 0;
    case MOE_INT_KEY_REAL:
        return *(const double *)a == *(const double *)b;
    case MOE_INT_KEY_I32:
    case MOE_INT_KEY_FLAG:
    case MOE_INT_KEY_NAME:
    case MOE_INT_KEY_ROUTE:
    case MOE_INT_KEY_INJECT:
        break;
    }
    return memcmp(a, b, sizeof(int32_t)) == 0;
}

size_t moe_case_print(const moe_case *c, char *buf, size_t size) {
    line out = {buf, size, 0};
    moe_case fallback;
    moe_case_init(&fallback);
    fallback.layer.router.renorm = moe_int_case_default_renorm(c);
    if (size)
        buf[0] = '\0';
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        const moe_int_case_key *key = &moe_int_case_keys[i];
        if (!key->required && moe_int_case_is_default(key, c, &fallback))
            continue;
        put(&out, i ? " " : "");
        put(&out, key->name);
        put(&out, "=");
        put_value(&out, key, c);
    }
    return out.length;
}
