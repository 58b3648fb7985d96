/* Reading, changing and writing single numbers of a GPU description. */
#include "core/file.h"
#include "layer/number.h"
#include "sim/gpus/held.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const *moe_gpu_names(void) {
    return moe_int_gpu_names;
}

moe_status moe_gpu_get(const moe_gpu *gpu, const char *key, double *ret) {
    const double *slot = moe_int_gpu_slot((moe_gpu *)gpu, key, NULL, NULL);
    if (!slot)
        return MOE_E_NOTFOUND;
    *ret = *slot;
    return MOE_OK;
}

static moe_status refuse_key(const char *key, const moe_log *log) {
    char list[1600] = "";
    moe_gpu_param info;
    for (size_t i = 0; (info = moe_gpu_param_at(i)).key; i++) {
        strncat(list, " ", sizeof list - strlen(list) - 1);
        strncat(list, info.key, sizeof list - strlen(list) - 1);
    }
    return moe_fail(log, MOE_E_NOTFOUND,
                    "a GPU description has no \"%s\"; known, besides a system's own as in "
                    "sonicmoe.hbm:%s",
                    key, list);
}

moe_status moe_gpu_set(moe_gpu *gpu, const char *key, double value, const moe_log *log) {
    const moe_gpu_param *info;
    unsigned char *set;
    double *slot = moe_int_gpu_slot(gpu, key, &info, &set);
    if (!slot)
        return refuse_key(key, log);
    const moe_status status = moe_int_number_check(info, key, value, log);
    if (status)
        return status;
    const double old = *slot;
    *slot = value;
    /* The highest clock bounds what any kernel can do: a prediction above it would beat its floor.
     */
    if (gpu->p[MOE_INT_GP_CLOCK] > gpu->p[MOE_INT_GP_CLOCK_MAX]) {
        *slot = old;
        return moe_fail(log, MOE_E_INVALID,
                        "%s = %g: clock_mhz would be above clock_max_mhz; change the other first",
                        key, value);
    }
    *set = 1;
    return MOE_OK;
}

double moe_int_what_if_apply(const moe_int_what_if *w, double old) {
    switch (w->op) {
    case '*':
        return old * w->value;
    case '/':
        return w->value != 0.0 ? old / w->value : INFINITY;
    case '+':
        return old + w->value;
    case '-':
        return old - w->value;
    default:
        return w->value;
    }
}

moe_status moe_int_what_if_parse(const char *text, const moe_log *log, moe_int_what_if *ret) {
    const size_t length = strcspn(text, "*/+-=");
    if (text[length] == '\0' || length == 0 || length >= sizeof ret->key)
        return moe_fail(log, MOE_E_INVALID,
                        "what-if \"%s\": write KEY*NUMBER, KEY/NUMBER, KEY+NUMBER, KEY-NUMBER or "
                        "KEY=NUMBER",
                        text);
    memcpy(ret->key, text, length);
    ret->key[length] = '\0';
    ret->op = text[length];
    const char *number = text + length + 1;
    if (moe_int_parse_real((moe_int_word){number, strlen(number)}, &ret->value) != MOE_OK)
        return moe_fail(log, MOE_E_INVALID, "what-if \"%s\": \"%s\" is not a number", text, number);
    return MOE_OK;
}

moe_status moe_gpu_what_if(moe_gpu *gpu, const char *text, const moe_log *log) {
    moe_int_what_if w;
    double old = 0;
    moe_status status = moe_int_what_if_parse(text, log, &w);
    if (!status && moe_gpu_get(gpu, w.key, &old) != MOE_OK)
        status = refuse_key(w.key, log);
    return status ? status : moe_gpu_set(gpu, w.key, moe_int_what_if_apply(&w, old), log);
}

/* A fit is not good to seventeen digits; five keep the file readable. */
static double rounded(double value) {
    if (value == 0.0)
        return 0.0;
    double unit = pow(10.0, 4.0 - floor(log10(fabs(value))));
    return round(value * unit) / unit;
}

int moe_int_gpu_put_number(json_t *parent, const moe_gpu_param *info, double value,
                           const char *kind, const char *source) {
    return json_object_set_new(parent, info->key,
                               json_pack("{s:f,s:s,s:s}", "value",
                                         info->whole ? value : rounded(value), "kind", kind,
                                         "source", source));
}

json_t *moe_int_gpu_member(json_t *parent, const char *key) {
    json_t *child = json_object_get(parent, key);
    if (!child) {
        child = json_object();
        json_object_set_new(parent, key, child);
    }
    return child;
}

/* Those of a system that were found; the source is theirs all. */
static int put_spread(json_t *parent, const moe_gpu *gpu, int system, const char *source) {
    json_t *entry = moe_int_gpu_member(parent, moe_int_system_names[system]);
    int bad = !entry;
    for (int i = 0; !bad && i < MOE_INT_SIZES; i++) {
        const moe_int_spread s = gpu->spread[system][i];
        if (gpu->set_spread[system][i])
            bad |= json_object_set_new(entry, moe_int_size_names[i],
                                       json_pack("[f,f]", rounded(s.low), rounded(s.high)));
    }
    return bad || json_object_set_new(entry, "source", json_string(source));
}

static json_t *edited_root(const moe_gpu *gpu, const char *kind, const char *source) {
    json_t *root = json_deep_copy(gpu->root);
    bool bad = !root;
    moe_gpu *of = (moe_gpu *)gpu; /* which is but read */
    bad = bad || moe_int_numbers_put(moe_int_gpu_numbers(of), root, "parameters", kind, source);
    for (int s = 0; !bad && s < MOE_INT_SYS_COUNT; s++)
        bad = moe_int_numbers_put_in(moe_int_gpu_numbers_of(of, s), root, "systems",
                                     moe_int_system_names[s], kind, source);
    for (int s = 0; !bad && s < MOE_INT_SYS_COUNT; s++) {
        if (gpu->set_spread[s][MOE_INT_SMALL] || gpu->set_spread[s][MOE_INT_LARGE])
            bad |= put_spread(moe_int_gpu_member(root, "spread"), gpu, s, source);
    }
    bad = bad || moe_int_held_put(gpu, root, source);
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return root;
}

moe_status moe_int_gpu_write_json(const json_t *root, const char *path, const moe_log *log) {
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) : NULL;
    const size_t length = text ? strlen(text) : 0;
    if (text)
        text[length] = '\n'; /* in the NUL's place */
    const moe_status status = text ? moe_int_file_write(path, text, length + 1, log)
                                   : moe_fail(log, MOE_E_NOMEM, "%s: out of memory", path);
    free(text);
    return status;
}

moe_status moe_gpu_write(const moe_gpu *gpu, const char *path, const char *kind, const char *source,
                         const moe_log *log) {
    json_t *root = edited_root(gpu, kind, source);
    const moe_status status = moe_int_gpu_write_json(root, path, log);
    json_decref(root);
    return status;
}
