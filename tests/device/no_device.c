/* A CUDA runtime without a device, put before the real one: an H100 that has all memory one asks it
 * for and runs nothing. With it the backend can be asked what it allocates where there is no GPU.
 * Types are as the runtime's ABI has them: enumerations are int, handles pointers. */
#include <stddef.h>
#include <stdlib.h>

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

int cudaStreamCreate(void **ret) {
    *ret = NULL;
    return SUCCESS;
}
int cudaStreamDestroy(void *stream) {
    (void)stream;
    return SUCCESS;
}
int cudaStreamSynchronize(void *stream) {
    (void)stream;
    return SUCCESS;
}
int cudaLaunchKernelExC(const void *config, const void *kernel, void **args) {
    (void)config, (void)kernel, (void)args;
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
