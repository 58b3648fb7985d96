/* Evidence of a failure: inputs, results and truth in one file that Python opens in two lines. */
#include "check/judge.h"
#include "moeref/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bundle {
    moe_named_tensor tensor[3 * MOE_T_COUNT];
    char name[3 * MOE_T_COUNT][32];
    size_t count;
} bundle;

static void add(bundle *b, const char *prefix, const moe_tensors *set) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!set->t[id].data)
            continue;
        snprintf(b->name[b->count], sizeof b->name[0], "%s%s", prefix,
                 moe_tensor_name((moe_tensor_id)id));
        b->tensor[b->count] = (moe_named_tensor){b->name[b->count], set->t[id]};
        b->count++;
    }
}

/* "openblas-1a2b3c4d.safetensors": the same case overwrites its own dump. */
static void path_of(const char *dir, const moe_check_result *r, char *ret, size_t size) {
    uint64_t h = moe_int_hash(r->case_name, strlen(r->case_name));
    char backend[64];
    snprintf(backend, sizeof backend, "%s", r->backend);
    for (char *p = backend; *p; p++)
        if (*p == '/' || *p == ':')
            *p = '_';
    snprintf(ret, size, "%s/%s-%08x.safetensors", dir, backend, (unsigned)(h ^ h >> 32));
}

void moe_int_dump(const moe_int_subject *subject, const moe_int_truth *truth, const char *dir,
                  const moe_log *log, const moe_check_result *result) {
    char path[4096];
    path_of(dir, result, path, sizeof path);
    const char *const metadata[][2] = {
        {"case", result->case_name},      {"backend", result->backend}, {"why", result->why},
        {"reproduce", result->reproduce}, {"sampled", result->sampled},
    };
    bundle *b = calloc(1, sizeof *b);
    if (!b) {
        moe_fail(log, MOE_E_NOMEM, "no memory to dump a failure into %s", path);
        return;
    }
    add(b, "in.", &subject->problem->in);
    add(b, "got.", &subject->got);
    add(b, "want.", &truth->oracle->out);
    moe_status status = moe_safetensors_write(path, b->tensor, b->count, metadata,
                                              sizeof metadata / sizeof *metadata, log);
    if (!status)
        moe_log_send(log, MOE_LOG_INFO, "inputs, results (got.) and truth (want.) are in %s", path);
    free(b);
}
