/* A backend that breaks its contract in one call: a verdict that names backend, slot and case, and
 * the next case is judged as if nothing had been. Each fault is one row. */
#include "contract_rows.h"
#include "core/flush.h"
#include "drawn.h"
#include "moeref/bench.h"
#include "moeref/isolation.h"

#include <criterion/criterion.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Everything that was said. */
typedef struct told {
    char text[8192];
} told;

static void add(void *user, moe_log_level level, const char *message) {
    told *seen = user;
    const size_t used = strlen(seen->text);
    (void)level;
    snprintf(seen->text + used, sizeof seen->text - used, "%s | ", message);
}

static moe_log told_log(told *seen) {
    seen->text[0] = '\0';
    return (moe_log){add, seen};
}

static const char *plugin(void) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/conformance/moe_contract.so",
             getenv("MOEREF_BUILD_ROOT"));
    return path;
}

static moe_backends *backends(double timeout_s) {
    moe_backends *all = NULL;
    const moe_isolation how = {.timeout_s = timeout_s};
    cr_assert_eq(moe_backends_load_isolated("", &how, NULL, &all), MOE_OK);
    return all;
}

static void expect_printable(const char *variant, const char *text) {
    for (const char *s = text; *s; s++)
        cr_expect((unsigned char)*s >= 0x20 && *s != 0x7f, "%s: raw byte %d in '%s'", variant, *s,
                  text);
}

static void judge(moe_backend *backend, const char *line, const row *want) {
    moe_problem *problem = drawn(line);
    moe_check_result *r = NULL;
    cr_assert_eq(moe_check_backend(backend, problem, NULL, NULL, &r), MOE_OK, "%s", want->variant);
    cr_expect_eq(r->verdict, want->verdict, "%s: %s is %s (%s)", want->variant, line,
                 moe_verdict_str(r->verdict), r->why);
    cr_expect(strstr(r->why, want->words) || (SANITIZED && strstr(want->words, "crashed")),
              "%s: '%s' says nothing of '%s'", want->variant, r->why, want->words);
    if (*moe_backend_fault(backend))
        cr_expect_eq(strncmp(r->why, "contract:", 9), 0, "%s: '%s' does not name the backend",
                     want->variant, r->why);
    expect_printable(want->variant, r->why);
    moe_check_result_destroy(&r);
    moe_problem_destroy(&problem);
}

static void try_rows(const row *at, size_t count, double timeout_s) {
    moe_backends *all = backends(timeout_s);
    for (size_t i = 0; i < count; i++, at++) {
        moe_backend *backend = NULL;
        told seen;
        moe_log log = told_log(&seen);
        moe_open_params params = {.variant = at->variant, .threads = 1, .log = &log};
        const row sound = {at->variant, PASS, ""};
        cr_assert_eq(moe_backend_open(all, plugin(), &params, &log, &backend), MOE_OK, "%s: %s",
                     at->variant, seen.text);
        judge(backend, FAULTY, at);
        judge(backend, SOUND, &sound);
        expect_printable(at->variant, seen.text);
        cr_expect_eq(moe_backend_close(&backend), MOE_OK, "%s", at->variant);
    }
    cr_expect_eq(fegetround(), FE_TONEAREST);
    cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "a worker is left over");
    moe_backends_destroy(&all);
}

Test(contract, every_fault_is_a_verdict) {
    try_rows(rows, sizeof rows / sizeof *rows, 0);
}

Test(contract, what_does_not_end_is_ended) {
    try_rows(endless, sizeof endless / sizeof *endless, 0.5);
}

/* Slots without a case: what the calls return, and the words in the log. */
static const struct {
    const char *variant, *words;
} openings[] = {
    {"open.segv", "contract:open.segv: open " SEGV},    {"open.exit0", "open " EXIT0},
    {"open.null", "open returned OK without a device"}, {"open.status_999", "open returned 999"},
    {"open.upward", "open left another rounding mode"},
};

Test(contract, devices_that_cannot_be_opened) {
    moe_backends *all = backends(0);
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        told seen;
        moe_backend *backend = NULL;
        moe_log log = told_log(&seen);
        moe_open_params params = {.variant = openings[i].variant, .log = &log};
        cr_expect_eq(moe_backend_open(all, plugin(), &params, &log, &backend), MOE_E_CONTRACT);
        cr_expect(strstr(seen.text, openings[i].words) || SANITIZED, "'%s' lacks '%s'", seen.text,
                  openings[i].words);
    }
    moe_backends_destroy(&all);
}

Test(contract, an_open_that_fails_without_a_word_gets_one) {
    told seen;
    moe_backends *all = backends(0);
    moe_backend *backend = NULL;
    moe_log log = told_log(&seen);
    moe_open_params params = {.variant = "open.silent", .log = &log};
    cr_expect_eq(moe_backend_open(all, plugin(), &params, &log, &backend), MOE_E_DEVICE);
    cr_expect(strstr(seen.text, "open failed without a word: device error"), "%s", seen.text);
    moe_backends_destroy(&all);
}

Test(contract, a_close_that_dies_is_told) {
    told seen;
    moe_backends *all = backends(0);
    moe_backend *backend = NULL;
    moe_log log = told_log(&seen);
    moe_open_params params = {.variant = "close.abort", .log = &log};
    cr_assert_eq(moe_backend_open(all, plugin(), &params, &log, &backend), MOE_OK);
    cr_expect_eq(moe_backend_close(&backend), MOE_E_CONTRACT);
    cr_expect_null(backend);
    cr_expect(strstr(seen.text, "close ") && (strstr(seen.text, ABRT) || SANITIZED), "%s",
              seen.text);
    moe_backends_destroy(&all);
}

/* Before a device: loading and probing. */
static void expect_refused(const char *key, const char *act, moe_status status, const char *words) {
    told seen;
    moe_backends *all = backends(0);
    moe_backend *backend = NULL;
    moe_log log = told_log(&seen);
    setenv(key, act, 1);
    cr_expect_eq(moe_backend_open(all, plugin(), NULL, &log, &backend), status, "%s %s: %s", key,
                 act, seen.text);
    cr_expect(strstr(seen.text, words) || SANITIZED, "%s %s: '%s'", key, act, seen.text);
    expect_printable(act, seen.text);
    unsetenv(key);
    moe_backends_destroy(&all);
}

Test(contract, loading_and_probing) {
    expect_refused("CONTRACT_LOAD", "segv", MOE_E_CONTRACT, "load " SEGV);
    expect_refused("CONTRACT_LOAD", "exit0", MOE_E_CONTRACT, "load " EXIT0);
    expect_refused("CONTRACT_PROBE", "abort", MOE_E_CONTRACT, "probe " ABRT);
    expect_refused("CONTRACT_PROBE", "exit0", MOE_E_CONTRACT, "probe " EXIT0);
    expect_refused("CONTRACT_PROBE", "status_999", MOE_E_CONTRACT, "probe returned 999");
    expect_refused("CONTRACT_PROBE", "words", MOE_E_DEVICE, "cannot be used here: ????");
}

/* Slots that a benchmark alone calls. */
static const struct {
    const char *variant;
    moe_status status;
    const char *words;
} timed[] = {
    {"memory.segv", MOE_E_CONTRACT, "memory " SEGV},
    {"memory.minus", MOE_E_CONTRACT, "memory tells of less than no bytes"},
    {"roofline.exit0", MOE_E_CONTRACT, "roofline " EXIT0},
    {"roofline.nan", MOE_E_CONTRACT, "roofline tells of rates that are no numbers"},
    {"board.segv", MOE_E_CONTRACT, "contract:board.segv: "},
    {"forward.segv", MOE_E_CONTRACT, "forward " SEGV},
    {"forward.print", MOE_OK, "contract prints in forward: a word on standard output"},
};

Test(contract, benchmarks) {
    moe_backends *all = backends(0);
    moe_problem *problem = drawn(FAULTY);
    for (size_t i = 0; i < sizeof timed / sizeof *timed; i++) {
        told seen;
        moe_backend *backend = NULL;
        moe_bench_result result;
        moe_log log = told_log(&seen);
        moe_open_params params = {.variant = timed[i].variant, .log = &log};
        cr_assert_eq(moe_backend_open(all, plugin(), &params, &log, &backend), MOE_OK);
        cr_expect_eq(moe_bench_run(backend, problem, NULL, &log, &result), timed[i].status, "%s",
                     timed[i].variant);
        cr_expect(strstr(seen.text, timed[i].words) || (SANITIZED && timed[i].status), "%s: '%s'",
                  timed[i].variant, seen.text);
        moe_backend_close(&backend);
    }
    moe_problem_destroy(&problem);
    moe_backends_destroy(&all);
}

/* Who flushes himself is not told that a plug-in does, and goes on so. */
Test(contract, a_caller_that_flushes) {
    const row sound = {"reference", PASS, ""};
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, "reference:fp32", NULL, NULL, &backend), MOE_OK);
    moe_int_flush_set(true);
    judge(backend, SOUND, &sound);
    cr_expect(moe_int_flushes());
    moe_int_flush_set(false);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* LLVM's OpenMP gives a team the floating-point control of the thread that begins a region; GNU's
 * leaves it as it was. */
#ifdef __clang__
#define FLUSHING_TEAM                                                                              \
    { "forward.flush_team", PASS, "" }
#else
#define FLUSHING_TEAM                                                                              \
    { "forward.flush_team", FAIL, "left 1 threads that take 0 for subnormal numbers" }
#endif

/* Without a worker the same rules hold where the process survives. */
Test(contract, in_one_process) {
    static const row inside[] = {
        {"prepare.null", FAIL, "prepare returned OK without a layer"},
        {"routing.null", FAIL, "routing returned OK without a plan"},
        {"routing.no_weight", FAIL, "routing returned a plan that lacks an array"},
        {"supports.arithmetic", FAIL, "supports names dtype 77"},
        {"forward.status_999", FAIL, "forward returned 999"},
        {"backward.upward", FAIL, "backward left another rounding mode"},
        {"backward.flush", FAIL, "backward left a floating-point unit that takes 0 for"},
        FLUSHING_TEAM,
        {"supports.words", MOE_VERDICT_SKIP, "not supported: ?[2Jno ??"},
        {"timings.words", FAIL, "timings: \"??"},
        {"fetch.after", FAIL, "O: fetch wrote after the buffer"},
    };
    moe_backends *all = NULL;
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        moe_backend *backend = NULL;
        const row sound = {inside[i].variant, PASS, ""};
        moe_open_params params = {.variant = inside[i].variant, .threads = 1};
        cr_assert_eq(moe_backend_open(all, plugin(), &params, NULL, &backend), MOE_OK);
        judge(backend, FAULTY, &inside[i]);
        judge(backend, SOUND, &sound);
        cr_expect_eq(fegetround(), FE_TONEAREST);
        moe_backend_close(&backend);
    }
    moe_backends_destroy(&all);
}
