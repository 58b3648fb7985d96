/* What a report tells its reader to do next: the line that runs a failure again gives the same one,
 * and so does what was kept of it, judged without the backend. */
#include "moeref/safetensors.h"
#include "run_moeref.h"
#include "temporary.h"

#include <limits.h>
#include <unistd.h>

#define CASE "\"T=40 d=24 n=16 E=4 K=2 dtype=fp32 renorm=1 seed=3\""

/* The line of a report that begins with `start`; the caller's. */
static char *line_of(const char *text, const char *start) {
    const char *at = strstr(text, start);
    return at ? strndup(at, strcspn(at, "\n")) : strdup("");
}

/* A failing backend's files are judged alike without the backend, and for the same cause: its
 * stages are kept too. The folder is made. */
Test(reproduce, kept_failures_are_judged_again) {
    static const char *const faults[] = {"swap", "k_block", "tail", "activation"};
    static const char *const lines[] = {"  O: NMSE", "  first wrong stage: ", "  explanation: "};
    char dir[TEMPORARY_BYTES];
    temporary_folder(dir);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        outcome *first = moeref("check --backend %s/tests/conformance/moe_broken.so:%s --case " CASE
                                " --dump-on-fail '%s/of %s'",
                                getenv("MOEREF_BUILD_ROOT"), faults[i], dir, faults[i]);
        outcome *again = moeref("diagnose '%s/of %s'", dir, faults[i]);
        cr_expect(first->code == 1 && again->code == 1, "%s", again->text);
        cr_expect(strstr(again->text, "fail       broken:"), "%s", again->text);
        for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
            char *was = line_of(first->text, lines[k]), *is = line_of(again->text, lines[k]);
            cr_expect(*was, "%s: no '%s' in %s", faults[i], lines[k], first->text);
            cr_expect_str_eq(is, was, "%s", faults[i]);
            free(was);
            free(is);
        }
        free(first);
        free(again);
    }
    temporary_remove(dir);
}

/* The command of a report, and what running it says. */
static outcome *run_again(const outcome *first) {
    static const char start[] = "  reproduce: moeref ";
    char *line = line_of(first->text, start);
    cr_assert(*line, "no line to run again in\n%s", first->text);
    outcome *again = moeref("%s", line + sizeof start - 1);
    free(line);
    return again;
}

static void expect_again(const char *args) {
    outcome *first = moeref("%s", args), *again = run_again(first);
    char *verdict = line_of(first->text, "fail  "), *is = line_of(again->text, "fail  ");
    cr_assert(*verdict, "%s", first->text);
    char *why = line_of(strchr(strstr(first->text, "fail  "), '\n') + 1, "  ");
    cr_expect_eq(first->code, 1, "%s", first->text);
    cr_expect_eq(again->code, 1, "%s", again->text);
    cr_expect_str_eq(is, verdict, "%s", args);
    cr_expect(strstr(again->text, why), "%s: no '%s' in\n%s", args, why, again->text);
    free(verdict);
    free(is);
    free(why);
    free(first);
    free(again);
}

/* O of CASE, all 0. */
static void write_zeros(const char *path) {
    static float zeros[40 * 24];
    const moe_named_tensor O = {"O", {zeros, MOE_F32, 2, {40, 24}}};
    cr_assert_eq(moe_safetensors_write(path, &O, 1, NULL, 0, NULL), MOE_OK);
}

/* Names of files are words for a shell, whatever is in them. */
Test(reproduce, lines_run_the_same_failure) {
    static const char *const lines[] = {
        "check --backend \"./it's \\$x.so:swap\" --case " CASE,
        ("check --backend \"./it's \\$x.so:bf16.scale_little\" --recipe eager --repeat 3 --case "
         "\"T=128 d=128 n=96 E=4 K=2 renorm=1 seed=12\""),
        "check --backend \"./it's \\$x.so:swap\" --hf \"it's a\" --tokens 5",
        "check --outputs \"it's o\" --case " CASE,
        "check --outputs \"it's o\" --arithmetic fp16 --case " CASE,
        "check --inputs \"it's i\" --outputs \"it's o\" --case " CASE,
        ("check --backend reference:fp32 --ep \"2 combine=ranks\" --ep-fault dx_not_summed "
         "--case " CASE),
    };
    char dir[TEMPORARY_BYTES], command[2 * PATH_MAX];
    temporary_folder(dir);
    cr_assert_eq(chdir(dir), 0);
    snprintf(command, sizeof command,
             "ln -s %s/tests/conformance/moe_broken.so \"it's \\$x.so\" && mkdir \"it's a\" && "
             "cp %s/golden/hf/mixtral/[!c]* %s/golden/hf/mixtral/config.json \"it's a\"",
             getenv("MOEREF_BUILD_ROOT"), getenv("MOEREF_SOURCE_ROOT"),
             getenv("MOEREF_SOURCE_ROOT"));
    cr_assert_eq(system(command), 0, "%s", command);
    write_zeros("it's o");
    expect(0, "", "golden --export \"it's i\" --case " CASE);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        expect_again(lines[i]);
    cr_assert_eq(chdir("/"), 0);
    temporary_remove(dir);
}
