/* HybriMoE: experts whose weights are not on the GPU come over PCIe, or are computed on the CPU; of
 * several GPUs each has some experts, and rows come and go as in ep_serial.
 * List scheduling: experts on the GPU by load, heaviest first, then the others; again and again the
 * head goes to the GPU, or the tail to the CPU, whichever ends earlier. */
#include "sim/methods/hybrimoe.h"
#include "sim/devices/devices.h"

#include <math.h>
#include <stdlib.h>

/* Of a desktop or server socket, for sign tests: nothing was measured. */
#define HOST_GBPS  25  /* PCIe 4 x16 as copies reach it */
#define CPU_GBPS   150 /* weights of an expert from the host's memory */
#define CPU_TFLOPS 1.5 /* bf16 products */

int moe_int_hybrid_next(const moe_int_hybrid *h, int head, int tail, double gpu, double copy,
                        double cpu, double *ret_gpu, double *ret_copy, double *ret_cpu) {
    const moe_int_hybrid *first = h + head, *last = h + tail;
    *ret_copy = copy + first->copy_us;
    *ret_gpu = fmax(gpu, first->copy_us > 0 ? *ret_copy : 0) + first->gpu_us;
    *ret_cpu = cpu + last->cpu_us;
    return *ret_cpu < *ret_gpu ? tail : head;
}

/* On the GPU first, then by load. */
static int compare(const void *a, const void *b) {
    const moe_int_hybrid *p = a, *q = b;
    if ((p->copy_us > 0) != (q->copy_us > 0))
        return p->copy_us > 0 ? 1 : -1;
    return p->rows < q->rows ? 1 : p->rows > q->rows ? -1 : p->expert < q->expert ? -1 : 1;
}

void moe_int_hybrid_sort(moe_int_hybrid *h, size_t count) {
    qsort(h, count, sizeof *h, compare);
}

static size_t fill(moe_int_devices *x, moe_int_hybrid *h) {
    const double width = (double)moe_h_width(x->layer, x->layer->n) + (double)x->layer->n;
    const double bytes = width * x->d * x->element;
    const int64_t experts = moe_int_devices_experts(x, x->group);
    const int64_t cached = (int64_t)floor(x->o->cached * (double)experts + 0.5);
    int64_t seen = 0;
    size_t count = 0;
    for (int64_t e = 0; e < x->layer->E; e++) {
        if (x->owner[e] != x->group)
            continue;
        const int64_t i = seen++;
        const double rows = (double)x->counts[e];
        if (rows == 0)
            continue;
        const moe_int_local l = moe_int_devices_local(x, x->group, i, i + 1, 1);
        h[count++] = (moe_int_hybrid){
            .expert = e,
            .rows = rows,
            .gpu_us = moe_int_local_us(&l),
            .copy_us = i < cached ? 0 : bytes / (HOST_GBPS * 1e3),
            .cpu_us = fmax(bytes / (CPU_GBPS * 1e3), 2 * rows * width * x->d / (CPU_TFLOPS * 1e6))};
    }
    return count;
}

static void add_tasks(moe_int_devices *x, const moe_int_hybrid *h, size_t count) {
    double gpu = 0, copy = 0, cpu = 0;
    for (int head = 0, tail = (int)count - 1; head <= tail;) {
        double next_gpu, next_copy, next_cpu;
        x->t.chunk = head;
        if (moe_int_hybrid_next(h, head, tail, gpu, copy, cpu, &next_gpu, &next_copy, &next_cpu) ==
                tail &&
            next_cpu < next_gpu) {
            moe_int_tl_add(&x->t, "expert on the CPU", MOE_INT_TL_CPU, MOE_INT_TL_COUNT,
                           h[tail].cpu_us, 0, MOE_INT_NO_TASK, MOE_INT_NO_TASK);
            cpu = next_cpu;
            tail--;
            continue;
        }
        int weights = MOE_INT_NO_TASK;
        if (h[head].copy_us > 0)
            weights =
                moe_int_tl_add(&x->t, "weights", MOE_INT_TL_COPY, MOE_INT_TL_COUNT, h[head].copy_us,
                               h[head].copy_us * HOST_GBPS * 1e3, MOE_INT_NO_TASK, MOE_INT_NO_TASK);
        moe_int_tl_add(&x->t, "expert", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, h[head].gpu_us, 0,
                       weights, MOE_INT_NO_TASK);
        gpu = next_gpu;
        copy = next_copy;
        head++;
    }
}

static void run(moe_int_devices *x) {
    moe_int_hybrid *h = calloc((size_t)x->layer->E, sizeof *h);
    if (!h) {
        x->t.out_of_memory = true;
        return;
    }
    const moe_int_load rows = moe_int_devices_rows(x, 1, x->d * x->element);
    const size_t count = fill(x, h);
    moe_int_hybrid_sort(h, count);
    if (x->ep > 1)
        moe_int_devices_move(x, "dispatch X", MOE_INT_CARRIER_ALLTOALL, &rows, MOE_INT_NO_TASK);
    moe_int_tl_barrier(&x->t);
    add_tasks(x, h, count);
    moe_int_tl_barrier(&x->t);
    if (x->ep > 1)
        moe_int_devices_move(x, "combine Y", MOE_INT_CARRIER_ALLTOALL, &rows, MOE_INT_NO_TASK);
    free(h);
}

const moe_int_devices_method moe_int_devices_hybrimoe = {
    .brief = "HybriMoE: experts on GPU, over PCIe or on the CPU (--cached SHARE)",
    .run = run,
    .forward_only = true,
    .whole = true};
