/* moeref-bench-alternate: two builds of a backend, or two backends, on one layer in one process,
 * their passes taking turns in time, so that a clock that drifts or a neighbour hits both alike.
 *
 * Where a build's buffers lie moves its times by some percent. So there are two rounds: in the
 * second the other build is prepared first and gets, with most allocators, the addresses that the
 * first had. What is reported is the geometric mean of the two rounds' ratios. */
#include "core/clock.h"
#include "core/samples.h"
#include "moeref/backend.h"
#include "moeref/case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: moeref-bench-alternate A B CASE [PASSES]\n\n"
    "Times forward and backward of two backends (names or paths of plug-ins) on one case of the\n"
    "grammar, turn by turn in one process, and prints B's time over A's: medians of PASSES\n"
    "(default 60) in each of two rounds, the order of preparation swapped between them. A pass is\n"
    "the sum of the kernel times that a backend reports, or wall time where it reports none.\n\n"
    "Exit codes: 0 done, 2 usage, 3 could not run.\n";

enum { EXIT_USAGE = 2, EXIT_CANNOT_RUN = 3, PASSES_MAX = 1000, KERNELS_MAX = 64, WARM_UP = 5 };
enum { FORWARD, BACKWARD, DIRECTIONS };

/* One backend with the case's layer, and its times in microseconds. */
typedef struct side {
    const char *spec;
    moe_backend *backend;
    moe_layer *layer;
    double us[DIRECTIONS][PASSES_MAX];
} side;

static void print_message(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_WARN)
        fprintf(stderr, "moeref-bench-alternate: %s\n", message);
}

static const moe_log log_to_stderr = {print_message, NULL};

/* Sum of the layer's kernels so far in this step; 0 where it times none. */
static double kernel_us(moe_layer *layer) {
    moe_cost kernel[KERNELS_MAX];
    double sum = 0;
    size_t count = moe_layer_timings(layer, kernel, KERNELS_MAX);
    for (size_t i = 0; i < count && i < KERNELS_MAX; i++)
        sum += kernel[i].us;
    return sum;
}

static moe_status prepare(const moe_problem *p, side *s) {
    const moe_use use = {
        .tokens = p->T, .dtype = p->dtype, .pass = MOE_PASS_BOTH, .plan_given = p->plan != NULL};
    const moe_input input = {p->T, p->in.t[MOE_T_X], p->in.t[MOE_T_DO], p->plan, p->seed};
    moe_status status = moe_layer_prepare(s->backend, &p->layer, &use, &p->in, &s->layer);
    return status ? status : moe_layer_set_input(s->layer, &input);
}

/* Pass i of one side; a warm-up where i is negative. The kernels of a backward pass are those of
 * the whole step less the forward pass's. */
static moe_status run(side *s, int i) {
    double us[DIRECTIONS], start = moe_int_now_us(), forward, both;
    moe_status status = moe_layer_forward(s->layer);
    us[FORWARD] = moe_int_now_us() - start;
    forward = status ? 0 : kernel_us(s->layer);
    start = moe_int_now_us();
    if (!status)
        status = moe_layer_backward(s->layer);
    us[BACKWARD] = moe_int_now_us() - start;
    both = status ? 0 : kernel_us(s->layer);
    for (int k = 0; k < DIRECTIONS && i >= 0; k++)
        s->us[k][i] = both > 0 ? (k == FORWARD ? forward : both - forward) : us[k];
    return status;
}

/* One round: `first` is prepared first. Returns medians of both, [side][direction]. */
static moe_status run_round(const moe_problem *p, side *sides, int first, int passes,
                            double ret[2][DIRECTIONS]) {
    moe_status status = prepare(p, &sides[first]);
    if (!status)
        status = prepare(p, &sides[1 - first]);
    for (int i = -WARM_UP; !status && i < passes; i++) {
        int leads = i & 1; /* who goes first changes from pass to pass */
        status = run(&sides[leads], i);
        if (!status)
            status = run(&sides[1 - leads], i);
    }
    for (int j = 0; j < 2; j++) {
        moe_layer_destroy(&sides[j].layer);
        for (int k = 0; k < DIRECTIONS && !status; k++)
            ret[j][k] = moe_int_median(sides[j].us[k], (size_t)passes);
    }
    return status;
}

static moe_status alternate(const moe_problem *p, side *sides, int passes) {
    static const char *const names[] = {"forward", "backward"};
    double us[2][2][DIRECTIONS];
    moe_status status = MOE_OK;
    for (int round = 0; round < 2 && !status; round++)
        status = run_round(p, sides, round, passes, us[round]);
    for (int k = 0; k < DIRECTIONS && !status; k++) {
        double ratio[2] = {us[0][1][k] / us[0][0][k], us[1][1][k] / us[1][0][k]};
        printf("%-8s A %.1f %.1f us, B %.1f %.1f us, B / A %.4f %.4f, mean %.4f\n", names[k],
               us[0][0][k], us[1][0][k], us[0][1][k], us[1][1][k], ratio[0], ratio[1],
               sqrt(ratio[0] * ratio[1]));
    }
    return status;
}

static moe_status open_and_run(const moe_problem *p, side *sides, int passes) {
    moe_backends *all = NULL;
    moe_status status = moe_backends_load(NULL, &log_to_stderr, &all);
    for (int i = 0; i < 2 && !status; i++)
        status = moe_backend_open(all, sides[i].spec, NULL, &log_to_stderr, &sides[i].backend);
    if (!status)
        status = alternate(p, sides, passes);
    for (int i = 0; i < 2; i++)
        moe_backend_close(&sides[i].backend);
    moe_backends_destroy(&all);
    return status;
}

int main(int argc, char **argv) {
    static side sides[2];
    const int passes = argc > 4 ? atoi(argv[4]) : 60;
    moe_case c;
    moe_problem *problem = NULL;
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return printf("%s", help) < 0;
    if (argc < 4 || argc > 5 || passes < 1 || passes > PASSES_MAX) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    if (moe_case_parse(argv[3], &log_to_stderr, &c))
        return EXIT_USAGE;
    sides[0].spec = argv[1];
    sides[1].spec = argv[2];
    moe_status status = moe_problem_from_case(&c, &log_to_stderr, &problem);
    if (!status)
        status = open_and_run(problem, sides, passes);
    if (!status)
        printf("%s, %d passes a round\n", problem->name, passes);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
    return status ? EXIT_CANNOT_RUN : 0;
}
