#include "cli/report/bench.h"
#include "cli/input/messages.h"
#include "cli/report/csv.h"
#include "cli/report/json_text.h"

static void progress(void *user, int32_t done, int32_t of) {
    cli_progress("timing %s: run %d of %d", (const char *)user, done + 1, of);
}

int cli_timing_check(const cli_timing *timing) {
    if (timing->repeats < 1 || timing->repeats > 10000)
        return cli_usage("--repeat takes 1 to 10000");
    if (timing->settle_ms < 0 || timing->settle_ms > 600000)
        return cli_usage("--settle takes 0 to 600000 milliseconds");
    if (timing->method && !timing->gpu)
        return cli_usage("--method is of the GPU model: name a --gpu too");
    if (timing->method && !moe_method_brief(timing->method))
        return cli_usage("there is no method '%s'; moeref predict --help lists them",
                         timing->method);
    moe_gpu *gpu = NULL;
    const moe_status status = timing->gpu ? moe_gpu_load(timing->gpu, cli_log(), &gpu) : MOE_OK;
    moe_gpu_destroy(&gpu);
    return status ? cli_exit_code(status) : -1;
}

moe_status cli_bench_time(moe_backend *backend, const moe_problem *problem,
                          const cli_timing *timing, moe_bench_result *ret) {
    moe_gpu *gpu = NULL;
    moe_status status = timing->gpu ? moe_gpu_load(timing->gpu, cli_log(), &gpu) : MOE_OK;
    moe_bench_params params = {.repeats = (int32_t)timing->repeats,
                               .settle_ms = (int32_t)timing->settle_ms,
                               .cold_cache = timing->cold_cache,
                               .no_roofline = gpu != NULL,
                               .gpu = gpu,
                               .method = timing->method,
                               .progress = progress,
                               .user = problem->name};
    cli_progress("timing %s: the device's own rates, first", problem->name);
    if (!status)
        status = moe_bench_run(backend, problem, &params, cli_log(), ret);
    moe_gpu_destroy(&gpu);
    cli_progress_clear();
    return status;
}

#define ON_MODEL    0.10 /* within it a time needs no explanation */
#define TIMER_SLACK 0.02 /* event timers are good to half a microsecond; kernels here take tens */

bool cli_time_impossible(double measured, double least) {
    return measured < least * (1 - TIMER_SLACK);
}

const char *cli_time_verdict(double measured, double predicted, double least) {
    if (cli_time_impossible(measured, least))
        return "impossible: below the floor, a measuring error";
    if (measured > predicted * (1 + ON_MODEL))
        return "slow";
    return measured < predicted * (1 - ON_MODEL) ? "faster than the model" : "on model";
}

/* The i-th row of a report: passes, then kernels; NULL past the end. */
static const moe_bench_times *row_at(const moe_bench_result *r, size_t i) {
    if (i < 3)
        return &r->pass[i];
    return i - 3 < r->n_kernels ? &r->kernel[i - 3] : NULL;
}

bool cli_bench_impossible(const moe_problem *problem, const moe_bench_result *r) {
    const moe_bench_times *t;
    for (size_t i = 0; (t = row_at(r, i)); i++) {
        if (!(t->median_us > 0) || !cli_time_impossible(t->median_us, t->least_us))
            continue;
        moe_log_send(cli_log(), MOE_LOG_ERROR,
                     "%s: %s took %.1f us and cannot take less than %.1f us on this GPU: a "
                     "measuring error, or another GPU's description",
                     problem->name, t->name, t->median_us, t->least_us);
        return true;
    }
    return false;
}

static void print_row(FILE *to, const moe_bench_times *t) {
    fprintf(to, "  %-15s %12.1f %7.1f%%", t->name, t->median_us, 100 * t->spread);
    if (t->flops > 0 && t->median_us > 0)
        fprintf(to, " %10.1f", t->flops / t->median_us * 1e-3);
    else
        fprintf(to, " %10s", "-");
    if (t->predicted_us > 0)
        fprintf(to, " %12.1f %9.2f", t->predicted_us, t->median_us / t->predicted_us);
    if (t->floor_us > 0)
        fprintf(to, " %12.1f", t->floor_us);
    if (t->floor_us > 0)
        fprintf(to, "  %-8s %s", t->bound_by,
                cli_time_verdict(t->median_us, t->predicted_us, t->least_us));
    else if (t->predicted_us > 0 && t->bound_by[0])
        fprintf(to, "  %s", t->bound_by);
    fprintf(to, "\n");
}

static void print_range(FILE *to, const char *between, const moe_bench_range *r, const char *unit) {
    if (r->median > 0)
        fprintf(to, "%s%.0f %s", between, r->median, unit);
    if (r->max > r->min)
        fprintf(to, " (%.0f to %.0f)", r->min, r->max);
}

static void print_source(FILE *to, const moe_bench_result *r) {
    if (r->model[0]) {
        fprintf(to, "  predicted: GPU cost model, method %s", r->model);
        if (r->model_mhz > 0)
            fprintf(to, ": %.0f MHz assumed", r->model_mhz);
        print_range(to, ", measured ", &r->board.sm_mhz, "MHz");
        fprintf(to, "\n");
    } else if (r->has_roofline)
        fprintf(
            to,
            "  predicted: host roofline, a first model: %.1f GFLOP/s and %.1f GB/s (%s);\n"
            "  whole stages at that rate, without overhead: below 1 the backend's own kernels, or "
            "a quieter machine, were faster than that\n",
            r->roofline.gemm_flops * 1e-9, r->roofline.memory_rate * 1e-9, r->roofline.source);
    else
        fprintf(to, "  predicted: nothing; the backend does not measure its device's ceilings\n");
}

/* What lowered the clock, as words; NULL past the end. */
static const char *throttle_word(int32_t bits, int i) {
    static const struct {
        int32_t bit;
        const char *word;
    } words[] = {
        {MOE_THROTTLE_POWER, "power"}, {MOE_THROTTLE_HEAT, "heat"}, {MOE_THROTTLE_OTHER, "other"}};
    for (size_t w = 0; w < sizeof words / sizeof *words; w++)
        if (bits & words[w].bit && i-- == 0)
            return words[w].word;
    return NULL;
}

static void print_board(FILE *to, const moe_bench_board *b) {
    const char *word;
    if (!b->samples)
        return;
    fprintf(to, "  board, %d samples:", (int)b->samples);
    print_range(to, " SM ", &b->sm_mhz, "MHz");
    print_range(to, ", memory ", &b->memory_mhz, "MHz");
    print_range(to, ", ", &b->power_w, "W");
    if (b->before.power_limit_w > 0)
        fprintf(to, " of %.0f W", b->before.power_limit_w);
    print_range(to, ", ", &b->temperature_c, "C");
    for (int i = 0; (word = throttle_word(b->throttled_by, i)); i++)
        fprintf(to, "%s%s", i ? ", " : "; clock lowered by ", word);
    fprintf(to, "\n");
}

void cli_bench_text(FILE *to, const moe_problem *problem, const char *backend,
                    const moe_bench_result *r) {
    fprintf(to, "bench %s on %s, %d runs\n", problem->name, backend, r->repeats);
    fprintf(to, "  %-15s %12s %8s %10s %12s %9s%s\n", "", "median us", "spread", "GFLOP/s",
            "predicted us", "measured/", r->model[0] ? "     floor us" : "");
    for (int i = 0; i < 3; i++)
        if (r->pass[i].median_us > 0)
            print_row(to, &r->pass[i]);
    for (size_t k = 0; k < r->n_kernels; k++)
        print_row(to, &r->kernel[k]);
    print_source(to, r);
    if (r->has_memory)
        fprintf(to,
                "  memory: own copies of weights %.1f MiB, cached for backward %.1f MiB, peak %.1f "
                "MiB\n",
                (double)r->memory.weights / 1048576, (double)r->memory.cached / 1048576,
                (double)r->memory.peak / 1048576);
    print_board(to, &r->board);
}

static json_t *times_json(const moe_bench_times *t) {
    /* The name may be a plug-in's. */
    json_t *o = json_pack("{s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "name",
                          cli_json_text(t->name), "measured_us", t->median_us, "min_us", t->min_us,
                          "max_us", t->max_us, "spread", t->spread, "flops", t->flops, "bytes",
                          t->bytes, "predicted_us", t->predicted_us, "floor_us", t->floor_us,
                          "bound_by", t->bound_by);
    if (t->floor_us > 0)
        json_object_set_new(
            o, "verdict",
            json_string(cli_time_verdict(t->median_us, t->predicted_us, t->least_us)));
    return o;
}

/* null where it is unknown. */
static json_t *known_json(double value) {
    return value > 0 ? json_real(value) : json_null();
}

static json_t *range_json(const moe_bench_range *r) {
    if (!(r->median > 0))
        return json_null();
    return json_pack("{s:f, s:f, s:f}", "median", r->median, "min", r->min, "max", r->max);
}

static json_t *board_json(const moe_bench_board *b) {
    json_t *throttled = json_array();
    const char *word;
    for (int i = 0; (word = throttle_word(b->throttled_by, i)); i++)
        json_array_append_new(throttled, json_string(word));
    json_t *before = json_pack("{s:o, s:o, s:o}", "sm_mhz", known_json(b->before.sm_mhz), "power_w",
                               known_json(b->before.power_w), "temperature_c",
                               known_json(b->before.temperature_c));
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "samples", (int)b->samples,
                     "sm_mhz", range_json(&b->sm_mhz), "memory_mhz", range_json(&b->memory_mhz),
                     "power_w", range_json(&b->power_w), "power_limit_w",
                     known_json(b->before.power_limit_w), "temperature_c",
                     range_json(&b->temperature_c), "throttled_by", throttled, "before", before);
}

json_t *cli_bench_json(const moe_problem *problem, const char *backend, const moe_bench_result *r) {
    json_t *passes = json_array(), *kernels = json_array();
    for (int i = 0; i < 3; i++)
        if (r->pass[i].median_us > 0)
            json_array_append_new(passes, times_json(&r->pass[i]));
    for (size_t k = 0; k < r->n_kernels; k++)
        json_array_append_new(kernels, times_json(&r->kernel[k]));
    json_t *root = json_pack("{s:o, s:o, s:i, s:o, s:o}", "case", cli_json_text(problem->name),
                             "backend", cli_json_text(backend), "repeats", (int)r->repeats,
                             "passes", passes, "kernels", kernels);
    if (r->model[0]) {
        json_object_set_new(root, "model", json_string(r->model));
        json_object_set_new(root, "model_sm_mhz", json_real(r->model_mhz));
    }
    if (r->has_roofline)
        json_object_set_new(root, "roofline",
                            json_pack("{s:f, s:f, s:s}", "gemm_flops", r->roofline.gemm_flops,
                                      "memory_rate", r->roofline.memory_rate, "source",
                                      r->roofline.source));
    if (r->has_memory)
        json_object_set_new(root, "memory",
                            json_pack("{s:I, s:I, s:I}", "weights_bytes",
                                      (json_int_t)r->memory.weights, "cached_bytes",
                                      (json_int_t)r->memory.cached, "peak_bytes",
                                      (json_int_t)r->memory.peak));
    json_object_set_new(root, "board", r->board.samples ? board_json(&r->board) : json_null());
    return root;
}

void cli_bench_csv_header(FILE *to) {
    fprintf(to, "case,backend,name,measured_us,min_us,max_us,spread,flops,bytes,predicted_us,"
                "floor_us,bound_by,sm_mhz,power_w,model_sm_mhz\n");
}

/* Empty where it is unknown. */
static void print_csv_known(FILE *to, double value) {
    if (value > 0)
        fprintf(to, ",%.0f", value);
    else
        fprintf(to, ",");
}

static void print_csv(FILE *to, const char *name, const char *backend, const moe_bench_times *t,
                      const moe_bench_result *r) {
    cli_csv_quoted(to, name);
    putc(',', to);
    cli_csv_text(to, backend);
    putc(',', to);
    cli_csv_text(to, t->name);
    fprintf(to, ",%.3f,%.3f,%.3f,%.4f,%.0f,%.0f,%.3f,%.3f,%s", t->median_us, t->min_us, t->max_us,
            t->spread, t->flops, t->bytes, t->predicted_us, t->floor_us, t->bound_by);
    print_csv_known(to, r->board.sm_mhz.median);
    print_csv_known(to, r->board.power_w.median);
    print_csv_known(to, r->model_mhz);
    fprintf(to, "\n");
}

void cli_bench_csv(FILE *to, const moe_problem *problem, const char *backend,
                   const moe_bench_result *r) {
    for (int i = 0; i < 3; i++)
        if (r->pass[i].median_us > 0)
            print_csv(to, problem->name, backend, &r->pass[i], r);
    for (size_t k = 0; k < r->n_kernels; k++)
        print_csv(to, problem->name, backend, &r->kernel[k], r);
}
