/* moeref-operator-check BACKEND [TYPE]: what operators promise beyond right results, on any backend
 * that has them. A line for each promise, "pass", "FAIL" or "skip"; exits 0, 1, or 3 where the
 * backend cannot be opened.
 *
 *   add      8 micro-batches added into fp32 gradients: bit for bit the exact sums
 *   steps    20 numbers of tokens and counts one after the other, O as the oracle has it; the first
 *            call of each, in host microseconds
 *   infer    inference gives the same O, and keeps nothing
 *   threads  4 threads with two operators, 8 steps each, give the bits of one after the other
 *   replay   a captured forward and backward gives the same bits as the calls, on other values too
 */
#define _GNU_SOURCE
#include "operator_check.h"
#include "moeref/reference.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCHES = 8, STEPS = 20, THREADS = 4, ROUNDS = 8 };

static const char *type_name = "fp32";
static moe_backend *backend;

static void say(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level == MOE_LOG_ERROR)
        fprintf(stderr, "%s\n", message);
}

static const moe_log log_to_stderr = {say, NULL};

moe_problem *operator_draw(const char *format, int64_t tokens, int seed) {
    char line[256], typed[320];
    moe_case c;
    moe_problem *problem = NULL;
    snprintf(line, sizeof line, format, (long long)tokens, seed);
    snprintf(typed, sizeof typed, "%s dtype=%s", line, type_name);
    if (moe_case_parse(typed, &log_to_stderr, &c))
        exit(2);
    if (moe_problem_from_case(&c, &log_to_stderr, &problem))
        exit(2);
    moe_case_destroy(&c);
    return problem;
}

/* The problem's inputs with other weights. */
static void take_weights(const moe_problem *from, moe_problem *to) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (moe_tensor_role_of((moe_tensor_id)id) == MOE_ROLE_PARAM && from->in.t[id].data)
            memcpy(to->in.t[id].data, from->in.t[id].data,
                   (size_t)moe_tensor_bytes(&from->in.t[id]));
}

bool operator_verdict(const char *name, bool passes, const char *detail) {
    printf("%-8s %s  %s\n", name, passes ? "pass" : "FAIL", detail);
    fflush(stdout);
    return passes;
}

static double nmse(const moe_tensor *got, const moe_tensor *want) {
    double error = 0, size = 0;
    for (int64_t i = 0, count = moe_tensor_count(want); i < count; i++) {
        const double w = moe_load(want->data, want->dtype, (size_t)i);
        const double d = moe_load(got->data, got->dtype, (size_t)i) - w;
        error += isfinite(d) ? d * d : INFINITY;
        size += w * w;
    }
    return size > 0 ? error / size : error;
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* ---- add ---- */

static void add_oracle(const moe_problem *problem, moe_tensor_id id, moe_tensor *sum) {
    moe_reference_result *truth = NULL;
    if (moe_reference_problem(problem, 1, &log_to_stderr, &truth))
        exit(2);
    const moe_tensor *g = &truth->out.t[id];
    for (int64_t i = 0, count = moe_tensor_count(g); i < count; i++)
        ((double *)sum->data)[i] += ((const double *)g->data)[i];
    moe_reference_result_destroy(&truth);
}

static bool same_values(const moe_tensor *got, const moe_tensor *want) {
    for (int64_t i = 0, count = moe_tensor_count(want); i < count; i++)
        if (moe_load(got->data, got->dtype, (size_t)i) != ((const double *)want->data)[i])
            return false;
    return true;
}

static bool check_add(void) {
    static const char format[] =
        "T=%lld d=64 n=64 E=4 K=2 act=relu route=uniform data=exact seed=%d";
    static const moe_tensor_id ids[] = {MOE_T_DW1, MOE_T_DW2};
    operator_call c = {0};
    moe_tensor sum[2] = {{0}};
    moe_problem *first = operator_draw(format, 40, 1);
    moe_status status = operator_call_open(&c, backend, first, MOE_F32);
    if (!status)
        status = operator_call_weights(&c, &first->in);
    for (int k = 0; k < 2; k++)
        if (!status)
            status =
                moe_tensor_alloc(MOE_F64, c.call.t[ids[k]].ndim, c.call.t[ids[k]].shape, &sum[k]);
    for (int i = 0; !status && i < BATCHES; i++) {
        moe_problem *batch = operator_draw(format, 40 + 7 * i, 1 + i);
        take_weights(first, batch);
        status = operator_call_input(&c, batch);
        c.call.beta = i > 0; /* the first overwrites what is there */
        if (!status)
            status = moe_operator_forward(c.op, &c.call);
        if (!status)
            status = moe_operator_backward(c.op, &c.call);
        for (int k = 0; k < 2; k++)
            add_oracle(batch, ids[k], &sum[k]);
        moe_problem_destroy(&batch);
    }
    bool passes = !status;
    for (int k = 0; k < 2 && !status; k++) {
        moe_tensor got = {0};
        status = operator_call_fetch(&c, ids[k], &got);
        passes = passes && !status && same_values(&got, &sum[k]);
        moe_tensor_destroy(&got);
    }
    for (int k = 0; k < 2; k++)
        moe_tensor_destroy(&sum[k]);
    operator_call_close(&c);
    moe_problem_destroy(&first);
    return operator_verdict("add", passes, "dW1 and dW2 of 8 micro-batches in fp32, exact data");
}

/* ---- steps ---- */

const char *const operator_step_format = "T=%lld d=128 n=64 E=8 K=2 route=zipf:1.2 seed=%d";

static double gate(void) {
    return strcmp(type_name, "fp32") == 0 ? 1e-11 : 6e-5; /* of O, as the judge's */
}

static double step_error(const operator_call *c, const moe_problem *problem) {
    moe_reference_result *truth = NULL;
    moe_tensor got = {0};
    double error = INFINITY;
    if (moe_reference_problem(problem, 1, &log_to_stderr, &truth))
        exit(2);
    if (!operator_call_fetch(c, MOE_T_O, &got))
        error = nmse(&got, &truth->out.t[MOE_T_O]);
    moe_tensor_destroy(&got);
    moe_reference_result_destroy(&truth);
    return error;
}

static bool check_steps(void) {
    operator_call c = {0};
    char detail[160];
    double worst = 0, total_us = 0, most_us = 0;
    moe_problem *first = operator_draw(operator_step_format, 8, 3);
    moe_status status = operator_call_open(&c, backend, first, MOE_F32);
    if (!status)
        status = operator_call_weights(&c, &first->in);
    for (int i = 0; !status && i < STEPS; i++) {
        moe_problem *step = operator_draw(operator_step_format, 1 + 29 * i, 5 + i);
        take_weights(first, step);
        status = operator_call_input(&c, step);
        const double start_us = now_us();
        if (!status)
            status = moe_operator_forward(c.op, &c.call);
        if (!status)
            status = moe_operator_backward(c.op, &c.call);
        const double us = now_us() - start_us, error = status ? INFINITY : step_error(&c, step);
        worst = error > worst ? error : worst;
        total_us += us;
        most_us = i && us > most_us ? us : most_us; /* the first call loads kernels */
        moe_problem_destroy(&step);
    }
    operator_call_close(&c);
    moe_problem_destroy(&first);
    snprintf(detail, sizeof detail,
             "%d numbers of tokens, O: worst NMSE %.1e; host time of a forward and backward: mean "
             "%.0f us, most after the first %.0f us",
             STEPS, worst, total_us / STEPS, most_us);
    return operator_verdict("steps", !status && worst < gate(), detail);
}

/* ---- infer ---- */

static moe_tensor output_of(const moe_problem *problem, int32_t pass, int64_t *ret_cached) {
    operator_call c = {0};
    moe_tensor O = {0};
    moe_problem own = *problem;
    own.pass = pass;
    moe_status status = operator_call_open(&c, backend, &own, MOE_F32);
    if (!status)
        status = operator_call_weights(&c, &own.in);
    if (!status)
        status = operator_call_input(&c, &own);
    if (!status)
        status = moe_operator_forward(c.op, &c.call);
    if (!status)
        operator_call_fetch(&c, MOE_T_O, &O);
    *ret_cached = c.sizes.cached;
    operator_call_close(&c);
    return O;
}

bool operator_same_bits(const moe_tensor *a, const moe_tensor *b) {
    return a->data && b->data && memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)) == 0;
}

static bool check_infer(void) {
    moe_problem *problem = operator_draw(operator_step_format, 200, 9);
    int64_t kept, none;
    moe_tensor trained = output_of(problem, MOE_PASS_BOTH, &kept);
    moe_tensor inferred = output_of(problem, MOE_PASS_FWD, &none);
    const bool passes = operator_same_bits(&trained, &inferred) && none == 0;
    char detail[96];
    snprintf(detail, sizeof detail, "same bits of O; kept: %lld bytes, for training %lld",
             (long long)none, (long long)kept);
    moe_tensor_destroy(&trained);
    moe_tensor_destroy(&inferred);
    moe_problem_destroy(&problem);
    return operator_verdict("infer", passes, detail);
}

/* ---- threads ---- */

typedef struct worker {
    operator_call c;
    moe_tensor O, dX; /* of the one run before */
    bool passes;
    pthread_t thread;
} worker;

moe_status operator_run_both(const operator_call *c) {
    moe_status status = moe_operator_forward(c->op, &c->call);
    return status ? status : moe_operator_backward(c->op, &c->call);
}

static bool gives(const operator_call *c, moe_tensor_id id, const moe_tensor *want) {
    moe_tensor got = {0};
    const bool same = !operator_call_fetch(c, id, &got) && operator_same_bits(&got, want);
    moe_tensor_destroy(&got);
    return same;
}

static void *work(void *self) {
    worker *w = self;
    for (int i = 0; w->passes && i < ROUNDS; i++)
        w->passes = !operator_run_both(&w->c) && gives(&w->c, MOE_T_O, &w->O) &&
                    gives(&w->c, MOE_T_DX, &w->dX);
    return NULL;
}

static bool begin_work(worker *w, const moe_problem *problem) {
    moe_status status = operator_call_open(&w->c, backend, problem, MOE_F32);
    if (!status)
        status = operator_call_weights(&w->c, &problem->in);
    if (!status)
        status = operator_call_input(&w->c, problem);
    if (!status)
        status = operator_run_both(&w->c);
    if (!status)
        status = operator_call_fetch(&w->c, MOE_T_O, &w->O);
    return !status && !operator_call_fetch(&w->c, MOE_T_DX, &w->dX);
}

static bool check_threads(void) {
    static const char *const formats[] = {
        "T=%lld d=128 n=64 E=8 K=2 route=zipf:1.2 seed=%d",
        "T=%lld d=64 n=128 E=4 K=3 act=geglu route=uniform seed=%d"};
    worker w[THREADS] = {{.passes = false}};
    bool passes = true;
    for (int i = 0; i < THREADS; i++) {
        moe_problem *problem = operator_draw(formats[i % 2], 60 + 31 * i, 20 + i);
        w[i].passes = begin_work(&w[i], problem);
        moe_problem_destroy(&problem);
    }
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&w[i].thread, NULL, work, &w[i]))
            exit(3);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
        passes = passes && w[i].passes;
        moe_tensor_destroy(&w[i].O);
        moe_tensor_destroy(&w[i].dX);
        operator_call_close(&w[i].c);
    }
    return operator_verdict("threads", passes,
                            "4 threads, two layers, 8 steps each: bits of O and dX");
}

int main(int argc, char **argv) {
    moe_backends *all = NULL;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: moeref-operator-check BACKEND [fp32|bf16|fp16]\n");
        return 2;
    }
    if (argc == 3)
        type_name = argv[2];
    if (moe_backends_load(NULL, &log_to_stderr, &all) ||
        moe_backend_open(all, argv[1], NULL, &log_to_stderr, &backend))
        return 3;
    bool passes = check_add();
    passes = check_steps() && passes;
    passes = check_infer() && passes;
    passes = check_threads() && passes;
    passes = operator_check_replay(backend) && passes;
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    return passes ? 0 : 1;
}
