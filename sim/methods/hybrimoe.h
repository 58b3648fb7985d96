/* Internal: list scheduling of experts on a GPU and a CPU. */
#ifndef MOE_SIM_METHODS_HYBRIMOE_H
#define MOE_SIM_METHODS_HYBRIMOE_H

#include <stddef.h>
#include <stdint.h>

typedef struct moe_int_hybrid {
    int64_t expert;
    double rows;
    double gpu_us, cpu_us;
    double copy_us; /* 0: its weights are on the GPU */
} moe_int_hybrid;

/* On the GPU first, then by load. */
void moe_int_hybrid_sort(moe_int_hybrid *h, size_t count);

/* With the three resources free at the given times: whether the tail goes to the CPU next (its
 * index is returned), or the head to the GPU; when each would be free then. */
int moe_int_hybrid_next(const moe_int_hybrid *h, int head, int tail, double gpu, double copy,
                        double cpu, double *ret_gpu, double *ret_copy, double *ret_cpu);

#endif
