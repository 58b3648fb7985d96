/* GPU descriptions: shipped ones, bad ones, what-ifs, writing and reading again. */
#include "capture.h"
#include "moeref/model.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *toy_text(size_t *size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/golden/sim/toy.json", getenv("MOEREF_SOURCE_ROOT"));
    FILE *in = fopen(path, "rb");
    cr_assert(in);
    char *text = calloc(1, 1 << 16);
    *size = fread(text, 1, (1 << 16) - 1, in);
    fclose(in);
    return text;
}

/* The toy description with `from` replaced by `to` must fail and say `word`. */
static void refuse(const char *from, const char *to, moe_status status, const char *word) {
    size_t size;
    char *text = toy_text(&size), *bad = calloc(1, 1 << 17), *at = strstr(text, from);
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_gpu *gpu = NULL;
    cr_assert(at, "the toy has no %s", from);
    snprintf(bad, 1 << 17, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    cr_expect_eq(moe_gpu_parse(bad, strlen(bad), "bad.json", &log, &gpu), status, "%s", to);
    cr_expect_null(gpu);
    cr_expect(strstr(seen.text, word), "\"%s\" does not name %s", seen.text, word);
    cr_expect(strstr(seen.text, "bad.json"), "\"%s\" does not name the file", seen.text);
    free(text);
    free(bad);
}

Test(sim_gpu, shipped_descriptions_load) {
    for (const char *const *name = moe_gpu_names(); *name; name++) {
        moe_gpu *gpu = NULL;
        double sms = 0;
        cr_expect_eq(moe_gpu_load(*name, NULL, &gpu), MOE_OK, "%s", *name);
        cr_expect_str_eq(moe_gpu_name(gpu), *name);
        cr_expect_eq(moe_gpu_get(gpu, "sms", &sms), MOE_OK);
        cr_expect(sms >= 1, "%s", *name);
        moe_gpu_destroy(&gpu);
        cr_expect_null(gpu);
    }
}

/* `text` with every `from` replaced by `to`; the caller's. */
static char *replaced(const char *text, const char *from, const char *to) {
    char *made = calloc(1, 1 << 17), *end = made;
    for (const char *at; (at = strstr(text, from)); text = at + strlen(from))
        end += sprintf(end, "%.*s%s", (int)(at - text), text, to);
    strcpy(end, text);
    return made;
}

/* The template's numbers are the H100's: refused until each has a source of its own. Then what it
 * leaves out follows from the architecture, or is a measured GPU's. */
Test(sim_gpu, template_must_be_edited) {
    char path[4096], *text = calloc(1, 1 << 16);
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_gpu *gpu = NULL, *h100 = NULL;
    double ours = 0, theirs = 1;
    const char *from = NULL;
    snprintf(path, sizeof path, "%s/sim/gpus/template.json", getenv("MOEREF_SOURCE_ROOT"));
    cr_expect_eq(moe_gpu_load(path, &log, &gpu), MOE_E_FORMAT);
    cr_expect(strstr(seen.text, "arch is still the template's"), "%s", seen.text);
    FILE *in = fopen(path, "rb");
    cr_assert(in && fread(text, 1, (1 << 16) - 1, in) > 0);
    fclose(in);
    char *edited = replaced(text, "\"source\": \"look here", "\"source\": \"data sheet");
    cr_assert_eq(moe_gpu_parse(edited, strlen(edited), "mine", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &h100), MOE_OK);
    static const char *const keys[] = {"clock_mhz", "mma_cols", "cluster", "tensor_eff", "hbm_eff"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        moe_gpu_get(gpu, keys[i], &ours), moe_gpu_get(h100, keys[i], &theirs);
        cr_expect_float_eq(ours, theirs, 1e-9, "%s: %g, %g", keys[i], ours, theirs);
        cr_expect(moe_gpu_is_derived(gpu, keys[i], &from) &&
                  !moe_gpu_is_derived(h100, keys[i], NULL));
    }
    cr_expect_str_eq(from, "h100-sxm");
    cr_expect(!moe_gpu_is_derived(gpu, "sms", NULL) && !moe_gpu_is_derived(gpu, "nope", NULL));
    moe_gpu_destroy(&gpu), moe_gpu_destroy(&h100);
    free(text), free(edited);
}

Test(sim_gpu, bad_files_are_named_with_their_key) {
    refuse("\"sms\": {", "\"smss\": {", MOE_E_FORMAT, "smss");
    refuse("\"value\": 100, \"kind\"", "\"value\": \"100\", \"kind\"", MOE_E_FORMAT, "sms");
    refuse("\"value\": 100, \"kind\"", "\"value\": -3, \"kind\"", MOE_E_FORMAT, "sms");
    refuse("\"value\": 100, \"kind\"", "\"value\": 1e99, \"kind\"", MOE_E_FORMAT, "sms");
    refuse("\"value\": 100, \"kind\"", "\"value\": null, \"kind\"", MOE_E_FORMAT, "sms");
    refuse("\"value\": 100, \"kind\"", "\"value\": 100.5, \"kind\"", MOE_E_FORMAT, "whole");
    refuse("\"value\": 1, \"kind\": \"assumed\", \"source\": \"1 MB a us\"",
           "\"value\": 1000, \"kind\": \"assumed\", \"source\": \"GB/s\"", MOE_E_FORMAT, "hbm_bw");
    refuse("\"kind\": \"assumed\"", "\"kind\": \"guessed\"", MOE_E_FORMAT, "guessed");
    refuse(", \"source\": \"round number\"", "", MOE_E_FORMAT, "source");
    refuse("\"clock_mhz\": {\"value\": 1000", "\"clock_mhz\": {\"value\": 2000", MOE_E_FORMAT,
           "clock_max_mhz");
    refuse("\"scattermoe\": {", "\"scatter\": {", MOE_E_FORMAT, "scatter");
    refuse("\"systems\": {", "\"spread\": {\"cublas\": {\"large\": [1.1, 1.2]}}, \"systems\": {",
           MOE_E_FORMAT, "large");
    refuse("\"moeref_gpu\": 1", "\"moeref_gpu\": 2", MOE_E_FORMAT, "moeref_gpu");
    refuse("\"name\": \"toy\"", "\"name\": \"\"", MOE_E_FORMAT, "name");
    refuse("\"parameters\": {", "\"parameters\": [", MOE_E_FORMAT, "bad.json");
}

/* Cut anywhere, a description is refused and nothing leaks or crashes. */
Test(sim_gpu, truncated_files) {
    size_t size;
    char *text = toy_text(&size);
    while (size > 0 && text[size - 1] != '}')
        size--;
    for (size_t cut = 0; cut < size; cut += 7) {
        moe_gpu *gpu = NULL;
        cr_expect_eq(moe_gpu_parse(text, cut, "cut", NULL, &gpu), MOE_E_FORMAT, "%zu", cut);
        cr_expect_null(gpu);
    }
    free(text);
}

Test(sim_gpu, unknown_names_list_the_known) {
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_gpu *gpu = NULL;
    cr_expect_eq(moe_gpu_load("h1000", &log, &gpu), MOE_E_NOTFOUND);
    cr_expect(strstr(seen.text, "h100-sxm"));
    cr_expect_eq(moe_gpu_load("./nowhere.json", &log, &gpu), MOE_E_IO);
    cr_expect(strstr(seen.text, "nowhere.json"));
    cr_expect_null(gpu);
}

Test(sim_gpu, what_if) {
    moe_gpu *gpu;
    double before, after;
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    moe_gpu_get(gpu, "hbm_bw", &before);
    cr_expect_eq(moe_gpu_what_if(gpu, "hbm_bw*1.5", NULL), MOE_OK);
    moe_gpu_get(gpu, "hbm_bw", &after);
    cr_expect_float_eq(after, 1.5 * before, 1e-12);
    cr_expect_eq(moe_gpu_what_if(gpu, "hbm_bw/1.5", NULL), MOE_OK);
    cr_expect_eq(moe_gpu_what_if(gpu, "kernel_us+1", NULL), MOE_OK);
    cr_expect_eq(moe_gpu_what_if(gpu, "kernel_us-1", NULL), MOE_OK);
    cr_expect_eq(moe_gpu_what_if(gpu, "sms=144", NULL), MOE_OK);
    moe_gpu_get(gpu, "sms", &after);
    cr_expect_eq(after, 144);
    cr_expect_eq(moe_gpu_what_if(gpu, "cutlass_moe.stream=0.5", NULL), MOE_OK);
    static const char *const bad[] = {"hbm_bw",
                                      "*2",
                                      "hbm_bw*",
                                      "hbm_bw*x",
                                      "hbm_bw*nan",
                                      "hbm_bw/0",
                                      "nope*2",
                                      "sms=-1",
                                      "",
                                      "sms=1e300",
                                      "nope.tensor=1",
                                      "cutlass_moe.nope=1",
                                      "clock_mhz=1981",
                                      "clock_max_mhz/2",
                                      "sms=1023.5",
                                      "cluster*1.1",
                                      "mma_rows/3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        capture seen;
        const moe_log log = capture_log(&seen);
        cr_expect_neq(moe_gpu_what_if(gpu, bad[i], &log), MOE_OK, "%s", bad[i]);
        cr_expect_eq(seen.messages, 1, "%s", bad[i]);
    }
    moe_gpu_destroy(&gpu);
}

Test(sim_gpu, written_and_read_again) {
    char path[TEMPORARY_BYTES];
    moe_gpu *gpu, *again = NULL;
    double value = 0;
    temporary_file(path, ".json", NULL, 0);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_expect_eq(moe_gpu_set(gpu, "tensor_eff", 0.5, NULL), MOE_OK);
    cr_expect_eq(moe_gpu_set(gpu, "momoe.tensor", 0.25, NULL), MOE_OK);
    cr_expect_eq(moe_gpu_set(gpu, "tile_max", 131072, NULL), MOE_OK);
    cr_expect_eq(moe_gpu_write(gpu, path, "fitted", "a test", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_load(path, NULL, &again), MOE_OK);
    moe_gpu_get(again, "tensor_eff", &value);
    cr_expect_float_eq(value, 0.5, 1e-9);
    moe_gpu_get(again, "momoe.tensor", &value);
    cr_expect_float_eq(value, 0.25, 1e-9);
    moe_gpu_get(again, "tile_max", &value);
    cr_expect_eq(value, 131072, "%g", value);
    moe_gpu_destroy(&gpu);
    moe_gpu_destroy(&again);
    unlink(path);
}
