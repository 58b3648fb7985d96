/* One portable loop body, compiled twice: for the build's baseline and for AVX2. A body is an
 * always-inline function; a caller with MOE_INT_AVX2 makes the wide copy. Both give the same
 * bits, since contraction is off and no loop here reorders floating-point sums. */
#ifndef MOE_CORE_SIMD_H
#define MOE_CORE_SIMD_H

#if defined(__GNUC__)
#define MOE_INT_INLINE static inline __attribute__((always_inline))
#else
#define MOE_INT_INLINE static inline
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#define MOE_INT_HAVE_AVX2  1
#define MOE_INT_AVX2       __attribute__((target("avx2")))
#define moe_int_cpu_avx2() __builtin_cpu_supports("avx2")
#else
#define MOE_INT_HAVE_AVX2 0
#endif

#endif
