/* Dense products of cuBLAS, timed as the model's tables are: sim/README.md, "A GPU of your own". */
#include "measure.h"

#include "fill.cuh"

#include <cublas_v2.h>

namespace {

struct Size {
    int n, k;
};

/* Widths of published layers: attention and expert projections, wide and narrow, short and deep. */
const Size sizes[] = {{2048, 2048}, {4096, 2048}, {2048, 4096}, {1536, 4096},  {4096, 1536},
                      {7168, 2048}, {2048, 7168}, {6144, 4096}, {4096, 14336}, {14336, 4096},
                      {1024, 1024}, {512, 4096},  {4096, 512},  {8192, 8192}};
const int rows[] = {1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

/* Settled: products of so many FLOPs, for which most GPUs take a third of a millisecond and more;
 * each runs for so long before it is timed, the first one longer. */
constexpr double LARGE_FLOPS = 2.4e11, SETTLE_MS = 600, STAY_MS = 120;

constexpr size_t WEIGHTS = (size_t)512 << 20; /* bytes that are gone through: no L2 holds them */
constexpr size_t ROWS = (size_t)16384 * 14336 * 2, WORKSPACE = (size_t)64 << 20;

void expect(cublasStatus_t status, const char *what) {
    if (status == CUBLAS_STATUS_SUCCESS)
        return;
    fprintf(stderr, "moeref-measure: %s: %s\n", what, cublasGetStatusString(status));
    exit(3);
}

double time_one(cublasHandle_t blas, cudaStream_t stream, char *a, char *b, char *c, Size s, int m,
                double warm_ms) {
    const float one = 1, zero = 0;
    const size_t weights = (size_t)s.n * s.k * 2;
    const int copies = (int)std::max<size_t>(1, std::min<size_t>(64, WEIGHTS / weights));
    /* Some 2 ms of work a replay, each set of weights once at least. */
    const double guess_us = 4 + 2.0 * m * s.n * s.k / 5e8 + (double)weights / 2e6;
    const int launches = (int)std::max(2.0, std::min(64.0, 2000 / guess_us));
    const auto multiply = [&](int i) {
        expect(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, s.n, m, s.k, &one,
                            b + (size_t)(i % copies) * weights, CUDA_R_16BF, s.k, a, CUDA_R_16BF,
                            s.k, &zero, c, CUDA_R_16BF, s.n, CUBLAS_COMPUTE_32F,
                            CUBLAS_GEMM_DEFAULT),
               "a product");
    };
    return measure_graph_us(stream, launches, multiply, warm_ms);
}

bool is_large(const Size &s, int m) {
    return 2.0 * m * s.n * s.k >= LARGE_FLOPS;
}

} // namespace

void measure_fill(void *values, size_t count, cudaStream_t stream) {
    fill<<<1024, 256, 0, stream>>>(static_cast<unsigned short *>(values), count);
    MEASURE_CUDA(cudaGetLastError());
}

void measure_products(FILE *to, bool settled, cudaStream_t stream) {
    cublasHandle_t blas;
    char *a, *b, *c, *workspace;
    MEASURE_CUDA(cudaMalloc(&a, ROWS));
    MEASURE_CUDA(cudaMalloc(&b, WEIGHTS));
    MEASURE_CUDA(cudaMalloc(&c, ROWS));
    MEASURE_CUDA(cudaMalloc(&workspace, WORKSPACE));
    measure_fill(a, ROWS / 2, stream);
    measure_fill(b, WEIGHTS / 2, stream);
    expect(cublasCreate(&blas), "cublasCreate");
    expect(cublasSetStream(blas, stream), "cublasSetStream");
    expect(cublasSetWorkspace(blas, workspace, WORKSPACE), "cublasSetWorkspace");
    fprintf(to, "m\tn\tk\tmedian_us\n");
    double warm_ms = settled ? SETTLE_MS : 0;
    for (const Size &s : sizes)
        for (int m : rows) {
            if (settled && !is_large(s, m))
                continue;
            const double us = time_one(blas, stream, a, b, c, s, m, warm_ms);
            warm_ms = settled ? STAY_MS : 0;
            fprintf(to, "%d\t%d\t%d\t%.3f\n", m, s.n, s.k, us);
        }
    cublasDestroy(blas);
    cudaFree(a);
    cudaFree(b);
    cudaFree(c);
    cudaFree(workspace);
}
