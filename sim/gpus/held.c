/* What the numbers of a description were held to: measured rows, or nothing but a data sheet. */
#include "sim/gpus/held.h"
#include "sim/gpus/storage.h"

#include <string.h>

#define MEMBER  "rates_held_to"
#define ASSUMED "assumed"

/* How sources of intervals begin: sim/tools/spreads.py. */
static const char *const made_of[] = {"shapes left out, ", "errors as shipped, "};

/* What multiplies as the other does: 16 bits are one rate. */
static int32_t same_rate(int32_t storage) {
    return storage == MOE_STORAGE_F16 ? MOE_STORAGE_BF16 : storage;
}

double moe_gpu_rate(const moe_gpu *gpu, int32_t storage) {
    const moe_int_storage *s = moe_int_storage_of(storage);
    return s ? moe_int_storage_rate(s, gpu->p) : 0;
}

const char *moe_gpu_rate_held_to(const moe_gpu *gpu, int32_t storage) {
    const char *name = moe_storage_name(same_rate(storage));
    return name ? moe_int_described_text(json_object_get(gpu->root, MEMBER), name) : "";
}

/* The source of a system's interval, where layers of that size were measured on this GPU. */
static const char *system_held_to(const moe_gpu *gpu, moe_int_system system, moe_int_size size) {
    const json_t *spread = json_object_get(gpu->root, "spread");
    const json_t *entry = json_object_get(spread, moe_int_system_names[system]);
    const char *source = moe_int_described_text(entry, "source");
    if (!json_object_get(entry, moe_int_size_names[size]) ||
        strncmp(source, ASSUMED, strlen(ASSUMED)) == 0)
        return "";
    for (size_t i = 0; i < sizeof made_of / sizeof *made_of; i++) {
        if (strncmp(source, made_of[i], strlen(made_of[i])) == 0)
            return source + strlen(made_of[i]);
    }
    return source;
}

const char *moe_int_held_to(const moe_gpu *gpu, moe_int_system system, bool layer, int32_t storage,
                            moe_int_size size) {
    if (!layer)
        return moe_gpu_rate_held_to(gpu, storage);
    return same_rate(storage) == MOE_STORAGE_BF16 ? system_held_to(gpu, system, size) : "";
}

moe_int_spread moe_int_spread_of(const moe_gpu *gpu, moe_int_system system, int32_t storage,
                                 moe_int_size size) {
    return same_rate(storage) == MOE_STORAGE_BF16 ? gpu->spread[system][size] : moe_int_unmeasured;
}

moe_status moe_int_held_check(const moe_int_json *root) {
    moe_int_json at;
    const char *name, *text;
    json_t *value;
    if (!moe_int_json_has(root, MEMBER))
        return MOE_OK;
    moe_status status = moe_int_json_object(root, MEMBER, MOE_INT_JSON_REQUIRED, &at);
    if (status)
        return status;
    json_object_foreach((json_t *)at.object, name, value) {
        int32_t i = 0;
        while (i < MOE_STORAGE_COUNT &&
               (!moe_storage_name(i) || strcmp(name, moe_storage_name(i)) != 0))
            i++;
        if (i == MOE_STORAGE_COUNT)
            return moe_fail(root->log, MOE_E_FORMAT, "%s: no type of operands is called \"%s\"",
                            at.where, name);
        status = moe_int_json_str(&at, name, MOE_INT_JSON_REQUIRED, &text);
        if (status)
            return status;
    }
    return MOE_OK;
}

bool moe_int_held_put(const moe_gpu *gpu, json_t *root, const char *source) {
    for (int32_t i = 0; i < MOE_STORAGE_COUNT; i++) {
        const char *name = moe_storage_name(same_rate(i));
        if (gpu->set_held[i] && name &&
            json_object_set_new(moe_int_gpu_member(root, MEMBER), name, json_string(source)))
            return true;
    }
    return false;
}
