/* The persistent, warp-specialised grouped GEMM of Hopper: one producer warpgroup, two consumer
 * warpgroups that share every tile (hopper_shared.cuh) or take turns (hopper_pingpong.cuh).
 * Instantiated in hopper_*.cu. */
#ifndef MOE_CUDA_HOPPER_KERNEL_CUH
#define MOE_CUDA_HOPPER_KERNEL_CUH

#include "hopper_act.cuh"
#include "hopper_dact.cuh"
#include "hopper_pingpong.cuh"
#include "hopper_plain.cuh"
#include "hopper_producer.cuh"
#include "hopper_target.cuh"

#include <atomic>

template <class T, class Q, class Glu>
__device__ __forceinline__ void consume_glu(const HopperArgs &g, uint32_t smem) {
    if constexpr (Q::act)
        consume<T, Q, ActEpilogue<T, Q, Glu>>(g, smem);
    else
        consume<T, Q, DactEpilogue<T, Q, Glu>>(g, smem);
}

template <class T, class Q>
__device__ __forceinline__ void consume_weights(const HopperArgs &g, uint32_t smem) {
    if (g.target.out)
        consume<T, Q, TargetEpilogue<T, Q>>(g, smem);
    else
        consume<T, Q, PlainEpilogue<T, Q>>(g, smem);
}

template <class T, class Q>
__device__ __forceinline__ void consume_any(const HopperArgs &g, uint32_t smem) {
    if constexpr (Q::pingpong)
        consume_in_turns<T, Q>(g, smem);
    else if constexpr (Q::ragged_k)
        consume_weights<T, Q>(g, smem);
    else if constexpr (!Q::act && !Q::dact)
        consume<T, Q, PlainEpilogue<T, Q>>(g, smem);
    else if (g.act.kind == MOE_ACT_SWIGLU)
        consume_glu<T, Q, SwiGlu>(g, smem);
    else
        consume_glu<T, Q, AnyGlu>(g, smem);
}

/* Registers of a thread. A multiprocessor's 65536 give 384 threads 168 each; setmaxnreg then moves
 * them from the producer to the consumers. These need most where they take turns (192 accumulators)
 * or make H and A. */
template <class Q> struct Registers {
    static constexpr bool few = Q::pingpong || Q::act;
    static constexpr int producer = few ? 40 : 56, consumer = few ? 232 : 224;
    static_assert(producer + HOPPER_CONSUMERS * consumer == (1 + HOPPER_CONSUMERS) * 168, "");
};

/* Arrivals that complete a barrier's phase. */
template <class Q> struct Arrivals {
    /* One thread announces the bytes of the bulk copies; every producer thread its own gather. */
    static constexpr uint32_t full = 1 + (Q::gathers ? HOPPER_WARPGROUP : 0);
    /* A warp each: of the warpgroup whose turn it is, or of both. */
    static constexpr uint32_t empty = (Q::pingpong ? 1 : HOPPER_CONSUMERS) * HOPPER_WARPGROUP_WARPS;
    static constexpr uint32_t turn = HOPPER_WARPGROUP_WARPS;
};

template <class T, class Q>
__global__ void __launch_bounds__(HOPPER_THREADS, 1)
    hopper_gemm(const __grid_constant__ HopperArgs g) {
    extern __shared__ __align__(1024) unsigned char storage[];
    const uint32_t smem = ptx::smem_address(storage);
    if (threadIdx.x == 0) {
        for (Ring<Q> ring(smem); ring.phase == 0; ring.advance()) {
            ptx::barrier_init(ring.full(), Arrivals<Q>::full);
            ptx::barrier_init(ring.empty(), Arrivals<Q>::empty);
        }
        ptx::barrier_init(smem + Q::turns_at, Arrivals<Q>::turn);
        ptx::barrier_init(smem + Q::turns_at + 8, Arrivals<Q>::turn);
        ptx::barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x < HOPPER_WARPGROUP) {
        ptx::registers_give<Registers<Q>::producer>();
        produce<T, Q>(g, smem);
    } else {
        ptx::registers_take<Registers<Q>::consumer>();
        consume_any<T, Q>(g, smem);
    }
}

/* Once for each kernel and device: asking each time costs a microsecond of every launch. */
template <class T, class Q> cudaError_t allow_shared_memory() {
    static std::atomic<uint64_t> allowed{0};
    int device = 0;
    cudaError_t err = cudaGetDevice(&device);
    const uint64_t bit = device < 64 ? 1ull << device : 0;
    if (err != cudaSuccess || (allowed.load() & bit))
        return err;
    err = cudaFuncSetAttribute(hopper_gemm<T, Q>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               Q::smem_bytes);
    if (err == cudaSuccess)
        allowed |= bit;
    return err;
}

template <class T, class Q>
cudaError_t hopper_launch(const HopperArgs *args, int sms, const Stream &stream) {
    cudaError_t err = allow_shared_memory<T, Q>();
    if (err != cudaSuccess)
        return err;
    return launch(stream, {(unsigned)sms, HOPPER_THREADS, Q::smem_bytes}, hopper_gemm<T, Q>, *args);
}

template <class T, HopperOp op>
cudaError_t hopper_launch_either(const HopperArgs *args, int sms, const Stream &stream) {
    return args->pingpong ? hopper_launch<T, Gemm<op, true>>(args, sms, stream)
                          : hopper_launch<T, Gemm<op, false>>(args, sms, stream);
}

template <class T>
cudaError_t hopper_dispatch(HopperOp op, const HopperArgs *args, int sms, const Stream &stream) {
    switch (op) {
    case HOPPER_UP_ACT:
        return hopper_launch<T, Gemm<HOPPER_UP_ACT, false>>(args, sms, stream);
    case HOPPER_UP:
        return hopper_launch<T, Gemm<HOPPER_UP, false>>(args, sms, stream);
    case HOPPER_DA_DACT:
        return hopper_launch<T, Gemm<HOPPER_DA_DACT, false>>(args, sms, stream);
    case HOPPER_DOWN:
        return hopper_launch_either<T, HOPPER_DOWN>(args, sms, stream);
    case HOPPER_DXP:
        return hopper_launch_either<T, HOPPER_DXP>(args, sms, stream);
    case HOPPER_DW2:
        return hopper_launch<T, Gemm<HOPPER_DW2, false>>(args, sms, stream);
    case HOPPER_DW1:
        return hopper_launch<T, Gemm<HOPPER_DW1, false>>(args, sms, stream);
    case HOPPER_OPS:
        break;
    }
    return cudaErrorInvalidValue;
}

#endif
