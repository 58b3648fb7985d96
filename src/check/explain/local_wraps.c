/* Rows of a stage that the next step reads from the wrong place because their index, or that of
 * their elements, is too narrow and wraps at a power of two. */
#include "check/explain/bank.h"
#include "check/explain/reread.h"

#include <math.h>

/* What wraps: the index of a row's first element, of each element, or the row's own. */
typedef enum wrap_of { FIRST_ELEMENT, EACH_ELEMENT, ROW, WRAPS } wrap_of;

typedef struct wrap {
    wrap_of of;
    int64_t limit;
} wrap;

static bool read_wrapped(const moe_int_reread *k, const void *how, int64_t pair, double *ret) {
    const wrap *w = how;
    const int64_t own = pair * k->width;
    const int64_t start = w->of == ROW             ? pair % w->limit * k->width
                          : w->of == FIRST_ELEMENT ? own % w->limit
                                                   : own;
    if (start == own && (w->of != EACH_ELEMENT || own + k->width <= w->limit))
        return false;
    for (int64_t i = 0; i < k->n_need; i++) {
        const int64_t at = start + k->need[i];
        ret[i] = moe_int_reread_at(k, w->of == EACH_ELEMENT ? at % w->limit : at);
    }
    return true;
}

/* The first row that is read from elsewhere. */
static int64_t first_row(const moe_int_reread *k, const wrap *w) {
    return w->of == ROW             ? w->limit
           : w->of == FIRST_ELEMENT ? (w->limit + k->width - 1) / k->width
                                    : w->limit / k->width;
}

static void say(const moe_int_reread *k, const wrap *w, moe_int_finding *f) {
    static const char *const what[WRAPS] = {"the index of a row's first element",
                                            "the index of an element", "the number of a row"};
    moe_int_finding_say(f, " in %s: %s wraps at %lld, from row %lld of %lld on",
                        moe_tensor_name(k->stage), what[w->of], (long long)w->limit,
                        (long long)first_row(k, w), (long long)k->pairs);
    moe_int_finding_param(f, "limit", (double)w->limit);
    moe_int_finding_param(f, "row", (double)first_row(k, w));
}

static bool find_wrap(const moe_int_local *l, moe_tensor_id stage, moe_int_finding *f) {
    enum { LEAST = 16 };
    moe_int_reread k;
    bool found = false;
    const bool made = moe_int_reread_make(l, stage, &k);
    const double most = made ? moe_int_local_limit(l->p->e, l->p->id, k.d2) : 0;
    for (int of = 0; made && !found && of < WRAPS; of++) {
        const int64_t end = of == ROW ? k.pairs : k.pairs * k.width;
        for (int64_t limit = LEAST; !found && limit < end; limit *= 2) {
            const wrap w = {(wrap_of)of, limit};
            const double left = moe_int_reread_left(&k, read_wrapped, &w, most);
            found = left <= most;
            if (found) {
                moe_int_local_residuals(l->p, left, k.d2, f);
                say(&k, &w, f);
            }
        }
    }
    moe_int_reread_destroy(&k);
    return found;
}

bool moe_int_local_stage_wraps(const moe_int_local *l, moe_int_finding *f) {
    const moe_tensor_id id = l->p->id;
    if (id == MOE_T_DX || id == MOE_T_DXP)
        return find_wrap(l, MOE_T_DH, f);
    return (id == MOE_T_O || id == MOE_T_Y) &&
           (find_wrap(l, MOE_T_A, f) || find_wrap(l, MOE_T_H, f));
}
