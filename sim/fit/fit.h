/* Internal: searching parameters. */
#ifndef MOE_SIM_FIT_H
#define MOE_SIM_FIT_H

#include <stddef.h>

#define MOE_INT_FREE_MAX 24

/* Minimises f over x[0..n) (Nelder and Mead, Computer Journal 7, 1965), starting from x with a
 * first simplex of size `step`. x becomes the best point found; returns its value. n <=
 * MOE_INT_FREE_MAX. */
double moe_int_minimise(double (*f)(void *user, const double *x), void *user, size_t n, double step,
                        int evaluations, double *x);

#endif
