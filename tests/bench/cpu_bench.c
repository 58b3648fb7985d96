/* moeref-bench-cpu: a CPU backend's speed beside one large GEMM on the same threads, beside the
 * float32 plain loops, and over a range of token counts. */
#include "cpu_bench.h"
#include "moeref/reference.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "usage: moeref-bench-cpu [OPTIONS]\n\n"
    "Times forward and backward of one layer on a CPU backend, interleaved with the backend's\n"
    "large GEMM, and compares with the float32 plain loops. The layer routes itself, SwiGLU, "
    "fp32.\n\n"
    "  --T LIST         token counts, comma-separated (default 512,1024,2048,4096,8192)\n"
    "  --d N --n N      model and expert width (default 2048, 1024)\n"
    "  --E N --K N      experts, experts per token (default 64, 8)\n"
    "  --repeats N      timed repeats after one warm-up (default 5)\n"
    "  --threads N      threads, 0: all (default)\n"
    "  --loops-T N      tokens for the plain loops, 0: leave them out (default 64)\n"
    "  --backend SPEC   name or path (default openblas)\n"
    "  --json           one JSON object instead of a table\n"
    "  --help           this text\n\n"
    "Exit codes: 0 done, 2 usage, 3 could not run.\n";

enum { EXIT_USAGE = 2, EXIT_CANNOT_RUN = 3 };

static void print_message(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_WARN)
        fprintf(stderr, "moeref-bench-cpu: %s\n", message);
}

static const moe_log log_to_stderr = {print_message, NULL};

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void add_sample(bench_samples *samples, double value) {
    samples->value[samples->count++] = value;
}

static moe_status time_pass(moe_status (*pass)(moe_layer *), moe_layer *layer, double *ret_us) {
    double start = now_us();
    moe_status status = pass(layer);
    *ret_us = now_us() - start;
    return status;
}

/* One repeat: GEMM, forward, backward. The first of a layer is the warm-up. */
static moe_status measure_once(moe_backend *backend, moe_layer *layer, int warm_up, bench_row *row,
                               char *source) {
    moe_roofline gemm;
    double fwd, bwd;
    moe_status status = moe_backend_roofline(backend, &gemm);
    if (!status)
        status = time_pass(moe_layer_forward, layer, &fwd);
    if (!status)
        status = time_pass(moe_layer_backward, layer, &bwd);
    if (status || warm_up)
        return status;
    const moe_plan *plan;
    status = moe_layer_routing(layer, &plan);
    if (status)
        return status;
    memcpy(source, gemm.source, sizeof gemm.source);
    row->pairs = plan->n_pairs;
    add_sample(&row->gemm_flops, gemm.gemm_flops);
    add_sample(&row->fwd_us, fwd);
    add_sample(&row->bwd_us, bwd);
    return MOE_OK;
}

/* The first T rows of a larger tensor. */
static moe_tensor first_rows(moe_tensor t, int64_t T) {
    t.shape[0] = T;
    return t;
}

static moe_status measure_row(moe_backend *backend, const moe_problem *p, const bench_options *o,
                              int64_t T, bench_row *row, char *source) {
    moe_use use = {.tokens = T, .dtype = p->dtype, .pass = MOE_PASS_BOTH};
    moe_input input = {
        .tokens = T, .X = first_rows(p->in.t[MOE_T_X], T), .dO = first_rows(p->in.t[MOE_T_DO], T)};
    moe_layer *layer = NULL;
    row->T = T;
    moe_status status = moe_layer_prepare(backend, &o->desc, &use, &p->in, &layer);
    if (!status)
        status = moe_layer_set_input(layer, &input);
    for (int i = 0; !status && i <= o->repeats; i++)
        status = measure_once(backend, layer, i == 0, row, source);
    if (!status)
        status = moe_layer_memory(layer, &row->memory);
    moe_layer_destroy(&layer);
    row->fwd_flop = moe_layer_flops(&o->desc, T, row->pairs, 0);
    row->bwd_flop = moe_layer_flops(&o->desc, T, row->pairs, 1);
    for (int i = 0; i < row->gemm_flops.count; i++) {
        double seconds = 1e-6 * (row->fwd_us.value[i] + row->bwd_us.value[i]);
        add_sample(&row->ratio,
                   (row->fwd_flop + row->bwd_flop) / seconds / row->gemm_flops.value[i]);
    }
    return status;
}

static moe_status measure_loops(const moe_problem *p, const bench_options *o, int threads,
                                bench_result *r, double *ret_us) {
    moe_tensors in = p->in;
    in.t[MOE_T_X] = first_rows(in.t[MOE_T_X], o->loops_T);
    in.t[MOE_T_DO] = first_rows(in.t[MOE_T_DO], o->loops_T);
    moe_reference_params params = {.tokens = o->loops_T, .precision = MOE_F32, .threads = threads};
    moe_reference_result *result = NULL;
    double start = now_us();
    moe_status status = moe_reference_run(&o->desc, &in, &params, &log_to_stderr, &result);
    *ret_us = now_us() - start;
    if (status)
        return status;
    int64_t pairs = result->plan->n_pairs;
    r->loops_flop = moe_layer_flops(&o->desc, o->loops_T, pairs, 0) +
                    moe_layer_flops(&o->desc, o->loops_T, pairs, 1);
    moe_reference_result_destroy(&result);
    return MOE_OK;
}

/* One problem of the most tokens: all runs share its weights. */
static moe_status draw_problem(const bench_options *o, moe_problem **ret) {
    moe_case c;
    char line[128];
    int64_t most = o->loops_T;
    for (int i = 0; i < o->n_T; i++)
        most = o->T[i] > most ? o->T[i] : most;
    snprintf(line, sizeof line, "T=%lld d=%lld n=%lld E=%lld K=%lld dtype=fp32 seed=1",
             (long long)most, (long long)o->desc.d, (long long)o->desc.n, (long long)o->desc.E,
             (long long)o->desc.K);
    moe_status status = moe_case_parse(line, &log_to_stderr, &c);
    if (!status) {
        status = moe_problem_from_case(&c, &log_to_stderr, ret);
        moe_case_destroy(&c);
    }
    return status;
}

static moe_status measure(moe_backend *backend, const bench_options *o, bench_result *r) {
    moe_problem *problem = NULL;
    moe_status status = draw_problem(o, &problem);
    for (int i = 0; !status && i < o->n_T; i++) {
        status = measure_row(backend, problem, o, o->T[i], &r->row[i], r->gemm_source);
        if (!status && !o->json && i == 0)
            bench_print_header(o, r->gemm_source);
        if (!status && !o->json)
            bench_print_row(&r->row[i]);
    }
    if (!status && o->loops_T)
        status = measure_loops(problem, o, 1, r, &r->loops_us[0]);
    if (!status && o->loops_T)
        status = measure_loops(problem, o, o->threads, r, &r->loops_us[1]);
    moe_problem_destroy(&problem);
    return status;
}

static int parse_number(const char *text, int64_t low, int64_t high, int64_t *ret) {
    char *end;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || value < low || value > high)
        return 0;
    *ret = value;
    return 1;
}

static int parse_list(const char *text, bench_options *o) {
    char buf[256], *rest = buf;
    if (strlen(text) >= sizeof buf)
        return 0;
    strcpy(buf, text);
    o->n_T = 0;
    for (char *word; (word = strsep(&rest, ","));)
        if (o->n_T == BENCH_MAX_T || !parse_number(word, 1, INT32_MAX, &o->T[o->n_T++]))
            return 0;
    return 1;
}

enum {
    OPT_T = 1,
    OPT_D,
    OPT_N,
    OPT_E,
    OPT_K,
    OPT_REPEATS,
    OPT_THREADS,
    OPT_LOOPS,
    OPT_BACKEND,
    OPT_JSON,
    OPT_HELP
};

static int parse_value(int option, const char *text, bench_options *o) {
    int64_t number = 0;
    int ok = 1;
    switch (option) {
    case OPT_T:
        return parse_list(text, o);
    case OPT_D:
        return parse_number(text, 1, INT32_MAX, &o->desc.d);
    case OPT_N:
        return parse_number(text, 1, INT32_MAX, &o->desc.n);
    case OPT_E:
        return parse_number(text, 1, INT32_MAX, &o->desc.E);
    case OPT_K:
        return parse_number(text, 1, INT32_MAX, &o->desc.K);
    case OPT_REPEATS:
        ok = parse_number(text, 1, BENCH_MAX_REPEATS, &number);
        o->repeats = (int)number;
        return ok;
    case OPT_THREADS:
        ok = parse_number(text, 0, 4096, &number);
        o->threads = (int)number;
        return ok;
    case OPT_LOOPS:
        return parse_number(text, 0, INT32_MAX, &o->loops_T);
    case OPT_BACKEND:
        o->backend = text;
        return 1;
    default:
        o->json = 1;
        return 1;
    }
}

/* Returns 0 to go on, else 1 with the exit code set. */
static int parse_options(int argc, char **argv, bench_options *o, int *exit_code) {
    static const struct option options[] = {{"T", 1, NULL, OPT_T},
                                            {"d", 1, NULL, OPT_D},
                                            {"n", 1, NULL, OPT_N},
                                            {"E", 1, NULL, OPT_E},
                                            {"K", 1, NULL, OPT_K},
                                            {"repeats", 1, NULL, OPT_REPEATS},
                                            {"threads", 1, NULL, OPT_THREADS},
                                            {"loops-T", 1, NULL, OPT_LOOPS},
                                            {"backend", 1, NULL, OPT_BACKEND},
                                            {"json", 0, NULL, OPT_JSON},
                                            {"help", 0, NULL, OPT_HELP},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == OPT_HELP) {
            fputs(help, stdout);
            *exit_code = 0;
            return 1;
        }
        if (option == '?' || !parse_value(option, optarg, o)) {
            if (option != '?')
                fprintf(stderr, "moeref-bench-cpu: '%s' is not a value for this option\n", optarg);
            *exit_code = EXIT_USAGE;
            return 1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "moeref-bench-cpu: unexpected argument '%s'; see --help\n", argv[optind]);
        *exit_code = EXIT_USAGE;
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    bench_options o = {.T = {512, 1024, 2048, 4096, 8192},
                       .n_T = 5,
                       .repeats = 5,
                       .loops_T = 64,
                       .backend = "openblas"};
    int exit_code;
    moe_layer_desc_init(&o.desc);
    o.desc.d = 2048;
    o.desc.n = 1024;
    o.desc.E = 64;
    o.desc.K = 8;
    if (parse_options(argc, argv, &o, &exit_code))
        return exit_code;
    static bench_result result;
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_open_params params = {.threads = o.threads, .log = &log_to_stderr};
    result.options = &o;
    moe_status status = moe_backends_load(NULL, &log_to_stderr, &all);
    if (!status)
        status = moe_backend_open(all, o.backend, &params, &log_to_stderr, &backend);
    if (!status)
        status = measure(backend, &o, &result);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    if (status)
        return status == MOE_E_NOTFOUND || status == MOE_E_INVALID ? EXIT_USAGE : EXIT_CANNOT_RUN;
    if (o.json)
        bench_print_json(&result);
    else if (o.loops_T)
        bench_print_loops(&result);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : EXIT_CANNOT_RUN;
}
