/* A worker that answers as none of ours would: $HOSTILE is SLOT.WAY. All else it answers with OK
 * and zeros, which is a poor but polite backend. */
#define _GNU_SOURCE
#include "backend/isolate/wire.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_turn(int32_t slot, const char *way) {
    const char *hostile = getenv("HOSTILE"), *dot = hostile ? strchr(hostile, '.') : NULL;
    const char *name = moe_int_slot_name((moe_int_slot)slot);
    return dot && strncmp(hostile, name, (size_t)(dot - hostile)) == 0 &&
           strlen(name) == (size_t)(dot - hostile) && strcmp(dot + 1, way) == 0;
}

/* The request, and the file that came along or -1. */
static bool take(moe_int_request *q, int *file) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {q, sizeof *q};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    const ssize_t got = recvmsg(MOE_INT_WIRE_CALLS, &message, 0);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *file = -1;
    if (got > 0 && header)
        memcpy(file, CMSG_DATA(header), sizeof *file);
    return got == (ssize_t)sizeof *q;
}

static void answer(const moe_int_reply *r, size_t bytes) {
    if (send(MOE_INT_WIRE_CALLS, r, bytes, MSG_NOSIGNAL) < 0)
        exit(1);
}

static void say(const char *way, moe_int_reply *r) {
    r->kind = MOE_INT_REPLY_LOG;
    r->status = strcmp(way, "level") == 0 ? 12345 : MOE_LOG_WARN;
    memset(r->text, 0xfe, sizeof r->text);
    for (int i = 0; i < 300; i++)
        answer(r, sizeof *r);
    memset(r->text, 0, sizeof r->text);
    r->kind = MOE_INT_REPLY_DONE;
    r->status = 0;
}

/* More than the judge asked for, in places where sizes are told. */
static void boast(const moe_int_request *q, moe_int_reply *r) {
    if (q->slot == MOE_INT_SLOT_TIMINGS)
        r->timings.count = INT64_MAX;
    if (q->slot == MOE_INT_SLOT_ROUTING)
        r->plan.n_pairs = INT64_MAX / 2;
    if (q->slot == MOE_INT_SLOT_LOAD)
        r->entry.optional = ~0u;
    if (q->slot == MOE_INT_SLOT_SUPPORTS)
        r->support.arithmetic = 1 << 30;
}

static void be_polite(const moe_int_request *q, moe_int_reply *r) {
    if (q->slot == MOE_INT_SLOT_LOAD) {
        r->entry.accepted = 1;
        r->entry.optional = 1u << MOE_INT_HAS_routing | 1u << MOE_INT_HAS_timings;
        strcpy(r->entry.name, "hostile");
    }
    if (q->slot == MOE_INT_SLOT_SUPPORTS)
        r->support.arithmetic = MOE_F32;
    if (q->slot == MOE_INT_SLOT_ROUTING)
        r->plan = (moe_int_wire_plan){.n_tokens = 6, .n_experts = 4, .n_pairs = 12};
}

int main(void) {
    moe_int_request q;
    int file;
    while (take(&q, &file)) {
        moe_int_reply r = {.number = q.number, .kind = MOE_INT_REPLY_DONE};
        be_polite(&q, &r);
        if (is_turn(q.slot, "shrink") && file >= 0)
            (void)!ftruncate(file, 0);
        if (is_turn(q.slot, "garbage"))
            memset((char *)&r + sizeof r.number + sizeof r.kind, 0xa5,
                   sizeof r - sizeof r.number - sizeof r.kind);
        if (is_turn(q.slot, "boast"))
            boast(&q, &r);
        if (is_turn(q.slot, "level") || is_turn(q.slot, "chatter"))
            say(is_turn(q.slot, "level") ? "level" : "chatter", &r);
        r.number += is_turn(q.slot, "number");
        r.kind += is_turn(q.slot, "kind") ? 7 : 0;
        r.us = is_turn(q.slot, "us") ? NAN : 0;
        if (is_turn(q.slot, "twice"))
            answer(&r, sizeof r);
        if (is_turn(q.slot, "leave"))
            return 0;
        answer(&r, is_turn(q.slot, "short") ? 1 : is_turn(q.slot, "empty") ? 0 : sizeof r);
        if (file >= 0)
            close(file);
    }
    return 0;
}
