/* A board whose samples are known beforehand, for a plug-in without a device. */
#ifndef MOE_TESTS_MADE_UP_BOARD_H
#define MOE_TESTS_MADE_UP_BOARD_H

#include "moeref/plugin.h"

#include <stdatomic.h>
#include <time.h>

/* How often it was sampled. */
typedef atomic_int made_up_board;

/* Idle, then two odd samples, then always the same: the median of any three or more but the first
 * is that of the last. */
static inline moe_status board_sample(made_up_board *board, moe_board *ret) {
    static const moe_board first[] = {{345, 2600, 70, 700, 30, 0},
                                      {1400, 2619, 600, 700, 50, MOE_THROTTLE_POWER},
                                      {1600, 2619, 650, 700, 52, 0}};
    const int i = atomic_fetch_add(board, 1);
    *ret = i < 3 ? first[i] : (moe_board){1500, 2619, 620, 700, 0, MOE_THROTTLE_HEAT};
    return MOE_OK;
}

/* A pass that lasts until the board is sampled again, at most a second; not at all before the first
 * sample. Samples taken while passes run, and only those, meet every pass. */
static inline void board_wait(made_up_board *board) {
    const struct timespec ms = {0, 1000000};
    const int before = atomic_load(board);
    for (int i = 0; before && i < 1000 && atomic_load(board) == before; i++)
        nanosleep(&ms, NULL);
}

#endif
