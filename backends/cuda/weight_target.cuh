/* Where a weight gradient goes if not as it is computed, dense and overwriting. */
#ifndef MOE_CUDA_WEIGHT_TARGET_CUH
#define MOE_CUDA_WEIGHT_TARGET_CUH

#include "element.cuh"

/* Element (e, row, column) of [E][rows][columns], gate rows first, lies at e * expert + row' * row
 * + column * column; row' is the row among gates and ups that take turns where `half` is given. */
struct WeightTarget {
    void *out; /* NULL: it goes the plain way */
    int is_f32, adds;
    int half;                    /* interleaved: n, else 0 */
    int64_t expert, row, column; /* strides in elements */
};

__device__ __forceinline__ int64_t target_place(const WeightTarget &to, int e, int64_t row,
                                                int64_t column) {
    if (to.half)
        row = row < to.half ? 2 * row : 2 * (row - to.half) + 1;
    return e * to.expert + row * to.row + column * to.column;
}

template <class T>
__device__ __forceinline__ void store_to(const WeightTarget &to, int e, int64_t row, int64_t column,
                                         float v) {
    const int64_t at = target_place(to, e, row, column);
    if (to.is_f32) {
        float *out = static_cast<float *>(to.out) + at;
        *out = to.adds ? *out + v : v;
    } else {
        T *out = static_cast<T *>(to.out) + at;
        *out = Element<T>::from(to.adds ? Element<T>::load(out) + v : v);
    }
}

#endif
