/* An option that nothing reads is refused in a sentence, and with exit code 2: who gives it expects
 * something of it. */
#include "run_moeref.h"
#include "temporary.h"

#define SMALL "\"T=8 d=8 n=8 E=2 K=1 dtype=fp32\""
#define LAYER "\"T=64 d=128 n=128 E=4 K=2 route=uniform\""
#define SIZES "\"d=128 n=128 E=4 K=2\""
#define GEMM  "\"gemm m=128 n=128 k=128\""

Test(unread, of_products_and_layers) {
    expect(2, "--converts is of products", "predict --converts --operands fp8 --case " LAYER);
    expect(2, "--converts is of products", "predict --converts --ep 4 --case " LAYER);
    expect(2, "--converts is of products", "trace --converts --to /dev/null --case " LAYER);
    expect(2, "--converts is of products", "sweep --converts --vary T=8,16 --case " SIZES);
    expect(2, "--converts is of products", "sweep --ep 2 --converts --vary T=8,16 --case " SIZES);
    expect(2, "--converts is of products", "predict --converts --against nowhere.json");
    expect(2, "say which by --operands too", "predict --converts --case " GEMM);
    expect(0, "convert A", "predict --converts --operands fp8 --case " GEMM);
    expect(2, "a product is cuBLAS's", "predict --method sonicmoe --case " GEMM);
    expect(0, "convert A", "predict --method cublas --converts --operands fp8 --case " GEMM);
    expect(2, "--layers, --dtype, --pass and --tokens go", "memory --tokens 9 --case " LAYER);
}

Test(unread, of_several_gpus) {
    static const char unread[] = "--chunks changes nothing in deepep and the others";
    expect(2, "--no-overlap changes nothing in ep_serial",
           "predict --ep 2 --method ep_serial --no-overlap --case " LAYER);
    expect(2, unread, "predict --ep 2 --method deepep --method comet --chunks 2 --case " LAYER);
    expect(0, "tutel", "predict --ep 2 --method deepep --method tutel --chunks 2 --case " LAYER);
    expect(2, "--chunks changes nothing in deepep; it is of fsmoe tutel hecate moeref_ep",
           "sweep --ep 2 --method deepep --chunks 2 --vary T=8,16 --case " SIZES);
    expect(2, "--chunks changes nothing in deepep",
           "sweep --ep 2 --method deepep --vary chunks=1,2 --vary T=8,16 --case " SIZES);
    expect(0, "deepep", "sweep --ep 2 --chunks 2 --vary method=deepep,tutel --case " LAYER);
    expect(2, "--chunks is of several GPUs", "trace --chunks 2 --to /dev/null --case " LAYER);
    expect(2, "--max-tiles is of one GPU",
           "trace --ep 2 --max-tiles 7 --to /dev/null --case " LAYER);
}

/* What an axis varies, and columns that a table has anyway. */
Test(unread, of_a_sweep) {
    expect(2, "--gpu is read at no point", "sweep --gpu h20 --vary gpu=h20,l40s --case " LAYER);
    expect(2, "--method is read at no point",
           "sweep --method moeref --vary method=momoe,sonicmoe --case " LAYER);
    expect(2, "--ep is read at no point", "sweep --ep 2 --vary ep=2,4 --case " LAYER);
    expect(2, "--y goes with --plot", "sweep --y us --vary T=8,16 --case " SIZES);
}

Test(unread, of_a_fit) {
    static const char *const fits[] = {"--folds 3", "--evaluations 9", "--sample 9", "--seed 0",
                                       "--min-us 4"};
    static const struct {
        const char *table, *options, *said;
    } rows[] = {
        {"deepgemm_fp8.tsv", "--source x", "--source goes into the file of --to"},
        {"deepgemm_fp8.tsv", "--method momoe", "--method momoe is of layers"},
        {"deepgemm_fp8.tsv", "--where a=b", "--node and --where are of transfers"},
        {"deepgemm_fp8.tsv", "--converts", "say which by --operands too"},
        {"peers.tsv", "--node h100-x8", "--node and --where are of transfers"},
        {"peers.tsv", "--converts --operands fp8", "--converts is of products"},
    };
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    char line[400];
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        snprintf(line, sizeof line, "calibrate --from %s/golden/sim/deepgemm_fp8.tsv %s", root,
                 fits[i]);
        expect(2, "are of a fit: say --free too", line);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(line, sizeof line, "calibrate --from %s/golden/sim/%s %s", root, rows[i].table,
                 rows[i].options);
        expect(2, rows[i].said, line);
    }
    expect(2, "--source goes into fitted.json", "measure --to /dev/null --no-fit --source x");
}

/* A node alone predicts transfers. */
Test(unread, of_transfers) {
    static const char table[] = "op\tgpus\tbytes\tus\nalltoall\t2\t1048576\t30\n"
                                "alltoall\t4\t8388608\t90\n";
    static const char *const rest[] = {"--clock settled", "--gpu h20",        "--method momoe",
                                       "--stream",        "--what-if sms=99", "--data constant"};
    char path[TEMPORARY_BYTES], line[300];
    temporary_file(path, ".tsv", table, sizeof table - 1);
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        snprintf(line, sizeof line, "calibrate --from %s --node h100-x8 %s", path, rest[i]);
        expect(2, "which a --node alone predicts", line);
    }
    snprintf(line, sizeof line, "calibrate --from %s --node h100-x8 --where gpus=2", path);
    expect(0, "on h100-x8", line);
    temporary_remove(path);
}

Test(unread, of_a_run_over_ranks) {
    expect(2, "--transport is of ranks: say --ep too",
           "check --backend reference --transport threads --case " SMALL);
    expect(2, "--transport is of ranks: say --ep too",
           "bench --backend reference --no-check --transport threads --case " SMALL);
    expect(0, "2 ranks, threads",
           "check --backend reference --transport threads --case \"T=8 d=8 n=8 E=2 K=1 ep=2\"");
    expect(2, "--node-method is of the model",
           "bench --backend reference --node-method deepep --case " SMALL);
}

Test(unread, of_a_file_of_outputs) {
    static const char *const rest[] = {"--transport threads", "--ep-limit 4", "--ep-fault x"};
    char line[200];
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        snprintf(line, sizeof line, "check --outputs o %s --case %s", rest[i], SMALL);
        expect(2, "--outputs judges a file", line);
    }
    expect(2, "--scout is of samples", "check --outputs o --scout none --exhaustive --case " SMALL);
    expect(2, "are of backends that run", "check --outputs o --timeout 5 --case " SMALL);
    expect(2, "are of backends that run", "check --outputs o --no-isolation --case " SMALL);
}

Test(unread, of_a_selection) {
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    char line[700];
    expect(2, "no folder '/no/where'",
           "check --backend reference --golden /no/where --case " SMALL);
    snprintf(line, sizeof line,
             "check --backend reference --golden %s/golden --hf %s/golden/hf/"
             "mixtral",
             root, root);
    expect(2, "--golden is of the suite and of --case", line);
    snprintf(line, sizeof line,
             "check --backend reference --piece router --memory 9 --hf "
             "%s/golden/hf/mixtral",
             root);
    expect(2, "--memory makes pieces, --piece names one", line);
    snprintf(line, sizeof line, "check --outputs o --memory 9 --hf %s/golden/hf/mixtral", root);
    expect(2, "of a file --piece names one", line);
    expect(0, "--recipe eager was not used",
           "check --backend openblas --recipe eager --case " SMALL);
}

Test(unread, of_a_selftest) {
    expect(2, "--tokens goes with", "selftest --fault renorm_missing --tokens 4");
    expect(3, "/no/where", "selftest --fault renorm_missing --dtype fp32 --inputs /no/where");
    expect(2, "--golden is of cases", "selftest --fault renorm_missing --golden /");
    expect(2, "--size and --full are of the layers made for", "selftest --full --case " SMALL);
    expect(2, "--size and --full are of the layers made for", "selftest --size real --on-suite");
    expect(2, "--on-suite is of the suite's cases", "selftest --on-suite --case " SMALL);
    expect(2, "--list prints text", "selftest --list --output json");
}

Test(unread, of_lists) {
    expect(2, "--names KIND prints names alone", "list --names gpus --output json");
    expect(2, "--names KIND prints names alone", "list --names gpus --nodes");
    expect(2, "--verify and --write are of all files", "golden --verify --case " SMALL);
    expect(2, "--threads goes with --export", "golden --threads 2 --case " SMALL);
    expect(2, "--inputs goes with --export", "golden --inputs x --case " SMALL);
    expect(0, "--config \"x\"\n", "golden --config x");
}

/* A list of cases, or a file of inputs, is all that is timed. */
Test(unread, the_case_that_nobody_asked_for) {
    static const char cases[] = "T=8 d=8 n=8 E=2 K=1 dtype=fp32\n";
    char path[TEMPORARY_BYTES];
    temporary_file(path, ".txt", cases, sizeof cases - 1);
    outcome *o = moeref("bench --backend reference --no-check --repeat 1 --cases %s", path);
    cr_expect(o->code == 0 && strstr(o->text, "T=8 d=8") && !strstr(o->text, "T=2048"), "%s",
              o->text);
    free(o);
    temporary_remove(path);
}
