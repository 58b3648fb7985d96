/* What every transport says and measures alike. */
#include "moeref/ep.h"

#include <stdio.h>
#include <time.h>

double moe_transport_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void moe_transport_say_late(int32_t rank, double limit_s, int32_t whom, int32_t phase, char *ret,
                            size_t size) {
    snprintf(ret, size, "rank %d waited %g s for rank %d in %s", (int)rank, limit_s, (int)whom,
             moe_ep_phase_name(phase));
}

int moe_transport_agree(int32_t rank, const moe_exchange *mine, int32_t q, int32_t phase,
                        int64_t bytes, char *ret, size_t size) {
    if (phase != mine->phase)
        snprintf(ret, size, "rank %d is in %s while rank %d is in %s", (int)rank,
                 moe_ep_phase_name(mine->phase), (int)q, moe_ep_phase_name(phase));
    else if (bytes != mine->receive_bytes[q])
        snprintf(ret, size, "in %s rank %d expects %lld bytes of rank %d, which sends %lld",
                 moe_ep_phase_name(mine->phase), (int)rank, (long long)mine->receive_bytes[q],
                 (int)q, (long long)bytes);
    else
        return 1;
    return 0;
}
