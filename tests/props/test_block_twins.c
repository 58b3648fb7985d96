/* Every block against torch: outputs and gradients that tests/twins/routers.py made of the same
 * parameters by autograd, from the papers' equations. */
#include "block.h"
#include "moeref/safetensors.h"
#include "props.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 64 };

#define NAME(name, meaning) [MOE_INT_BLOCK_##name] = #name,
static const char *const names[MOE_INT_BLOCK_COUNT] = {MOE_INT_BLOCKS(NAME)};

static moe_safetensors *open_golden(void) {
    char path[4096];
    moe_safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/blocks/torch.safetensors", getenv("MOEREF_GOLDEN"));
    cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK, "%s", path);
    return file;
}

static void expect_equal(const char *name, const double *got, const moe_tensor *want) {
    cr_expect_lt(props_nmse(got, want->data, moe_tensor_count(want)), 1e-20, "%s", name);
}

/* The number of gradients that the file has of a block. */
static int judge(const moe_safetensors *file, const char *block_name, block *b) {
    char name[NAME_BYTES];
    int found = 0;
    moe_tensor want;
    snprintf(name, sizeof name, "%s.O", block_name);
    cr_assert_eq(moe_safetensors_get(file, name, &want), MOE_OK, "%s", name);
    expect_equal(name, block_out(b), &want);
    cr_assert_eq(moe_int_tape_backward(&b->tape, b->tape.n - 1, block_dO(b)), MOE_OK);
    for (int p = 0; p < b->parameters.n; p++) {
        snprintf(name, sizeof name, "%s.grad.%s", block_name, b->parameters.p[p].name);
        if (moe_safetensors_get(file, name, &want))
            continue; /* W1 and W2, which the layer's own goldens have */
        double *g = block_gradient(b, p);
        expect_equal(name, g, &want);
        free(g);
        found++;
    }
    return found;
}

Test(blocks, are_what_torch_makes_of_the_papers) {
    static block b;
    moe_safetensors *file = open_golden();
    for (int i = 1; i < MOE_INT_BLOCK_COUNT; i++) {
        const char *line = moe_safetensors_metadata(file, names[i]);
        cr_assert_not_null(line, "%s has no golden: tests/twins/routers.py", names[i]);
        block_begin(line, &b);
        cr_assert_eq(b.c.block, i);
        /* X at least, and what the router or the experts learn */
        cr_expect_geq(judge(file, names[i], &b), 2, "%s", names[i]);
        block_end(&b);
    }
    moe_safetensors_close(&file);
}
