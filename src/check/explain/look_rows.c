/* Looks at rows: zero, moved, of another expert, or with a pair's part missing. */
#include "check/explain/bank.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Residual that is left when the marked rows are right and the others are as they are. */
static double left_outside(const moe_int_sight *p, const bool *marked) {
    double left = 0;
    for (int64_t r = 0; r < p->rows; r++)
        left += marked[r] ? 0 : p->row[r].d2;
    return left;
}

bool moe_int_look_zero_rows(const moe_int_sight *p, moe_int_finding *f) {
    bool *zero = calloc((size_t)p->rows, sizeof *zero);
    int64_t count = 0;
    for (int64_t r = 0; zero && r < p->rows; r++) {
        zero[r] = p->row[r].wrong && p->row[r].g2 == 0 && p->row[r].odd == 0;
        count += zero[r];
    }
    bool done = zero && count > 0 && p->rows > 1;
    if (done) {
        moe_int_sight_residuals(p, left_outside(p, zero), f);
        moe_int_sight_say_rows(p, zero, f);
    }
    free(zero);
    return done;
}

bool moe_int_look_garbage_empty(const moe_int_sight *p, moe_int_finding *f) {
    const moe_plan *plan = p->e->routing->plan;
    double left = 0;
    int64_t first = -1;
    if (p->layout.by != MOE_INT_BY_EXPERT || p->id == MOE_T_DW_R || p->id == MOE_T_DB_R)
        return false;
    for (int64_t r = 0; r < p->rows; r++) {
        int64_t e = moe_int_sight_expert(p, r);
        bool empty = plan->offsets[e] == plan->offsets[e + 1];
        bool dirty = empty && (p->row[r].d2 > 0 || p->row[r].odd > 0);
        left += dirty ? 0 : p->row[r].d2;
        if (dirty && first < 0)
            first = e;
    }
    if (first < 0)
        return false;
    moe_int_sight_residuals(p, left, f);
    if (f->is.before < 1e-3) /* small beside the other experts, but it must be exactly 0 */
        f->is.before = 1;
    moe_int_finding_say(f, ": expert %lld's part", (long long)first);
    moe_int_finding_param(f, "expert", (double)first);
    return true;
}

/* Squared distance of row r from row `to` of the truth, 0 < limit: stops above it. */
static double distance(const moe_int_sight *p, int64_t r, int64_t to, double limit) {
    double sum = 0;
    for (int64_t c = 0; c < p->width && sum <= limit; c++) {
        double d = moe_int_sight_got(p, r, c) - moe_int_sight_want(p, to, c);
        sum += isfinite(d) ? d * d : limit + 1;
    }
    return sum;
}

/* Does the wrong row r equal row `to` of the truth far better than its own? */
static bool equals(const moe_int_sight *p, int64_t r, int64_t to, double *left) {
    if (to < 0 || to >= p->rows || p->row[to].r2 == 0)
        return false;
    bool wide = p->e->arithmetic == MOE_F32 || p->e->arithmetic == MOE_F64;
    double limit = p->row[r].d2 / (wide ? 1e3 : 30);
    *left = distance(p, r, to, limit);
    return *left <= limit;
}

/* First row of expert e in the sight, -1: none. */
static int64_t start_of(const moe_int_sight *p, int64_t e) {
    int64_t low = 0, high = p->rows;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (moe_int_sight_expert(p, mid) < e)
            low = mid + 1;
        else
            high = mid;
    }
    return low < p->rows && moe_int_sight_expert(p, low) == e ? low : -1;
}

/* Adds what is left of expert e's slice if its wrong rows are those of expert `from`. */
static bool slice_is(const moe_int_sight *p, int64_t e, int64_t from, double *sum) {
    int64_t start = start_of(p, e), source = start_of(p, from);
    double all = 0;
    for (int64_t r = start; source >= 0 && r < p->rows && moe_int_sight_expert(p, r) == e; r++) {
        double left = p->row[r].d2;
        const bool empty = p->row[r].g2 == 0 && p->row[source + r - start].r2 == 0;
        if (p->row[r].wrong && !empty && !equals(p, r, source + r - start, &left))
            return false;
        all += empty ? 0 : left;
    }
    *sum += all;
    return source >= 0;
}

/* The expert whose slice e's is; e: its own; -1: none's. */
static int64_t source_of(const moe_int_sight *p, int64_t e, double *sum) {
    int64_t E = p->e->problem->layer.E, start = start_of(p, e);
    bool wrong = false;
    double own = 0;
    for (int64_t r = start; r < p->rows && moe_int_sight_expert(p, r) == e; r++) {
        wrong |= p->row[r].wrong;
        own += p->row[r].d2;
    }
    for (int64_t shift = 1; wrong && shift < E; shift++)
        if (slice_is(p, e, (e + shift) % E, sum))
            return (e + shift) % E;
    *sum += wrong ? 0 : own;
    return wrong ? -1 : e;
}

/* Weight gradients (same rows for all experts). */
bool moe_int_look_other_expert(const moe_int_sight *p, moe_int_finding *f) {
    double left = 0;
    int64_t E = p->e->problem->layer.E, first = -1, has = -1, more = 0;
    if (p->layout.by != MOE_INT_BY_EXPERT || !moe_int_sight_is_whole(p) || p->width < 4 || E < 2)
        return false;
    for (int64_t e = 0; e < E; e++) {
        int64_t from = start_of(p, e) < 0 ? e : source_of(p, e, &left);
        if (from < 0)
            return false;
        more += first >= 0 && from != e;
        has = first < 0 && from != e ? from : has;
        first = first < 0 && from != e ? e : first;
    }
    if (first < 0)
        return false;
    moe_int_sight_residuals(p, left, f);
    moe_int_finding_say(f, ": expert %lld has expert %lld's", (long long)first, (long long)has);
    if (more > 0)
        moe_int_finding_say(f, "; %lld more have another's", (long long)more);
    moe_int_finding_param(f, "expert", (double)first);
    moe_int_finding_param(f, "has", (double)has);
    return true;
}

/* The row after, or the one before, whichever it equals: rows that have changed places. */
static int64_t swapped(const moe_int_sight *p, int64_t r) {
    double left;
    return equals(p, r, r + 1, &left) ? r + 1 : r - 1;
}

/* A row that is `step` further on; in the next or previous expert's rows at the same place. */
static int64_t moved(const moe_int_sight *p, int64_t r, int how) {
    if (how < 4) {
        static const int64_t step[] = {1, -1, 2, -2};
        return r + step[how];
    }
    if (how == 6)
        return swapped(p, r);
    int64_t e = moe_int_sight_expert(p, r), to = how == 4 ? e + 1 : e - 1;
    if (p->layout.by != MOE_INT_BY_PAIR || to < 0 || start_of(p, to) < 0)
        return -1;
    return start_of(p, to) + r - start_of(p, e);
}

bool moe_int_look_moved_rows(const moe_int_sight *p, moe_int_finding *f) {
    static const char *const how_said[] = {"the row after it",
                                           "the row before it",
                                           "the second row after it",
                                           "the second row before it",
                                           "the next expert's row",
                                           "the previous expert's row",
                                           "neighbours have changed places"};
    bool *marked = calloc((size_t)p->rows, sizeof *marked), found = false;
    if (!marked || !moe_int_sight_is_whole(p) || p->rows * p->width < 32 || p->odd > 0 ||
        (p->layout.by != MOE_INT_BY_TOKEN && p->layout.by != MOE_INT_BY_PAIR)) {
        free(marked);
        return false;
    }
    for (int how = 0; !found && how < 7; how++) {
        double sum = 0;
        int64_t count = 0, missed = 0;
        for (int64_t r = 0; r < p->rows && missed * 8 <= count + 8; r++) {
            double left = p->row[r].d2;
            marked[r] = p->row[r].wrong && equals(p, r, moved(p, r, how), &left);
            missed += p->row[r].wrong && !marked[r];
            count += marked[r];
            sum += marked[r] || !p->row[r].wrong ? left : 0;
        }
        /* A row at an end may come from beyond the tensor. */
        found = count > 0 && missed * 8 <= count;
        if (!found)
            continue;
        moe_int_sight_residuals(p, sum, f);
        moe_int_finding_say(f, ": %s", how_said[how]);
        moe_int_sight_say_rows(p, marked, f);
    }
    free(marked);
    return found;
}

/* The parts that pairs have in O (or dX): Y (or dX~) of the oracle. */
typedef struct pair_parts {
    const moe_int_sight *p;
    const moe_plan *plan; /* the oracle's: of all tokens, or of the sample */
    const double *part;
    double *diff;
    int64_t *token; /* of the worst pairs found, with their factor */
    int64_t missing, twice, other;
    int64_t first_token, first_expert;
    bool one_expert;
} pair_parts;

/* Row r's error as a multiple of one of the token's pairs' parts. Returns what is left. */
static double fit_pair(pair_parts *k, int64_t r) {
    const moe_int_sight *p = k->p;
    double left = p->row[r].d2, best = 0, weight = 1;
    int64_t expert = -1;
    for (int64_t c = 0; c < p->width; c++)
        k->diff[c] = moe_int_sight_got(p, r, c) - moe_int_sight_want(p, r, c);
    for (int64_t i = k->plan->token_offsets[r]; i < k->plan->token_offsets[r + 1]; i++) {
        int64_t pair = k->plan->pair_of_token[i];
        double yy = 0, dy = 0;
        for (int64_t c = 0; pair < k->plan->offsets[p->e->problem->layer.E] && c < p->width; c++) {
            yy += k->part[pair * p->width + c] * k->part[pair * p->width + c];
            dy += k->diff[c] * k->part[pair * p->width + c];
        }
        double rest = yy > 0 ? fmax(p->row[r].d2 - dy * dy / yy, 0) : left;
        if (rest >= left)
            continue;
        left = rest;
        best = dy / yy;
        weight = p->id == MOE_T_O ? k->plan->weight[pair] : 1;
        expert = moe_int_plan_expert_of(k->plan, pair);
    }
    if (left > p->row[r].d2 / 30)
        return p->row[r].d2;
    k->missing += fabs(best / weight + 1) < 0.02;
    k->twice += fabs(best / weight - 1) < 0.02;
    k->other += fabs(best / weight + 1) >= 0.02 && fabs(best / weight - 1) >= 0.02;
    if (k->first_expert < 0) {
        k->first_token = moe_int_sight_token(p, r);
        k->first_expert = expert;
    }
    k->one_expert &= expert == k->first_expert;
    return left;
}

static void say_pairs(const pair_parts *k, moe_int_finding *f) {
    const char *what = k->twice + k->other == 0     ? "missing"
                       : k->missing + k->other == 0 ? "there twice"
                                                    : "there with another weight";
    moe_int_finding_say(f, ": expert %lld's part is %s at token %lld", (long long)k->first_expert,
                        what, (long long)k->first_token);
    moe_int_finding_param(f, "expert", (double)k->first_expert);
    moe_int_finding_param(f, "token", (double)k->first_token);
    if (!k->one_expert)
        moe_int_finding_say(f, "; other experts' at other tokens");
}

bool moe_int_look_missing_pairs(const moe_int_sight *p, moe_int_finding *f) {
    const moe_reference_result *oracle = p->e->truth->oracle;
    const moe_tensor *part = &oracle->out.t[p->id == MOE_T_O ? MOE_T_Y : MOE_T_DXP];
    bool on_input = p->e->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    if ((p->id != MOE_T_O && p->id != MOE_T_DX) || !part->data || on_input || p->odd > 0)
        return false;
    pair_parts k = {.p = p,
                    .plan = oracle->plan,
                    .part = part->data,
                    .diff = malloc((size_t)p->width * sizeof(double)),
                    .first_expert = -1,
                    .one_expert = true};
    double left = 0;
    for (int64_t r = 0; k.diff && r < p->rows; r++)
        left += p->row[r].wrong ? fit_pair(&k, r) : p->row[r].d2;
    free(k.diff);
    if (k.first_expert < 0)
        return false;
    moe_int_sight_residuals(p, left, f);
    f->place = k.other > 0; /* a factor for each token: any cause with fewer unknowns is better */
    bool *marked = calloc((size_t)p->rows, sizeof *marked);
    say_pairs(&k, f);
    for (int64_t r = 0; marked && r < p->rows; r++)
        marked[r] = p->row[r].wrong;
    if (marked)
        moe_int_sight_say_rows(p, marked, f);
    free(marked);
    return true;
}

/* A tensor of the same shape in its place: X, dO, O, dX, and the stages of pairs. */
bool moe_int_look_other_tensor(const moe_int_sight *p, moe_int_finding *f) {
    static const moe_tensor_id ids[] = {MOE_T_X,  MOE_T_DO, MOE_T_O,   MOE_T_DX, MOE_T_H,
                                        MOE_T_DH, MOE_T_Y,  MOE_T_DXP, MOE_T_S,  MOE_T_DS};
    const moe_int_truth *truth = p->e->truth;
    for (size_t i = 0; i < sizeof ids / sizeof *ids && p->rows * p->width >= 8; i++) {
        const moe_tensor *in = &truth->in.t[ids[i]],
                         *t = in->data ? in : &truth->oracle->out.t[ids[i]];
        if (!t->data || ids[i] == p->id || moe_tensor_count(t) != p->rows * p->width)
            continue;
        double sum = 0;
        for (int64_t c = 0; c < p->rows * p->width && sum <= p->d2 / 30; c++) {
            double d = moe_int_sight_got(p, c / p->width, c % p->width) -
                       moe_load(t->data, t->dtype, (size_t)c);
            sum += isfinite(d) ? d * d : INFINITY;
        }
        if (sum > p->d2 / 30)
            continue;
        moe_int_sight_residuals(p, sum, f);
        moe_int_finding_say(f, ": %s", moe_tensor_name(ids[i]));
        return true;
    }
    return false;
}
