/* What the judge and a worker say to each other: one request, any number of log messages, one
 * reply. All are structs of fixed size, each a packet of its own; what has no fixed size lies in
 * shared memory, whose descriptor comes with the request.
 *
 * The worker trusts the judge. The judge trusts nothing that comes from a worker: the packet's size
 * is compared, texts are ended and cleaned, numbers are checked before they are used, and shared
 * memory is read once, into memory of its own. */
#ifndef MOE_BACKEND_ISOLATE_WIRE_H
#define MOE_BACKEND_ISOLATE_WIRE_H

#include "backend/plugin/slots.h"
#include "moeref/plugin.h"

#include <limits.h>

enum {
    MOE_INT_WIRE_LAYERS = 1024, /* prepared at one time on one device: two for each of 256 ranks,
                                   and those of the ranks that they are compared with */
    MOE_INT_WIRE_COSTS = 64,    /* stages that timings may tell of */
    MOE_INT_WIRE_TEXT = 1024,
    MOE_INT_WIRE_ARITHMETIC = 128,
    /* Descriptors of a worker. */
    MOE_INT_WIRE_CALLS = 3, /* slots, one at a time */
    MOE_INT_WIRE_SIDE = 4   /* `board`; its end is the end of the judge */
};

/* The arrays of a plan in shared memory, bytes from its start. */
typedef struct moe_int_wire_plan {
    int64_t n_tokens, n_experts, n_pairs; /* n_tokens 0: there is no plan */
    int64_t offsets, token, weight, token_offsets, pair_of_token;
    int64_t end; /* bytes that it takes, with what lies before it */
} moe_int_wire_plan;

/* A tensor: as moe_tensor, but `data` is where it lies in shared memory, -1: absent. */
typedef struct moe_int_wire_tensor {
    int64_t at;
    moe_tensor form;
} moe_int_wire_tensor;

typedef struct moe_int_request {
    uint32_t number; /* the reply has the same */
    int32_t slot;    /* moe_int_slot */
    int32_t layer;   /* below MOE_INT_WIRE_LAYERS */
    int64_t memory;  /* bytes of shared memory that comes along; 0: none, the former stays */
    union {
        char path[PATH_MAX]; /* load */
        struct {
            int32_t threads, device_index;
            char variant[MOE_INT_WIRE_TEXT];
        } open;
        struct { /* supports, prepare */
            moe_layer_desc desc;
            moe_use use;
            moe_int_wire_tensor param[MOE_T_COUNT];
        } prepare;
        struct {
            int64_t tokens;
            uint64_t seed;
            moe_int_wire_tensor X, dO;
            moe_int_wire_plan plan;
        } input;
        struct {
            int32_t id; /* moe_tensor_id */
            moe_int_wire_tensor dst;
        } fetch;
        struct { /* of several results; shared memory begins with how many are done, int64_t */
            int32_t count;
            int32_t id[MOE_T_COUNT];
            moe_int_wire_tensor dst[MOE_T_COUNT];
        } ahead;
        moe_int_wire_plan plan; /* copy_plan: where to put it */
        int64_t capacity;       /* timings */
    };
} moe_int_request;

typedef enum moe_int_reply_kind { MOE_INT_REPLY_LOG = 1, MOE_INT_REPLY_DONE } moe_int_reply_kind;

typedef struct moe_int_reply {
    uint32_t number;
    int32_t kind;                 /* moe_int_reply_kind */
    int32_t status;               /* moe_status; of a log message its level */
    double us;                    /* that the slot took */
    char text[MOE_INT_WIRE_TEXT]; /* the message, or the fault: "" if there is none */
    union {
        struct { /* load, probe: what a moe_int_entry tells of a plug-in */
            int32_t accepted, priority;
            uint32_t abi, optional; /* bits, in the order of MOE_INT_OPTIONAL */
            char name[64], brief[160], reason[256];
        } entry;
        moe_support support;
        struct { /* fetch ahead: it ends with a fetch that is at fault */
            int32_t done;
            int32_t status[MOE_T_COUNT];
            char fault[MOE_INT_WIRE_TEXT]; /* of the last; "": none */
        } ahead;
        moe_int_wire_plan plan; /* routing: its sizes */
        moe_memory memory;
        moe_roofline roofline;
        moe_board board;
        char arithmetic[MOE_INT_WIRE_ARITHMETIC];
        struct {
            int64_t count;
            moe_cost cost[MOE_INT_WIRE_COSTS];
        } timings;
    };
} moe_int_reply;

/* Slots that may be NULL; which of them are there is told by bits in this order. */
/* clang-format off */
#define MOE_INT_OPTIONAL(X) \
    X(routing) X(timings) X(memory) X(roofline) X(board) X(arithmetic)
/* clang-format on */
#define MOE_INT_OPTIONAL_BIT(slot) MOE_INT_HAS_##slot,
enum { MOE_INT_OPTIONAL(MOE_INT_OPTIONAL_BIT) MOE_INT_OPTIONAL_COUNT };

#endif
