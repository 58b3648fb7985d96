#include "sim/fit/fit.h"

#include <string.h>

typedef struct simplex {
    double (*f)(void *user, const double *x);
    void *user;
    size_t n;
    int left; /* evaluations */
    double x[MOE_INT_FREE_MAX + 1][MOE_INT_FREE_MAX];
    double y[MOE_INT_FREE_MAX + 1];
} simplex;

static double evaluate(simplex *s, const double *x) {
    s->left--;
    return s->f(s->user, x);
}

/* Insertion sort of the corners by value: nearly sorted after the first time. */
static void sort(simplex *s) {
    double x[MOE_INT_FREE_MAX];
    for (size_t i = 1; i <= s->n; i++) {
        const double y = s->y[i];
        size_t j = i;
        memcpy(x, s->x[i], sizeof x);
        for (; j > 0 && s->y[j - 1] > y; j--) {
            s->y[j] = s->y[j - 1];
            memcpy(s->x[j], s->x[j - 1], sizeof x);
        }
        s->y[j] = y;
        memcpy(s->x[j], x, sizeof x);
    }
}

/* The point centre + t * (worst - centre), with the centre of all corners but the worst. */
static double probe(simplex *s, double t, double *ret) {
    for (size_t d = 0; d < s->n; d++) {
        double centre = 0;
        for (size_t i = 0; i < s->n; i++)
            centre += s->x[i][d] / (double)s->n;
        ret[d] = centre + t * (s->x[s->n][d] - centre);
    }
    return evaluate(s, ret);
}

static void shrink(simplex *s) {
    for (size_t i = 1; i <= s->n; i++) {
        for (size_t d = 0; d < s->n; d++)
            s->x[i][d] = 0.5 * (s->x[i][d] + s->x[0][d]);
        s->y[i] = evaluate(s, s->x[i]);
    }
}

static void replace_worst(simplex *s, const double *x, double y) {
    memcpy(s->x[s->n], x, s->n * sizeof *x);
    s->y[s->n] = y;
}

static void step_once(simplex *s) {
    double a[MOE_INT_FREE_MAX], b[MOE_INT_FREE_MAX];
    const double reflected = probe(s, -1, a);
    if (reflected < s->y[0]) {
        const double expanded = probe(s, -2, b);
        if (expanded < reflected)
            replace_worst(s, b, expanded);
        else
            replace_worst(s, a, reflected);
    } else if (reflected < s->y[s->n - 1]) {
        replace_worst(s, a, reflected);
    } else {
        const double contracted = probe(s, reflected < s->y[s->n] ? -0.5 : 0.5, b);
        if (contracted < (reflected < s->y[s->n] ? reflected : s->y[s->n]))
            replace_worst(s, b, contracted);
        else
            shrink(s);
    }
}

double moe_int_minimise(double (*f)(void *user, const double *x), void *user, size_t n, double step,
                        int evaluations, double *x) {
    simplex s = {.f = f, .user = user, .n = n, .left = evaluations};
    for (size_t i = 0; i <= n; i++) {
        memcpy(s.x[i], x, n * sizeof *x);
        if (i > 0)
            s.x[i][i - 1] += step;
        s.y[i] = evaluate(&s, s.x[i]);
    }
    sort(&s);
    while (s.left > 0) {
        step_once(&s);
        sort(&s);
    }
    memcpy(x, s.x[0], n * sizeof *x);
    return s.y[0];
}
