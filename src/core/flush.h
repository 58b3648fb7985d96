/* Does this thread take subnormal numbers for 0? Bits of the floating-point unit that the rounding
 * mode says nothing of: FTZ and DAZ of x86's MXCSR, FZ and FZ16 of Arm's FPCR. What is linked with
 * -ffast-math sets them where it is loaded. */
#ifndef MOE_CORE_FLUSH_H
#define MOE_CORE_FLUSH_H

#include <stdbool.h>
#include <stdint.h>
#if defined(__x86_64__) || defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(__x86_64__) || defined(__SSE__)
enum { MOE_INT_FLUSH_BITS = 0x8040 };
static inline uint64_t moe_int_float_control(void) {
    return _mm_getcsr();
}
static inline void moe_int_float_control_set(uint64_t bits) {
    _mm_setcsr((unsigned)bits);
}
#elif defined(__aarch64__)
enum { MOE_INT_FLUSH_BITS = 1 << 24 | 1 << 19 };
static inline uint64_t moe_int_float_control(void) {
    uint64_t bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
}
static inline void moe_int_float_control_set(uint64_t bits) {
    __asm__ volatile("msr fpcr, %0" : : "r"(bits));
}
#else
enum { MOE_INT_FLUSH_BITS = 0 };
static inline uint64_t moe_int_float_control(void) {
    return 0;
}
static inline void moe_int_float_control_set(uint64_t bits) {
    (void)bits;
}
#endif

static inline bool moe_int_flushes(void) {
    return (moe_int_float_control() & MOE_INT_FLUSH_BITS) != 0;
}

static inline void moe_int_flush_set(bool on) {
    const uint64_t bits = moe_int_float_control() & ~(uint64_t)MOE_INT_FLUSH_BITS;
    moe_int_float_control_set(on ? bits | MOE_INT_FLUSH_BITS : bits);
}

#endif
