/* The judge's side of a worker: whatever comes back, it is a status and a sentence. */
#include "backend/isolate/memory.h"
#include "backend/isolate/process.h"
#include "capture.h"
#include "core/utf8.h"
#include "drawn.h"
#include "moeref/check.h"
#include "moeref/isolation.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char line[] = "T=6 d=5 n=3 E=4 K=2 dtype=fp32 seed=1";

static void be_hostile(const char *how) {
    static char worker[PATH_MAX];
    snprintf(worker, sizeof worker, "%s/tests/unit/hostile_worker", getenv("MOEREF_BUILD_ROOT"));
    setenv("MOEREF_WORKER", worker, 1);
    setenv("HOSTILE", how, 1);
}

/* No reply of theirs can be right; what matters is that the judge ends with a verdict. */
static void expect_verdict(const char *how, const char *words) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    const moe_isolation limit = {.timeout_s = 5};
    be_hostile(how);
    cr_assert_eq(moe_backends_load_isolated("", &limit, &log, &all), MOE_OK);
    moe_status status = moe_backend_open(all, "/nowhere/hostile.so", NULL, &log, &backend);
    if (status) {
        cr_expect(strstr(seen.text, words), "%s: '%s'", how, seen.text);
    } else {
        moe_problem *problem = drawn(line);
        moe_check_result *r = NULL;
        cr_assert_eq(moe_check_backend(backend, problem, NULL, &log, &r), MOE_OK, "%s", how);
        cr_expect_geq(r->verdict, MOE_VERDICT_FAIL, "%s", how);
        cr_expect(strstr(r->why, words), "%s: '%s'", how, r->why);
        moe_check_result_destroy(&r);
        moe_problem_destroy(&problem);
    }
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "%s: a process is left over", how);
}

Test(isolate, hostile_replies) {
    static const char *const slots[] = {"load",      "probe",   "open",     "supports", "prepare",
                                        "set_input", "forward", "backward", "routing",  "fetch"};
    static const struct {
        const char *way, *words;
    } ways[] = {
        {"short", "answered with a packet that is none"},
        {"empty", ""},
        {"number", "answered another question"},
        {"kind", "answered another question"},
        {"twice", ""}, /* the next call gets the second answer */
        {"leave", "exited with code 0"},
        {"garbage", ""},
        {"boast", ""},
        {"level", ""},
        {"chatter", ""},
        {"us", ""},
        {"shrink", ""},
    };
    for (size_t s = 0; s < sizeof slots / sizeof *slots; s++) {
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            char how[64];
            snprintf(how, sizeof how, "%s.%s", slots[s], ways[w].way);
            expect_verdict(how, ways[w].words);
        }
    }
    expect_verdict("timings.boast", "");
    expect_verdict("timings.garbage", "");
}

Test(isolate, sizes_are_checked_before_memory_is_taken) {
    expect_verdict("routing.boast", "routing tells of 6 tokens, 4 experts and 46116860");
    expect_verdict("supports.boast", "supports names dtype 1073741824");
}

Test(isolate, no_worker_is_said) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_backends *all = NULL;
    const moe_isolation how = {.worker = "/nowhere/moeref-worker"};
    cr_expect_eq(moe_backends_load_isolated("", &how, &log, &all), MOE_E_IO);
    cr_expect(strstr(seen.text, "moeref-worker"), "%s", seen.text);
    cr_expect_null(all);
}

Test(isolate, a_worker_that_is_no_program_is_said) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    const moe_isolation how = {.worker = "/bin"};
    cr_assert_eq(moe_backends_load_isolated("", &how, &log, &all), MOE_OK);
    cr_expect_eq(moe_backend_open(all, "./x.so", NULL, &log, &backend), MOE_E_IO);
    cr_expect_gt(seen.messages, 0);
    moe_backends_destroy(&all);
}

/* ---- shared memory ---- */

Test(isolate, a_worker_cannot_shrink_what_the_judge_reads) {
    moe_int_shared memory = {.base = NULL};
    bool fresh;
    cr_assert_eq(moe_int_shared_reserve(&memory, 10000, &fresh), MOE_OK);
    cr_expect(fresh);
    cr_expect_eq(ftruncate(memory.file, 0), -1);
    cr_expect_eq(ftruncate(memory.file, 1 << 20), -1);
    memory.base[9999] = 1;
    unsigned char *base = memory.base;
    cr_assert_eq(moe_int_shared_reserve(&memory, 9000, &fresh), MOE_OK);
    cr_expect(!fresh && memory.base == base);
    cr_assert_eq(moe_int_shared_reserve(&memory, 20000, &fresh), MOE_OK);
    cr_expect(fresh);
    moe_int_shared_drop(&memory);
    moe_int_shared_drop(&memory);
    cr_expect_eq(moe_int_shared_reserve(&memory, (size_t)1 << 62, &fresh), MOE_E_NOMEM);
    cr_expect_null(memory.base);
}

Test(isolate, places_do_not_overlap_and_views_find_them) {
    float X[35];
    moe_tensor t = {.data = X, .dtype = MOE_F32, .ndim = 2, .shape = {7, 5}}, none = {.data = NULL};
    size_t end = 3;
    const moe_int_wire_tensor a = moe_int_wire_place(&t, &end), b = moe_int_wire_place(&none, &end),
                              c = moe_int_wire_place(&t, &end);
    const moe_int_wire_plan p = moe_int_wire_place_plan(7, 4, 9, &end);
    cr_expect_eq(a.at, 64);
    cr_expect_eq(b.at, -1);
    cr_expect_geq(c.at, a.at + (int64_t)sizeof X);
    cr_expect_geq(p.offsets, c.at + (int64_t)sizeof X);
    cr_expect_geq(p.token, p.offsets + 5 * 8);
    cr_expect_geq(p.weight, p.token + 9 * 4);
    cr_expect_geq(p.token_offsets, p.weight + 9 * 8);
    cr_expect_geq(p.pair_of_token, p.token_offsets + 8 * 8);
    cr_expect_eq((size_t)p.pair_of_token + 9 * 8, end);
    unsigned char base[1];
    cr_expect_null(moe_int_wire_tensor_view(&b, base).data);
    cr_expect_eq(moe_int_wire_tensor_view(&c, base).shape[0], 7);
}

/* ---- words ---- */

static void expect_clean(const char *raw, const char *clean) {
    char text[64];
    memset(text, 'z', sizeof text);
    snprintf(text, sizeof text, "%s", raw);
    moe_int_clean_text(text, sizeof text);
    cr_expect_str_eq(text, clean);
}

Test(isolate, words_are_one_line_of_printable_text) {
    expect_clean("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "plain \xc3\xa9 \xe2\x82\xac "
                                                                 "\xf0\x9f\x98\x80");
    expect_clean("a\033[2Jb\x7f", "a?[2Jb?");
    expect_clean("line\nline\ttab\r", "line line tab ");
    expect_clean("\xff\xfe\xc3", "???");
    expect_clean("\xc2\x9b"
                 "1m",
                 "??1m");                    /* C1: an escape sequence of one character */
    expect_clean("\xe2\x80\xaeqp", "???qp"); /* writing turned around */
    expect_clean("\xed\xa0\x80", "???");     /* half of a surrogate pair */
    char endless[4] = {'a', 'b', 'c', 'd'};
    moe_int_clean_text(endless, sizeof endless);
    cr_expect_str_eq(endless, "abc");
    char cut[4] = {'a', '\xe2', '\x82', '\xac'};
    moe_int_clean_text(cut, sizeof cut);
    cr_expect_str_eq(cut, "a??");
}
