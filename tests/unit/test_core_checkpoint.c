/* Safetensors on disk: round trips, directories, shards, and writes that cannot finish. */
#include "capture.h"
#include "moeref/rng.h"
#include "moeref/safetensors.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(checkpoint, .init = scratch_enter, .fini = scratch_leave);

/* A file with one F32 tensor of one element. */
static void write_scalar(const char *path, const char *name, float value) {
    moe_named_tensor named = {name, {.data = &value, .dtype = MOE_F32}};
    cr_assert_eq(moe_safetensors_write(path, &named, 1, NULL, 0, NULL), MOE_OK);
}

static float read_scalar(const moe_safetensors *file, const char *name) {
    moe_tensor tensor;
    cr_assert_eq(moe_safetensors_get(file, name, &tensor), MOE_OK);
    return (float)moe_load(tensor.data, tensor.dtype, 0);
}

Test(checkpoint, round_trip_of_every_dtype) {
    static const int64_t shape[] = {3, 1, 5};
    static const char *const meta[][2] = {{"made_by", "test"}, {"\xc3\xbc\"\\\n", "{}"}};
    static const char *const names[MOE_DTYPE_COUNT] = {"f64", "f32",           "f16",       "bf16",
                                                       "i64", "\xe2\x82\xac/", "a \"b\" \\"};
    moe_named_tensor tensors[MOE_DTYPE_COUNT];
    for (int d = 0; d < MOE_DTYPE_COUNT; d++) {
        tensors[d].name = names[d];
        cr_assert_eq(moe_tensor_alloc((moe_dtype)d, 3, shape, &tensors[d].tensor), MOE_OK);
        moe_rng_fill(tensors[d].tensor.data, (moe_dtype)d, 0, 15, MOE_FILL_NORMAL, 40, 1,
                     (uint64_t)d);
    }
    cr_assert_eq(moe_safetensors_write("all.safetensors", tensors, MOE_DTYPE_COUNT, meta, 2, NULL),
                 MOE_OK);
    moe_safetensors *file = NULL;
    cr_assert_eq(moe_safetensors_open("all.safetensors", NULL, &file), MOE_OK);
    cr_assert_eq(moe_safetensors_count(file), MOE_DTYPE_COUNT);
    for (int d = 0; d < MOE_DTYPE_COUNT; d++) {
        moe_tensor got;
        cr_assert_eq(moe_safetensors_get(file, names[d], &got), MOE_OK);
        cr_assert_eq((int)got.dtype, d);
        cr_assert(moe_tensor_same_shape(&got, &tensors[d].tensor));
        cr_assert_eq((uintptr_t)got.data % moe_dtype_size(got.dtype), 0);
        cr_assert_arr_eq(got.data, tensors[d].tensor.data, (size_t)moe_tensor_bytes(&got));
        moe_tensor_destroy(&tensors[d].tensor);
    }
    cr_assert_str_eq(moe_safetensors_metadata(file, "made_by"), "test");
    cr_assert_str_eq(moe_safetensors_metadata(file, meta[1][0]), "{}");
    moe_safetensors_close(&file);
    cr_assert_eq(scratch_count("."), 1);
}

Test(checkpoint, nothing_to_write_is_a_valid_file) {
    moe_safetensors *file = NULL;
    moe_named_tensor empty = {"e", {.data = NULL, .dtype = MOE_F32, .ndim = 2, .shape = {0, 4}}};
    cr_assert_eq(moe_safetensors_write("none", NULL, 0, NULL, 0, NULL), MOE_OK);
    cr_assert_eq(moe_safetensors_open("none", NULL, &file), MOE_OK);
    cr_assert_eq(moe_safetensors_count(file), 0);
    moe_safetensors_close(&file);
    cr_assert_eq(moe_safetensors_write("none", &empty, 1, NULL, 0, NULL), MOE_OK);
    cr_assert_eq(moe_safetensors_open("none", NULL, &file), MOE_OK);
    cr_assert_eq(moe_safetensors_count(file), 1);
    moe_safetensors_close(&file);
}

/* Each is refused before a file is made. */
Test(checkpoint, tensors_that_cannot_be_written) {
    static float data[4];
    static const moe_tensor good = {.data = data, .dtype = MOE_F32, .ndim = 1, .shape = {4}};
    static const moe_tensor absent = {.dtype = MOE_F32, .ndim = 1, .shape = {4}};
    static const moe_tensor negative = {.data = data, .dtype = MOE_F32, .ndim = 1, .shape = {-4}};
    static const moe_tensor huge = {
        .data = data, .dtype = MOE_F32, .ndim = 2, .shape = {INT64_MAX, 2}};
    static const moe_tensor alien = {.data = data, .dtype = (moe_dtype)77, .ndim = 0};
    static const moe_tensor half = {
        .data = data, .dtype = MOE_U8, .ndim = 1, .shape = {INT64_MAX / 2 + 1}};
    const struct {
        moe_named_tensor tensors[2];
        size_t count;
        const char *needle;
    } cases[] = {
        {{{"same", good}, {"same", good}}, 2, "same"},
        {{{"__metadata__", good}}, 1, "__metadata__"},
        {{{NULL, good}}, 1, "NULL"},
        {{{"gone", absent}}, 1, "gone"},
        {{{"minus", negative}}, 1, "minus"},
        {{{"huge", huge}}, 1, "huge"},
        {{{"alien", alien}}, 1, "alien"},
        {{{"half1", half}, {"half2", half}}, 2, "overflow"},
        {{{"not\xffutf8", good}}, 1, "UTF-8"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        cr_assert_eq(
            moe_safetensors_write("bad.st", cases[i].tensors, cases[i].count, NULL, 0, &log),
            MOE_E_INVALID, "case %zu: %s", i, seen.text);
        cr_assert(strstr(seen.text, cases[i].needle), "case %zu: %s", i, seen.text);
        cr_assert(strstr(seen.text, "bad.st"), "case %zu: %s", i, seen.text);
    }
    static const char *const twice[][2] = {{"k", "1"}, {"k", "2"}};
    static const char *const binary[][2] = {{"k", "\xff"}};
    cr_assert_eq(moe_safetensors_write("bad.st", NULL, 0, twice, 2, NULL), MOE_E_INVALID);
    cr_assert_eq(moe_safetensors_write("bad.st", NULL, 0, binary, 1, NULL), MOE_E_INVALID);
    cr_assert_eq(scratch_count("."), 0);
}

Test(checkpoint, a_folder_that_does_not_exist) {
    capture seen;
    moe_log log = capture_log(&seen);
    cr_assert_eq(moe_safetensors_write("no/such/x.st", NULL, 0, NULL, 0, &log), MOE_E_IO);
    cr_assert(strstr(seen.text, "no/such/x.st") && strstr(seen.text, "No such file"), "%s",
              seen.text);
    cr_assert_eq(moe_safetensors_write(".", NULL, 0, NULL, 0, &log), MOE_E_IO);
    cr_assert(strstr(seen.text, "directory"), "%s", seen.text);
    cr_assert_eq(moe_safetensors_write("", NULL, 0, NULL, 0, &log), MOE_E_IO);
    cr_assert_eq(scratch_count("."), 0);
}

/* A file size limit stands in for a full disk: the write fails half-way. */
Test(checkpoint, a_full_disk_leaves_the_old_file) {
    static char big[200000];
    moe_named_tensor named = {"big",
                              {.data = big, .dtype = MOE_U8, .ndim = 1, .shape = {sizeof(big)}}};
    struct rlimit limit = {65536, RLIM_INFINITY};
    capture seen;
    moe_log log = capture_log(&seen);
    write_scalar("x.st", "old", 42);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    moe_status status = moe_safetensors_write("x.st", &named, 1, NULL, 0, &log);
    moe_status fresh = moe_safetensors_write("y.st", &named, 1, NULL, 0, NULL);
    limit.rlim_cur = RLIM_INFINITY;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(status, MOE_E_IO);
    cr_assert_eq(fresh, MOE_E_IO);
    cr_assert(strstr(seen.text, "x.st") && strstr(seen.text, "File too large"), "%s", seen.text);
    cr_assert_eq(scratch_count("."), 1, "no partial file stays behind");
    moe_safetensors *file = NULL;
    cr_assert_eq(moe_safetensors_open("x.st", NULL, &file), MOE_OK);
    cr_assert_eq(read_scalar(file, "old"), 42);
    moe_safetensors_close(&file);
}

Test(checkpoint, things_that_cannot_be_opened) {
    static const char *const paths[] = {"absent", "/dev/zero", "pipe", "empty_folder", ""};
    cr_assert_eq(mkdir("empty_folder", 0777), 0);
    cr_assert_eq(mkfifo("pipe", 0666), 0);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        moe_safetensors *file = NULL;
        cr_assert_eq(moe_safetensors_open(paths[i], &log, &file), MOE_E_IO, "%s", paths[i]);
        cr_assert(strstr(seen.text, paths[i]) && seen.messages == 1, "%s", seen.text);
        cr_assert_null(file);
    }
    moe_safetensors *file = NULL;
    scratch_write("empty", "");
    cr_assert_eq(moe_safetensors_open("empty", NULL, &file), MOE_E_FORMAT);
}

#define INDEX "model.safetensors.index.json"

Test(checkpoint, shards_are_one_checkpoint) {
    moe_safetensors *file = NULL;
    cr_assert_eq(mkdir("hf", 0777), 0);
    write_scalar("hf/model-1.safetensors", "b", 1);
    write_scalar("hf/model-2.safetensors", "a", 2);
    scratch_write("hf/" INDEX, "{\"metadata\":{\"total_size\":8},\"weight_map\":"
                               "{\"b\":\"model-1.safetensors\",\"a\":\"model-2.safetensors\"}}");
    static const char *const paths[] = {"hf", "hf/", ("hf/" INDEX)};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(moe_safetensors_open(paths[i], NULL, &file), MOE_OK, "%s", paths[i]);
        cr_assert_eq(moe_safetensors_count(file), 2);
        cr_assert_str_eq(moe_safetensors_name(file, 0), "a");
        cr_assert_eq(read_scalar(file, "a"), 2);
        cr_assert_eq(read_scalar(file, "b"), 1);
        moe_safetensors_close(&file);
    }
    cr_assert_eq(chdir("hf"), 0);
    cr_assert_eq(moe_safetensors_open(INDEX, NULL, &file), MOE_OK, "an index without a folder");
    moe_safetensors_close(&file);
    write_scalar("model.safetensors", "single", 3);
    cr_assert_eq(moe_safetensors_open(".", NULL, &file), MOE_OK, "one file wins over an index");
    cr_assert_eq(read_scalar(file, "single"), 3);
    moe_safetensors_close(&file);
}

Test(checkpoint, hostile_indices) {
    static const struct {
        const char *index;
        moe_status status;
        const char *needle;
    } cases[] = {
        {"", MOE_E_FORMAT, "JSON"},
        {"[]", MOE_E_FORMAT, "object"},
        {"{}", MOE_E_FORMAT, "weight_map"},
        {"{\"weight_map\":null}", MOE_E_FORMAT, "weight_map"},
        {"{\"weight_map\":[]}", MOE_E_FORMAT, "weight_map"},
        {"{\"weight_map\":{\"w\":1}}", MOE_E_FORMAT, "\"w\""},
        {"{\"weight_map\":{\"w\":\"../outside.safetensors\"}}", MOE_E_FORMAT, "../outside"},
        {"{\"weight_map\":{\"w\":\"sub/../../outside.safetensors\"}}", MOE_E_FORMAT, "sub/"},
        {"{\"weight_map\":{\"w\":\"/etc/passwd\"}}", MOE_E_FORMAT, "/etc/passwd"},
        {"{\"weight_map\":{\"w\":\"..\"}}", MOE_E_FORMAT, "\"..\""},
        {"{\"weight_map\":{\"w\":\".\"}}", MOE_E_FORMAT, "\".\""},
        {"{\"weight_map\":{\"w\":\"\"}}", MOE_E_FORMAT, "\"w\""},
        {"{\"weight_map\":{\"w\":\"missing.safetensors\"}}", MOE_E_IO, "missing.safetensors"},
        {"{\"weight_map\":{\"w\":\"ok.safetensors\",\"w\":\"ok.safetensors\"}}", MOE_E_FORMAT,
         "duplicate"},
        {"{\"weight_map\":{\"v\":\"ok.safetensors\"}}", MOE_E_FORMAT, "\"v\" is not in shard ok"},
        {"{\"weight_map\":{\"w\":\"broken.safetensors\"}}", MOE_E_FORMAT, "broken.safetensors"},
        {"{\"weight_map\":{\"w\":\"ok.safetensors\",\"x\":\"broken.safetensors\"}}", MOE_E_FORMAT,
         "broken.safetensors"},
    };
    write_scalar("outside.safetensors", "w", 1);
    cr_assert_eq(mkdir("hf", 0777), 0);
    write_scalar("hf/ok.safetensors", "w", 1);
    scratch_write("hf/broken.safetensors", "not a safetensors file at all");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        moe_safetensors *file = NULL;
        scratch_write("hf/" INDEX, cases[i].index);
        cr_assert_eq(moe_safetensors_open("hf", &log, &file), cases[i].status, "%s: %s",
                     cases[i].index, seen.text);
        cr_assert_null(file);
        cr_assert(strstr(seen.text, cases[i].needle), "%s: %s", cases[i].index, seen.text);
        cr_assert_eq(seen.messages, 1);
    }
}
