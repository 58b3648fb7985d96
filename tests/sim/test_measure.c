/* measure without a device, and lines that ask for several GPUs, as their users meet them. */
#include "run_moeref.h"
#include "temporary.h"

#include <math.h>
#include <sys/stat.h>

#define CASE "--case \"T=512 d=256 n=128 E=8 K=2 route=uniform\""

/* A stand-in for the program that needs a device: it copies a description and a table. */
Test(sim_verbs, measure_starts_the_program_and_fits) {
    char folder[TEMPORARY_BYTES], path[TEMPORARY_BYTES + 16];
    temporary_folder(folder);
    snprintf(path, sizeof path, "%s/program", folder);
    FILE *to = fopen(path, "w");
    cr_assert(to);
    fprintf(to,
            "#!/bin/sh\nset -e\ncp '%s/sim/gpus/h200-sxm.json' \"$1/gpu.json\"\n"
            "printf 'm n k median_us\\n' | tr ' ' '\\t' >\"$1/gemm.tsv\"\n"
            "for k in 512 2048 4096 8192 16384\n"
            "do printf '4096 4096 %%s %%s\\n' $k $((3 + k / 18)) | tr ' ' '\\t'\ndone "
            ">>\"$1/gemm.tsv\"\n"
            "printf 'm n k median_us\\n8192 8192 4096 900\\n8192 4096 8192 905\\n"
            "4096 8192 8192 910\\n' | tr ' ' '\\t' >\"$1/settled.tsv\"\n",
            getenv("MOEREF_SOURCE_ROOT"));
    fclose(to);
    cr_assert_eq(chmod(path, 0700), 0);
    char args[512];
    snprintf(args, sizeof args, "measure --program %s --to %s/out --source here", path, folder);
    expect(0, "--free throttle", args);
    snprintf(args, sizeof args,
             "calibrate --gpu %s/out/fitted.json --clock settled --from %s/out/settled.tsv", folder,
             folder);
    expect(0, "rows  mean  ", args);
    snprintf(args, sizeof args, "predict --gpu %s/out/fitted.json " CASE, folder);
    expect(0, "floor", args);
    snprintf(args, sizeof args, "measure --program %s --no-fit --to %s/out", path, folder);
    expect(0, "gpu.json", args);
    snprintf(args, sizeof args, "measure --program /bin/false --to %s/out", folder);
    expect(3, "measured nothing (exit code 1)", args);
    snprintf(args, sizeof args, "measure --program %s --to %s", path, path);
    expect(3, "no folder", args);
    snprintf(args, sizeof args, "measure --program %s/nowhere --to %s/out", folder, folder);
    expect(3, "moeref-measure, which a build with", args);
    expect(2, "needs --to", "measure");
    temporary_remove(folder);
}

static double number_of(const char *args, const char *member) {
    outcome *o = moeref("%s", args);
    const char *at = strstr(o->text, member);
    cr_assert(o->code == 0 && at, "%s", o->text);
    const double value = atof(at + strlen(member));
    free(o);
    return value;
}

static double total_of(const char *args) {
    return number_of(args, "\"total_us\":");
}

/* What a step of training keeps of every layer, a prompt does not: its activations are those of one
 * layer, and a layer's own prediction says the same. */
Test(sim_verbs, a_prompt_keeps_no_activations) {
    char args[4400];
    double bytes[2];
    for (int both = 0; both < 2; both++) {
        snprintf(args, sizeof args,
                 "predict --layers all --tokens 64 --method deepgemm --output json --pass %s "
                 "--config %s/golden/hf/mixtral/config.json",
                 both ? "both" : "fwd", getenv("MOEREF_SOURCE_ROOT"));
        bytes[both] = number_of(args, "\"activation_bytes\":");
        const double peak = number_of(args, "\"peak_bytes\":");
        cr_expect(both ? bytes[both] > peak : bytes[both] == peak, "%g of %g", bytes[both], peak);
    }
}

/* What a rate and a prediction are held to is told, and that they are held to nothing. */
Test(sim_verbs, what_is_not_measured_says_so) {
#define PRODUCT "predict --case \"gemm m=64 n=64 k=64\" --gpu "
    expect(0, "held to 2522 dense products", PRODUCT "h100-sxm");
    expect(0, "held to nothing: no product of nvfp4 was measured on b200-sxm",
           PRODUCT "b200-sxm --operands nvfp4");
    expect(0, "nvfp4 on b200-sxm is the vendor's peak, with the efficiency of bf16 there",
           PRODUCT "b200-sxm --operands nvfp4");
    expect(0, "bf16 on l40s is the vendor's peak, with the efficiency of a100-sxm", PRODUCT "l40s");
    expect(0,
           "held to nothing: no layer of bf16 and such a size by momoe was measured on h100-pcie",
           "predict --method momoe --gpu h100-pcie " CASE);
    expect(0, "nothing: no layer of bf16 and such a size by moeref was measured on h100-sxm",
           "predict --case \"T=8 d=64 n=64 E=4 K=2\"");
    expect(0, "\"operands\":\"int8\",\"held_to\":null,\"rate_held_to\":null",
           PRODUCT "h200-sxm --operands int8 --output json");
    expect(0, "convert A", PRODUCT "h100-sxm --operands fp8 --converts");
    expect(0, "int8, tf32: the vendor's peak alone", "list --gpus");
    expect(0, "bf16, fp16: rate held to 2522", "list --gpus");
#undef PRODUCT
}

/* --ep, --tp and --attention-tp say who has what of a whole model, or that it cannot be so. */
Test(sim_verbs, whole_models_over_several_gpus) {
    char args[4300], config[4096];
    snprintf(config, sizeof config,
             "predict --layers all --tokens 64 --config %s/golden/hf/mixtral/config.json",
             getenv("MOEREF_SOURCE_ROOT"));
#define WHOLE(says, code, options)                                                                 \
    snprintf(args, sizeof args, "%s " options, config);                                            \
    expect(code, says, args)
    WHOLE("allreduce with kernels of grouped_mm: ep=1 tp=2, attention over 2, 1 replica ", 0,
          "--tp 2");
    WHOLE("ep_serial with kernels of grouped_mm: ep=2 tp=1, attention over 1, 2 replicas", 0,
          "--ep 2");
    WHOLE("allreduce with kernels of momoe: ep=2 tp=1, attention over 2", 0,
          "--ep 2 --attention-tp 2 --compute momoe");
    WHOLE("memory of GPUs 0 to 1: ", 0, "--ep 2");
    WHOLE("memory of GPU 0: ", 0, "--ep 3"); /* eight experts: two, three and three */
    WHOLE("memory of GPUs 1 to 2: ", 0, "--ep 3");
    WHOLE("say --attention-tp 2, or another method", 2, "--ep 2 --method allreduce");
    WHOLE("or --method allreduce", 2, "--tp 2 --method deepep");
    WHOLE("--attention-tp 3 does not divide 2 GPUs", 2, "--ep 2 --attention-tp 3");
    WHOLE("do not divide over its 4 GPUs", 2, "--ep 8 --attention-tp 4 --tokens 63");
    WHOLE("more than the 8 GPUs of h100-x8", 2, "--ep 16");
    WHOLE("--attention-tp goes with --ep or --tp", 2, "--attention-tp 2");
    WHOLE("whole number from 1 on", 2, "--ep 2 --attention-tp -1");
    WHOLE("no method \"nonsense\"", 2, "--ep 2 --method nonsense");
#undef WHOLE
}

/* Words of a line say what options say, in predict's lines and in sweep's axes. */
Test(sim_verbs, lines_over_several_gpus) {
#define LAYER "T=512 d=256 n=128 E=8 K=2"
    const double us = total_of("predict --ep 4 --chunks 2 --output json --case '" LAYER "'");
    cr_expect_eq(us, total_of("predict --output json --case '" LAYER " ep=4 chunks=2'"));
    cr_expect_neq(us, total_of("predict --output json --case '" LAYER "'"));
    expect(2, "\"ep=x\": a whole number", "predict --case '" LAYER " ep=x'");
    expect(3, "text or json", "predict --output csv --case '" LAYER " ep=2'");
    expect(2, "say which by --node", "predict --what-if link_gbps*2 --case '" LAYER " ep=2'");
    outcome *o = moeref("sweep --vary ep=1,4 --vary chunks=2 --case '" LAYER "'");
    const char *row = strstr(o->text, "4,2,");
    cr_expect(row && fabs(atof(row + 4) - us) < 1e-6 * us, "%s", o->text);
    free(o);
    expect(0, "its experts are grouped_mm's",
           "predict --ep 2 --node a100-x8 --method moeref_ep --case '" LAYER "'");
    expect(2, "--cached is of several GPUs", "predict --cached 40 --case '" LAYER "'");
    expect(2, "--chunks is of several GPUs", "sweep --vary chunks=1,2 --case '" LAYER "'");
    expect(0, "block= is not modelled", "predict --case '" LAYER " block=chained'");
    expect(0, "quant= is not modelled",
           "sweep --vary K=1,2 --case 'T=64 d=64 n=64 E=4 quant=int4'");
    expect(0, "\"tflops\":null",
           "sweep --output json --vary K=1,2 --ep 2 --case 'T=64 d=64 n=64 E=4'");
}
