#include "check/bundle/bundle.h"
#include "check/verdict/order.h"
#include "core/bytes.h"
#include "core/file.h"
#include "layer/stored_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = (4 + MOE_INT_AGAIN_COUNT) * MOE_T_COUNT + 6 };

typedef struct bundle {
    moe_named_tensor tensor[MOST];
    char name[MOST][MOE_INT_STORED_NAME];
    size_t count;
} bundle;

const char *const moe_int_bundle_again[MOE_INT_AGAIN_COUNT] = {
    [MOE_INT_LATER] = "later.", [MOE_INT_SECOND] = "second.", [MOE_INT_POISONED] = "poisoned."};

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

/* A plan's weights are those of the backend where it has no topk_weight of its own. */
static void add_plan(bundle *b, const char *prefix, const moe_plan *plan, const moe_tensors *set) {
    size_t first = b->count;
    if (!plan)
        return;
    b->count = moe_int_stored_list(plan, prefix, b->name + first, b->tensor, first);
    if (set->t[MOE_T_S].data)
        b->count--; /* the last of the three, which add() has written */
}

/* "openblas-1a2b3c4d.safetensors": the same case overwrites its own bundle. */
static void path_of(const char *dir, const moe_check_result *r, char *ret, size_t size) {
    uint64_t h = moe_int_hash(r->case_name, strlen(r->case_name));
    char backend[64];
    snprintf(backend, sizeof backend, "%s", r->backend);
    for (char *p = backend; *p; p++)
        if (*p == '/' || *p == ':')
            *p = '_';
    snprintf(ret, size, "%s/%s-%08x.safetensors", dir, backend, (unsigned)(h ^ h >> 32));
}

/* The layer as a case line: also of problems that no case line drew. The caller frees it. */
static char *layer_line(const moe_problem *p) {
    moe_case c;
    moe_case_init(&c);
    c.layer = p->layer;
    c.T = p->T;
    c.dtype = p->dtype;
    c.pass = p->pass;
    c.seed = p->seed;
    c.route = p->plan ? MOE_ROUTE_UNIFORM : MOE_ROUTE_ROUTER; /* given, or the layer's own */
    size_t size = moe_case_print(&c, NULL, 0) + 1;
    char *line = malloc(size);
    if (line)
        moe_case_print(&c, line, size);
    return line;
}

/* Stages that are still to be had tell where it begins; those of a run with other bits do not. */
static void fetch_stages(const moe_int_subject *s, moe_check_result *result, moe_tensors *ret) {
    const bool backward = (s->problem->pass & MOE_PASS_BWD) != 0;
    for (size_t i = 0; i < moe_int_order_count && s->fetch && !s->drifts; i++) {
        const moe_tensor_id id = moe_int_order[i];
        if (moe_int_is_inner_stage(id) && !s->got.t[id].data &&
            (backward || !moe_tensor_is_backward(id)) && s->fetch(s->user, id, result, &ret->t[id]))
            ret->t[id] = (moe_tensor){0};
    }
}

static void fill(bundle *b, const moe_int_subject *s, const moe_tensors *stages,
                 const moe_int_truth *truth) {
    add(b, MOE_INT_BUNDLE_IN, &s->problem->in);
    add_plan(b, MOE_INT_BUNDLE_IN, s->problem->plan, &s->problem->in);
    add(b, MOE_INT_BUNDLE_GOT, &s->got);
    add_plan(b, MOE_INT_BUNDLE_GOT, s->plan, &s->got);
    add(b, MOE_INT_BUNDLE_STAGE, stages);
    for (int i = 0; i < MOE_INT_AGAIN_COUNT; i++)
        add(b, moe_int_bundle_again[i], &s->again[i]);
    if (truth)
        add(b, MOE_INT_BUNDLE_WANT, &truth->oracle->out);
}

void moe_int_bundle_write(const moe_int_subject *subject, const moe_int_truth *truth, bool of_run,
                          const char *dir, const moe_log *log, moe_check_result *result) {
    char path[4096];
    path_of(dir, result, path, sizeof path);
    char *layer = layer_line(subject->problem);
    bundle *b = calloc(1, sizeof *b);
    moe_tensors stages = {0};
    if (b && layer && !moe_int_folder_make(dir, log)) {
        const char *const metadata[][2] = {
            {"case", result->case_name},
            {"layer", layer},
            {"arithmetic", moe_dtype_name(subject->arithmetic)},
            {"backend", result->backend},
            {"why", result->why},
            {"reproduce", result->reproduce},
            {"sampled", result->sampled},
            {"of_run", of_run ? "yes" : "no"},
        };
        fetch_stages(subject, result, &stages);
        fill(b, subject, &stages, truth);
        if (!moe_safetensors_write(path, b->tensor, b->count, metadata,
                                   sizeof metadata / sizeof *metadata, log))
            moe_log_send(log, MOE_LOG_INFO, "%s: inputs, results%s; moeref diagnose %s", path,
                         truth ? " and truth" : "", path);
    } else if (!b || !layer) {
        moe_fail(log, MOE_E_NOMEM, "no memory to write a failure into %s", path);
    }
    moe_tensors_destroy(&stages);
    free(layer);
    free(b);
}
