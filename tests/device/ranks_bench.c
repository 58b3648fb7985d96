/* moeref-ranks-bench REPEATS {CASE BACKEND...}...: cases whose plans are given, drawn once, on
 * backends that take turns, so that all meet the same clocks: medians of forward, backward and
 * their stages in us, and what moves between ranks. One JSON object a case, backend and line;
 * "rate" is GB/s of the rank that moves most, while it copies (the word `links` of ranks): X and dO
 * whole, dX~ a row a pair. */
#include "moeref/backend.h"
#include "moeref/case.h"
#include "moeref/ep.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_REPEATS = 100, MOST_STAGES = 40, MOST_RUNS = 32, WARMUP = 3 };

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int count) {
    qsort(x, (size_t)count, sizeof *x, ascending);
    return count ? x[count / 2] : 0;
}

typedef struct samples {
    double pass[2][MOST_REPEATS];
    double stage[MOST_STAGES][MOST_REPEATS];
    moe_cost last[MOST_STAGES];
    size_t stages;
} samples;

/* A case on a backend. */
typedef struct run {
    const char *spec;
    const moe_problem *p;
    moe_backend *backend;
    moe_layer *layer;
    samples s;
} run;

static moe_status run_once(run *r, int i) {
    samples *s = &r->s;
    const double start = now_us();
    moe_status status = moe_layer_forward(r->layer);
    const double middle = now_us();
    if (!status && r->p->pass & MOE_PASS_BWD)
        status = moe_layer_backward(r->layer);
    const double end = now_us();
    if (status || i < 0)
        return status;
    s->pass[0][i] = middle - start;
    s->pass[1][i] = end - middle;
    s->stages = moe_layer_timings(r->layer, s->last, MOST_STAGES);
    for (size_t k = 0; k < s->stages && k < MOST_STAGES; k++)
        s->stage[k][i] = s->last[k].us;
    return MOE_OK;
}

/* Most bytes of pairs' rows that one of the ranks sends to or gets from others. */
static double most_bytes(const moe_problem *p, int ranks) {
    moe_plan *plan[MOE_EP_MAX_RANKS] = {NULL};
    moe_ep_layout layout;
    double most = 0;
    for (int r = 0; r < ranks; r++) {
        const int64_t first = r * p->T / ranks, count = (r + 1) * p->T / ranks - first;
        int64_t *tokens = malloc((size_t)(count + 1) * sizeof *tokens);
        for (int64_t t = 0; tokens && t < count; t++)
            tokens[t] = first + t;
        if (!tokens || moe_plan_subset(p->plan, tokens, count, &plan[r]))
            return 0;
        free(tokens);
    }
    if (moe_ep_layout_make((const moe_plan *const *)plan, ranks, p->layer.E, MOE_EP_PAIRS, &layout))
        return 0;
    for (int r = 0; r < ranks; r++) {
        double sent = 0, got = 0;
        for (int q = 0; q < ranks; q++) {
            sent += q == r ? 0 : (double)layout.copies[r * ranks + q];
            got += q == r ? 0 : (double)layout.copies[q * ranks + r];
        }
        most = sent > most ? sent : most;
        most = got > most ? got : most;
    }
    moe_ep_layout_destroy(&layout);
    for (int r = 0; r < ranks; r++)
        moe_plan_destroy(&plan[r]);
    return most * (double)p->layer.d * 2;
}

static void print_stages(samples *s, int repeats, double there, double home) {
    for (size_t k = 0; k < s->stages && k < MOST_STAGES; k++) {
        const char *name = s->last[k].name;
        const double us = median(s->stage[k], repeats);
        const bool sends = !strcmp(name, "X there") || !strcmp(name, "dO there");
        const bool brings = !strcmp(name, "dX~ home");
        printf(", \"%s\": %.1f", name, us);
        if (sends || brings)
            printf(", \"%s rate\": %.1f", name, (sends ? there : home) / (us > 0 ? us : 1) * 1e-3);
    }
}

static moe_status open_run(moe_backends *all, run *r) {
    const moe_problem *p = r->p;
    const moe_open_params open = {.log = &log_to_stderr};
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    const moe_input input = {p->T, p->in.t[MOE_T_X], p->in.t[MOE_T_DO], p->plan, p->seed};
    moe_status status = moe_backend_open(all, r->spec, &open, &log_to_stderr, &r->backend);
    if (!status)
        status = moe_layer_prepare(r->backend, &p->layer, &use, &p->in, &r->layer);
    return status ? status : moe_layer_set_input(r->layer, &input);
}

static void print_run(run *r, int repeats) {
    const moe_problem *p = r->p;
    samples *s = &r->s;
    const char *word = strstr(r->spec, "ranks");
    const int ranks = word ? atoi(word + 5) : 1;
    const double there =
        (double)((p->T + ranks - 1) / ranks * (ranks - 1)) * (double)p->layer.d * 2;
    const double home = most_bytes(p, ranks);
    const double fwd = median(s->pass[0], repeats), bwd = median(s->pass[1], repeats);
    const double fwd_least = s->pass[0][0], bwd_least = s->pass[1][0]; /* median has sorted them */
    printf("{\"backend\": \"%s\", \"case\": \"%s\", \"fwd\": %.1f, \"bwd\": %.1f, "
           "\"fwd_least\": %.1f, \"bwd_least\": %.1f, \"there_mb\": %.1f, \"home_mb\": %.1f",
           r->spec, p->name, fwd, bwd, fwd_least, bwd_least, there * 1e-6, home * 1e-6);
    print_stages(s, repeats, there, home);
    printf("}\n");
}

/* A problem of the words' first, a run of each of the others up to the next case. */
static moe_status read_words(int count, char **word, moe_problem **problem, run *runs, int *made) {
    moe_problem *p = NULL;
    for (int i = 0; i < count; i++) {
        if (strchr(word[i], '=')) {
            moe_case c;
            moe_status status = moe_case_parse(word[i], &log_to_stderr, &c);
            if (status)
                return status;
            status = moe_problem_from_case(&c, &log_to_stderr, &p);
            moe_case_destroy(&c);
            if (status)
                return status;
            *problem++ = p;
        } else if (p && *made < MOST_RUNS) {
            runs[(*made)++] = (run){.spec = word[i], .p = p};
        }
    }
    return MOE_OK;
}

int main(int argc, char **argv) {
    static run runs[MOST_RUNS];
    moe_backends *all = NULL;
    moe_problem *problem[MOST_RUNS] = {NULL};
    int made = 0;
    if (argc < 4 || argc > MOST_RUNS)
        return 2;
    const int repeats = atoi(argv[1]) < MOST_REPEATS ? atoi(argv[1]) : MOST_REPEATS;
    moe_status status = read_words(argc - 2, argv + 2, problem, runs, &made);
    if (!status)
        status = moe_backends_load(NULL, &log_to_stderr, &all);
    for (int i = 0; !status && i < made; i++)
        status = open_run(all, &runs[i]);
    for (int round = -WARMUP; !status && round < repeats; round++)
        for (int i = 0; !status && i < made; i++)
            status = run_once(&runs[i], round);
    for (int i = 0; i < made; i++) {
        if (!status)
            print_run(&runs[i], repeats);
        moe_layer_destroy(&runs[i].layer);
        moe_backend_close(&runs[i].backend);
    }
    for (int i = 0; i < MOST_RUNS; i++)
        moe_problem_destroy(&problem[i]);
    moe_backends_destroy(&all);
    return status ? 3 : 0;
}
