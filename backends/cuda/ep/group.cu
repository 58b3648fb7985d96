/* Opening the ranks: devices, streams, peer access, flags. */
#include "group.h"

#include <algorithm>
#include <array>
#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace {

const char *const phase_names[PHASES] = {"counts",           "pairs",   "dispatch",
                                         "weight gradients", "combine", "staging"};

/* "chunks4" gives 4 for "chunks"; -1: another word, or no number. */
int number_after(const char *word, size_t length, const char *name) {
    const size_t head = strlen(name);
    char digits[8];
    if (length <= head || length - head >= sizeof digits || strncmp(word, name, head) != 0)
        return -1;
    memcpy(digits, word + head, length - head);
    digits[length - head] = '\0';
    char *end;
    const long value = strtol(digits, &end, 10);
    return *end || value < 0 ? -1 : (int)value;
}

bool take_word(const char *word, size_t length, GroupWords *ret) {
    const struct {
        const char *name;
        int *value;
    } numbers[] = {{"ranks", &ret->ranks},
                   {"chunks", &ret->chunks},
                   {"early", &ret->early},
                   {"limit", &ret->limit_s}};
    const struct {
        const char *name;
        bool *value;
    } flags[] = {{"late", &ret->late}, {"links", &ret->links}, {"portable", &ret->portable}};
    for (const auto &n : numbers) {
        const int value = number_after(word, length, n.name);
        if (value >= 0) {
            *n.value = value;
            return true;
        }
    }
    for (const auto &f : flags)
        if (length == strlen(f.name) && strncmp(word, f.name, length) == 0)
            return *f.value = true;
    return false;
}

moe_status let_reach(const Device *dev, int device, int other) {
    int can = 0;
    if (device == other)
        return MOE_OK;
    cudaError_t err = cudaDeviceCanAccessPeer(&can, device, other);
    if (err == cudaSuccess && !can)
        return moe_fail(dev->log, MOE_E_DEVICE, "cuda: device %d cannot reach the memory of %d",
                        device, other);
    if (err == cudaSuccess)
        err = cudaDeviceEnablePeerAccess(other, 0);
    if (err == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();
        err = cudaSuccess;
    }
    return device_check(dev, err, "reaching another device's memory");
}

std::array<cudaStream_t, 3> streams_of(const GroupRank &r) {
    return {r.dev.stream.handle, r.beside.stream.handle, r.copies};
}

/* Streams that wait for the legacy one, by which inputs come. */
cudaError_t make_rank(int index, GroupRank *r) {
    const size_t flags = PHASES * RANKS_MOST * sizeof *r->flags;
    r->dev.index = index;
    cudaError_t err = cudaStreamCreate(&r->dev.stream.handle);
    r->beside = r->dev;
    for (cudaStream_t *stream : {&r->beside.stream.handle, &r->copies})
        if (err == cudaSuccess)
            err = cudaStreamCreate(stream);
    if (err == cudaSuccess)
        err = cudaMalloc(&r->flags, flags + sizeof(int));
    if (err == cudaSuccess)
        err = cudaMemset(r->flags, 0, flags + sizeof(int));
    r->broken = reinterpret_cast<int *>(r->flags + PHASES * RANKS_MOST);
    r->but_one = r->dev;
    r->but_one.sms = std::max(1, r->dev.sms - 1);
    for (cudaEvent_t *event : {&r->placed, &r->point})
        if (err == cudaSuccess)
            err = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
    for (cudaEvent_t &event : r->made)
        if (err == cudaSuccess)
            err = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    return err;
}

moe_status open_ranks(Device *dev, Group *g) {
    int devices = 1;
    moe_status status = device_check(dev, cudaGetDeviceCount(&devices), "counting the devices");
    for (int r = 0; !status && r < g->words.ranks; r++) {
        GroupRank *rank = &g->rank[r];
        rank->dev = *dev;
        rank->dev.group = nullptr;
        rank->dev.index = r % devices;
        const OnDevice current(&rank->dev);
        status = current.status;
        if (!status)
            status = device_check(dev, make_rank(r % devices, rank), "opening a rank");
        for (int q = 0; !status && q < g->words.ranks; q++)
            status = let_reach(dev, r % devices, q % devices);
    }
    return status;
}

} // namespace

const char *group_parse(const char *variant, GroupWords *ret) {
    *ret = {0, 0, -1, 10, false, false, false};
    for (const char *at = variant; *at;) {
        const size_t length = strcspn(at, "+");
        if (!take_word(at, length, ret))
            return "it has: portable, ranksN, and with that chunksN, earlyN, limitN, links, late, "
                   "joined by +";
        at += length + (at[length] == '+');
    }
    if (ret->ranks > RANKS_MOST)
        return "there are at most 16 ranks";
    if (ret->chunks < 0 || ret->chunks > CHUNKS_MOST || ret->limit_s < 1)
        return "chunks are at most 64, limit is at least 1";
    return nullptr;
}

moe_status group_open(Device *dev, const GroupWords *words) {
    Group *g = new (std::nothrow) Group{*words, nullptr, nullptr, 0};
    dev->group = g;
    if (g)
        g->rank = new (std::nothrow) GroupRank[(size_t)words->ranks]();
    if (!g || !g->rank)
        return moe_fail(dev->log, MOE_E_NOMEM, "cuda: no memory for ranks");
    moe_status status = device_check(
        dev, cudaHostAlloc(&g->late, (size_t)words->ranks * sizeof *g->late, cudaHostAllocPortable),
        "memory for what goes wrong");
    return status ? status : open_ranks(dev, g);
}

void group_close(Device *dev) {
    Group *g = dev->group;
    for (int r = 0; g && g->rank && r < g->words.ranks; r++) {
        GroupRank *rank = &g->rank[r];
        const OnDevice current(&rank->dev);
        for (cudaEvent_t event : {rank->placed, rank->point})
            if (event)
                cudaEventDestroy(event);
        for (cudaEvent_t event : rank->made)
            if (event)
                cudaEventDestroy(event);
        for (cudaStream_t stream : streams_of(*rank))
            if (stream)
                cudaStreamDestroy(stream);
        cudaFree(rank->flags);
    }
    if (g) {
        cudaFreeHost(g->late);
        delete[] g->rank;
    }
    delete g;
    dev->group = nullptr;
}

Signals group_signals(const Group *group, int rank) {
    Signals s = {};
    s.ranks = group->words.ranks;
    s.rank = rank;
    for (int q = 0; q < s.ranks; q++)
        s.flag[q] = group->rank[q].flags;
    s.broken = group->rank[rank].broken;
    s.late = &group->late[rank];
    s.limit_ns = (unsigned long long)group->words.limit_s * 1000000000ull;
    return s;
}

moe_status group_wait(const Device *dev, const char *what) {
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < dev->group->words.ranks; r++) {
        const GroupRank *rank = &dev->group->rank[r];
        const OnDevice current(&rank->dev);
        status = current.status;
        for (cudaStream_t stream : streams_of(*rank))
            if (!status)
                status = device_check(dev, cudaStreamSynchronize(stream), what);
    }
    return status;
}

moe_status group_check(const Device *dev) {
    const Group *g = dev->group;
    for (int r = 0; r < g->words.ranks; r++)
        if (g->late[r].rank_plus_one)
            return moe_fail(dev->log, MOE_E_DEVICE, "cuda: rank %d waited %d s for rank %d in %s",
                            r, g->words.limit_s, g->late[r].rank_plus_one - 1,
                            phase_names[g->late[r].phase]);
    return MOE_OK;
}
