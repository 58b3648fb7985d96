/* GPU descriptions: shipped ones by name, anybody's own by path. */
#include "core/jsonx.h"
#include "sim/gpus/derive.h"
#include "sim/gpus/held.h"
#include "sim/gpus/params.h"

#include <stdlib.h>
#include <string.h>

#define REFERENCE_GPU                                                                              \
    "h100-sxm" /* what a description that has no other to start from starts from */

/* {"value": 3.35, "kind": "nominal", "source": "..."}: a number without its origin is refused. */
moe_status moe_int_gpu_read_number(const moe_int_json *at, const moe_gpu_param *info, double *ret) {
    moe_int_json entry;
    const char *kind, *source;
    double value;
    moe_status status = moe_int_json_object(at, info->key, MOE_INT_JSON_REQUIRED, &entry);
    if (!status)
        status = moe_int_json_f64(&entry, "value", MOE_INT_JSON_REQUIRED, &value);
    if (!status)
        status = moe_int_json_str(&entry, "kind", MOE_INT_JSON_REQUIRED, &kind);
    if (!status)
        status = moe_int_json_str(&entry, "source", MOE_INT_JSON_REQUIRED, &source);
    if (status)
        return status;
    if (strncmp(source, MOE_INT_TEMPLATE_SOURCE, strlen(MOE_INT_TEMPLATE_SOURCE)) == 0)
        return moe_fail(at->log, MOE_E_FORMAT,
                        "%s: %s is still the template's (the H100's): put in the number of your "
                        "GPU and, as its source, where it is from",
                        at->where, info->key);
    if (!moe_int_gpu_allows(info, value))
        return moe_fail(at->log, MOE_E_FORMAT,
                        "%s: %s is %g, not a %snumber in [%g, %g]%s%s: check its unit", at->where,
                        info->key, value, info->whole ? "whole " : "", info->least, info->greatest,
                        info->unit[0] ? " " : "", info->unit);
    if (strcmp(kind, "nominal") != 0 && strcmp(kind, "measured") != 0 &&
        strcmp(kind, "fitted") != 0 && strcmp(kind, "assumed") != 0)
        return moe_fail(at->log, MOE_E_FORMAT,
                        "%s: %s has kind \"%s\"; use nominal, measured, fitted or assumed",
                        at->where, info->key, kind);
    *ret = value;
    return MOE_OK;
}

/* A description from before `arch` was a parameter tells it by its instruction and clusters. */
static moe_status read_arch(const moe_int_json *at, double *ret) {
    const moe_gpu_param *table = moe_int_gpu_params;
    double rows, cluster;
    if (moe_int_json_has(at, "arch") || !moe_int_json_has(at, "mma_rows") ||
        !moe_int_json_has(at, "cluster"))
        return moe_int_gpu_read_number(at, &table[MOE_INT_GP_ARCH], ret);
    moe_status status = moe_int_gpu_read_number(at, &table[MOE_INT_GP_MMA_ROWS], &rows);
    if (!status)
        status = moe_int_gpu_read_number(at, &table[MOE_INT_GP_CLUSTER], &cluster);
    if (!status)
        *ret = rows >= 128 ? 100 : cluster > 1 ? 90 : 80;
    return status;
}

moe_status moe_int_gpu_refuse_unknown(const moe_int_json *at, const moe_gpu_param *table,
                                      size_t count) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)at->object, key, value) {
        size_t i = 0;
        while (i < count && strcmp(key, table[i].key) != 0)
            i++;
        if (i == count)
            return moe_fail(at->log, MOE_E_FORMAT, "%s: unknown key \"%s\"", at->where, key);
    }
    return MOE_OK;
}

/* What a description does not say follows from its architecture, or is that of the measured GPU
 * nearest to it. */
static moe_status read_parameter(const moe_int_json *at, moe_int_gp i, const moe_gpu *reference,
                                 moe_gpu *gpu) {
    const moe_gpu_param *info = &moe_int_gpu_params[i];
    gpu->derived[i] = !moe_int_json_has(at, info->key);
    if (!gpu->derived[i] || (i == MOE_INT_GP_ARCH))
        return i == MOE_INT_GP_ARCH ? read_arch(at, &gpu->p[i])
                                    : moe_int_gpu_read_number(at, info, &gpu->p[i]);
    if (moe_int_gpu_derive(i, gpu->p, &gpu->p[i]))
        return MOE_OK;
    if (!info->fitted || !reference)
        return moe_int_gpu_read_number(at, info, &gpu->p[i]); /* says that it is missing */
    gpu->p[i] = reference->p[i];
    return MOE_OK;
}

static moe_status read_parameters(const moe_int_json *root, const moe_gpu *reference,
                                  moe_gpu *gpu) {
    moe_int_json at;
    moe_status status = moe_int_json_object(root, "parameters", MOE_INT_JSON_REQUIRED, &at);
    if (!status)
        status = moe_int_gpu_refuse_unknown(&at, moe_int_gpu_params, MOE_INT_GP_COUNT);
    for (int i = 0; !status && i < MOE_INT_GP_COUNT; i++)
        status = read_parameter(&at, (moe_int_gp)i, reference, gpu);
    if (!status && gpu->p[MOE_INT_GP_CLOCK] > gpu->p[MOE_INT_GP_CLOCK_MAX])
        status = moe_fail(root->log, MOE_E_FORMAT, "%s: clock_mhz %g is above clock_max_mhz %g",
                          at.where, gpu->p[MOE_INT_GP_CLOCK], gpu->p[MOE_INT_GP_CLOCK_MAX]);
    return status;
}

static moe_status read_systems(const moe_int_json *root, moe_gpu *gpu) {
    moe_int_json systems, at;
    const char *name;
    json_t *value;
    if (!moe_int_json_has(root, "systems"))
        return MOE_OK;
    moe_status status = moe_int_json_object(root, "systems", MOE_INT_JSON_REQUIRED, &systems);
    if (status)
        return status;
    json_object_foreach((json_t *)systems.object, name, value) {
        const moe_int_system s = moe_int_system_find(name, strlen(name));
        if (s == MOE_INT_SYS_COUNT)
            return moe_fail(root->log, MOE_E_FORMAT, "%s: unknown system \"%s\"", systems.where,
                            name);
        status = moe_int_json_object(&systems, name, MOE_INT_JSON_REQUIRED, &at);
        if (!status)
            status = moe_int_gpu_refuse_unknown(&at, moe_int_system_params, MOE_INT_SP_COUNT);
        for (int i = 0; !status && i < MOE_INT_SP_COUNT; i++) {
            if (moe_int_json_has(&at, moe_int_system_params[i].key))
                status = moe_int_gpu_read_number(&at, &moe_int_system_params[i], &gpu->sys[s][i]);
        }
        if (status)
            return status;
    }
    return MOE_OK;
}

/* A100's and B200's GEMMs by their nominal numbers and the H100's efficiencies, before they were
 * measured (sim/CALIBRATION.md). */
const moe_int_spread moe_int_unmeasured = {0.75, 1.4};

static moe_status read_range(const moe_int_json *at, const char *key, moe_int_spread *ret) {
    const json_t *range;
    moe_status status = moe_int_json_array(at, key, MOE_INT_JSON_REQUIRED, &range);
    if (status)
        return status;
    const double low = json_number_value(json_array_get(range, 0));
    const double high = json_number_value(json_array_get(range, 1));
    if (json_array_size(range) != 2 || !(low > 0 && low <= 1 && high >= 1 && high < 100))
        return moe_fail(at->log, MOE_E_FORMAT,
                        "%s: %s is not two shares of the predicted time around 1", at->where, key);
    *ret = (moe_int_spread){low, high};
    return MOE_OK;
}

static moe_status read_spread(const moe_int_json *root, moe_gpu *gpu) {
    moe_int_json all, at;
    moe_status status = MOE_OK;
    if (!moe_int_json_has(root, "spread"))
        return MOE_OK;
    status = moe_int_json_object(root, "spread", MOE_INT_JSON_REQUIRED, &all);
    for (int s = 0; !status && s < MOE_INT_SYS_COUNT; s++) {
        if (!moe_int_json_has(&all, moe_int_system_names[s]))
            continue;
        status = moe_int_json_object(&all, moe_int_system_names[s], MOE_INT_JSON_REQUIRED, &at);
        for (int i = 0; !status && i < MOE_INT_SIZES; i++) {
            if (moe_int_json_has(&at, moe_int_size_names[i]))
                status = read_range(&at, moe_int_size_names[i], &gpu->spread[s][i]);
        }
    }
    return status;
}

static moe_status read_gpu(const moe_int_json *root, const moe_gpu *reference, moe_gpu *gpu) {
    int64_t version;
    const char *name;
    moe_status status = moe_int_json_i64(root, "moeref_gpu", MOE_INT_JSON_REQUIRED, 1, 1, &version);
    if (!status)
        status = moe_int_json_str(root, "name", MOE_INT_JSON_REQUIRED, &name);
    if (status)
        return status;
    if (strlen(name) >= sizeof gpu->name || name[0] == '\0')
        return moe_fail(root->log, MOE_E_FORMAT, "%s: name must have 1 to %zu characters",
                        root->where, sizeof gpu->name - 1);
    strcpy(gpu->name, name);
    for (int s = 0; s < MOE_INT_SYS_COUNT; s++)
        memcpy(gpu->sys[s], reference ? reference->sys[s] : moe_int_system_defaults,
               sizeof gpu->sys[s]);
    for (int s = 0; s < MOE_INT_SYS_COUNT; s++)
        for (int i = 0; i < MOE_INT_SIZES; i++)
            gpu->spread[s][i] = moe_int_unmeasured;
    status = read_parameters(root, reference, gpu);
    if (!status)
        status = read_systems(root, gpu);
    if (!status)
        status = moe_int_held_check(root);
    return status ? status : read_spread(root, gpu);
}

/* The description whose efficiencies this one starts from; NULL: it has all of its own. */
static const char *reference_of(const moe_int_json *root, const char *name) {
    const moe_log silent = {0};
    double arch = 90;
    moe_int_json at;
    if (strcmp(name, REFERENCE_GPU) == 0)
        return NULL;
    if (moe_int_json_object(root, "parameters", MOE_INT_JSON_REQUIRED, &at) == MOE_OK) {
        at.log = &silent;
        read_arch(&at, &arch);
    }
    const char *nearest = moe_int_gpu_nearest(arch);
    return strcmp(name, nearest) == 0 ? REFERENCE_GPU : nearest;
}

static moe_status parse(const char *text, size_t size, const char *name, const moe_log *log,
                        moe_gpu **ret);

static moe_status load_reference(const moe_int_json *root, const char *name, const moe_log *log,
                                 moe_gpu **ret) {
    const char *reference = reference_of(root, name);
    if (!reference)
        return MOE_OK;
    const moe_int_gpu_file *file = moe_int_file_find(moe_int_gpu_files, reference);
    return parse(file->text, file->size, file->name, log, ret);
}

/* NOLINTNEXTLINE(misc-no-recursion): at most the nearest GPU and then the reference */
static moe_status parse(const char *text, size_t size, const char *name, const moe_log *log,
                        moe_gpu **ret) {
    moe_gpu *gpu = calloc(1, sizeof *gpu), *reference = NULL;
    if (!gpu)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory", name);
    moe_status status = moe_int_json_parse(text, size, name, log, &gpu->root);
    if (!status) {
        moe_int_json root = moe_int_json_root(gpu->root, name, log);
        status = load_reference(&root, name, log, &reference);
        if (!status)
            status = read_gpu(&root, reference, gpu);
    }
    moe_gpu_destroy(&reference);
    if (status)
        moe_gpu_destroy(&gpu);
    else
        *ret = gpu;
    return status;
}

moe_status moe_gpu_parse(const char *text, size_t size, const char *name, const moe_log *log,
                         moe_gpu **ret) {
    return parse(text, size, name, log, ret);
}

moe_status moe_gpu_load(const char *spec, const moe_log *log, moe_gpu **ret) {
    moe_int_file file;
    char *own;
    moe_status status = moe_int_file_open("GPU", moe_int_gpu_files, spec, log, &file, &own);
    if (!status)
        status = parse(file.text, file.size, file.name, log, ret);
    free(own);
    return status;
}

moe_status moe_gpu_clone(const moe_gpu *gpu, moe_gpu **ret) {
    moe_gpu *copy = malloc(sizeof *copy);
    if (!copy)
        return MOE_E_NOMEM;
    *copy = *gpu;
    copy->root = json_incref(gpu->root);
    *ret = copy;
    return MOE_OK;
}

void moe_gpu_destroy(moe_gpu **gpu) {
    if (!gpu || !*gpu)
        return;
    json_decref((*gpu)->root);
    free(*gpu);
    *gpu = NULL;
}

const char *moe_gpu_name(const moe_gpu *gpu) {
    return gpu->name;
}

const char *moe_gpu_brief(const moe_gpu *gpu) {
    return moe_int_described_text(gpu->root, "brief");
}

const char *moe_gpu_held_to(const moe_gpu *gpu) {
    return moe_int_described_text(gpu->root, "held_to");
}

bool moe_gpu_is_derived(const moe_gpu *gpu, const char *key, const char **ret_from) {
    double ignored;
    for (int i = 0; i < MOE_INT_GP_COUNT; i++) {
        if (strcmp(moe_int_gpu_params[i].key, key) != 0)
            continue;
        if (ret_from)
            *ret_from = moe_int_gpu_derive((moe_int_gp)i, gpu->p, &ignored)
                            ? NULL
                            : moe_int_gpu_nearest(gpu->p[MOE_INT_GP_ARCH]);
        return gpu->derived[i] && !gpu->set_p[i];
    }
    return false;
}
