/* One Mixture-of-Experts layer, forward and backward, on the CPU. How to build it: README.md. */
#include <moeref.h>

#include <stdio.h>
#include <stdlib.h>

static void complain(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_WARN)
        fprintf(stderr, "%s\n", message);
}

static const moe_log to_stderr = {complain, NULL};

static void must(moe_status status) { /* the log has said why */
    if (status)
        exit(1);
}

/* A tensor of the layer with the right shape; small numbers, where it is to be filled. */
static moe_tensor make(const moe_layer_desc *layer, moe_tensor_id id, int64_t tokens, int filled) {
    moe_tensor t = {0};
    moe_tensor_shape(layer, id, tokens, 0, 0, &t);
    must(moe_tensor_alloc(MOE_F32, t.ndim, t.shape, &t));
    for (int64_t i = 0; filled && i < moe_tensor_count(&t); i++)
        ((float *)t.data)[i] = (float)(i * 7919 % 1009) / 1009 - 0.5f;
    return t;
}

int main(int argc, char **argv) {
    const int64_t tokens = 64;
    moe_layer_desc desc;
    moe_layer_desc_init(&desc); /* SwiGLU, softmax over the best K of E experts */
    desc.d = 48, desc.n = 32, desc.E = 8, desc.K = 2;

    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    must(moe_backends_load(NULL, &to_stderr, &all));
    must(moe_backend_open(all, argc > 1 ? argv[1] : "openblas", NULL, &to_stderr, &backend));

    moe_tensors weights = {0}; /* yours may lie anywhere: set data, dtype and shape */
    const moe_tensor_id needed[] = {MOE_T_W_R, MOE_T_W1, MOE_T_W2};
    for (int i = 0; i < 3; i++)
        weights.t[needed[i]] = make(&desc, needed[i], tokens, 1);
    moe_use use = {.tokens = tokens, .dtype = MOE_F32, .pass = MOE_PASS_BOTH};
    moe_layer *layer = NULL;
    must(moe_layer_prepare(backend, &desc, &use, &weights, &layer));

    moe_tensor X = make(&desc, MOE_T_X, tokens, 1), dO = make(&desc, MOE_T_DO, tokens, 1);
    moe_tensor O = make(&desc, MOE_T_O, tokens, 0), dW1 = make(&desc, MOE_T_DW1, tokens, 0);
    must(moe_layer_set_input(layer, &(moe_input){.tokens = tokens, .X = X, .dO = dO}));
    must(moe_layer_forward(layer));
    must(moe_layer_backward(layer));
    must(moe_layer_fetch(layer, MOE_T_O, &O));
    must(moe_layer_fetch(layer, MOE_T_DW1, &dW1));
    printf("%s, moeref %s: O[0, 0] = %.6f, dW1[0, 0, 0] = %.6f\n", moe_backend_name(backend),
           moe_version(), ((float *)O.data)[0], ((float *)dW1.data)[0]);

    moe_tensor *mine[] = {&X, &dO, &O, &dW1};
    moe_layer_destroy(&layer);
    for (int i = 0; i < 4; i++)
        moe_tensor_destroy(mine[i]);
    moe_tensors_destroy(&weights);
    must(moe_backend_close(&backend));
    moe_backends_destroy(&all);
    return 0;
}
