/* sweep as its users meet it: points, refusals, columns, pictures. */
#include "run_moeref.h"
#include "temporary.h"

#include <unistd.h>

#define CASE "--case \"T=512 d=256 n=128 E=8 K=2 route=uniform\""

Test(sim_sweep, sweep_is_a_cross_product_in_order) {
    outcome *o = moeref("sweep --vary n=64,128 --vary method=cublas,moeref --vary hbm_bw=1,2 "
                        "--case \"T=512 d=256 E=8 K=2\"");
    int lines = 0;
    for (const char *at = o->text; (at = strchr(at, '\n')); at++)
        lines++;
    cr_expect_eq(lines, 1 + 8, "%s", o->text);
    cr_expect(strstr(o->text, "n,method,hbm_bw,us,") == o->text);
    cr_expect(strstr(o->text, "\n64,cublas,1,") && strstr(o->text, "\n128,moeref,2,"));
    free(o);
}

/* What a GPU cannot run is a row without figures, wherever it stands; the others have theirs. */
Test(sim_sweep, sweep_goes_on_past_a_refusal) {
    const char *const orders[] = {"a100-sxm,h100-sxm", "h100-sxm,a100-sxm"};
    for (int i = 0; i < 2; i++) {
        outcome *o = moeref("sweep --vary gpu=%s --case \"T=512 d=256 n=64 E=8 K=2\"", orders[i]);
        cr_expect_eq(o->code, 1, "%s", o->text);
        cr_expect(strstr(o->text, "a100-sxm,,,,,,,,,,,") && strstr(o->text, "run on architecture"));
        cr_expect(strstr(o->text, "h100-sxm,1") || strstr(o->text, "h100-sxm,2"), "%s", o->text);
        free(o);
    }
    expect(2, "whole number", "sweep --vary T=64,x --case \"d=64 n=64 E=4 K=2\"");
}

/* Values of axes may be files: whatever their names hold, CSV keeps its columns. */
Test(sim_sweep, values_of_axes_are_quoted) {
    char dir[TEMPORARY_BYTES], line[1500], field[800];
    temporary_folder(dir);
    snprintf(line, sizeof line, "cp %s/golden/sim/toy.json '%s/a \"b\".json'",
             getenv("MOEREF_SOURCE_ROOT"), dir);
    cr_assert_eq(system(line), 0);
    outcome *o = moeref("sweep --vary 'gpu=%s/a \"b\".json,h100-sxm' " CASE, dir);
    snprintf(field, sizeof field, "\n\"%s/a \"\"b\"\".json\",", dir);
    cr_expect(strstr(o->text, field) && strstr(o->text, "\nh100-sxm,"), "%s", o->text);
    free(o);
    temporary_remove(dir);
}

/* Points of a sweep say their own method and GPU; what judges timings says what it will not do. */
Test(sim_sweep, names_of_points_and_refusals) {
    outcome *o = moeref("sweep --case \"T=64 d=64 n=64 E=4 K=2 route=uniform\" --output json "
                        "--vary gpu=h100-sxm,h200-sxm --vary method=sonicmoe,scattermoe");
    cr_expect(strstr(o->text, "\"gpu\":\"h200-sxm\",\"method\":\"scattermoe\""), "%s", o->text);
    cr_expect_null(strstr(o->text, "\"method\":\"moeref\""), "%s", o->text);
    free(o);
    /* A failure is told once, and before anything that looks like an answer. */
    o = moeref("sweep --case \"d=64 n=64 E=4 K=2\" --vary T=1,2 --vary gpu=h100-sxm,nosuch");
    cr_expect(strstr(o->text, "nosuch") && !strstr(o->text, "error: \n"), "%s", o->text);
    free(o);
    o = moeref("predict --output csv --ep 4 --case \"T=8 d=64 n=64 E=4 K=2\"");
    cr_expect(strstr(o->text, "text or json") && !strstr(o->text, "case,gpu"), "%s", o->text);
    free(o);
    expect(2, "one --method", "predict --against no.json --method moeref --method sonicmoe");
    expect(2, "one --method", "predict --against no.json --output csv");
    expect(2, "name a --gpu", "bench --method moeref");
    expect(2, "no method 'nosuch'", "validate --gpu h100-sxm --method nosuch");
    expect(3, "nosuch", "bench --gpu ./nosuch.json");
}

/* The last bytes of a script or picture. */
static char *read_file(const char *path) {
    char *text = calloc(1, 65536);
    FILE *from = fopen(path, "r");
    cr_assert(from && text, "%s", path);
    fread(text, 1, 65535, from);
    fclose(from);
    return text;
}

/* A picture says what it shows, and where it cannot be drawn, that. */
Test(sim_sweep, plots_are_drawn_or_refused) {
    char base[TEMPORARY_BYTES], name[TEMPORARY_BYTES + 16];
    temporary_file(base, "", NULL, 0);
    outcome *o = moeref("sweep --vary T=512,4096,32768 --vary K=2,4 --y us --plot %s.svg "
                        "--case \"d=512 n=256 E=16\" 2>&1 >/dev/null #",
                        base);
    const bool drawn = o->code == 0;
    cr_expect(drawn || (o->code == 3 && strstr(o->text, "gnuplot is not installed")), "%s",
              o->text);
    snprintf(name, sizeof name, "%s.svg.gp", base);
    char *script = read_file(name);
    static const char *const pieces[] = {"Predicted on h100-sxm, method moeref",
                                         "d=512 n=256 E=16",
                                         "T (tokens)",
                                         "time, us",
                                         "set logscale x",
                                         "set logscale y",
                                         "floor of K=2",
                                         "noborder lc 1 title \"80 % interval\""};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        cr_expect(strstr(script, pieces[i]), "no '%s' in %s", pieces[i], script);
    unlink(name);
    snprintf(name, sizeof name, "%s.svg", base);
    if (drawn) {
        char *picture = read_file(name);
        cr_expect(strstr(picture, "<svg") && strstr(picture, "T (tokens)"));
        free(picture);
        unlink(name);
    }
    free(script);
    free(o);
    snprintf(name, sizeof name, "%s.gp", base);
    o = moeref("sweep --vary method=moeref,momoe --plot %s " CASE, name);
    script = read_file(name);
    cr_expect(strstr(script, "title \"predicted\""), "%s", script);
    free(script);
    free(o);
    o = moeref("memory --plot %s --case 'T=64 d=64 n=32 E=8 K=2 pass=both' --case 'T=64 d=64 n=16 "
               "E=16 K=4 pass=both'",
               name);
    script = read_file(name);
    cr_expect(strstr(script, "\\nT=64 d=64 pass=both\""), "%s", script);
    cr_expect(strstr(script, "lc 9 dt 3 title"), "%s", script);
    free(script);
    free(o);
    unlink(name);
    o = moeref("sweep --vary ep=1,2 --plot %s --case 'T=64 d=64 n=64 E=4 K=2'", name);
    cr_expect(o->code == 2 && strstr(o->text, "no point has a number in column tflops"), "%s",
              o->text);
    free(o);
    cr_expect_neq(access(name, F_OK), 0, "an empty picture was written");
    expect(2, "cannot draw p.pdf", "sweep --vary T=1,2 --plot p.pdf " CASE);
    setenv("PATH", "/no/such/folder", 1);
    o = moeref("sweep --vary K=1,2 --plot %s.png --case \"T=64 d=64 n=64 E=4\"", base);
    cr_expect(o->code == 3 && strstr(o->text, "no picture: gnuplot is not installed"), "%s",
              o->text);
    free(o);
    snprintf(name, sizeof name, "%s.png.gp", base);
    cr_expect_eq(unlink(name), 0);
    unlink(base);
}
