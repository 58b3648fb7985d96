#define _GNU_SOURCE /* memfd_create */
#include "backend/isolate/memory.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64, LARGE = 1 << 26 };

static moe_status map(int file, size_t size, unsigned char **ret) {
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (base == MAP_FAILED)
        return MOE_E_NOMEM;
    *ret = base;
    return MOE_OK;
}

void moe_int_shared_drop(moe_int_shared *shared) {
    if (shared->base) {
        munmap(shared->base, shared->size);
        if (shared->file >= 0)
            close(shared->file);
    }
    *shared = (moe_int_shared){.file = -1};
}

void moe_int_shared_forget(const moe_int_shared *shared) {
    if (shared->base && shared->size >= LARGE)
        madvise(shared->base, shared->size, MADV_REMOVE); /* what fails here costs memory only */
}

/* A sealed file of that size, or -1. Its pages come when they are written, as those of malloc. */
static int make_file(size_t size) {
    int low = memfd_create("moeref", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (low < 0)
        return -1;
    /* In the place of a closed standard error it would take in messages. */
    int file = fcntl(low, F_DUPFD_CLOEXEC, 16);
    close(low);
    if (file < 0)
        return -1;
    if (size <= PTRDIFF_MAX && ftruncate(file, (off_t)size) == 0 &&
        fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return file;
    close(file);
    return -1;
}

moe_status moe_int_shared_reserve(moe_int_shared *shared, size_t size, bool *ret_fresh) {
    *ret_fresh = false;
    if (shared->base && shared->size >= size)
        return MOE_OK;
    moe_int_shared fresh = {.size = size ? size : 1};
    fresh.file = make_file(fresh.size);
    if (fresh.file < 0)
        return MOE_E_NOMEM;
    moe_status status = map(fresh.file, fresh.size, &fresh.base);
    if (status) {
        close(fresh.file);
        return status;
    }
    moe_int_shared_drop(shared);
    *shared = fresh;
    *ret_fresh = true;
    return MOE_OK;
}

moe_status moe_int_shared_map(moe_int_shared *shared, int file, size_t size) {
    moe_int_shared fresh = {.file = -1, .size = size};
    moe_status status = map(file, size, &fresh.base);
    close(file);
    if (!status) {
        moe_int_shared_drop(shared);
        *shared = fresh;
    }
    return status;
}

/* Takes `bytes` behind *end. */
static int64_t take(size_t bytes, size_t *end) {
    const size_t at = (*end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *end = at + bytes;
    return (int64_t)at;
}

moe_int_wire_tensor moe_int_wire_place(const moe_tensor *tensor, size_t *end) {
    moe_int_wire_tensor wire = {.at = -1, .form = *tensor};
    wire.form.data = NULL;
    if (tensor->data)
        wire.at = take((size_t)moe_tensor_bytes(tensor), end);
    return wire;
}

moe_int_wire_plan moe_int_wire_place_plan(int64_t n_tokens, int64_t n_experts, int64_t n_pairs,
                                          size_t *end) {
    const size_t pairs = (size_t)n_pairs;
    moe_int_wire_plan wire = {.n_tokens = n_tokens, .n_experts = n_experts, .n_pairs = n_pairs};
    wire.offsets = take(((size_t)n_experts + 1) * sizeof(int64_t), end);
    wire.token = take(pairs * sizeof(int32_t), end);
    wire.weight = take(pairs * sizeof(double), end);
    wire.token_offsets = take(((size_t)n_tokens + 1) * sizeof(int64_t), end);
    wire.pair_of_token = take(pairs * sizeof(int64_t), end);
    wire.end = (int64_t)*end;
    return wire;
}

moe_tensor moe_int_wire_tensor_view(const moe_int_wire_tensor *wire, unsigned char *base) {
    moe_tensor view = wire->form;
    view.data = wire->at < 0 ? NULL : base + wire->at;
    return view;
}

moe_plan moe_int_wire_plan_view(const moe_int_wire_plan *wire, unsigned char *base) {
    return (moe_plan){.n_tokens = wire->n_tokens,
                      .n_experts = wire->n_experts,
                      .n_pairs = wire->n_pairs,
                      .offsets = (int64_t *)(base + wire->offsets),
                      .token = (int32_t *)(base + wire->token),
                      .weight = (double *)(base + wire->weight),
                      .token_offsets = (int64_t *)(base + wire->token_offsets),
                      .pair_of_token = (int64_t *)(base + wire->pair_of_token)};
}

static void copy(void *to, const void *from, int64_t count, size_t size) {
    if (count > 0)
        memcpy(to, from, (size_t)count * size);
}

void moe_int_plan_copy_arrays(const moe_plan *from, moe_plan *to) {
    copy(to->offsets, from->offsets, from->n_experts + 1, sizeof *to->offsets);
    copy(to->token, from->token, from->n_pairs, sizeof *to->token);
    copy(to->weight, from->weight, from->n_pairs, sizeof *to->weight);
    copy(to->token_offsets, from->token_offsets, from->n_tokens + 1, sizeof *to->token_offsets);
    copy(to->pair_of_token, from->pair_of_token, from->n_pairs, sizeof *to->pair_of_token);
}
