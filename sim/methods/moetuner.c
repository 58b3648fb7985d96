/* MoETuner: experts are put on GPUs so that the slowest one has least to receive and to multiply,
 * each GPU with equally many; else as ep_serial. Of one layer, and of equal links, the criterion of
 * its second program, the largest bytes over bandwidth, is the same as the first's. */
#include "sim/devices/devices.h"
#include "sim/methods/place.h"

#include <stdlib.h>
#include <string.h>

#define SWAPS_MOST 64

static int64_t group_sum(const int64_t *counts, const int32_t *owner, int64_t E, int64_t g) {
    int64_t sum = 0;
    for (int64_t e = 0; e < E; e++)
        sum += owner[e] == g ? counts[e] : 0;
    return sum;
}

int64_t moe_int_place_most(const int64_t *counts, const int32_t *owner, int64_t E, int64_t groups) {
    int64_t most = 0;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t sum = group_sum(counts, owner, E, g);
        most = sum > most ? sum : most;
    }
    return most;
}

static int64_t size_of(const int32_t *owner, int64_t E, int64_t g) {
    int64_t size = 0;
    for (int64_t e = 0; e < E; e++)
        size += owner[e] == g;
    return size;
}

/* The lightest group with room. */
static int64_t lightest(const int64_t *counts, const int32_t *owner, int64_t E, int64_t groups) {
    int64_t best = -1, least = 0;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t room = (g + 1) * E / groups - g * E / groups;
        const int64_t sum = group_sum(counts, owner, E, g);
        if (size_of(owner, E, g) < room && (best < 0 || sum < least)) {
            best = g;
            least = sum;
        }
    }
    return best;
}

static void deal(const int64_t *counts, int64_t E, int64_t groups, int32_t *owner) {
    for (int64_t e = 0; e < E; e++)
        owner[e] = -1; /* none */
    for (int64_t i = 0; i < E; i++) {
        int64_t heavy = -1;
        for (int64_t e = 0; e < E; e++) {
            if (owner[e] < 0 && (heavy < 0 || counts[e] > counts[heavy]))
                heavy = e;
        }
        owner[heavy] = (int32_t)lightest(counts, owner, E, groups);
    }
}

static void swap(int32_t *owner, int64_t a, int64_t b) {
    const int32_t kept = owner[a];
    owner[a] = owner[b];
    owner[b] = kept;
}

/* A swap that lowers the larger of the two groups' sums. */
static bool improve(const int64_t *counts, int64_t E, int32_t *owner) {
    for (int64_t a = 0; a < E; a++) {
        const int64_t high = group_sum(counts, owner, E, owner[a]);
        for (int64_t b = 0; b < E; b++) {
            const int64_t low = group_sum(counts, owner, E, owner[b]);
            const int64_t moved = counts[a] - counts[b];
            if (owner[a] != owner[b] && high > low && moved > 0 && low + moved < high) {
                swap(owner, a, b);
                return true;
            }
        }
    }
    return false;
}

static void improve_all(const int64_t *counts, int64_t E, int32_t *owner) {
    for (int64_t swaps = 0; swaps < SWAPS_MOST && improve(counts, E, owner); swaps++) {
    }
}

/* From the dealt placement and from the contiguous one, which swaps alone may not reach. */
void moe_int_place(const int64_t *counts, int64_t E, int64_t groups, int32_t *owner) {
    int32_t *other = malloc((size_t)E * sizeof *other);
    deal(counts, E, groups, owner);
    improve_all(counts, E, owner);
    for (int64_t g = 0; other && g < groups; g++)
        for (int64_t e = g * E / groups; e < (g + 1) * E / groups; e++)
            other[e] = (int32_t)g;
    if (other)
        improve_all(counts, E, other);
    if (other &&
        moe_int_place_most(counts, other, E, groups) < moe_int_place_most(counts, owner, E, groups))
        memcpy(owner, other, (size_t)E * sizeof *owner);
    free(other);
}

static void place(moe_int_devices *x) {
    moe_int_place(x->counts, x->layer->E, (int64_t)x->ep, x->owner);
}

static void run(moe_int_devices *x) {
    moe_int_devices_ep_serial.run(x);
}

const moe_int_devices_method moe_int_devices_moetuner = {
    .brief = "MoETuner: experts placed by load, then as ep_serial", .run = run, .place = place};
