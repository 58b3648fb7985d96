/* Any file as a failure's bundle: refused, or its plans and results can be read to their ends. */
#define _GNU_SOURCE
#include "check/bundle/bundle.h"
#include "image.h"
#include "moeref/case.h"
#include "moeref/safetensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
    if (!condition)
        abort();
}

/* A valid line may ask for more memory and time than a fuzzer has: is this one's layer small? */
static bool is_small(const uint8_t *data, size_t size) {
    enum { MOST = 64 };
    moe_safetensors *file = NULL;
    moe_case c = {0};
    if (moe_safetensors_open_memory(data, size, "fuzz", NULL, &file))
        return false;
    const char *line = moe_safetensors_metadata(file, "layer");
    bool small = line && moe_case_parse(line, NULL, &c) == MOE_OK;
    if (small) {
        const moe_layer_desc *l = &c.layer;
        small = c.T <= MOST && l->d <= MOST && l->n <= MOST && l->E <= MOST && l->n_zero <= MOST &&
                l->n_shared <= MOST;
        moe_case_destroy(&c);
    }
    moe_safetensors_close(&file);
    return small;
}

static void read_plan(const moe_plan *plan) {
    for (int64_t p = 0; plan && p < plan->n_pairs; p++)
        require(plan->token[p] >= 0 && plan->token[p] < plan->n_tokens);
}

static void read_results(const moe_tensors *t) {
    static volatile double sink;
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (t->t[id].data && moe_tensor_count(&t->t[id]) > 0)
            sink = moe_load(t->t[id].data, t->t[id].dtype, (size_t)moe_tensor_count(&t->t[id]) - 1);
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[32];
    moe_int_bundle bundle;
    int file = is_small(data, size) ? memfd_create("bundle", MFD_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    require(write(file, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (moe_int_bundle_read(path, NULL, &bundle) == MOE_OK) {
        read_plan(bundle.plan);
        read_plan(bundle.problem->plan);
        read_results(&bundle.subject.got);
        for (int i = 0; i < MOE_INT_AGAIN_COUNT; i++)
            read_results(&bundle.subject.again[i]);
    }
    moe_int_bundle_destroy(&bundle);
    close(file);
    return 0;
}
