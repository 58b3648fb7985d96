/* Hopper instructions behind names: mbarrier, bulk tensor copies (TMA), wgmma, register budget,
 * matrix loads and stores between registers and shared memory. Semantics: PTX ISA 8.x, sections
 * "mbarrier", "cp.async.bulk.tensor", "wgmma", "setmaxnreg". Nothing here has policy. */
#ifndef MOE_CUDA_PTX_CUH
#define MOE_CUDA_PTX_CUH

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
#include <type_traits>

namespace ptx {

__device__ __forceinline__ uint32_t smem_address(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/* The same value in all lanes, which the compiler then knows to be uniform: operands of bulk copies
 * otherwise pass through a loop over lanes. */
__device__ __forceinline__ int uniform(int x) {
    return __shfl_sync(~0u, x, 0);
}

/* p + i stride, in one instruction. */
__device__ __forceinline__ const char *offset(const char *p, int i, uint32_t stride) {
    const char *sum;
    asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(sum) : "r"(i), "r"(stride), "l"(p));
    return sum;
}

/* Copies 16 bytes. Generic proxy. */
__device__ __forceinline__ void copy16_async(uint32_t dst, const void *src) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst), "l"(src) : "memory");
}

/* The same, or writes 16 zero bytes where valid is false. */
__device__ __forceinline__ void copy16_async(uint32_t dst, const void *src, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most `pending` of this thread's groups are unfinished. */
template <int pending> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

__device__ __forceinline__ void copy_wait_all() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

__device__ __forceinline__ void store4(uint32_t address, int4 v) {
    asm volatile("st.shared.v4.s32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

__device__ __forceinline__ int4 load4(uint32_t address) {
    int4 v;
    asm volatile("ld.shared.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address)
                 : "memory");
    return v;
}

__device__ __forceinline__ void ldmatrix4(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix4_trans(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* d += a b for one m16n8k16 tile: the tensor-core instruction of sm_80 and newer. */
template <class T>
__device__ __forceinline__ void mma16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1);

#define MOE_MMA16816(T, name)                                                                      \
    template <>                                                                                    \
    __device__ __forceinline__ void mma16816<T>(float(&d)[4], const uint32_t(&a)[4], uint32_t b0,  \
                                                uint32_t b1) {                                     \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"             \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));              \
    }
MOE_MMA16816(__nv_bfloat16, "bf16")
MOE_MMA16816(__half, "f16")
#undef MOE_MMA16816

/* Everything below exists on sm_90a only; other targets compile kernels that never call it. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ void stmatrix4(uint32_t address, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

/* The same with every 8 x 8 matrix transposed on the way. */
__device__ __forceinline__ void stmatrix4_trans(uint32_t address, const uint32_t (&r)[4]) {
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
        "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
        : "memory");
}

__device__ __forceinline__ void barrier_init(uint32_t bar, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

__device__ __forceinline__ void barrier_arrive_many(uint32_t bar, uint32_t arrivals) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(arrivals)
                 : "memory");
}

/* Arrives once all copies that this thread issued before have landed. */
__device__ __forceinline__ void copy_arrive(uint32_t bar) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(bar) : "memory");
}

/* Arrives and announces `bytes` that bulk copies will bring to this phase. */
__device__ __forceinline__ void barrier_expect(uint32_t bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra over;\n"
                 "bra again;\n"
                 "over:\n"
                 "}\n" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}

/* Makes ordinary shared-memory accesses visible to TMA and wgmma, and the other way round. */
__device__ __forceinline__ void fence_async_proxy() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Barrier among `threads` threads; ids 1..15 (0 is __syncthreads). */
__device__ __forceinline__ void named_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void tma_load(const CUtensorMap *map, uint32_t bar, uint32_t dst, int c0,
                                         int c1, int c2) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2)
                 : "memory");
}

__device__ __forceinline__ void tma_load4(const CUtensorMap *map, uint32_t bar, uint32_t dst,
                                          int c0, int c1, int c2, int c3) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}

__device__ __forceinline__ void tma_store(const CUtensorMap *map, uint32_t src, int c0, int c1,
                                          int c2) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group "
                 "[%0, {%2, %3, %4}], [%1];" ::"l"(map),
                 "r"(src), "r"(c0), "r"(c1), "r"(c2)
                 : "memory");
}

__device__ __forceinline__ void tma_store_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* At most `pending` of this thread's stores still read shared memory. */
template <int pending> __device__ __forceinline__ void tma_store_wait_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}

__device__ __forceinline__ void tma_store_wait_all() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

template <int registers> __device__ __forceinline__ void registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers> __device__ __forceinline__ void registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int pending> __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* Shared-memory matrix descriptor, 128-byte swizzle. Offsets in bytes; see "Matrix-descriptor".
 * K-major: `stride` is the distance of 8-row groups, `leading` is ignored. MN-major: `leading` is
 * the distance of 64-element slabs along M or N, `stride` that of 8-row groups along K. */
__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t address, uint32_t leading,
                                                      uint32_t stride) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32 | (uint64_t)1 << 62;
}

#define MOE_ACC8(d, i)                                                                             \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define MOE_ACC32(d, i) MOE_ACC8(d, i), MOE_ACC8(d, i + 8), MOE_ACC8(d, i + 16), MOE_ACC8(d, i + 24)
#define MOE_ACC64(d, i) MOE_ACC32(d, i), MOE_ACC32(d, i + 32)

/* The accumulators' names in the instructions below. */
#define MOE_NAMES32                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MOE_NAMES64                                                                                \
    MOE_NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "    \
                "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "      \
                "%62, %63"
#define MOE_NAMES96                                                                                \
    MOE_NAMES64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, "    \
                "%79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, "      \
                "%94, %95"
#define MOE_NAMES128                                                                               \
    MOE_NAMES96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, "     \
                "%109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, "   \
                "%122, %123, %124, %125, %126, %127"
#define MOE_WGMMA(n, type, names, operands, add_operand, ...)                                      \
    asm volatile("{\n"                                                                             \
                 ".reg .pred adds;\n"                                                              \
                 "setp.ne.b32 adds, " add_operand ", 0;\n"                                         \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" names        \
                 "}, " operands ";\n"                                                              \
                 "}\n"                                                                             \
                 : __VA_ARGS__                                                                     \
                 : "l"(a), "l"(b), "n"(trans_a), "n"(trans_b), "r"((int)add))
#define MOE_WGMMA_OF(n, names, operands, add_operand, ...)                                         \
    if constexpr (columns == n && bf16)                                                            \
        MOE_WGMMA(n, "bf16", names, operands, add_operand, __VA_ARGS__);                           \
    if constexpr (columns == n && !bf16)                                                           \
    MOE_WGMMA(n, "f16", names, operands, add_operand, __VA_ARGS__)

/* d[64 x columns] = A[64 x 16] B[16 x columns], and d if add, scheduled asynchronously. trans_a and
 * trans_b are 1 for MN-major operands. Thread t of the warpgroup holds, for every 8 columns i, d[4i
 * .. 4i+3] = rows 16 (t/32) + (t%32)/4 and 8 below, columns 8i + 2 (t%4) and the next. */
template <class T, int trans_a, int trans_b, int columns, int held>
__device__ __forceinline__ void wgmma(float (&d)[held], uint64_t a, uint64_t b, bool add) {
    constexpr bool bf16 = std::is_same<T, __nv_bfloat16>::value;
    static_assert(columns <= 2 * held && columns % 64 == 0 && columns <= 256, "");
    MOE_WGMMA_OF(64, MOE_NAMES32, "%32, %33, adds, 1, 1, %34, %35", "%36", MOE_ACC32(d, 0));
    MOE_WGMMA_OF(128, MOE_NAMES64, "%64, %65, adds, 1, 1, %66, %67", "%68", MOE_ACC64(d, 0));
    MOE_WGMMA_OF(192, MOE_NAMES96, "%96, %97, adds, 1, 1, %98, %99", "%100", MOE_ACC64(d, 0),
                 MOE_ACC32(d, 64));
    MOE_WGMMA_OF(256, MOE_NAMES128, "%128, %129, adds, 1, 1, %130, %131", "%132", MOE_ACC64(d, 0),
                 MOE_ACC64(d, 64));
}

#undef MOE_WGMMA_OF
#undef MOE_WGMMA
#undef MOE_NAMES128
#undef MOE_NAMES96
#undef MOE_NAMES64
#undef MOE_NAMES32
#undef MOE_ACC64
#undef MOE_ACC32
#undef MOE_ACC8

#endif /* sm_90a */

} // namespace ptx

#endif
