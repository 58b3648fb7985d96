/* Flags between ranks, on the device. Whoever signals has its writes seen by whoever has waited; a
 * wait ends after a limit, and says for whom. */
#ifndef MOE_CUDA_EP_SIGNALS_CUH
#define MOE_CUDA_EP_SIGNALS_CUH

#include "group.h"

__device__ __forceinline__ void store_release(unsigned *at, unsigned value) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

__device__ __forceinline__ unsigned load_acquire(const unsigned *at) {
    unsigned value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}

__device__ __forceinline__ unsigned long long now_ns() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

/* By a warp, after a barrier of all threads whose writes it covers. */
__device__ __forceinline__ void signal_all(const Signals &s, Phase phase, unsigned pass) {
    __threadfence_system();
    for (int q = (int)threadIdx.x & 31; q < s.ranks; q += 32)
        store_release(s.flag[q] + phase * s.ranks + s.rank, pass);
}

/* By the first warp of a block; all threads synchronise after it. */
__device__ __forceinline__ void wait_all(const Signals &s, Phase phase, unsigned pass) {
    const unsigned long long end = now_ns() + s.limit_ns;
    for (int q = (int)threadIdx.x & 31; q < s.ranks; q += 32) {
        const unsigned *flag = s.flag[s.rank] + phase * s.ranks + q;
        while ((int)(load_acquire(flag) - pass) < 0) {
            if (now_ns() < end)
                continue;
            s.late->phase = phase;
            s.late->rank_plus_one = q + 1;
            *s.broken = 1;
            break;
        }
    }
    __threadfence_system();
}

__device__ __forceinline__ bool is_broken(const Signals &s) {
    return *(volatile const int *)s.broken != 0;
}

#endif
