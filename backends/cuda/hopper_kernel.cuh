/* The persistent, warp-specialised grouped GEMM of Hopper: one producer warpgroup, two consumer
 * warpgroups that share every tile (here) or take turns (hopper_pingpong.cuh). Instantiated in
 * hopper_*.cu. */
#ifndef MOE_CUDA_HOPPER_KERNEL_CUH
#define MOE_CUDA_HOPPER_KERNEL_CUH

#include "hopper_dact.cuh"
#include "hopper_pingpong.cuh"
#include "hopper_producer.cuh"

/* Products of one stage: four steps of K = 16. */
template <class T, class Q>
__device__ __forceinline__ void multiply_stage(float (&acc)[128], uint32_t stage, int wg,
                                               bool add) {
    const uint64_t a = ptx::matrix_descriptor(stage + wg * SLAB_BYTES, SLAB_BYTES, 1024);
    const uint64_t b = ptx::matrix_descriptor(stage + A_BYTES, SLAB_BYTES, 1024);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
        ptx::wgmma<T, Q::a_mn_major, Q::b_mn_major, 256>(acc, a + k * Q::a_step, b + k * Q::b_step,
                                                         add || k);
    ptx::wgmma_commit();
}

/* The ring's next stage; returns the barrier to arrive at when it has been read. */
template <class T, class Q>
__device__ __forceinline__ uint32_t multiply_next(float (&acc)[128], Ring<Q> &ring, int wg,
                                                  bool add) {
    ptx::barrier_wait(ring.full(), ring.phase);
    if (Q::gathers) /* cp.async wrote through the generic proxy */
        ptx::fence_async_proxy();
    multiply_stage<T, Q>(acc, ring.address(), wg, add);
    const uint32_t empty = ring.empty();
    ring.advance();
    return empty;
}

/* Calls `meanwhile` once the first products are under way. No blocks: a stage without operands. */
template <class T, class Q, class Meanwhile>
__device__ __forceinline__ void multiply_tile(float (&acc)[128], Ring<Q> &ring, int blocks, int wg,
                                              const Meanwhile &meanwhile) {
    const bool first_lane = (threadIdx.x & 31) == 0;
    if (Q::ragged_k && blocks == 0) {
#pragma unroll
        for (int i = 0; i < 128; i++)
            acc[i] = 0.f;
        meanwhile();
        __syncwarp(); /* all lanes have read the tile */
        if (first_lane)
            ptx::barrier_arrive(ring.empty());
        ring.advance();
        return;
    }
    uint32_t previous = multiply_next<T, Q>(acc, ring, wg, false);
    meanwhile();
    for (int kb = 1; kb < blocks; kb++) {
        const uint32_t latest = multiply_next<T, Q>(acc, ring, wg, true);
        ptx::wgmma_wait<1>();
        if (first_lane)
            ptx::barrier_arrive(previous);
        previous = latest;
    }
    ptx::wgmma_wait<0>();
    if (first_lane)
        ptx::barrier_arrive(previous);
}

template <class T, class Q>
__device__ __forceinline__ void
epilogue(const HopperArgs &g, const Tile &w, const Place &at, Slabs<Q::slabs> &slabs,
         StoredStages &stored, Ring<Q> &ring, const float (&factor)[2], const float (&acc)[128]) {
    if constexpr (Q::dact) {
        if (g.act.kind == MOE_ACT_SWIGLU)
            epilogue_dact<T, SwiGlu>(g, w, at, stored, ring, factor, acc);
        else
            epilogue_dact<T, AnyGlu>(g, w, at, stored, ring, factor, acc);
    } else if constexpr (Q::act) {
        if (g.act.kind == MOE_ACT_SWIGLU)
            epilogue_act<T, SwiGlu>(g, w, at, slabs, factor, acc);
        else
            epilogue_act<T, AnyGlu>(g, w, at, slabs, factor, acc);
    } else {
        epilogue_plain<T, Q>(g, w, at, slabs, factor, acc);
    }
}

/* What the epilogue multiplies the thread's two rows by. */
template <class Q>
__device__ __forceinline__ void load_factors(const HopperArgs &g, const Tile &w, const Place &at,
                                             float (&ret)[2]) {
    const bool scales = Q::dact || Q::act || Q::op == HOPPER_UP;
    row_factors(w, at, w.m * HOPPER_BM + 64 * at.wg,
                scales ? (Q::dact ? g.weight : g.row_scale) : nullptr, ret);
}

template <class T, class Q>
__device__ __forceinline__ void consume(const HopperArgs &g, uint32_t smem) {
    const Place at;
    Ring<Q> ring(smem);
    Slabs<Q::slabs> slabs(at, smem + Q::slabs_at);
    StoredStages stored(at);
    for (int left = tiles_of_cta<Q::ragged_k>(g); left > 0; left--) {
        float acc[128], factor[2];
        ptx::barrier_wait(ring.full(), ring.phase);
        const Tile tile = ring.tile();
        multiply_tile<T, Q>(acc, ring, k_blocks<Q::ragged_k>(g, tile), at.wg, [&] {
            if (Q::dact)
                stored.settle();
            load_factors<Q>(g, tile, at, factor);
        });
        epilogue<T, Q>(g, tile, at, slabs, stored, ring, factor, acc);
    }
    if (at.t % 32 == 0)
        ptx::tma_store_wait_all();
}

/* Registers: 384 threads start with 168 each; the producer needs few, the consumers many. */
template <class T, class Q>
__global__ void __launch_bounds__(384, 1) hopper_gemm(const __grid_constant__ HopperArgs g) {
    extern __shared__ __align__(1024) unsigned char storage[];
    const uint32_t smem = ptx::smem_address(storage);
    if (threadIdx.x == 0) {
        for (Ring<Q> ring(smem); ring.phase == 0; ring.advance()) {
            ptx::barrier_init(ring.full(), Q::gathers ? 129 : 1);
            ptx::barrier_init(ring.empty(), Q::pingpong ? 4 : 8); /* consumer warps */
        }
        ptx::barrier_init(smem + Q::turns_at, 4); /* a warpgroup's warps */
        ptx::barrier_init(smem + Q::turns_at + 8, 4);
        ptx::barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        ptx::registers_give<Q::pingpong ? 40 : 56>();
        produce<T, Q>(g, smem);
    } else {
        ptx::registers_take<Q::pingpong ? 232 : 224>();
        if constexpr (Q::pingpong)
            consume_in_turns<T, Q>(g, smem);
        else
            consume<T, Q>(g, smem);
    }
}

template <class T, class Q>
cudaError_t hopper_launch(const HopperArgs *args, int sms, cudaStream_t stream) {
    auto kernel = hopper_gemm<T, Q>;
    constexpr int bytes = Q::smem_bytes;
    cudaError_t err =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (err == cudaSuccess)
        kernel<<<sms, 384, bytes, stream>>>(*args);
    return err != cudaSuccess ? err : cudaGetLastError();
}

template <class T, HopperOp op>
cudaError_t hopper_launch_either(const HopperArgs *args, int sms, cudaStream_t stream) {
    return args->pingpong ? hopper_launch<T, Gemm<op, true>>(args, sms, stream)
                          : hopper_launch<T, Gemm<op, false>>(args, sms, stream);
}

template <class T>
cudaError_t hopper_dispatch(HopperOp op, const HopperArgs *args, int sms, cudaStream_t stream) {
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
    default:
        return hopper_launch<T, Gemm<HOPPER_DW1, false>>(args, sms, stream);
    }
}

#endif
