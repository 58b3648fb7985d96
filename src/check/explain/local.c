/* What hypotheses about a single step share. */
#include "check/explain/local.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const moe_tensor *moe_int_local_operand(const moe_int_evidence *e, moe_tensor_id id) {
    if (e->got.t[id].data && !e->wrong[id])
        return &e->got.t[id];
    const moe_tensor *right = &e->truth->oracle->out.t[id];
    return !e->truth->sampled && right->data ? right : NULL;
}

int64_t moe_int_local_rows(const moe_int_sight *p, int64_t most, int64_t *ret) {
    const int64_t all = p->wrong_rows, count = all < most ? all : most;
    int64_t seen = 0, taken = 0;
    for (int64_t r = 0; r < p->rows && taken < count; r++) {
        if (!p->row[r].wrong)
            continue;
        if (seen++ * count / all == taken && p->row[r].odd == 0)
            ret[taken++] = r;
    }
    return taken;
}

double moe_int_local_limit(const moe_int_evidence *e, moe_tensor_id id, double d2) {
    return d2 / (e->gate[id] < 1e-7 ? 1e3 : 30);
}

void moe_int_local_residuals(const moe_int_sight *p, double left, double d2, moe_int_finding *f) {
    moe_int_sight_residuals(p, d2 > 0 ? p->d2 * fmax(left, 0) / d2 : p->d2, f);
}

double moe_int_inner(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* g = L L^T, in its lower half. */
static bool factorise(double *g, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double whole = g[i * n + i];
            double v = g[i * n + j] - moe_int_inner(g + i * n, g + j * n, j);
            if (i == j && !(v > 1e-12 * whole))
                return false;
            g[i * n + j] = i == j ? sqrt(v) : v / g[j * n + j];
        }
    return true;
}

bool moe_int_solve(double *g, int64_t n, double *b, int64_t columns) {
    if (!factorise(g, n))
        return false;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < columns; c++) {
            double v = b[i * columns + c];
            for (int64_t j = 0; j < i; j++)
                v -= g[i * n + j] * b[j * columns + c];
            b[i * columns + c] = v / g[i * n + i];
        }
    for (int64_t i = n; i-- > 0;)
        for (int64_t c = 0; c < columns; c++) {
            double v = b[i * columns + c];
            for (int64_t j = i + 1; j < n; j++)
                v -= g[j * n + i] * b[j * columns + c];
            b[i * columns + c] = v / g[i * n + i];
        }
    return true;
}

double moe_int_fit(const double *term, int64_t count, int64_t width, const double *want,
                   double *ret) {
    double *g = malloc((size_t)(count * count + 1) * sizeof *g), left = -1;
    for (int64_t i = 0; g && i < count; i++) {
        ret[i] = moe_int_inner(term + i * width, want, width);
        for (int64_t j = 0; j <= i; j++)
            g[i * count + j] = moe_int_inner(term + i * width, term + j * width, width);
    }
    if (g && moe_int_solve(g, count, ret, 1)) {
        left = 0;
        for (int64_t c = 0; c < width; c++) {
            double v = want[c];
            for (int64_t i = 0; i < count; i++)
                v -= ret[i] * term[i * width + c];
            left += v * v;
        }
    }
    free(g);
    return left;
}

/* Place of a token among an expert's rows, -1: it has none there. */
static int64_t place_of(const moe_plan *plan, int64_t e, int64_t token) {
    for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++)
        if (plan->token[p] == token)
            return p;
    return -1;
}

/* The number by which all differ, in tokens or in places among an expert's rows; 0: there is none.
 */
static int64_t shift_of(const moe_int_evidence *e, const moe_int_moved *m, int64_t count,
                        bool places) {
    const moe_plan *plan = e->routing->plan;
    int64_t shift = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t own = m[i].own, has = m[i].has;
        if (places) {
            own = m[i].pair;
            has = place_of(plan, moe_int_plan_expert_of(plan, own), has);
            if (has < 0)
                return 0;
        }
        if (i > 0 && has - own != shift)
            return 0;
        shift = has - own;
    }
    return shift;
}

/* The power of two of which all are the rest (or, `down`, the multiple below). */
static int64_t power_of(const moe_int_moved *m, int64_t count, bool down) {
    for (int64_t power = 2; power <= 1 << 20; power *= 2) {
        bool all = true;
        for (int64_t i = 0; all && i < count; i++)
            all = m[i].has == (down ? m[i].own / power * power : m[i].own % power);
        if (all)
            return power;
    }
    return 0;
}

static bool all_beyond(const moe_int_evidence *e, const moe_int_moved *m, int64_t count) {
    const moe_plan *plan = e->routing->plan;
    for (int64_t i = 0; i < count; i++) {
        int64_t next = moe_int_plan_expert_of(plan, m[i].pair) + 1;
        if (next >= plan->n_experts || place_of(plan, next, m[i].has) < 0)
            return false;
    }
    return true;
}

void moe_int_say_moved(const moe_int_evidence *e, const moe_int_moved *m, int64_t count,
                       bool tokens, moe_int_finding *f) {
    const moe_plan *plan = e->routing->plan;
    const char *what = tokens ? "token" : "row";
    int64_t by = count > 1 ? shift_of(e, m, count, false) : 0, power;
    int64_t place = count > 1 && tokens ? shift_of(e, m, count, true) : 0;
    if (place)
        moe_int_finding_say(f, ": of the row %lld %s it", llabs(place),
                            place > 0 ? "after" : "before");
    else if (by)
        moe_int_finding_say(f, ": of the %s %lld %s it", what, llabs(by),
                            by > 0 ? "after" : "before");
    else if (count > 2 && (power = power_of(m, count, false)) > 0)
        moe_int_finding_say(f, ": the %s's number is cut to its rest by %lld", what,
                            (long long)power);
    else if (count > 2 && (power = power_of(m, count, true)) > 0)
        moe_int_finding_say(f, ": the %s's number is rounded down to a multiple of %lld", what,
                            (long long)power);
    else if (tokens && all_beyond(e, m, count))
        moe_int_finding_say(f, ": of the next expert's rows");
    const int64_t expert = moe_int_plan_expert_of(plan, m->pair);
    moe_int_finding_say(f, "; expert %lld's row %lld (token %lld) has %s %lld's", (long long)expert,
                        (long long)(m->pair - plan->offsets[expert]),
                        (long long)plan->token[m->pair], what, (long long)m->has);
    moe_int_finding_param(f, "expert", (double)expert);
    moe_int_finding_param(f, "row", (double)(m->pair - plan->offsets[expert]));
    moe_int_finding_param(f, "has", (double)m->has);
}

int64_t moe_int_rank_of(const moe_plan *plan, int64_t p) {
    const int64_t t = plan->token[p];
    int64_t rank = 0;
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++) {
        const int64_t q = plan->pair_of_token[j];
        rank += plan->weight[q] > plan->weight[p] || (plan->weight[q] == plan->weight[p] && q < p);
    }
    return rank;
}
