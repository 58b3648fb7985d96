/* A CUDA runtime without a device, linked in the real one's place: an H100 that has all memory one
 * asks it for and runs nothing. With it the backend's own objects can be asked what they allocate
 * where there is no GPU. Types are as the ABI has them: enumerations are int, handles pointers. */
#include <stddef.h>
#include <stdlib.h>

/* The runtime's own headers declare them, of its own types. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum { SUCCESS = 0, SMS = 16, MAJOR = 75, MINOR = 76 }; /* cudaDeviceAttr */

/* Addresses that nobody reads or writes: no memory of that size is needed. */
int cudaMalloc(void **ret, size_t bytes) {
    (void)bytes;
    *ret = aligned_alloc(256, 256);
    return *ret ? SUCCESS : 2;
}
int cudaFree(void *data) {
    free(data);
    return SUCCESS;
}
int cudaMemcpy(void *dst, const void *src, size_t bytes, int kind) {
    (void)dst, (void)src, (void)bytes, (void)kind;
    return SUCCESS;
}
int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream) {
    (void)dst, (void)src, (void)bytes, (void)kind, (void)stream;
    return SUCCESS;
}

int cudaGetDeviceCount(int *ret) {
    *ret = 1;
    return SUCCESS;
}
int cudaGetDevice(int *ret) {
    *ret = 0;
    return SUCCESS;
}
int cudaSetDevice(int device) {
    (void)device;
    return SUCCESS;
}
int cudaDeviceGetAttribute(int *ret, int attribute, int device) {
    (void)device;
    *ret = attribute == SMS ? 132 : attribute == MAJOR ? 9 : 0;
    return attribute == SMS || attribute == MAJOR || attribute == MINOR ? SUCCESS : 1;
}
int cudaDeviceSynchronize(void) {
    return SUCCESS;
}
int cudaGetLastError(void) {
    return SUCCESS;
}

/* Nothing happens, and all is well. */
#define DOES_NOTHING(name)                                                                         \
    int name(void) {                                                                               \
        return SUCCESS;                                                                            \
    }
DOES_NOTHING(cudaStreamDestroy)
DOES_NOTHING(cudaStreamSynchronize)
DOES_NOTHING(cudaStreamWaitEvent)
DOES_NOTHING(cudaEventRecord)
DOES_NOTHING(cudaEventDestroy)
DOES_NOTHING(cudaEventSynchronize)
DOES_NOTHING(cudaLaunchKernelExC)
DOES_NOTHING(cudaFuncSetAttribute)
DOES_NOTHING(cudaMemset)
DOES_NOTHING(__cudaRegisterFatBinaryEnd)
DOES_NOTHING(__cudaUnregisterFatBinary)
DOES_NOTHING(__cudaRegisterFunction)
DOES_NOTHING(__cudaRegisterVar)

/* Such a call would need an answer: nobody makes it here. */
#define IS_NOT_CALLED(name)                                                                        \
    int name(void) {                                                                               \
        abort();                                                                                   \
    }
IS_NOT_CALLED(cudaEventCreate)
IS_NOT_CALLED(cudaEventCreateWithFlags)
IS_NOT_CALLED(cudaEventElapsedTime)
IS_NOT_CALLED(cudaStreamIsCapturing)
IS_NOT_CALLED(cudaMemcpyBatchAsync)
IS_NOT_CALLED(cudaHostAlloc)
IS_NOT_CALLED(cudaFreeHost)
IS_NOT_CALLED(cudaGraphLaunch)
IS_NOT_CALLED(cudaGraphKernelNodeSetAttribute)
IS_NOT_CALLED(cudaGraphInstantiate)
IS_NOT_CALLED(cudaGraphExecKernelNodeSetParams)
IS_NOT_CALLED(cudaGraphExecDestroy)
IS_NOT_CALLED(cudaGraphDestroy)
IS_NOT_CALLED(cudaGraphCreate)
IS_NOT_CALLED(cudaGraphAddKernelNode)
IS_NOT_CALLED(cudaDeviceGetPCIBusId)
IS_NOT_CALLED(cudaDeviceEnablePeerAccess)
IS_NOT_CALLED(cudaDeviceCanAccessPeer)
IS_NOT_CALLED(__cudaPopCallConfiguration)
IS_NOT_CALLED(__cudaPushCallConfiguration)
IS_NOT_CALLED(__cudaLaunchKernel)
IS_NOT_CALLED(__cudaGetKernel)

const char *cudaGetErrorString(int error) {
    (void)error;
    return "an error of the runtime without a device";
}

void **__cudaRegisterFatBinary(void *binary) {
    (void)binary;
    static void *handle;
    return &handle;
}

int cudaStreamCreate(void **ret) {
    *ret = NULL;
    return SUCCESS;
}

/* cuTensorMapEncodeTiled, whatever its arguments: of the C ABI the caller clears them away. */
static int encode(void) {
    return SUCCESS;
}
int cudaGetDriverEntryPointByVersion(const char *name, void **ret, unsigned version,
                                     unsigned long long flags, int *found) {
    (void)name, (void)version, (void)flags;
    *ret = (void *)encode;
    *found = SUCCESS;
    return SUCCESS;
}
