/* bf16 and fp16 as template arguments: conversion to and from float, two elements at a time. */
#ifndef MOE_CUDA_ELEMENT_CUH
#define MOE_CUDA_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

template <class T> struct Element;

template <> struct Element<__nv_bfloat16> {
    static __device__ __forceinline__ uint32_t pack(float lo, float hi) {
        __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
        return *reinterpret_cast<uint32_t *>(&v);
    }
    static __device__ __forceinline__ float2 unpack(uint32_t v) {
        return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
    }
    static __device__ __forceinline__ float load(const __nv_bfloat16 *p) {
        return __bfloat162float(*p);
    }
    static __device__ __forceinline__ __nv_bfloat16 from(float x) {
        return __float2bfloat16_rn(x);
    }
};

template <> struct Element<__half> {
    static __device__ __forceinline__ uint32_t pack(float lo, float hi) {
        __half2 v = __floats2half2_rn(lo, hi);
        return *reinterpret_cast<uint32_t *>(&v);
    }
    static __device__ __forceinline__ float2 unpack(uint32_t v) {
        return __half22float2(*reinterpret_cast<__half2 *>(&v));
    }
    static __device__ __forceinline__ float load(const __half *p) {
        return __half2float(*p);
    }
    static __device__ __forceinline__ __half from(float x) {
        return __float2half_rn(x);
    }
};

/* Eight neighbours in one 16-byte access. */
template <class T> __device__ __forceinline__ void unpack8(uint4 v, float (&x)[8]) {
    uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = Element<T>::unpack(word[i]);
        x[2 * i] = f.x;
        x[2 * i + 1] = f.y;
    }
}

template <class T> __device__ __forceinline__ uint4 pack8(const float (&x)[8]) {
    return make_uint4(Element<T>::pack(x[0], x[1]), Element<T>::pack(x[2], x[3]),
                      Element<T>::pack(x[4], x[5]), Element<T>::pack(x[6], x[7]));
}

#endif
