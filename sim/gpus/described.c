#include "sim/gpus/described.h"
#include "core/file.h"
#include "sim/gpus/params.h"

#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT (1u << 20)

const moe_int_file *moe_int_file_find(const moe_int_file *files, const char *name) {
    while (files->name && strcmp(files->name, name) != 0)
        files++;
    return files->name ? files : NULL;
}

static moe_status unknown(const char *what, const moe_int_file *shipped, const char *spec,
                          const moe_log *log) {
    char list[512] = "";
    for (const moe_int_file *f = shipped; f->name; f++) {
        strncat(list, " ", sizeof list - strlen(list) - 1);
        strncat(list, f->name, sizeof list - strlen(list) - 1);
    }
    return moe_fail(log, MOE_E_NOTFOUND,
                    "no %s description \"%s\"; shipped:%s; a file's name holds a '/' or ends in "
                    ".json",
                    what, spec, list);
}

moe_status moe_int_file_open(const char *what, const moe_int_file *shipped, const char *spec,
                             const moe_log *log, moe_int_file *ret, char **ret_own) {
    const moe_int_file *file = moe_int_file_find(shipped, spec);
    const size_t length = strlen(spec);
    *ret_own = NULL;
    if (file) {
        *ret = *file;
        return MOE_OK;
    }
    if (!strchr(spec, '/') && (length < 5 || strcmp(spec + length - 5, ".json") != 0))
        return unknown(what, shipped, spec, log);
    *ret = (moe_int_file){.name = spec};
    const moe_status status = moe_int_file_read(spec, FILE_LIMIT, log, ret_own, &ret->size);
    ret->text = *ret_own;
    return status;
}

const char *moe_int_described_text(const json_t *root, const char *key) {
    const char *text = json_string_value(json_object_get(root, key));
    return text ? text : "";
}

int moe_int_described_name(const char *const *names, const char *name, size_t length) {
    int i = 0;
    while (names[i] && (strlen(names[i]) != length || memcmp(names[i], name, length) != 0))
        i++;
    return i;
}

double *moe_int_numbers_slot(moe_int_numbers n, const char *key, const moe_gpu_param **ret_info,
                             unsigned char **ret_set) {
    for (int i = 0; i < n.count; i++) {
        if (strcmp(n.table[i].key, key) != 0)
            continue;
        if (ret_info)
            *ret_info = &n.table[i];
        if (ret_set)
            *ret_set = &n.set[i];
        return &n.value[i];
    }
    return NULL;
}

moe_status moe_int_number_check(const moe_gpu_param *info, const char *key, double value,
                                const moe_log *log) {
    if (moe_int_gpu_allows(info, value))
        return MOE_OK;
    return moe_fail(log, MOE_E_INVALID, "%s = %g is not a %snumber in [%g, %g]%s%s", key, value,
                    info->whole ? "whole " : "", info->least, info->greatest,
                    info->unit[0] ? " " : "", info->unit);
}

bool moe_int_numbers_put_in(moe_int_numbers n, json_t *root, const char *member, const char *part,
                            const char *kind, const char *source) {
    for (int i = 0; i < n.count; i++) {
        if (!n.set[i])
            continue;
        json_t *to = moe_int_gpu_member(root, member);
        if (part)
            to = moe_int_gpu_member(to, part);
        if (moe_int_gpu_put_number(to, &n.table[i], n.value[i], kind, source))
            return true;
    }
    return false;
}

bool moe_int_numbers_put(moe_int_numbers n, json_t *root, const char *member, const char *kind,
                         const char *source) {
    return moe_int_numbers_put_in(n, root, member, NULL, kind, source);
}
