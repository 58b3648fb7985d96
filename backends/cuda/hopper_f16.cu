#include "hopper_kernel.cuh"

cudaError_t hopper_gemm_f16(HopperOp op, const HopperArgs *args, int sms, const Stream &stream) {
    return hopper_dispatch<__half>(op, args, sms, stream);
}
