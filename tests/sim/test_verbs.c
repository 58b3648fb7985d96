/* predict, trace, memory, bench and calibrate as their users meet them. */
#include "run_moeref.h"
#include "temporary.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

#define CASE "--case \"T=512 d=256 n=128 E=8 K=2 route=uniform\""

Test(sim_verbs, exit_codes_and_sentences) {
    expect(2, "needs --case", "predict");
    expect(2, "no method \"nope\"", "predict --method nope " CASE);
    expect(2, "is a method of several GPUs, which predict, sweep and trace take: say --ep",
           "predict --method comet " CASE);
    expect(2, "\"momoe\" is a method of one GPU", "predict --ep 2 --method momoe " CASE);
    expect(2, "no \"hbm_bww\"; known, besides", "predict --what-if hbm_bww*2 " CASE);
    expect(2, "--chunks is of several GPUs", "predict --chunks 4 " CASE);
    expect(2, "--beside-us changes nothing in tutel; it is of hecate",
           "predict --ep 2 --beside-us 9 --method tutel " CASE);
    expect(2, "say which by --node", "predict --what-if link_gbps*2 " CASE);
    expect(2, "known: gpus hosts link_gbps", "predict --ep 2 --what-if link_gbp*2 " CASE);
    expect(2, "known, besides", "predict --ep 2 --what-if hbm_bww*2 " CASE);
    expect(2, "shipped:", "predict --gpu nope " CASE);
    expect(3, "nowhere.json", "predict --gpu ./nowhere.json " CASE);
    expect(2, "hbm_bw", "predict --what-if hbm_bw*1e9 " CASE);
    expect(2, "--clock", "predict --clock fast " CASE);
    expect(3, "bf16 and fp16", "predict --case \"T=8 d=8 n=8 E=2 K=1 dtype=fp32\"");
    expect(3, "backward", "predict --method cutlass_moe " CASE);
    expect(0, "floor", "predict --method all --case \"T=512 d=256 n=128 E=8 K=2 pass=fwd\"");
    expect(1, "cutlass_moe on h100-sxm: not predicted", "predict --method all " CASE);
    expect(1, "flashmoe on h100-sxm: not predicted", "predict --ep 2 --method all " CASE);
    expect(1, "moeref_ep on h100-x8 of h100-sxm, ep=2", "predict --ep 2 --method all " CASE);
    expect(2, "--route and --tokens go with --config", "predict --tokens 5 " CASE);
    expect(2, "memory is of one GPU", "memory --case \"T=8 d=8 n=8 E=2 K=1 ep=2\"");
    /* Rows of SMs are of one GPU. */
    expect(1, "", "trace --to /dev/stdout --case \"T=8 d=64 n=64 E=2 K=1 ep=2\" | grep '\"SM 0\"'");
    expect(0, "sensitivities", "predict --sensitivities " CASE);
    expect(0, "does not fit: h100-sxm has 80 GiB",
           "predict --case \"T=512 d=8192 n=8192 E=1024 K=2\"");
    outcome *o = moeref("predict --gpu h200-sxm " CASE);
    cr_expect(strstr(o->text, "memory") && !strstr(o->text, "does not fit"), "%s", o->text);
    free(o);
    expect(0, "tile", "predict --case \"gemm m=128 n=128 k=128\"");
    expect(2, "gemm", "predict --case \"gemm m=128 n=128\"");
    expect(2, "--tokens", "predict --tokens -1 --config nowhere.json");
    expect(2, "--tokens", "predict --tokens 0 --config nowhere.json");
    expect(2, "say --pass fwd", "predict --config nowhere.json --layers all --context 8");
    expect(2, "--tokens", "predict --tokens 8,x --config nowhere.json");
    expect(2, "--tokens", "predict --tokens 8, --config nowhere.json");
    expect(0, "2.0 tokens per expert and tile 8: half a tile",
           "predict --case \"T=8 d=8 n=8 E=4 K=1 select=token_rounding tile=8\"");
    expect(2, "needs --vary", "sweep");
    expect(2, "unknown key", "sweep --vary foo=1,2 " CASE);
    expect(2, "no such column", "sweep --y nope --vary K=1 --case \"T=64 d=64 n=64 E=4\"");
    expect(2, "needs --from", "calibrate");
    expect(3, "no/such/table", "calibrate --from no/such/table");
    expect(2, "needs --case", "trace");
    expect(3, "no/such/folder", "trace " CASE " --to no/such/folder/t.json");
    expect(3, "no/such/folder", "trace --ep 2 " CASE " --to no/such/folder/t.json");
}

/* Slopes of what may change little by little, also of a share that 10 % would lift above 1; none of
 * whole numbers, whose steps are no slope, not even where 10 % more is whole: 132 SMs for 120. */
Test(sim_verbs, sensitivities_are_slopes) {
    static const char *const whole[] = {" sms ", " mma_", " tile_max ", " tile_pow2 ", " cluster "};
    outcome *o = moeref("predict --sensitivities --method cublas --what-if sms=120 --case 'T=32768 "
                        "d=4096 n=1024 E=8 "
                        "K=2 route=balanced'");
    const char *at = strstr(o->text, "sensitivities"), *slope = strstr(o->text, " tensor_eff -");
    cr_assert(at && slope, "%s", o->text);
    const double value = atof(slope + strlen(" tensor_eff "));
    cr_expect(value > -1.01 && value < -0.8, "%s", at);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        cr_expect(!strstr(at, whole[i]), "%s", at);
    free(o);
    expect(0, "whole numbers: arch sms mma_rows mma_cols mma_warps tile_max", "predict --help");
}

Test(sim_verbs, memory_lists_tensors) {
    expect(2, "needs --case or --config", "memory");
    expect(2, "go with --config", "memory --layers all " CASE);
    expect(2, "a gemm keeps nothing", "memory --case \"gemm m=8 n=8 k=8\"");
    expect(3, "backward", "memory --method cutlass_moe " CASE);
    expect(3, "no method models",
           "memory --plot no/folder/p --case \"T=8 d=8 n=8 E=2 K=1 dtype=fp32\"");
    /* X and H are cached: 512 x 256 and 1024 pairs of 256, two bytes each. */
    expect(0, "cached 786432, peak", "memory --method sonicmoe " CASE);
    expect(0, "cached,524288,A,dS,", "memory --method sonicmoe --output csv " CASE);
    /* And what the backend allocates: two layers have two of it, but one workspace. */
    expect(0, "cuda       cached 1211304460, peak 4303555084, weights 805306368",
           "memory --method moeref --case \"T=32768 d=2048 n=1024 E=64 K=8 route=uniform\"");
    expect(0, ",cuda,1,H,cached,1073741824,,,1\n",
           "memory --method moeref --output csv --case "
           "\"T=32768 d=2048 n=1024 E=64 K=8 route=uniform\"");
    expect(0, ",cuda,1,\"A, A'\",work,131072,,,1\n",
           "memory --method moeref --output csv --case \"T=512 d=64 n=64 E=4 K=2\"");
    expect(0, "multiples of 8", "memory --method moeref --case \"T=8 d=64 n=20 E=4 K=2\"");
    outcome *o = moeref("memory " CASE);
    cr_expect(strstr(o->text, "\nmegablocks, memory") && !strstr(o->text, "cutlass"), "%s",
              o->text);
    free(o);
}

Test(sim_verbs, json_has_the_documented_keys) {
    static const char *const keys[] = {"moeref",   "case",       "gpu",          "method",
                                       "total_us", "peak_bytes", "cached_bytes", "kernels"};
    static const char *const kernel_keys[] = {"name",     "us",        "flops", "hbm_bytes",
                                              "l2_bytes", "tiles",     "waves", "bound_by",
                                              "floor_us", "smem_bytes"};
    outcome *o = moeref("predict --output json " CASE);
    json_t *root = json_loads(o->text, 0, NULL), *kernel;
    cr_assert(root, "%s", o->text);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        cr_expect(json_object_get(root, keys[i]), "no %s", keys[i]);
    kernel = json_array_get(json_object_get(root, "kernels"), 0);
    for (size_t i = 0; i < sizeof kernel_keys / sizeof *kernel_keys; i++)
        cr_expect(json_object_get(kernel, kernel_keys[i]), "no %s", kernel_keys[i]);
    json_decref(root);
    free(o);
}

/* A report with a slow kernel, one that is slow or impossible, and passes of which the case has no
 * backward one; the same case twice, as of two backends, is told twice. */
#define TIMES                                                                                      \
    "{\"case\":\"T=8192 d=2048 n=1024 E=16 K=4 route=balanced pass=fwd\",\"backend\":\"x\","       \
    "\"passes\":[{\"name\":\"forward\",\"measured_us\":3e6},{\"name\":\"backward\",\"measured_"    \
    "us\":1}],"                                                                                    \
    "\"kernels\":[{\"name\":\"Y\",\"measured_us\":1e6},{\"name\":\"A\",\"measured_us\":%s}]}"

Test(sim_verbs, against_measured_times) {
    char path[TEMPORARY_BYTES], args[200];
    temporary_file(path, "", NULL, 0);
    snprintf(args, sizeof args, "predict --against %s", path);
    for (int impossible = 0; impossible < 2; impossible++) {
        FILE *out = fopen(path, "w");
        fprintf(out, "{\"moeref\":1,\"bench\":[" TIMES "," TIMES "]}", impossible ? "1" : "2e6",
                "2e6");
        fclose(out);
        expect(impossible, impossible ? "impossible" : "slow", args);
    }
    outcome *o = moeref("%s --stream", args);
    const char *first = strstr(o->text, "T=8192"),
               *pass = strstr(o->text, "  forward            3000000");
    cr_expect(first && strstr(first + 1, "T=8192"), "%s", o->text);
    cr_expect(pass && strstr(pass, "slow"), "%s", o->text);
    cr_expect(!strstr(o->text, "backward"), "%s", o->text);
    cr_expect(strstr(o->text, "mean error of 3 kernels"), "%s", o->text);
    free(o);
    unlink(path);
    expect(3, "no/such", "predict --against no/such.json");
    snprintf(args, sizeof args, "predict --against %s/golden/sim/peers.tsv",
             getenv("MOEREF_SOURCE_ROOT"));
    expect(3, "not a report", args);
}

/* O moves 168 MB, of which L2 (50 MiB) may hold what it reads first and what it writes last:
 * between (168 - 105) MB / 3.35 TB/s = 18.8 us and its floor of 50.1 us a time is possible. A dS of
 * any length is. */
Test(sim_verbs, what_l2_holds_is_not_impossible) {
    static const char report[] =
        "{\"moeref\":1,\"bench\":[{\"case\":\"T=8192 d=2048 n=1024 E=16 K=4 route=balanced\","
        "\"kernels\":[{\"name\":\"O\",\"measured_us\":%d},{\"name\":\"dS\",\"measured_us\":0.01}]}]"
        "}";
    static const int us[] = {19, 18};
    char path[TEMPORARY_BYTES], text[400], args[200];
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, report, us[i]);
        temporary_file(path, "", text, strlen(text));
        snprintf(args, sizeof args, "predict --against %s", path);
        expect(i, i ? "0.28  impossible: below the floor" : "0.30  faster than the model", args);
        unlink(path);
    }
}

/* From a report of kernels to a description that other verbs take. */
Test(sim_verbs, calibrate_kernel_by_kernel) {
    char path[TEMPORARY_BYTES], args[800];
    temporary_file(path, ".json", NULL, 0);
    const int used =
        snprintf(args, sizeof args,
                 "calibrate --from %s/golden/timing/h100-sxm/moeref.json --method moeref --stream "
                 "--clock settled --free moeref.tensor --folds 2 --evaluations 6 --rows ",
                 getenv("MOEREF_SOURCE_ROOT"));
    snprintf(args + used, sizeof args - (size_t)used, "/dev/null --source test --to %s", path);
    expect(0, "held-out, by kernel    A ", args);
    snprintf(args + used, sizeof args - (size_t)used, "/dev/full --to %s", path);
    expect(3, "/dev/full", args);
    snprintf(args + used, sizeof args - (size_t)used, "/dev/null --to /dev/full");
    expect(3, "/dev/full", args);
    snprintf(args, sizeof args, "predict --gpu %s " CASE, path);
    expect(0, "moeref on h100-sxm", args);
    unlink(path);
}

/* A description's name is its author's: whatever it holds, CSV keeps its columns and JSON parses.
 */
Test(sim_verbs, names_of_gpus_are_quoted) {
    char path[TEMPORARY_BYTES], line[600];
    temporary_file(path, ".json", NULL, 0);
    snprintf(line, sizeof line,
             "sed 's/\"name\": \"toy\"/\"name\": \"a, \\\\\"b\\\\\"\"/' %s/golden/sim/toy.json >%s",
             getenv("MOEREF_SOURCE_ROOT"), path);
    cr_assert_eq(system(line), 0);
    outcome *o = moeref("predict --output csv --gpu %s " CASE, path);
    cr_expect(strstr(o->text, "\",\"a, \"\"b\"\"\",moeref,"), "%s", o->text);
    free(o);
    o = moeref("predict --output json --gpu %s " CASE, path);
    json_t *root = json_loads(o->text, 0, NULL);
    cr_expect_str_eq(json_string_value(json_object_get(root, "gpu")), "a, \"b\"");
    json_decref(root);
    free(o);
    unlink(path);
}

static json_t *parsed(const char *format, const char *words) {
    outcome *o = moeref(format, words);
    json_t *root = json_loads(o->text, 0, NULL);
    cr_assert(root, "%s", o->text);
    free(o);
    return root;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* What bench says a layer should take is what predict says of its case, with and without a router;
 * every expert has every token, so that both know the same counts. */
Test(sim_verbs, bench_predicts_what_predict_does) {
    static const char *const words[] = {"route=router", "route=counts:64+64+64+64", "pass=fwd"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        json_t *timed = parsed("bench --backend reference --gpu h100-sxm --repeat 1 --output json "
                               "--case 'T=64 d=64 n=32 E=4 K=4 dtype=bf16 %s'",
                               words[i]);
        json_t *told =
            parsed("predict --stream --output json --case 'T=64 d=64 n=32 E=4 K=4 dtype=bf16 %s'",
                   words[i]);
        const json_t *entry = json_array_get(json_object_get(timed, "bench"), 0);
        const json_t *passes = json_object_get(entry, "passes");
        static const char *const keys[] = {"forward_us", "backward_us", "total_us"};
        cr_expect_eq(json_array_size(passes), i < 2 ? 3 : 1);
        for (size_t p = 0; p < json_array_size(passes); p++)
            cr_expect_float_eq(number(json_array_get(passes, p), "predicted_us"),
                               number(told, keys[p]), 1e-4, "%s: %s", words[i], keys[p]);
        const json_t *last = json_array_get(passes, json_array_size(passes) - 1);
        const json_t *first = json_array_get(json_object_get(told, "kernels"), 0);
        const char *name = json_string_value(json_object_get(first, "name"));
        cr_expect_eq(strcmp(name, "router") == 0, i != 1, "%s: %s", words[i], name);
        cr_expect(number(told, "floor_us") > 0.01);
        cr_expect_float_eq(number(last, "floor_us"), number(told, "floor_us"), 1e-4, "%s",
                           words[i]);
        json_decref(timed);
        json_decref(told);
    }
}

/* Rows of a CSV add up, the time that is in no kernel included. */
Test(sim_verbs, csv_adds_up_to_the_total) {
    static const char *const methods[] = {"moeref", "sonicmoe", "momoe", "grouped_mm"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        outcome *csv =
                    moeref("predict --output csv --method %s " CASE " | tail -n +2 #", methods[i]),
                *json = moeref("predict --output json --method %s " CASE, methods[i]);
        json_t *root = json_loads(json->text, 0, NULL);
        const double total = json_number_value(json_object_get(root, "total_us"));
        double sum = 0;
        char *rest = csv->text, *line;
        while ((line = strsep(&rest, "\n")) && *line) {
            for (int comma = 0; comma < 5; comma++)
                line = strchr(line, ',') + 1;
            sum += strtod(line, NULL);
        }
        cr_expect(total > 0 && fabs(sum / total - 1) < 1e-7, "%s: rows %.9g, total %.9g",
                  methods[i], sum, total);
        json_decref(root);
        free(json);
        free(csv);
    }
}

/* Whoever asks about a config.json sees what was read from it, and can ask it again as a case. */
Test(sim_verbs, a_config_is_told_as_it_was_understood) {
    const char *const config = "golden/hf/qwen2_moe/config.json";
    outcome *text = moeref("predict --config %s/%s", getenv("MOEREF_SOURCE_ROOT"), config),
            *json = moeref("predict --output json --tokens 64 --config %s/%s",
                           getenv("MOEREF_SOURCE_ROOT"), config);
    json_t *root = json_loads(json->text, 0, NULL), *layer = json_object_get(root, "layer");
    cr_expect(strncmp(text->text, "T=4096 d=64 n=32 E=16 K=2 ", 26) == 0, "%.80s", text->text);
    cr_expect(strstr(text->text, " shared=56"), "%.80s", text->text);
    cr_expect_eq(json_integer_value(json_object_get(layer, "T")), 64);
    cr_expect_eq(json_integer_value(json_object_get(layer, "shared")), 56);
    outcome *again = moeref("predict --output json --case \"%s\"",
                            json_string_value(json_object_get(root, "case")));
    cr_expect_str_eq(again->text, json->text);
    json_decref(root);
    free(again);
    free(json);
    free(text);
}
