/* Internal to src/bench: what the device's board does while runs are timed. */
#ifndef MOE_BENCH_WATCH_H
#define MOE_BENCH_WATCH_H

#include "moeref/bench.h"

typedef struct moe_int_watch moe_int_watch;

/* A backend that cannot tell, or no memory or thread: *ret is NULL, which the others take. */
void moe_int_watch_start(moe_backend *backend, moe_int_watch **ret);

/* A timed run begins or has ended: samples are taken in between. */
void moe_int_watch_run(moe_int_watch *watch, bool is_running);

/* Ends the watch and sums up; *ret stays as it is without one. */
void moe_int_watch_finish(moe_int_watch **watch, moe_bench_board *ret);

#endif
