#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "check/state/leak.h"
#include "backend/front.h"
#include "check/verdict/result.h"
#include "moeref/layer.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

/* Calls in each measurement, of a pass with at most so much work: five more of them cost less than
 * the runs that the check has made already. A leak takes pages in every call, in every measurement;
 * a process that settles comes to a call that takes none, and that is the end of it. Settling can
 * take its time where it takes few pages at once: an allocator that gave back the holes in its heap
 * fills one after another, and on a busy machine the reference was seen to grow by five KiB a call
 * through 24 calls. So few pages a call must be seen in many measurements. */
enum { CALLS = 4, MEASUREMENTS = 6, OF_FEW = 30, PAGE = 4096, FEW_PAGES = 16 };
#define MOST_FLOPS 2e7

typedef struct measured {
    const moe_backend *backend;
    const moe_problem *problem;
    moe_layer *layer;
    moe_check_result *result;
    int calls;
} measured;

/* Bytes that a process holds in pages of its own, swapped out ones too; negative: it is not told.
 * Shared pages, in which tensors travel between judge and worker, are not among them. */
static int64_t held_by(int pid) {
    char path[64], line[256];
    long long kib, sum = 0;
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Anonymous: %lld kB", &kib) == 1 ||
            sscanf(line, "Swap: %lld kB", &kib) == 1) {
            sum += kib;
            found++;
        }
    fclose(f);
    return found ? sum * 1024 : -1;
}

static bool pass(const measured *m) {
    moe_status status = moe_layer_forward(m->layer);
    if (!status && (m->problem->pass & MOE_PASS_BWD))
        status = moe_layer_backward(m->layer);
    if (status)
        moe_int_result_stopped(m->result, m->backend, "one more run", status);
    return !status;
}

/* Bytes by which memory grows in `calls` calls; 0 also where that cannot be told. */
static int64_t growth(const measured *m) {
    const int pid = moe_int_backend_pid(m->backend);
    const int64_t before = held_by(pid);
    for (int i = 0; i < m->calls; i++)
        if (!pass(m))
            return 0;
    const int64_t after = held_by(pid);
    return before >= 0 && after > before ? after - before : 0;
}

/* Freed memory is kept from use by AddressSanitizer, which looks like a leak. */
static bool is_sanitized(void) {
    return dlsym(RTLD_DEFAULT, "__asan_init") != NULL;
}

static double work_of(const moe_problem *problem, const moe_int_run *run) {
    const moe_plan *plan = problem->plan ? problem->plan : run->plan;
    const moe_layer_desc *desc = &problem->layer;
    const int64_t pairs = plan ? plan->offsets[desc->E] : problem->T * desc->K;
    double flops = moe_layer_flops(desc, problem->T, pairs, 0);
    if (problem->pass & MOE_PASS_BWD)
        flops += moe_layer_flops(desc, problem->T, pairs, 1);
    return flops;
}

void moe_int_leak_try(const moe_backend *backend, const moe_problem *problem, int32_t repeats,
                      moe_check_result *result, const moe_int_run *run) {
    const measured m = {backend, problem, run->layer, result, repeats > 2 ? repeats : CALLS};
    if (is_sanitized() || (repeats <= 2 && work_of(problem, run) > MOST_FLOPS))
        return;
    moe_int_backend_trim(backend);
    if (!pass(&m))
        return;
    int64_t least = INT64_MAX;
    const int64_t page_a_call = (int64_t)m.calls * PAGE;
    for (int i = 0; i < (least < FEW_PAGES * page_a_call ? OF_FEW : MEASUREMENTS); i++) {
        const int64_t grown = growth(&m);
        if (grown < page_a_call)
            return;
        least = grown < least ? grown : least;
    }
    moe_int_result_set(result, MOE_VERDICT_FAIL,
                       "memory grows by %.0f KiB with every %s: it is not given back",
                       (double)least / m.calls / 1024,
                       problem->pass & MOE_PASS_BWD ? "forward and backward" : "forward");
}
