/* The program and backends that do what they must not: exit codes, words, JSON that stays whole. */
#include "run_moeref.h"
#include "temporary.h"

#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* A sanitizer ends a process that it finds at fault itself, in words of its own. */
#if defined(__SANITIZE_ADDRESS__)
#define CRASHED "exited with code"
#else
#define CRASHED "crashed: SIGSEGV"
#endif

#define FAULTY "--case \"T=6 d=17 n=5 E=4 K=2 dtype=fp32 seed=3\" "
#define SOUND  "--case \"T=6 d=16 n=5 E=4 K=2 dtype=fp32 seed=3\" "

static const char *plugin(void) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/tests/conformance/moe_contract.so",
             getenv("MOEREF_BUILD_ROOT"));
    return path;
}

static void expect_run(int code, const char *piece, const char *verb, const char *variant,
                       const char *more) {
    outcome *o = moeref("%s --backend '%s:%s' %s", verb, plugin(), variant, more);
    cr_expect_eq(o->code, code, "%s: exit %d\n%s", variant, o->code, o->text);
    cr_expect(strstr(o->text, piece), "%s: no '%s' in\n%s", variant, piece, o->text);
    cr_expect(!strchr(o->text, '\033'), "%s: an escape sequence in\n%s", variant, o->text);
    free(o);
}

Test(isolation, a_dead_slot_fails_its_case_and_the_next_one_passes) {
    expect_run(1, "contract:forward.segv: forward " CRASHED, "check", "forward.segv", FAULTY SOUND);
    expect_run(1, "1 passed, 1 failed", "check", "forward.exit0", FAULTY SOUND);
    expect_run(1, "backward took longer than 1 s", "check", "backward.sleep",
               "--timeout 1 " FAULTY SOUND);
    expect_run(1, "open " CRASHED, "check", "open.segv", SOUND);
    expect_run(1, "1 passed, 1 failed", "check", "forward.plan", FAULTY SOUND);
    expect_run(1, "contract:forward.plan: forward fails on what is valid", "check", "forward.plan",
               FAULTY SOUND);
    expect_run(1, "close exited with code 0", "check", "close.exit0", SOUND);
    expect_run(1, "forward " CRASHED, "bench", "forward.segv", "--no-check " FAULTY);
    expect_run(3, "open failed without a word", "check", "open.silent", SOUND);
    expect_run(1, "forward returned 999", "check", "forward.status_999", "--no-isolation " FAULTY);
}

/* One backend's end is not the other's. */
Test(isolation, other_backends_go_on) {
    char both[PATH_MAX + 200];
    snprintf(both, sizeof both, "--backend '%s' --backend reference " SOUND, plugin());
    expect_run(1, "2 passed, 0 failed", "check", "open.exit0", both);
}

Test(isolation, options_that_contradict_each_other) {
    expect_run(2, "--timeout", "check", "", "--timeout 5 --no-isolation " SOUND);
    expect_run(2, "--timeout", "check", "", "--timeout -1 " SOUND);
}

/* A judge's threads sleep while they wait, unless the user says otherwise; those of a verb that
 * times do as OpenMP has it. */
static void expect_waiting(const char *line, bool sleeps) {
    outcome *o = moeref("%s", line);
    if (strstr(o->text, "GOMP_SPINCOUNT")) /* GNU's; another OpenMP tells otherwise */
        cr_expect_eq(strstr(o->text, "GOMP_SPINCOUNT = '0'") != NULL, sleeps, "%s\n%s", line,
                     o->text);
    free(o);
}

Test(isolation, threads_of_a_judge_sleep) {
    setenv("OMP_DISPLAY_ENV", "verbose", 1);
    unsetenv("OMP_WAIT_POLICY");
    unsetenv("GOMP_SPINCOUNT");
    expect_waiting("check --backend reference " SOUND, true);
    expect_waiting("list --gpus", false);
    setenv("OMP_WAIT_POLICY", "active", 1);
    expect_waiting("check --backend reference " SOUND, false);
}

/* Reads the program's standard output alone. */
static json_t *report(const char *backend, const char *more) {
    char line[2 * PATH_MAX];
    snprintf(line, sizeof line, "%s/src/cli/moeref check --output json --backend '%s' %s 2>&-",
             getenv("MOEREF_BUILD_ROOT"), backend, more);
    FILE *pipe = popen(line, "r");
    cr_assert_not_null(pipe);
    json_error_t error;
    json_t *root = json_loadf(pipe, 0, &error);
    cr_expect_not_null(root, "%s: %s", backend, error.text);
    pclose(pipe);
    return root;
}

/* What the first case's member holds. */
static const char *member(json_t *root, const char *name) {
    json_t *first = json_array_get(json_object_get(root, "cases"), 0);
    const char *text = json_string_value(json_object_get(first, name));
    return text ? text : "";
}

Test(isolation, json_stays_whole) {
    static const struct {
        const char *variant, *verdict, *why;
    } rows[] = {{"forward.print", "pass", ""},
                {"forward.flood", "fail", "forward took longer than 1 s"},
                {"supports.words", "skip", "not supported: ?[2Jno"},
                {"fetch.exit0", "fail", "fetch of O exited with code 0"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char backend[PATH_MAX + 64];
        snprintf(backend, sizeof backend, "%s:%s", plugin(), rows[i].variant);
        json_t *root = report(backend, "--timeout 1 " FAULTY);
        cr_expect_str_eq(member(root, "verdict"), rows[i].verdict, "%s", rows[i].variant);
        cr_expect(strstr(member(root, "why"), rows[i].why), "%s: %s", rows[i].variant,
                  member(root, "why"));
        json_decref(root);
    }
}

/* A file's name may be any bytes. */
Test(isolation, a_path_that_is_no_text_does_not_empty_the_report) {
    char folder[TEMPORARY_BYTES], link[PATH_MAX];
    temporary_folder(folder);
    snprintf(link, sizeof link, "%s/\xff\xfe.so", folder);
    cr_assert_eq(symlink(plugin(), link), 0);
    json_t *root = report(link, SOUND);
    cr_expect_str_eq(member(root, "verdict"), "pass");
    cr_expect(strstr(member(root, "reproduce"), "/\xef\xbf\xbd\xef\xbf\xbd.so"), "%s",
              member(root, "reproduce"));
    json_decref(root);
    temporary_remove(folder);
}
