/* The functions of a plug-in's table, and what comes before them, by the names that reports use. */
#ifndef MOE_BACKEND_PLUGIN_SLOTS_H
#define MOE_BACKEND_PLUGIN_SLOTS_H

/* X(slot, name): a new slot of moe_plugin is a row here, a caller in calls.c, and a request in
 * ../isolate. */
/* clang-format off */
#define MOE_INT_SLOTS(X)       \
    X(LOAD, "load")            \
    X(PROBE, "probe")          \
    X(OPEN, "open")            \
    X(CLOSE, "close")          \
    X(SUPPORTS, "supports")    \
    X(PREPARE, "prepare")      \
    X(RELEASE, "release")      \
    X(SET_INPUT, "set_input")  \
    X(FORWARD, "forward")      \
    X(BACKWARD, "backward")    \
    X(FETCH, "fetch")          \
    X(FETCH_AHEAD, "fetch")    \
    X(ROUTING, "routing")      \
    X(COPY_PLAN, "routing")    \
    X(TIMINGS, "timings")      \
    X(MEMORY, "memory")        \
    X(ROOFLINE, "roofline")    \
    X(BOARD, "board")          \
    X(ARITHMETIC, "arithmetic") \
    X(TRIM, "trim")
/* clang-format on */

#define MOE_INT_SLOT_ID(slot, name) MOE_INT_SLOT_##slot,
typedef enum moe_int_slot { MOE_INT_SLOTS(MOE_INT_SLOT_ID) MOE_INT_SLOT_COUNT } moe_int_slot;

/* "forward"; never NULL. */
const char *moe_int_slot_name(moe_int_slot slot);

#endif
