/* Internal: tasks on the rows of one rank's timeline. */
#ifndef MOE_SIM_DEVICES_TIMELINE_H
#define MOE_SIM_DEVICES_TIMELINE_H

#include "moeref/node.h"

/* ROW(constant, name): what does one thing at a time. */
#define MOE_INT_TL_ROWS(ROW)                                                                       \
    ROW(SMS, "SMs")                                                                                \
    ROW(SENDERS, "SMs that send")                                                                  \
    ROW(OUT, "link out")                                                                           \
    ROW(IN, "link in")                                                                             \
    ROW(NETWORK, "network")                                                                        \
    ROW(COPY, "copies from the host")                                                              \
    ROW(CPU, "CPU")                                                                                \
    ROW(OTHER, "beside the layer")

#define MOE_INT_TL_CONSTANT(constant, name) MOE_INT_TL_##constant,
typedef enum moe_int_tl_row {
    MOE_INT_TL_ROWS(MOE_INT_TL_CONSTANT) MOE_INT_TL_COUNT
} moe_int_tl_row;

#define MOE_INT_NO_TASK (-1)

typedef struct moe_int_timeline {
    moe_ep_task *tasks;
    size_t count, capacity;
    double free_us[MOE_INT_TL_COUNT]; /* when each row is free again */
    double busy_us[MOE_INT_TL_COUNT];
    double end_us, sum_us;
    bool serial; /* nothing overlaps */
    bool out_of_memory;
    int32_t chunk, backward; /* of tasks that are added now */
} moe_int_timeline;

extern const char *const moe_int_tl_names[MOE_INT_TL_COUNT];

/* Adds a task of `us` on one row or on two at once (`also` may be MOE_INT_TL_COUNT), which starts
 * when the rows are free and tasks a and b, if any, have ended. Returns its index. Tasks of no
 * length are added too, so that others can wait for them. */
int moe_int_tl_add(moe_int_timeline *t, const char *name, moe_int_tl_row row, moe_int_tl_row also,
                   double us, double bytes, int a, int b);

/* Puts work of `us` and `bytes` into the row's gaps from the time `from` on, in pieces that each
 * take start_us more, and behind everything what they do not hold. */
void moe_int_tl_fill(moe_int_timeline *t, const char *name, moe_int_tl_row row, double from,
                     double start_us, double us, double bytes);

/* When the task ends; 0 of none. */
double moe_int_tl_end(const moe_int_timeline *t, int task);

/* Everything that comes waits for everything that was. */
void moe_int_tl_barrier(moe_int_timeline *t);

#endif
