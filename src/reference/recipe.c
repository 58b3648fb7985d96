/* The recipes. What the columns mean is in recipe.h; a new recipe is a new row.
 *
 * Sources: PyTorch's autograd keeps what each operator returns, in the operands' type; a product
 * y*w of a stored y has w*dO and dO*y as its gradients. torch.compile fuses pointwise operators,
 * never a grouped_mm with them. ScatterMoE: its kernels return 16-bit tensors, and weigh the
 * gradient before they group it (parallel_experts.py). SonicMoE: arXiv 2512.14080, section 3. This
 * project's kernels: backends/cuda/README.md. Transformers' eager experts add with index_add_ and
 * cast the weights to the hidden states' type. */
#include "moeref/recipe.h"

#include <string.h>

/* What every one of them stores. */
#define STORED                                                                                     \
    (MOE_POINT_SX | MOE_POINT_H | MOE_POINT_A | MOE_POINT_Y | MOE_POINT_DH | MOE_POINT_DXP)
/* Autograd through y*w, the products with W2 apart from what follows. */
#define AUTOGRAD (MOE_POINT_INPUT | MOE_POINT_SDO | MOE_POINT_DA)
#define EAGER                                                                                      \
    (STORED | AUTOGRAD | MOE_POINT_INNER | MOE_POINT_SY | MOE_POINT_ADD_DX | MOE_POINT_GATE)

static const moe_recipe recipes[] = {
    {"moeref", "this project's kernels: A' = s*A, all else fused", STORED | MOE_POINT_SA, 0},
    {"sonicmoe", "SonicMoE: the same, and inputs in 16 bits",
     STORED | MOE_POINT_INPUT | MOE_POINT_SA, 0},
    {"unfused", "pointwise kernels of their own: dA' is stored before the activation's backward",
     STORED | MOE_POINT_SA | MOE_POINT_DA, 0},
    {"compiled", "torch.compile over grouped_mm: s*dO and dA are stored, dX is added in 16 bits",
     STORED | AUTOGRAD | MOE_POINT_ADD_DX, 0},
    {"scattermoe", "ScatterMoE: as compiled, with an eager activation",
     STORED | AUTOGRAD | MOE_POINT_INNER | MOE_POINT_ADD_DX, 0},
    {"eager", "eager PyTorch and autograd: every operator stores what it returns", EAGER, 0},
    {"ranks", "this project's kernels over ranks that send sums of their experts: combine=ranks",
     STORED | MOE_POINT_SA | MOE_POINT_ADD_O | MOE_POINT_ADD_DX, 1},
    {"transformers", "Transformers' eager layers: router, weights and O's sums in 16 bits too",
     EAGER | MOE_POINT_ADD_O | MOE_POINT_LOGITS | MOE_POINT_S | MOE_POINT_DS | MOE_POINT_DLOGITS,
     1},
};

static const struct {
    const char *name, *what;
} points[] = {
#define ROW(value, name, what) {name, what},
    MOE_POINTS(ROW)
#undef ROW
};

const char *moe_point_name(int index) {
    return index >= 0 && index < MOE_POINT_COUNT ? points[index].name : NULL;
}

const char *moe_point_what(int index) {
    return index >= 0 && index < MOE_POINT_COUNT ? points[index].what : NULL;
}

const moe_recipe *moe_recipes(size_t *ret_count) {
    *ret_count = sizeof recipes / sizeof *recipes;
    return recipes;
}

const moe_recipe *moe_recipe_find(const char *name) {
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
        if (strcmp(recipes[i].name, name) == 0)
            return &recipes[i];
    return NULL;
}
