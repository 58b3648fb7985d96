/* What the openblas plug-in says of itself: memory, times, rates, what it rounds; that it leaves
 * the host's thread setting alone, and what it says when memory runs out. */
#include "core/clock.h"
#include "moeref/model.h"
#include "openblas_run.h"
#include "rows.h"

#include <omp.h>
#include <sys/resource.h>
#include <unistd.h>

/* What backward needs is X, H and the routing: nothing of size [P][d] is counted as cached. */
Test(openblas_report, memory_is_the_ledger_s) {
    backend_run r;
    moe_memory m;
    open_or_skip(&r, 2);
    run_prepare(&r, "T=256 d=64 n=32 E=4 K=2 dtype=fp32 route=uniform");
    run_step(&r, &r.input);
    cr_assert_eq(moe_layer_memory(r.layer, &m), MOE_OK);
    int64_t P = 512, H = P * 64 * 4, weights = P * 4;
    cr_expect_eq(m.weights, 0, "fp32 parameters are used in place");
    cr_expect_eq(m.cached, H + weights);
    /* and dH, one [P][d] work buffer, O, dX, dS, packing of at most 512 rows, tasks */
    int64_t rest = H + P * 64 * 4 + 2 * 256 * 64 * 4 + P * 8 + 2 * 512 * 64 * 4 + 4096;
    cr_expect_leq(m.peak, m.cached + rest);
    run_close(&r);
}

static double ledger_bytes(const moe_prediction *p, const char *name) {
    for (size_t i = 0; i < p->n_tensors; i++)
        if (strcmp(p->tensors[i].name, name) == 0)
            return 2 * p->tensors[i].bytes; /* four a value in place of two */
    cr_assert_fail("the ledger has no %s", name);
    return 0;
}

/* The model's ledger of this dataflow of values of four bytes against the backend's own account. X
 * and dO are the caller's in fp32; the backend keeps combine weights and, at the end, dS, and has
 * one buffer for Y, A' and dX~; packing and tasks are its own. */
static void expect_ledger(const char *line, int64_t own) {
    backend_run r;
    moe_memory m;
    moe_gpu *gpu = NULL;
    moe_prediction *p = NULL;
    open_or_skip(&r, 1);
    run_prepare(&r, line);
    run_step(&r, &r.input);
    cr_assert_eq(moe_layer_memory(r.layer, &m), MOE_OK);
    const moe_workload w = {.layer = &r.problem->layer, .tokens = r.problem->T};
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_predict(gpu, "moeref", &w, NULL, &p), MOE_OK);
    const double pairs = (double)r.problem->plan->n_pairs;
    const double cached = 2 * p->cached_bytes - ledger_bytes(p, "X") + 4 * pairs;
    cr_expect_eq((double)m.cached, cached, "%s: cached %lld, not %.0f", line, (long long)m.cached,
                 cached);
    const double rest = (double)m.peak - cached - ledger_bytes(p, "dH") - ledger_bytes(p, "Y") -
                        ledger_bytes(p, "O") - ledger_bytes(p, "dX") - 8 * pairs;
    cr_expect(rest >= 0 && rest <= (double)own, "%s: %.0f bytes of its own", line, rest);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
    run_close(&r);
}

Test(openblas_report, memory_is_the_model_s) {
    const int64_t tasks = 4096, packed = (int64_t)512 * 4;
    expect_ledger("T=256 d=64 n=32 E=4 K=2 dtype=fp32 route=uniform", packed * 64 + tasks);
    expect_ledger("T=1000 d=96 n=48 E=8 K=3 dtype=fp32 route=uniform", packed * 96 + tasks);
    expect_ledger("T=300 d=64 n=16 E=2 K=1 dtype=fp32 route=balanced", packed * 64 + tasks);
}

Test(openblas_report, times_every_stage) {
    static const char *const want[] = {"router", "A",   "Y",  "O",   "dH",
                                       "dW2",    "dXp", "dX", "dW1", "router_backward"};
    backend_run r;
    moe_cost cost[32];
    double flops = 0;
    open_or_skip(&r, 2);
    run_prepare(&r, "T=128 d=64 n=32 E=4 K=2 dtype=fp32");
    run_step(&r, &r.input);
    size_t count = moe_layer_timings(r.layer, cost, 32);
    cr_assert_eq(count, 10);
    for (size_t i = 0; i < count; i++) {
        cr_expect_str_eq(cost[i].name, want[i]);
        cr_expect_gt(cost[i].us, 0);
        if (i > 0 && i < 9 && strcmp(want[i], "O") != 0 && strcmp(want[i], "dX") != 0)
            flops += cost[i].flops; /* of the products: O and dX are sums */
    }
    cr_expect_eq(flops, moe_layer_flops(&r.problem->layer, 128, 256, 0) +
                            moe_layer_flops(&r.problem->layer, 128, 256, 1));
    cr_expect_eq(moe_layer_timings(r.layer, cost, 3), 10, "the count does not depend on capacity");
    run_close(&r);
}

/* With a gated shared expert: its stages have names and FLOPs of their own, and no time is
 * counted twice. */
Test(openblas_report, times_every_stage_of_a_shared_expert) {
    static const char *const want[] = {
        "router",     "A",         "Y",         "O",         "dH",
        "dW2",        "dXp",       "dX",        "dW1",       "router_backward",
        "A_shared",   "Y_shared",  "O_shared",  "dH_shared", "dW2_shared",
        "dXp_shared", "dX_shared", "dW1_shared"};
    enum { STAGES = sizeof want / sizeof *want };
    backend_run r;
    moe_cost cost[32];
    double sum = 0, flops = 0;
    open_or_skip(&r, 2);
    run_prepare(&r, "T=512 d=128 n=64 E=4 K=2 shared=96 shared_gate=1 dtype=fp32");
    const double begin = moe_int_now_us();
    run_step(&r, &r.input);
    const double wall = moe_int_now_us() - begin;
    size_t count = moe_layer_timings(r.layer, cost, 32);
    for (size_t i = 0; i < count && i < STAGES; i++)
        cr_expect_str_eq(cost[i].name, want[i]);
    cr_assert_eq(count, STAGES);
    for (size_t i = 0; i < STAGES; i++) {
        cr_expect_gt(cost[i].us, 0, "%s", want[i]);
        sum += cost[i].us;
        flops += i >= 10 ? cost[i].flops : 0;
    }
    cr_expect_leq(sum, wall);
    /* A and Y, and twice that backward: 2 T d (2 n + n) each time; O and dX: a weight and a sum */
    cr_expect_eq(flops, 3 * 2. * 512 * 128 * 3 * 96 + 2 * 2. * 512 * 128);
    run_close(&r);
}

/* Between what no machine that runs this is as slow as, and what two threads cannot do: 128 FLOPs a
 * clock each at 6 GHz, and some ten channels of memory. A wrong unit is a factor of at least 1000.
 */
static void expect_plausible(const moe_roofline *got) {
    cr_expect(got->memory_rate > 1e8 && got->memory_rate < 1e12, "%g B/s", got->memory_rate);
    cr_expect(got->gemm_flops > 1e8 && got->gemm_flops < 2 * 128 * 6e9, "%g FLOP/s",
              got->gemm_flops);
}

/* OpenBLAS's OpenMP build changes the calling thread's setting when asked to use one thread. */
Test(openblas_report, host_s_thread_setting_is_left_alone) {
    backend_run r;
    moe_roofline roofline;
    omp_set_num_threads(3);
    open_or_skip(&r, 2);
    run_prepare(&r, "T=64 d=32 n=16 E=4 K=2 dtype=fp32");
    run_step(&r, &r.input);
    cr_expect_eq(omp_get_max_threads(), 3, "after a step");
    cr_assert_eq(moe_backend_roofline(r.backend, &roofline), MOE_OK);
    cr_expect_eq(omp_get_max_threads(), 3, "after the roofline");
    expect_plausible(&roofline);
    cr_expect(strstr(roofline.source, "2 threads"), "%s", roofline.source);
    run_close(&r);
}

static int32_t arithmetic_of(backend_run *r, const char *line) {
    moe_support support;
    run_draw_case(r, line);
    cr_assert_eq(moe_backend_supports(r->backend, &r->problem->layer, &r->use, &support), MOE_OK);
    moe_problem_destroy(&r->problem);
    return support.arithmetic;
}

/* Products of bf16 are declared, and made only where inputs and weights are bf16. */
Test(openblas_report, says_what_it_rounds) {
    const char *line[] = {"T=64 d=32 n=16 E=4 K=2", "T=64 d=32 n=16 E=4 K=2 dtype=fp16",
                          "T=64 d=32 n=16 E=4 K=2 dtype=fp32"};
    backend_run plain, r;
    open_spec_or_skip(&plain, "openblas:fp32", 2);
    open_or_skip(&r, 2);
    cr_expect_eq(arithmetic_of(&r, line[0]), ob_pairs() ? MOE_BF16 : MOE_F32);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(arithmetic_of(&plain, line[i]), MOE_F32);
        cr_expect(i == 0 || arithmetic_of(&r, line[i]) == MOE_F32);
    }
    run_close(&plain);
    run_close(&r);
}

Test(openblas_report, has_no_variant) {
    backend_run r;
    open_or_skip(&r, 1);
    moe_backend *none = NULL;
    cr_expect_eq(moe_backend_open(r.all, "openblas:bf16", NULL, &r.log, &none), MOE_E_NOTFOUND);
    cr_expect(strstr(r.seen.text, "'bf16'"));
    cr_expect_null(none);
    run_close(&r);
}

/* Address space for so many more bytes than the process has now. */
static void leave_room_for(size_t bytes) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld", &pages) != 1)
        cr_skip("no /proc/self/statm to learn the process's size from");
    fclose(file);
    rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
    cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}), 0);
}

/* A wide layer, drawn or also prepared, and no more than `room` bytes for what comes next. */
static void open_with_room(backend_run *r, void (*go)(backend_run *, const char *), size_t room) {
#ifdef __SANITIZE_ADDRESS__
    cr_skip("AddressSanitizer needs all of the address space");
#endif
    open_or_skip(r, 2);
    go(r, "T=2000 d=512 n=64 E=4 K=4 dtype=bf16 route=uniform");
    leave_room_for(room);
}

static void expect_no_memory(const backend_run *r, moe_status status) {
    cr_expect_eq(status, MOE_E_NOMEM);
    cr_expect(strstr(r->seen.text, "no memory"), "%s", r->seen.text);
}

Test(openblas_report, memory_runs_out_while_preparing) {
    backend_run r;
    open_with_room(&r, run_draw_case, 1 << 20);
    expect_no_memory(
        &r, moe_layer_prepare(r.backend, &r.problem->layer, &r.use, &r.problem->in, &r.layer));
    cr_expect_null(r.layer);
    run_close(&r);
}

Test(openblas_report, memory_runs_out_with_the_plan) {
    backend_run r;
    open_with_room(&r, run_prepare, 4 << 20);
    expect_no_memory(&r, moe_layer_set_input(r.layer, &r.input));
    cr_expect_eq(moe_layer_forward(r.layer), MOE_E_INVALID, "there is no input");
    run_close(&r);
}
