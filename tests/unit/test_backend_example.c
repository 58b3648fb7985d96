/* The example plug-in, loaded by path: as built here, and built the way its comment says, from a
 * copy in another folder with nothing but the public headers and the library. */
#define _GNU_SOURCE /* mkdtemp */
#include "backend_run.h"
#include "temporary.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static const char *root(const char *which) {
    const char *path = getenv(which);
    cr_assert_not_null(path, "run by `meson test`");
    return path;
}

static void expect_right(const char *path) {
    static const char *const lines[] = {
        "T=33 d=17 n=9 E=3 K=2 dtype=fp32 route=uniform seed=1",
        "T=33 d=17 n=9 E=3 K=2 dtype=bf16 glu=interleaved route=uniform seed=2",
        "T=33 d=17 n=9 E=3 K=1 dtype=fp64 act=silu glu=interleaved route=counts:0+30+3 seed=3",
        "T=1 d=1 n=1 E=1 K=1 dtype=fp32 route=uniform seed=4",
    };
    backend_run r;
    cr_assert_eq(run_open(&r, "", path, 0), MOE_OK, "%s", r.seen.text);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        run_prepare(&r, lines[i]);
        run_step(&r, &r.input);
        run_step(&r, &r.input); /* a second step must not add to the first */
        moe_reference_result *want = run_oracle(r.problem, &r.input, MOE_PASS_BOTH);
        for (int id = 0; id < MOE_T_COUNT; id++) {
            if (!want->out.t[id].data || (moe_tensor_role_of((moe_tensor_id)id) == MOE_ROLE_STAGE &&
                                          id != MOE_T_H && id != MOE_T_DH))
                continue;
            moe_tensor got = run_fetch(&r, (moe_tensor_id)id, MOE_F64);
            double nmse = run_nmse(&got, &want->out.t[id]);
            cr_expect(nmse < 1e-11, "%s: %s has NMSE %.3g", lines[i],
                      moe_tensor_name((moe_tensor_id)id), nmse);
            moe_tensor_destroy(&got);
        }
        moe_reference_result_destroy(&want);
        run_close_case(&r);
    }
    run_close(&r);
}

Test(example, computes_what_it_supports) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/backends/example/moe_example.so", root("MOEREF_BUILD_ROOT"));
    expect_right(path);
}

Test(example, says_why_it_refuses) {
    static const struct {
        const char *rest, *why;
    } rows[] = {{"", "routes nothing"},
                {"route=uniform act=geglu", "act"},
                {"route=uniform bias=1", "biases"},
                {"route=uniform shared=4", "shared"},
                {"route=uniform on=input", "input"}};
    backend_run r;
    char path[PATH_MAX], line[128];
    snprintf(path, sizeof path, "%s/backends/example/moe_example.so", root("MOEREF_BUILD_ROOT"));
    cr_assert_eq(run_open(&r, "", path, 0), MOE_OK, "%s", r.seen.text);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_support support;
        snprintf(line, sizeof line, "T=4 d=4 n=4 E=2 K=1 dtype=fp32 %s", rows[i].rest);
        run_draw_case(&r, line);
        cr_expect_eq(moe_backend_supports(r.backend, &r.problem->layer, &r.use, &support),
                     MOE_E_UNSUPPORTED, "%s", line);
        cr_expect(strstr(support.reason, rows[i].why), "%s: '%s'", line, support.reason);
        cr_expect_eq(
            moe_layer_prepare(r.backend, &r.problem->layer, &r.use, &r.problem->in, &r.layer),
            MOE_E_UNSUPPORTED);
        cr_expect(strstr(r.seen.text, rows[i].why), "%s: '%s'", line, r.seen.text);
        run_close_case(&r);
    }
    run_close(&r);
}

Test(example, builds_out_of_tree) {
    char folder[TEMPORARY_BYTES], command[4 * PATH_MAX], path[PATH_MAX];
    const char *source = root("MOEREF_SOURCE_ROOT"), *build = root("MOEREF_BUILD_ROOT");
    if (system("command -v cc >/dev/null 2>&1") != 0)
        cr_skip("no C compiler at run time");
    temporary_folder(folder);
    snprintf(command, sizeof command,
             "cp '%s/backends/example/example.c' '%s' && cd '%s' && "
             "cc -O2 -Wall -Wextra -Werror -shared -fPIC -I'%s/src/include' example.c -o mine.so "
             "-L'%s/src' -Wl,-rpath,'%s/src' -lmoeref -lm",
             source, folder, folder, source, build, build);
    cr_assert_eq(system(command), 0, "%s", command);
    snprintf(path, sizeof path, "%s/mine.so", folder);
    expect_right(path);
    temporary_remove(folder);
}
