/* Random-looking finite bf16 values: power draw, and with it the clock, depends on the data. */
#ifndef MOE_CUDA_FILL_CUH
#define MOE_CUDA_FILL_CUH

#include <stddef.h>

static __global__ void fill(unsigned short *x, size_t count) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        unsigned h = (unsigned)i * 2654435761u;
        h ^= h >> 15;
        h *= 2246822519u;
        x[i] = (unsigned short)(0x3f00u | (h >> 13 & 0x80ffu));
    }
}

#endif
