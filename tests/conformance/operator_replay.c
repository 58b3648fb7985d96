/* A captured forward and backward, replayed: the driver is found at run time, so that this builds
 * anywhere. */
#define _GNU_SOURCE
#include "operator_check.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef struct driver {
    int (*stream_create)(void **stream, unsigned flags);
    int (*begin)(void *stream, int mode);
    int (*end)(void *stream, void **graph);
    int (*instantiate)(void **exec, void *graph, unsigned long long flags);
    int (*launch)(void *exec, void *stream);
    int (*synchronize)(void *stream);
} driver;

static bool find_driver(driver *ret) {
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (!cuda)
        return false;
    const struct {
        const char *name;
        void *slot;
    } all[] = {
        {"cuStreamCreate", &ret->stream_create}, {"cuStreamBeginCapture_v2", &ret->begin},
        {"cuStreamEndCapture", &ret->end},       {"cuGraphInstantiateWithFlags", &ret->instantiate},
        {"cuGraphLaunch", &ret->launch},         {"cuStreamSynchronize", &ret->synchronize}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        void *entry = dlsym(cuda, all[i].name);
        if (!entry)
            return false;
        memcpy(all[i].slot, &entry, sizeof entry);
    }
    return true;
}

static const moe_tensor_id replayed[] = {MOE_T_O, MOE_T_DX, MOE_T_DS, MOE_T_DW1, MOE_T_DW2};
enum { REPLAYED = sizeof replayed / sizeof *replayed };

static moe_status fetch_all(const operator_call *c, moe_tensor *set) {
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < REPLAYED; i++)
        status = operator_call_fetch(c, replayed[i], &set[i]);
    return status;
}

/* Other tokens and another plan of the same size where the first ones were. */
static moe_status change_values(operator_call *c, const moe_problem *other) {
    operator_call fresh = *c;
    for (int id = 0; id < MOE_T_COUNT; id++)
        fresh.call.t[id].data = NULL;
    fresh.call.index.data = fresh.call.cached = fresh.call.workspace = NULL;
    moe_status status = operator_call_input(&fresh, other);
    const struct {
        moe_view *to, *from;
        int64_t bytes;
    } all[] = {{&c->call.t[MOE_T_X], &fresh.call.t[MOE_T_X],
                c->call.tokens * c->desc.d * (int64_t)moe_dtype_size((moe_dtype)c->use.dtype)},
               {&c->call.t[MOE_T_DO], &fresh.call.t[MOE_T_DO],
                c->call.tokens * c->desc.d * (int64_t)moe_dtype_size((moe_dtype)c->use.dtype)},
               {&c->call.t[MOE_T_S], &fresh.call.t[MOE_T_S], c->call.tokens * c->call.columns * 4},
               {&c->call.index, &fresh.call.index, c->call.tokens * c->call.columns * 4}};
    for (size_t i = 0; !status && i < sizeof all / sizeof *all; i++)
        status = moe_operator_copy(c->op, all[i].to->data, all[i].from->data, all[i].bytes,
                                   c->call.stream);
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_operator_free(c->op, fresh.call.t[id].data);
    moe_operator_free(c->op, fresh.call.index.data);
    moe_operator_free(c->op, fresh.call.cached);
    moe_operator_free(c->op, fresh.call.workspace);
    return status;
}

static bool replay(operator_call *c, const driver *d, const moe_problem *other) {
    void *graph = NULL, *exec = NULL;
    moe_tensor called[REPLAYED] = {{0}}, again[REPLAYED] = {{0}};
    moe_status status = operator_run_both(c); /* loads the kernels, which no capture may */
    if (status || d->synchronize(c->call.stream) || d->begin(c->call.stream, 0))
        return false;
    status = operator_run_both(c);
    bool passes =
        d->end(c->call.stream, &graph) == 0 && !status && d->instantiate(&exec, graph, 0) == 0;
    for (int round = 0; passes && round < 2; round++) {
        passes = !operator_run_both(c) && !fetch_all(c, called) &&
                 d->launch(exec, c->call.stream) == 0 && !fetch_all(c, again);
        for (int i = 0; i < REPLAYED; i++) {
            passes = passes && operator_same_bits(&called[i], &again[i]);
            moe_tensor_destroy(&called[i]);
            moe_tensor_destroy(&again[i]);
        }
        if (round == 0 && passes)
            passes = !change_values(c, other);
    }
    return passes;
}

bool operator_check_replay(moe_backend *backend) {
    driver d;
    operator_call c = {0};
    moe_problem *one = operator_draw(operator_step_format, 300, 11),
                *other = operator_draw(operator_step_format, 300, 12);
    moe_status status = operator_call_open(&c, backend, one, MOE_F32);
    const bool on_cuda = !status && moe_operator_info(c.op)->place == MOE_PLACE_CUDA;
    bool passes = true;
    if (!status && (!on_cuda || !find_driver(&d))) {
        printf("replay   skip  no CUDA device: graphs are a device's\n");
    } else {
        if (!status)
            status = operator_call_weights(&c, &one->in);
        if (!status)
            status = operator_call_input(&c, one);
        if (!status && d.stream_create(&c.call.stream, 1)) /* 1: does not wait for stream 0 */
            status = MOE_E_DEVICE;
        passes = !status && replay(&c, &d, other);
        operator_verdict("replay", passes,
                         "a captured forward and backward, bits of O, dX, dS, dW1, dW2");
    }
    operator_call_close(&c);
    moe_problem_destroy(&one);
    moe_problem_destroy(&other);
    return passes;
}
