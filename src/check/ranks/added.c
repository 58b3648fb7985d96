/* Gradients of experts to which another expert's are added, as by a sum over the wrong ranks. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"

#include <math.h>
#include <stdlib.h>

/* Of as many comparisons as that. */
static const double most_steps = 2e9;

typedef struct addend {
    int64_t wrong, first, of; /* experts that are wrong, the first of them, and whose it has */
    double left;
} addend;

/* The expert whose gradient `off` is; -1: no one's. */
static int64_t whose(const moe_int_rank_scene *s, const double *off, int64_t width, int64_t own) {
    for (int64_t f = 0; f < s->E; f++)
        if (f != own &&
            moe_int_rank_same_rows(off, s->right + f * width, width, 10 * moe_int_rank_alike(s)))
            return f;
    return -1;
}

static bool find_addends(const moe_int_rank_scene *s, double *off, int64_t width, addend *ret) {
    *ret = (addend){.first = -1};
    for (int64_t e = 0; e < s->E; e++) {
        const double *got = s->got + e * width, *right = s->right + e * width;
        const double size = moe_int_inner(right, right, width);
        for (int64_t i = 0; i < width; i++)
            off[i] = got[i] - right[i];
        if (moe_int_inner(off, off, width) <= 10 * moe_int_rank_alike(s) * size)
            continue;
        const int64_t f = whose(s, off, width, e);
        if (f < 0)
            return false;
        for (int64_t i = 0; i < width; i++)
            ret->left += pow(off[i] - s->right[f * width + i], 2);
        ret->of = ret->wrong ? ret->of : f;
        ret->first = ret->wrong++ ? ret->first : e;
    }
    return ret->wrong > 0;
}

bool moe_int_rank_added_gradients(const moe_int_rank_scene *s, moe_explanation *ret) {
    const int64_t width = s->count / s->E;
    const bool possible = (double)s->E * (double)s->count <= most_steps;
    double *off = possible ? malloc((size_t)(width + 1) * sizeof *off) : NULL;
    addend k;
    const bool found = off && find_addends(s, off, width, &k);
    if (found)
        moe_int_rank_explain(
            s, "ranks_gradient_added", k.left / moe_int_inner(s->right, s->right, s->count), ret,
            "%s of expert %lld on rank %d has that of expert %lld of rank %d added "
            "to its own; %lld more experts have another's",
            moe_tensor_name(s->id), (long long)k.first, (int)s->owner[k.first], (long long)k.of,
            (int)s->owner[k.of], (long long)(k.wrong - 1));
    free(off);
    return found;
}
