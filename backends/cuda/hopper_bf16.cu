#include "hopper_kernel.cuh"

cudaError_t hopper_gemm_bf16(HopperOp op, const HopperArgs *args, int sms, const Stream &stream) {
    return hopper_dispatch<__nv_bfloat16>(op, args, sms, stream);
}
