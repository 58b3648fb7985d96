/* moeref-memory-check GPU CASES BACKEND...: what each backend (cuda, cuda:bound) says that it
 * allocated for each case of a file, beside what moe_allocation_of says of that GPU, to the byte.
 * Tensors are zero: nothing is drawn, and nothing runs. Exit status 1: some differ. */
#include "moeref/allocation.h"
#include "moeref/backend.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The plan of a case, which depends on neither width. */
static moe_status draw_plan(const moe_case *c, moe_problem **ret) {
    moe_case narrow = *c;
    narrow.layer.d = narrow.layer.n = 8;
    narrow.layer.n_shared = 0;
    narrow.layer.shared_gate = 0;
    return moe_problem_from_case(&narrow, &log_to_stderr, ret);
}

static moe_status zeros(const moe_case *c, bool plan_given, moe_tensors *ret) {
    moe_status status = MOE_OK;
    for (moe_tensor_id id = 0; !status && id < MOE_T_COUNT; id++) {
        moe_tensor shape = {0};
        const bool is_given =
            id == MOE_T_X || id == MOE_T_DO || moe_tensor_role_of(id) == MOE_ROLE_PARAM;
        if (!is_given || !moe_tensor_exists(&c->layer, id, plan_given))
            continue;
        moe_tensor_shape(&c->layer, id, c->T, 0, 0, &shape);
        status = moe_tensor_alloc((moe_dtype)c->dtype, shape.ndim, shape.shape, &ret->t[id]);
    }
    return status;
}

/* What the backend says, after it has been given a step's input. */
static moe_status measure(moe_backend *backend, const moe_case *c, const moe_plan *plan,
                          moe_tensors *in, moe_memory *ret) {
    const moe_use use = {c->T, c->dtype, c->pass, plan != NULL};
    const moe_input input = {c->T, in->t[MOE_T_X], in->t[MOE_T_DO], plan, c->seed};
    moe_layer *layer = NULL;
    moe_support support;
    moe_status status = moe_backend_supports(backend, &c->layer, &use, &support);
    if (status) {
        printf("not run: %s\n", support.reason);
        return status;
    }
    status = moe_layer_prepare(backend, &c->layer, &use, in, &layer);
    if (!status)
        status = moe_layer_set_input(layer, &input);
    if (!status)
        status = moe_layer_memory(layer, ret);
    moe_layer_destroy(&layer);
    return status;
}

static bool is_bound(const char *spec) {
    return strstr(spec, ":bound") != NULL;
}

/* MOE_E_UNSUPPORTED where the model says so too. */
static moe_status expected(const moe_gpu *gpu, const moe_case *c, const char *spec,
                           moe_memory *ret) {
    moe_allocation a;
    const moe_status status = moe_allocation_of(gpu, c, NULL, &a);
    if (status)
        return status;
    *ret = is_bound(spec) ? a.bound : a.own;
    return is_bound(spec) && a.unbound[0] ? MOE_E_UNSUPPORTED : MOE_OK;
}

static bool check(moe_backend *backend, const char *spec, const moe_gpu *gpu, const char *line) {
    moe_case c;
    moe_problem *narrow = NULL;
    moe_tensors in = {0};
    moe_memory got = {0}, want = {0};
    moe_status status = moe_case_parse(line, &log_to_stderr, &c);
    if (!status)
        status = draw_plan(&c, &narrow);
    const moe_plan *plan = status ? NULL : narrow->plan;
    if (!status)
        status = zeros(&c, plan != NULL, &in);
    printf("%s  %s: ", spec, line);
    if (!status)
        status = measure(backend, &c, plan, &in, &got);
    const bool is_equal =
        expected(gpu, &c, spec, &want) == status && memcmp(&got, &want, sizeof got) == 0;
    printf("%s: weights %lld cached %lld peak %lld, said %lld %lld %lld\n",
           is_equal ? "equal" : "DIFFER", (long long)got.weights, (long long)got.cached,
           (long long)got.peak, (long long)want.weights, (long long)want.cached,
           (long long)want.peak);
    moe_tensors_destroy(&in);
    moe_problem_destroy(&narrow);
    moe_case_destroy(&c);
    return is_equal;
}

/* Cases of the file that differ. */
static int64_t check_file(moe_backend *backend, const char *spec, const moe_gpu *gpu, FILE *cases) {
    char line[1000];
    int64_t differing = 0, count = 0;
    rewind(cases);
    while (fgets(line, sizeof line, cases)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        count++;
        differing += !check(backend, spec, gpu, line);
    }
    printf("%s: %lld cases, %lld differ\n", spec, (long long)count, (long long)differing);
    return count ? differing : 1;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    moe_backends *all = NULL;
    moe_gpu *gpu = NULL;
    int64_t differing = 0;
    FILE *cases = fopen(argv[2], "r");
    must(cases ? MOE_OK : MOE_E_IO, argv[2]);
    must(moe_gpu_load(argv[1], &log_to_stderr, &gpu), argv[1]);
    must(moe_backends_load(NULL, &log_to_stderr, &all), "loading backends");
    for (int i = 3; i < argc; i++) {
        const moe_open_params open = {.log = &log_to_stderr};
        moe_backend *backend = NULL;
        must(moe_backend_open(all, argv[i], &open, &log_to_stderr, &backend), argv[i]);
        differing += check_file(backend, argv[i], gpu, cases);
        must(moe_backend_close(&backend), argv[i]);
    }
    fclose(cases);
    moe_gpu_destroy(&gpu);
    moe_backends_destroy(&all);
    return differing ? 1 : 0;
}
