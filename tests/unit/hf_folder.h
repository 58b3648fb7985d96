/* Copies of golden checkpoint folders, edited in memory and written to a temporary place, for tests
 * of what the loader makes of them. */
#ifndef MOE_TESTS_HF_FOLDER_H
#define MOE_TESTS_HF_FOLDER_H

#include "capture.h"
#include "moeref/case.h"
#include "moeref/safetensors.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_TENSORS 512
#define PATH_BYTES   1024

/* The tensors of one file, each with its own data, to be edited and written. */
typedef struct bundle {
    moe_named_tensor tensor[MOST_TENSORS];
    size_t count;
} bundle;

static inline const char *golden(const char *family, const char *file) {
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/golden/hf/%s/%s", getenv("MOEREF_SOURCE_ROOT"), family, file);
    return path;
}

static inline bundle read_bundle(const char *path) {
    bundle b = {.count = 0};
    moe_safetensors *file = NULL;
    cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK, "%s", path);
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        moe_tensor view;
        moe_named_tensor *t = &b.tensor[b.count++];
        t->name = strdup(moe_safetensors_name(file, i));
        cr_assert_eq(moe_safetensors_get(file, t->name, &view), MOE_OK);
        cr_assert_eq(moe_tensor_cast(&view, view.dtype, &t->tensor), MOE_OK);
    }
    moe_safetensors_close(&file);
    return b;
}

static inline moe_named_tensor *find(bundle *b, const char *name) {
    for (size_t i = 0; i < b->count; i++) {
        if (strcmp(b->tensor[i].name, name) == 0)
            return &b->tensor[i];
    }
    cr_assert_fail("no %s", name);
    return NULL;
}

static inline void rename_tensor(bundle *b, const char *from, const char *to) {
    find(b, from)->name = strdup(to);
}

static inline void drop(bundle *b, const char *name) {
    moe_named_tensor *gone = find(b, name);
    *gone = b->tensor[--b->count];
}

static inline void cast(bundle *b, const char *name, moe_dtype dtype) {
    moe_named_tensor *t = find(b, name);
    moe_tensor converted;
    cr_assert_eq(moe_tensor_cast(&t->tensor, dtype, &converted), MOE_OK);
    t->tensor = converted;
}

static inline void add(bundle *b, const char *name, moe_dtype dtype, int32_t ndim,
                       const int64_t *shape) {
    moe_named_tensor *t = &b->tensor[b->count++];
    t->name = strdup(name);
    cr_assert_eq(moe_tensor_alloc(dtype, ndim, shape, &t->tensor), MOE_OK);
}

/* A copy of a family's folder, being edited in memory. */
typedef struct edited {
    char dir[PATH_BYTES];
    const char *family;
    bundle weights, golden_case;
    bool has_case;
} edited;

static inline edited edit(const char *family) {
    edited f = {.family = family, .has_case = true};
    f.weights = read_bundle(golden(family, "model.safetensors"));
    f.golden_case = read_bundle(golden(family, "case.safetensors"));
    return f;
}

static inline const char *inside(const edited *f, const char *file) {
    static char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", f->dir, file);
    return path;
}

static inline void write_folder(edited *f) {
    temporary_folder(f->dir);
    char text[8192];
    FILE *from = fopen(golden(f->family, "config.json"), "rb");
    size_t size = fread(text, 1, sizeof text, from);
    fclose(from);
    FILE *to = fopen(inside(f, "config.json"), "wb");
    fwrite(text, 1, size, to);
    fclose(to);
    cr_assert_eq(moe_safetensors_write(inside(f, "model.safetensors"), f->weights.tensor,
                                       f->weights.count, NULL, 0, NULL),
                 MOE_OK);
    if (f->has_case)
        cr_assert_eq(moe_safetensors_write(inside(f, "case.safetensors"), f->golden_case.tensor,
                                           f->golden_case.count, NULL, 0, NULL),
                     MOE_OK);
}

static inline void remove_folder(const edited *f) {
    unlink(inside(f, "config.json"));
    unlink(inside(f, "model.safetensors"));
    unlink(inside(f, "case.safetensors"));
    rmdir(f->dir);
}

static inline moe_problem *load_edited(edited *f, int64_t layer, int64_t tokens) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_folder(f);
    moe_status s = moe_problem_from_hf(f->dir, layer, tokens, &log, &p);
    remove_folder(f);
    cr_assert_eq(s, MOE_OK, "%s", seen.text);
    return p;
}

static inline void assert_refused(edited *f, int64_t layer, moe_status status, const char *needle) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_folder(f);
    moe_status s = moe_problem_from_hf(f->dir, layer, 0, &log, &p);
    remove_folder(f);
    cr_expect_eq(s, status, "status %d: %s", s, seen.text);
    cr_expect_eq(seen.messages, 1, "%d messages", seen.messages);
    cr_expect(strstr(seen.text, needle), "no \"%s\" in: %s", needle, seen.text);
    cr_expect(strstr(seen.text, f->dir), "which folder? %s", seen.text);
    cr_expect_null(p);
}

#endif
