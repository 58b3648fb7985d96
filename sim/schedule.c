#include "schedule.h"

#include <math.h>

static void one_batch(moe_batch b, double sms, moe_schedule *ret) {
    const double rounds = floor(b.count / sms), rest = b.count - rounds * sms;
    ret->full = rounds * b.cost;
    ret->end = ret->full + (rest > 0 ? b.cost : 0);
    ret->active = rest > 0 ? rest : sms;
    ret->busy = b.count * b.cost;
}

/* A binary heap of the SMs' finishing times, the earliest on top. */
static void sift(double *heap, int n, int i) {
    for (;;) {
        int least = i, left = 2 * i + 1;
        if (left < n && heap[left] < heap[least])
            least = left;
        if (left + 1 < n && heap[left + 1] < heap[least])
            least = left + 1;
        if (least == i)
            return;
        double t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

static double latest(const double *heap, int n) {
    double t = heap[0];
    for (int i = 1; i < n; i++)
        t = fmax(t, heap[i]);
    return t;
}

/* Rounds in which every SM takes a tile change no order; only the last few SMs' worth of tiles of
 * each batch go through the heap one by one. */
static void take_batch(double *heap, int n, moe_batch b) {
    if (b.cost <= 0 || b.count <= 0)
        return;
    const double spread = ceil((latest(heap, n) - heap[0]) / b.cost);
    const double rounds = fmax(0, floor(b.count / n - spread));
    for (int i = 0; i < n; i++)
        heap[i] += rounds * b.cost;
    for (double rest = b.count - rounds * n; rest > 0; rest--) {
        heap[0] += b.cost;
        sift(heap, n, 0);
    }
}

void moe_int_schedule(const moe_batch *batches, int64_t count, double sms, moe_schedule *ret) {
    double heap[MOE_INT_SMS_MAX] = {0};
    const int n = (int)sms;
    double busy = 0, idle = 0;
    if (count == 1) {
        one_batch(batches[0], sms, ret);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        take_batch(heap, n, batches[i]);
        busy += batches[i].cost * batches[i].count;
    }
    ret->full = heap[0];
    ret->end = latest(heap, n);
    for (int i = 0; i < n; i++)
        idle += heap[i] - ret->full;
    ret->active = ret->end > ret->full ? fmax(1, idle / (ret->end - ret->full)) : n;
    ret->busy = busy;
}
