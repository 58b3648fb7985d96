/* moeref bench as its users meet it: what is said of times, predictions and the board. */
#include "run_moeref.h"
#include "temporary.h"

#include <jansson.h>
#include <unistd.h>

Test(cli_bench, bench_checks_before_it_times) {
    char args[700];
    snprintf(
        args, sizeof args,
        "bench --backend %s/tests/conformance/moe_broken.so:all_zero --case \"T=32 d=32 n=16 E=4 "
        "K=2 dtype=fp32\" --repeat 2",
        getenv("MOEREF_BUILD_ROOT"));
    expect(1, "is not timed", args);
    expect(0, "predicted: nothing",
           "bench --backend reference --case \"T=16 d=16 n=8 E=4 K=2\" --repeat 2");
    outcome *o = moeref("bench --backend openblas --output json --repeat 2 --case "
                        "\"T=64 d=64 n=32 E=4 K=2 dtype=fp32\"");
    json_t *root = json_loads(o->text, 0, NULL);
    cr_assert_not_null(root, "%s", o->text);
    json_t *first = json_array_get(json_object_get(root, "bench"), 0);
    cr_expect(json_is_true(json_object_get(first, "checked")));
    cr_expect_eq(json_array_size(json_object_get(first, "passes")), 3);
    json_decref(root);
    free(o);
}

/* A GPU so slow that its floor lies far above any time, and a backend that does nothing after its
 * first run: whatever the machine's load, the times are impossible. */
Test(cli_bench, a_time_below_its_floor_is_a_failure) {
    char dir[TEMPORARY_BYTES], line[700], args[900];
    temporary_folder(dir);
    snprintf(line, sizeof line,
             "sed '/\"sms\"/s/100/1/; /\"clock_/s/1000,/100,/; "
             "/\"tensor_flops\"/s/4096/64/; /\"hbm_bw\"/s/: 1,/: 0.01,/' "
             "'%s/golden/sim/toy.json' >%s/slow.json",
             getenv("MOEREF_SOURCE_ROOT"), dir);
    cr_assert_eq(system(line), 0);
    snprintf(args, sizeof args,
             "bench --backend %s/tests/conformance/moe_broken.so:lazy --no-check --repeat 2 --case "
             "\"T=256 d=128 n=128 E=4 K=2 dtype=bf16\" --gpu %s/slow.json",
             getenv("MOEREF_BUILD_ROOT"), dir);
    expect(1, "impossible: below the floor", args);
    expect(1, "cannot take less than", args);
    outcome *o = moeref("%s --output json >%s/bench.json 2>/dev/null #", args, dir);
    cr_expect_eq(o->code, 1);
    free(o);
    snprintf(args, sizeof args, "predict --against %s/bench.json --gpu %s/slow.json", dir, dir);
    expect(1, "impossible: below the floor", args);
    snprintf(args, sizeof args,
             "bench --backend reference --repeat 2 --case \"T=16 d=16 n=8 E=2 K=1 dtype=bf16\" "
             "--gpu h100-sxm");
    expect(0, "floor us", args);
    temporary_remove(dir);
}

/* Right when it was checked, wrong in the last timed run. */
Test(cli_bench, results_of_the_last_timed_run_are_the_first_ones) {
    for (int repeats = 1; repeats <= 2; repeats++) {
        char args[600];
        snprintf(args, sizeof args,
                 "bench --backend %s/tests/conformance/moe_broken.so:fourth --no-check --repeat %d "
                 "--case \"T=16 d=16 n=8 E=2 K=1 dtype=fp32 route=uniform\"",
                 getenv("MOEREF_BUILD_ROOT"), repeats);
        expect(repeats - 1,
               repeats == 1 ? "forward" : "O of the last timed run differs from the first run's",
               args);
    }
}

Test(cli_bench, work_before_the_timed_runs_settles_the_predicted_clock) {
    static const char bench[] = "bench --backend reference --repeat 1 --gpu h100-sxm --case \"T=8 "
                                "d=8 n=8 E=2 K=1\" --settle";
    char args[200];
    snprintf(args, sizeof args, "%s 300", bench);
    expect(0, "h100-sxm, settled clock", args);
    snprintf(args, sizeof args, "%s 1", bench);
    expect(0, "h100-sxm, burst clock", args);
    snprintf(args, sizeof args, "%s -1", bench);
    expect(2, "--settle takes", args);
}

/* The only entry of what `moeref bench ARGS --output json` wrote; freed with *ret_root. */
static const json_t *bench_json(const char *args, json_t **ret_root) {
    outcome *o = moeref("bench %s --output json", args);
    json_t *root = json_loads(o->text, 0, NULL), *entries = json_object_get(root, "bench");
    cr_assert_eq(o->code, 0, "%s", o->text);
    cr_assert_eq(json_array_size(entries), 1, "%s", o->text);
    free(o);
    *ret_root = root;
    return json_array_get(entries, 0);
}

static void expect_range(const json_t *board, const char *key, double median, double min,
                         double max) {
    const json_t *range = json_object_get(board, key);
    cr_expect_eq(json_number_value(json_object_get(range, "median")), median, "%s", key);
    cr_expect_eq(json_number_value(json_object_get(range, "min")), min, "%s", key);
    cr_expect_eq(json_number_value(json_object_get(range, "max")), max, "%s", key);
}

#define TINY "--case \"T=8 d=8 n=8 E=2 K=1 dtype=fp32\" --repeat 3"

/* tests/conformance/made_up_board.h, which also waits for a sample in each pass. */
static const char *board_args(void) {
    static char args[700];
    snprintf(args, sizeof args, "--backend %s/tests/conformance/moe_broken.so:board " TINY,
             getenv("MOEREF_BUILD_ROOT"));
    return args;
}

Test(cli_bench, board_is_sampled_while_passes_run) {
    json_t *root;
    const json_t *board = json_object_get(bench_json(board_args(), &root), "board");
    cr_expect_geq(json_integer_value(json_object_get(board, "samples")), 3);
    expect_range(board, "sm_mhz", 1500, 1400, 1600);
    expect_range(board, "power_w", 620, 600, 650);
    expect_range(board, "memory_mhz", 2619, 2619, 2619);
    expect_range(board, "temperature_c", 51, 50, 52);
    cr_expect_eq(json_number_value(json_object_get(board, "power_limit_w")), 700);
    const json_t *before = json_object_get(board, "before");
    cr_expect_eq(json_number_value(json_object_get(before, "sm_mhz")), 345);
    cr_expect_eq(json_number_value(json_object_get(before, "power_w")), 70);
    const json_t *throttled = json_object_get(board, "throttled_by");
    cr_assert_eq(json_array_size(throttled), 2);
    cr_expect_str_eq(json_string_value(json_array_get(throttled, 0)), "power");
    cr_expect_str_eq(json_string_value(json_array_get(throttled, 1)), "heat");
    json_decref(root);
}

Test(cli_bench, board_is_reported_to_people_and_tables) {
    char args[800];
    snprintf(args, sizeof args, "bench %s", board_args());
    expect(0,
           "samples: SM 1500 MHz (1400 to 1600), memory 2619 MHz, 620 W (600 to 650) of 700 W, "
           "51 C (50 to 52); clock lowered by power, heat\n",
           args);
    strcat(args, " --output csv");
    expect(0, ",bound_by,sm_mhz,power_w,model_sm_mhz\n", args);
    expect(0, ",,1500,620,\n", args);
}

Test(cli_bench, unknown_board_is_null_and_not_reported) {
    json_t *root;
    const json_t *entry = bench_json("--backend reference " TINY, &root);
    cr_expect(json_is_null(json_object_get(entry, "board")));
    json_decref(root);
    outcome *o = moeref("bench --backend reference " TINY);
    cr_expect_null(strstr(o->text, "board"), "%s", o->text);
    free(o);
    expect(0, ",,,,\n", "bench --backend reference " TINY " --output csv");
}

/* The model's clock for the plan that ran, beside the one that was measured. */
Test(cli_bench, clocks_measured_and_assumed) {
    char args[900];
    json_t *root;
    snprintf(args, sizeof args,
             "--backend %s/tests/conformance/moe_broken.so:bf16.board --gpu h100-sxm --repeat 3 "
             "--settle 300 --case \"T=256 d=128 n=128 E=2 K=1 dtype=bf16\"",
             getenv("MOEREF_BUILD_ROOT"));
    const json_t *entry = bench_json(args, &root);
    const double assumed = json_number_value(json_object_get(entry, "model_sm_mhz"));
    cr_expect(assumed > 1000 && assumed < 1755, "%g", assumed);
    expect_range(json_object_get(entry, "board"), "sm_mhz", 1500, 1400, 1600);
    json_decref(root);
    char line[1000], said[100];
    snprintf(line, sizeof line, "bench %s", args);
    snprintf(said, sizeof said, "settled clock: %.0f MHz assumed, measured 1500 MHz (1400 to 1600)",
             assumed);
    expect(0, said, line);
    strcat(line, " --output csv");
    snprintf(said, sizeof said, ",1500,620,%.0f\n", assumed);
    expect(0, said, line);
}

static const json_t *entry_named(const json_t *entries, const char *name) {
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)entries, i, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "name")), name) == 0)
            return entry;
    }
    return NULL;
}

/* What `moeref predict` says in four kernels is one stage of a backend. */
Test(cli_bench, router_backward_is_predicted) {
    static const char line[] = "T=256 d=128 n=64 E=16 K=2 dtype=bf16 route=router";
    static const char *const parts[] = {"d_logits", "dX router", "dW_r", "dW_r sum"};
    static const char *const keys[][2] = {{"predicted_us", "us"}, {"floor_us", "floor_us"}};
    char args[300];
    json_t *root;
    snprintf(args, sizeof args, "--backend openblas --gpu h100-sxm --repeat 2 --case \"%s\"", line);
    const json_t *stage =
        entry_named(json_object_get(bench_json(args, &root), "kernels"), "router_backward");
    cr_assert_not_null(stage);
    outcome *o = moeref("predict --gpu h100-sxm --stream --output json --case \"%s\"", line);
    json_t *model = json_loads(o->text, 0, NULL);
    cr_assert_not_null(model, "%s", o->text);
    for (size_t k = 0; k < 2; k++) {
        double sum = 0;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            sum += json_number_value(json_object_get(
                entry_named(json_object_get(model, "kernels"), parts[i]), keys[k][1]));
        const double says = json_number_value(json_object_get(stage, keys[k][0]));
        cr_expect(sum > 0 && says > 0.999 * sum && says < 1.001 * sum, "%s: %g, not %g", keys[k][0],
                  says, sum);
    }
    json_decref(model);
    json_decref(root);
    free(o);
}

/* A check fails it; without one it is timed, and the name is told. */
Test(cli_bench, a_stage_that_no_table_holds_is_told) {
    char args[800];
    snprintf(args, sizeof args,
             "bench --backend %s/tests/conformance/moe_broken.so:stage_name " TINY,
             getenv("MOEREF_BUILD_ROOT"));
    expect(1, "timings: \"up_proj\" is no stage", args);
    strcat(args, " --no-check");
    expect(0, "\"up_proj\", which is no stage", args);
}

/* A backend is named by its file, whatever that is called. */
Test(cli_bench, names_are_quoted_in_csv) {
    char dir[TEMPORARY_BYTES], plugin[700], link[300], args[700], field[400];
    temporary_folder(dir);
    snprintf(plugin, sizeof plugin, "%s/tests/conformance/moe_broken.so",
             getenv("MOEREF_BUILD_ROOT"));
    snprintf(link, sizeof link, "%s/a, \"b\".so", dir);
    cr_assert_eq(symlink(plugin, link), 0);
    snprintf(args, sizeof args, "bench --backend '%s' --output csv " TINY, link);
    snprintf(field, sizeof field,
             "\n\"T=8 d=8 n=8 E=2 K=1 dtype=fp32\",\"%s/a, \"\"b\"\".so\",total,", dir);
    expect(0, field, args);
    expect(0, "\",reference,total,", "bench --backend reference --output csv " TINY);
    temporary_remove(dir);
}

/* A time that nobody could predict or split over ranks would say nothing of where it went. */
Test(cli_bench, times_over_ranks_stand_beside_a_nodes) {
    static const char args[] =
        "--backend reference:bf16 --ep 2 --node h100-x8 --repeat 2 --no-check "
        "--case \"T=8 d=128 n=128 E=2 K=1\"";
    json_t *root;
    const json_t *entry = bench_json(args, &root);
    const json_t *total = json_array_get(json_object_get(entry, "passes"), 2);
    const double floor = json_number_value(json_object_get(total, "floor_us"));
    cr_expect_gt(floor, 0);
    cr_expect_geq(json_number_value(json_object_get(total, "predicted_us")), floor);
    cr_expect(strstr(json_string_value(json_object_get(entry, "model")), "ep_serial on h100-x8"));
    static const char *const passes[] = {"forward", "backward"};
    for (int i = 0; i < 2; i++) {
        const json_t *ranks = json_object_get(json_object_get(entry, "ranks"), passes[i]);
        const json_t *pass = json_object_get(ranks, "pass_us");
        const json_t *exchange = json_object_get(ranks, "exchange_us");
        const double least = json_number_value(json_object_get(pass, "min"));
        const double most = json_number_value(json_object_get(pass, "max"));
        cr_expect(least > 0 && least <= most, "%s: %g to %g us", passes[i], least, most);
        cr_expect_leq(json_number_value(json_object_get(exchange, "max")), most);
    }
    json_decref(root);
    expect(2, "no method 'warp'",
           "bench --ep 2 --node h100-x8 --node-method warp --case \"T=8 d=8 n=8 E=2 K=1\"");
    expect(2, "say --ep too",
           "bench --backend reference --node h100-x8 --case \"T=8 d=8 n=8 E=2 K=1\"");
}
