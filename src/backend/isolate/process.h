/* A worker as a process: started, fed, watched, ended. Knows packets, not what they mean. */
#ifndef MOE_BACKEND_ISOLATE_PROCESS_H
#define MOE_BACKEND_ISOLATE_PROCESS_H

#include "backend/isolate/wire.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct moe_int_process {
    pid_t pid; /* 0: none; it leads a process group of its own */
    int calls, side;
    int output; /* what it writes to standard output and standard error; -1: closed */
    int ending; /* of waitpid, once it was stopped */
} moe_int_process;

moe_status moe_int_process_start(const char *program, moe_int_process *ret);

/* Sends a request, with a file if it is not negative. false: nobody is there to take it. */
bool moe_int_process_send(int channel, const moe_int_request *request, int file);

typedef enum moe_int_event {
    MOE_INT_EVENT_NONE,   /* nothing within the time */
    MOE_INT_EVENT_PACKET, /* *ret is filled, of the right size and sealed against endless texts */
    MOE_INT_EVENT_OUTPUT, /* it has printed something */
    MOE_INT_EVENT_WRONG,  /* a packet that is none */
    MOE_INT_EVENT_END     /* it has ended, or closed its channel */
} moe_int_event;

/* Waits at most `ms` for the next event of the calls' channel. */
moe_int_event moe_int_process_wait(moe_int_process *p, int ms, moe_int_reply *ret);
/* Receives one reply from a channel alone; false where none comes within `ms`. */
bool moe_int_process_receive(int channel, int ms, moe_int_reply *ret);

/* Ends it, with everything in its group, and takes its ending. Waits `patience_ms` for it to end by
 * itself first; *ret_killed: it did not. */
void moe_int_process_stop(moe_int_process *p, int patience_ms, bool *ret_killed);
/* After that, when its last words have been read. */
void moe_int_process_close(moe_int_process *p);
/* "crashed: SIGSEGV", "exited with code 0". */
void moe_int_process_ending(const moe_int_process *p, char *ret, size_t size);

#endif
