/* A change that a kernel made for some rows alone: a tile, a tail, some experts. */
#include "check/explain/scene.h"
#include "route/route.h"

#include <math.h>

/* Squared distance of the subject's group g from the values of a run; infinite: one has a number
 * where the other has none. */
static double distance(const moe_int_scene *s, moe_tensor_id id, int64_t g, const double *value) {
    const moe_int_spot *spot = &s->spot[id];
    const moe_tensor *got = &s->evidence->got.t[id];
    double sum = 0;
    for (int64_t c = 0; c < spot->width; c++) {
        const double v =
            moe_load(got->data, got->dtype, (size_t)(spot->base[g] + c * spot->stride));
        const double want = value[g * spot->width + c], d = v - want;
        sum += isfinite(d) ? d * d : isfinite(v) == isfinite(want) ? 0 : INFINITY;
    }
    return sum;
}

double moe_int_scene_mixed_squares(const moe_int_scene *s, moe_tensor_id id, const double *value,
                                   const double *base) {
    enum { ENOUGH = 8 }; /* elements of a row: fewer fit by chance */
    const moe_int_spot *spot = &s->spot[id];
    double d2 = 0;
    if (!s->evidence->got.t[id].data || !value || !base || spot->width < ENOUGH)
        return INFINITY;
    for (int64_t g = 0; g < spot->groups; g++)
        d2 += fmin(distance(s, id, g, value), distance(s, id, g, base));
    return d2;
}

double moe_int_scene_mixed(const moe_int_scene *s, moe_tensor_id id, const double *value,
                           const double *base) {
    const moe_int_spot *spot = &s->spot[id];
    const double d2 = moe_int_scene_mixed_squares(s, id, value, base);
    double r2 = 0;
    for (int64_t i = 0; isfinite(d2) && i < spot->groups * spot->width; i++)
        r2 += isfinite(base[i]) ? base[i] * base[i] : 0;
    return r2 > 0 ? d2 / r2 : -1;
}

/* Expert of group g, -1. */
static int64_t expert_of(const moe_int_scene *s, moe_tensor_id id, int64_t g) {
    const moe_int_layout l = moe_int_layout_of(id, &s->evidence->got.t[id]);
    const int64_t at = s->spot[id].base[g] / l.width;
    return l.by == MOE_INT_BY_TOKEN || l.by == MOE_INT_WHOLE
               ? -1
               : moe_int_layout_expert(&l, s->evidence->routing->plan, at);
}

void moe_int_scene_say_mixed(const moe_int_scene *s, moe_tensor_id id, const double *value,
                             const double *base, moe_int_finding *f) {
    int64_t changed = 0, low = INT64_MAX, high = -1;
    bool apart = true;
    for (int64_t g = 0; g < s->spot[id].groups; g++) {
        const int64_t e = expert_of(s, id, g);
        if (distance(s, id, g, value) >= distance(s, id, g, base))
            continue;
        changed++;
        low = e < low ? e : low;
        high = e > high ? e : high;
    }
    for (int64_t g = 0; g < s->spot[id].groups; g++) {
        const int64_t e = expert_of(s, id, g);
        apart &= distance(s, id, g, value) < distance(s, id, g, base) || e < low || e > high;
    }
    if (apart && low >= 0)
        moe_int_finding_say(f, "; of experts %lld to %lld alone", (long long)low, (long long)high);
    else
        moe_int_finding_say(f, "; in some rows alone, %lld of %lld looked at", (long long)changed,
                            (long long)s->spot[id].groups);
}
