/* The few functions of NCCL that are called, found in libnccl.so.2 when they are needed: neither
 * its headers nor its library take part in the build. Signatures are those of nccl.h since 2.7. */
#ifndef MOEREF_TRANSPORT_NCCL_CALLS_H
#define MOEREF_TRANSPORT_NCCL_CALLS_H

#include "moeref/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>

typedef struct ncclComm *nccl_comm;

enum { NCCL_OK = 0, NCCL_UINT8 = 1 };

typedef struct nccl_calls {
    int (*comm_init_all)(nccl_comm *comms, int count, const int *devices);
    int (*comm_destroy)(nccl_comm comm);
    int (*comm_abort)(nccl_comm comm);
    int (*comm_async_error)(nccl_comm comm, int *ret);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*send)(const void *data, size_t count, int type, int peer, nccl_comm comm,
                cudaStream_t stream);
    int (*receive)(void *data, size_t count, int type, int peer, nccl_comm comm,
                   cudaStream_t stream);
    const char *(*error_string)(int result);
} nccl_calls;

/* MOE_E_UNSUPPORTED with a sentence where the library or one of them is missing. */
moe_status nccl_load(const moe_log *log, nccl_calls *ret);

#endif
