/* moeref-store-bits BACKEND FILE CASE: a case through a backend, and every stage and result that it
 * has under moeref's names in a safetensors file, in the case's type or as fp32: what `moeref check
 * --outputs FILE --case CASE --bits ...` judges anywhere. */
#include "moeref/backend.h"
#include "moeref/case.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>

/* In the order of the file. */
static const moe_tensor_id kept[] = {MOE_T_LOGITS, MOE_T_S,   MOE_T_H,  MOE_T_A,
                                     MOE_T_Y,      MOE_T_O,   MOE_T_DH, MOE_T_DXP,
                                     MOE_T_DX,     MOE_T_DW1, MOE_T_DW2};
enum { KEPT = sizeof kept / sizeof *kept };

static bool is_wide(moe_tensor_id id) {
    return id == MOE_T_LOGITS || id == MOE_T_S;
}

/* The backend's own tensor; data NULL where it keeps none. */
static moe_tensor fetch(moe_layer *layer, const moe_problem *p, const moe_plan *plan,
                        moe_tensor_id id) {
    moe_tensor t = {0};
    if (!moe_tensor_exists(&p->layer, id, p->plan != NULL))
        return t;
    moe_tensor_shape(&p->layer, id, p->T, plan->offsets[p->layer.E], plan->n_pairs, &t);
    must(moe_tensor_alloc(is_wide(id) ? MOE_F32 : (moe_dtype)p->dtype, t.ndim, t.shape, &t),
         moe_tensor_name(id));
    if (moe_layer_fetch(layer, id, &t) != MOE_OK)
        moe_tensor_destroy(&t);
    return t;
}

static void run(moe_layer *layer, const moe_problem *p) {
    const moe_input input = {p->T, p->in.t[MOE_T_X], p->in.t[MOE_T_DO], p->plan, p->seed};
    must(moe_layer_set_input(layer, &input), "set_input");
    must(moe_layer_forward(layer), "forward");
    must(moe_layer_backward(layer), "backward");
}

/* The choice that rows of H belong to, as [T][K]; -1 ends a token's. */
static moe_tensor choice(const moe_problem *p, const moe_plan *plan) {
    moe_tensor t = {0};
    must(moe_tensor_alloc(MOE_I32, 2, (int64_t[]){p->T, p->layer.K}, &t), "topk_index");
    for (int64_t i = 0; i < p->T * p->layer.K; i++)
        ((int32_t *)t.data)[i] = -1;
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++) {
            int32_t *slot = (int32_t *)t.data + plan->token[r] * p->layer.K;
            while (*slot >= 0)
                slot++;
            *slot = (int32_t)e;
        }
    return t;
}

static void store(moe_layer *layer, const moe_problem *p, const char *backend, const char *path) {
    const moe_plan *plan = NULL;
    moe_named_tensor file[KEPT + 1] = {{0}};
    size_t count = 0;
    must(moe_layer_routing(layer, &plan), "routing");
    for (int i = 0; i < KEPT; i++) {
        const moe_tensor t = fetch(layer, p, plan, kept[i]);
        if (t.data)
            file[count++] = (moe_named_tensor){moe_tensor_name(kept[i]), t};
    }
    if (!p->plan)
        file[count++] = (moe_named_tensor){"topk_index", choice(p, plan)};
    const char *const metadata[][2] = {{"case", p->name}, {"backend", backend}};
    must(moe_safetensors_write(path, file, count, metadata, 2, &log_to_stderr), path);
    for (size_t i = 0; i < count; i++)
        moe_tensor_destroy(&file[i].tensor);
}

int main(int argc, char **argv) {
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_layer *layer = NULL;
    moe_problem *p = NULL;
    moe_case c;
    if (argc != 4) {
        fprintf(stderr, "usage: moeref-store-bits BACKEND FILE CASE\n");
        return 2;
    }
    must(moe_case_parse(argv[3], &log_to_stderr, &c), "case");
    must(moe_problem_from_case(&c, &log_to_stderr, &p), "case");
    must(moe_backends_load(NULL, &log_to_stderr, &all), "backends");
    must(moe_backend_open(all, argv[1], NULL, &log_to_stderr, &backend), argv[1]);
    const moe_use use = {p->T, p->dtype, MOE_PASS_BOTH, p->plan != NULL};
    must(moe_layer_prepare(backend, &p->layer, &use, &p->in, &layer), "prepare");
    run(layer, p);
    store(layer, p, argv[1], argv[2]);
    moe_layer_destroy(&layer);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    moe_problem_destroy(&p);
    moe_case_destroy(&c);
    return 0;
}
