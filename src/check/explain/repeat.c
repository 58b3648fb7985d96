/* Why another run of the same input gave other bits. */
#include "check/explain/explain.h"
#include "check/verdict/order.h"
#include "core/elements.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* How two runs' results of a tensor stand to each other. */
typedef struct pair_of_runs {
    double aa, ab, bb;
    double largest; /* difference over the root mean square of the first */
    int64_t count, differ, first;
} pair_of_runs;

static pair_of_runs compare(const moe_tensor *a, const moe_tensor *b) {
    pair_of_runs k = {.count = moe_tensor_count(a), .first = -1};
    double most = 0;
    for (int64_t i = 0; i < k.count; i++) {
        double x = moe_load(a->data, a->dtype, (size_t)i);
        double y = moe_load(b->data, b->dtype, (size_t)i);
        bool same = x == y || (isnan(x) && isnan(y));
        if (!same && k.differ++ == 0)
            k.first = i;
        if (!isfinite(x) || !isfinite(y))
            continue;
        k.aa += x * x;
        k.ab += x * y;
        k.bb += y * y;
        most = fmax(most, fabs(x - y));
    }
    k.largest = k.aa > 0 ? most / sqrt(k.aa / (double)k.count) : most;
    return k;
}

/* What is left of the later run when it is taken for `factor` times the first. */
static double left_with(const pair_of_runs *k, double factor) {
    return k->aa > 0 ? fmax(k->bb - 2 * factor * k->ab + factor * factor * k->aa, 0) / k->aa : 0;
}

void moe_int_explain_repeat(moe_tensor_id id, const moe_tensor *first, const moe_tensor *later,
                            moe_check_result *result) {
    moe_explanation *x = &result->explanation;
    const char *name = moe_tensor_name(id);
    if (moe_int_is_cause(x))
        return;
    pair_of_runs k = compare(first, later);
    double factor = k.aa > 0 ? k.ab / k.aa : 0, whole = round(factor);
    if (k.differ == 0)
        return;
    *x = (moe_explanation){.before = left_with(&k, 1), .tried = x->tried + 2, .n_params = 1};
    snprintf(x->tensor, sizeof x->tensor, "%s", name);
    /* 1e-4: stored twice in bf16, NMSE 2e-5, and a little more. */
    if (whole >= 2 && left_with(&k, whole) < 1e-4 * factor * factor) {
        snprintf(x->kind, sizeof x->kind, "accumulated");
        snprintf(x->text, sizeof x->text,
                 "%s adds up over calls: another run is %g times the first", name, whole);
        x->after = left_with(&k, whole);
        x->param[0].value = whole;
        snprintf(x->param[0].name, sizeof x->param[0].name, "factor");
        return;
    }
    if (k.bb == 0 && k.aa > 0) {
        snprintf(x->kind, sizeof x->kind, "stale");
        snprintf(x->text, sizeof x->text, "%s is all zero in another run: it is not computed again",
                 name);
        x->n_params = 0;
        return;
    }
    int64_t index[MOE_MAX_DIMS] = {0};
    moe_int_unravel(first, k.first, index);
    snprintf(x->kind, sizeof x->kind, "nondeterministic");
    snprintf(x->text, sizeof x->text,
             "%lld of %lld elements of %s differ between two runs, from element %lld of row %lld "
             "on, by up to %.1e of their size",
             (long long)k.differ, (long long)k.count, name,
             (long long)(first->ndim > 1 ? index[first->ndim - 1] : index[0]),
             (long long)(first->ndim > 1 ? index[0] : 0), k.largest);
    x->param[0].value = (double)k.differ;
    snprintf(x->param[0].name, sizeof x->param[0].name, "elements");
}

void moe_int_explain_left(moe_tensor_id id, int64_t expert, bool of_first,
                          moe_check_result *result) {
    moe_explanation *x = &result->explanation;
    const char *name = moe_tensor_name(id);
    if (x->kind[0])
        return;
    *x = (moe_explanation){.before = 1, .tried = x->tried + 1, .n_params = 1};
    snprintf(x->tensor, sizeof x->tensor, "%s", name);
    snprintf(x->kind, sizeof x->kind, of_first ? "stale" : "garbage_empty");
    snprintf(x->text, sizeof x->text,
             of_first
                 ? "%s of an expert without tokens keeps an earlier input's values: expert %lld"
                 : "%s is not zero where an expert has no token: expert %lld's part",
             name, (long long)expert);
    snprintf(x->param[0].name, sizeof x->param[0].name, "expert");
    x->param[0].value = (double)expert;
}

/* Is it wrong, and of the second input alone where it is no choice? What is wrong of the first one
 * too may have its bits again for want of what changes, as X^T H has of tokens in another order. */
static bool is_wrong(const moe_check_result *result, const char *name, bool of_second) {
    const char *word = moe_int_again_word(MOE_INT_SECOND);
    for (size_t i = 0; i < result->n_tensors; i++)
        if (strcmp(result->tensor[i].name, name) == 0)
            return result->tensor[i].verdict == MOE_VERDICT_FAIL &&
                   (!of_second || strncmp(result->tensor[i].why, word, strlen(word)) == 0);
    return false;
}

void moe_int_explain_stale(const bool stale[MOE_T_COUNT], moe_check_result *result) {
    moe_explanation *x = &result->explanation;
    char names[96] = "";
    size_t used = 0;
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        const char *name = moe_tensor_name(id);
        const bool chosen = !moe_tensor_is_backward(id) && is_wrong(result, "topk_index", false);
        if (!stale[id] || !(chosen || is_wrong(result, name, true)) ||
            used + strlen(name) + 3 > sizeof names)
            continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
        if (!x->kind[0] && !x->tensor[0])
            snprintf(x->tensor, sizeof x->tensor, "%s", name);
    }
    if (!used || x->kind[0])
        return;
    x->before = 1;
    x->tried++;
    snprintf(x->kind, sizeof x->kind, "stale");
    snprintf(
        x->text, sizeof x->text,
        "%s of a second input are the first input's: what set_input brings is not taken, or %s "
        "does nothing when it is called again",
        names, stale[MOE_T_O] ? "forward" : "backward");
}
