/* moeref-products [FILE.safetensors]: which arithmetic cuBLAS multiplies by. Products that cancel
 * (product_data.h), dense, batched, and by each algorithm that cublasLt proposes, split K among
 * them; their fp32 sums are held against every arithmetic of the bank. FILE: results of small ones,
 * for golden/bits. By hand, on a device. */
extern "C" {
#include "reference/tensorcore/chain.h"
}
#include "product_data.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

namespace {

void must(int error, const char *what) {
    if (error == 0)
        return;
    printf("%s: error %d\n", what, error);
    exit(3);
}

/* M x N sums of K products, `batch` times. */
struct Problem {
    int M, N, K, batch;
    bool fp16;
};

/* Element e of all sums under arithmetic a is sums[a][e]; rows and columns are sampled. */
struct Expected {
    std::vector<moe_arithmetic> how;
    std::vector<std::vector<float>> sums;
    std::vector<int64_t> at;
};

struct Data {
    std::vector<uint16_t> a, b;
    uint16_t *on_a, *on_b;
    void *out; /* [batch][M][N], room for fp32 */
    explicit Data(const Problem &p)
        : a((size_t)p.batch * p.M * p.K), b((size_t)p.batch * p.N * p.K) {
        for (size_t i = 0; i < a.size(); i++)
            a[i] = product_element(p.fp16, 1, (int64_t)i / p.K, (int64_t)i % p.K, p.K, 0);
        for (size_t i = 0; i < b.size(); i++)
            b[i] = product_element(p.fp16, 2, (int64_t)i / p.K, (int64_t)i % p.K, p.K, 1);
        must(cudaMalloc(&on_a, a.size() * 2), "cudaMalloc");
        must(cudaMalloc(&on_b, b.size() * 2), "cudaMalloc");
        must(cudaMalloc(&out, (size_t)p.batch * p.M * p.N * 4), "cudaMalloc");
        must(cudaMemcpy(on_a, a.data(), a.size() * 2, cudaMemcpyHostToDevice), "cudaMemcpy");
        must(cudaMemcpy(on_b, b.data(), b.size() * 2, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    ~Data() {
        cudaFree(on_a);
        cudaFree(on_b);
        cudaFree(out);
    }
};

/* The bank, and every number of parts up to 32. */
std::vector<moe_arithmetic> arithmetics(moe_int_format format) {
    const moe_arithmetic *bank;
    const size_t count = moe_arithmetics(&bank);
    std::vector<moe_arithmetic> ret(bank, bank + count);
    for (const char *unit : {"sm_90", "sm_80", "fp32"})
        for (int split = 2; split <= 32; split++) {
            moe_arithmetic how = {};
            strcpy(how.unit, unit);
            how.split = split;
            ret.push_back(how);
        }
    std::vector<moe_arithmetic> usable;
    moe_int_chain chain;
    for (const moe_arithmetic &how : ret)
        if (moe_int_chain_make(&how, format, &chain) == MOE_OK)
            usable.push_back(how);
    return usable;
}

/* Of the first batch: up to 8 rows of up to 32 columns. */
Expected expected(const Problem &p, const Data &data) {
    const moe_int_format format = p.fp16 ? MOE_INT_FORMAT_FP16 : MOE_INT_FORMAT_BF16;
    const int columns = p.N < 32 ? p.N : 32, step = p.M <= 8 ? 1 : p.M / 8;
    const moe_int_operand left = {data.a.data(), p.K, 1, NULL, NULL},
                          right = {data.b.data(), p.K, 1, NULL, NULL};
    moe_int_packed a = {}, b = {};
    Expected ret = {arithmetics(format), {}, {}};
    must(moe_int_pack(&left, format, MOE_INT_PACK_VALUES, p.M, p.K, &a), "pack");
    must(moe_int_pack(&right, format, (moe_int_packing)(MOE_INT_PACK_RIGHT | MOE_INT_PACK_VALUES),
                      columns, p.K, &b),
         "pack");
    for (int i = 0; i < p.M; i += step)
        for (int j = 0; j < columns; j++)
            ret.at.push_back((int64_t)i * p.N + j);
    for (const moe_arithmetic &how : ret.how) {
        moe_int_chain chain;
        std::vector<float> sums;
        float group[MOE_INT_LANES];
        must(moe_int_chain_make(&how, format, &chain), "chain");
        for (int i = 0; i < p.M; i += step)
            for (int j = 0; j < columns; j++) {
                if (j % MOE_INT_LANES == 0)
                    moe_int_chain_row(&chain, &a, i, &b, j / MOE_INT_LANES, group);
                sums.push_back(group[j % MOE_INT_LANES]);
            }
        ret.sums.push_back(sums);
    }
    moe_int_packed_destroy(&a);
    moe_int_packed_destroy(&b);
    return ret;
}

std::vector<float> download(const Problem &p, const Data &data) {
    std::vector<float> ret((size_t)p.batch * p.M * p.N);
    must(cudaDeviceSynchronize(), "synchronise");
    must(cudaMemcpy(ret.data(), data.out, ret.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return ret;
}

/* "sm_90: all of 256 (and 2 others)", or the nearest. */
std::string explain(const Expected &want, const std::vector<float> &got) {
    size_t best = 0, equal_best = 0, all = 0;
    char name[96], text[256];
    for (size_t a = 0; a < want.how.size(); a++) {
        size_t equal = 0;
        for (size_t e = 0; e < want.at.size(); e++)
            equal += memcmp(&got[want.at[e]], &want.sums[a][e], 4) == 0;
        all += equal == want.at.size();
        if (equal > equal_best) {
            best = a;
            equal_best = equal;
        }
    }
    moe_arithmetic_name(&want.how[best], name, sizeof name);
    if (all)
        snprintf(text, sizeof text, "%s, all of %zu (%zu of the bank explain it)", name,
                 want.at.size(), all);
    else
        snprintf(text, sizeof text, "none of the bank; the nearest, %s, has %zu of %zu", name,
                 equal_best, want.at.size());
    return text;
}

void gemm(cublasHandle_t handle, const Problem &p, const Data &data, cudaDataType out) {
    const float one = 1, zero = 0;
    const cudaDataType in = p.fp16 ? CUDA_R_16F : CUDA_R_16BF;
    if (p.batch == 1)
        must(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, p.N, p.M, p.K, &one, data.on_b, in, p.K,
                          data.on_a, in, p.K, &zero, data.out, out, p.N, CUBLAS_COMPUTE_32F,
                          CUBLAS_GEMM_DEFAULT),
             "cublasGemmEx");
    else
        must(cublasGemmStridedBatchedEx(
                 handle, CUBLAS_OP_T, CUBLAS_OP_N, p.N, p.M, p.K, &one, data.on_b, in, p.K,
                 (long long)p.N * p.K, data.on_a, in, p.K, (long long)p.M * p.K, &zero, data.out,
                 out, p.N, (long long)p.M * p.N, p.batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
             "cublasGemmStridedBatchedEx");
}

/* The descriptors of one product for cublasLt. */
struct Lt {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t left, right, out;
    Lt(const Problem &p) {
        const cudaDataType in = p.fp16 ? CUDA_R_16F : CUDA_R_16BF;
        const cublasOperation_t turned = CUBLAS_OP_T;
        must(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "desc");
        must(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                            sizeof turned),
             "attribute");
        must(cublasLtMatrixLayoutCreate(&left, in, p.K, p.N, p.K), "layout");
        must(cublasLtMatrixLayoutCreate(&right, in, p.K, p.M, p.K), "layout");
        must(cublasLtMatrixLayoutCreate(&out, CUDA_R_32F, p.N, p.M, p.N), "layout");
    }
    ~Lt() {
        cublasLtMatrixLayoutDestroy(left);
        cublasLtMatrixLayoutDestroy(right);
        cublasLtMatrixLayoutDestroy(out);
        cublasLtMatmulDescDestroy(product);
    }
};

uint32_t setting(const cublasLtMatmulAlgo_t &algo, cublasLtMatmulAlgoConfigAttributes_t which) {
    uint32_t value = 0;
    size_t written;
    cublasLtMatmulAlgoConfigGetAttribute(&algo, which, &value, sizeof value, &written);
    return value;
}

/* Every algorithm that cublasLt proposes. */
void try_algorithms(cublasLtHandle_t handle, const Problem &p, const Data &data,
                    const Expected &want) {
    enum { MOST = 24 };
    const size_t room = 64u << 20;
    const float one = 1, zero = 0;
    void *workspace;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[MOST];
    int count = 0;
    Lt lt(p);
    must(cudaMalloc(&workspace, room), "cudaMalloc");
    must(cublasLtMatmulPreferenceCreate(&preference), "preference");
    must(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                              &room, sizeof room),
         "preference");
    cublasLtMatmulAlgoGetHeuristic(handle, lt.product, lt.left, lt.right, lt.out, lt.out,
                                   preference, MOST, found, &count);
    for (int i = 0; i < count; i++) {
        cudaMemset(data.out, 0xff, (size_t)p.M * p.N * 4);
        if (cublasLtMatmul(handle, lt.product, &one, data.on_b, lt.left, data.on_a, lt.right, &zero,
                           data.out, lt.out, data.out, lt.out, &found[i].algo, workspace, room, 0))
            continue;
        printf("    Lt algorithm %2u, tile %3u, split K %2u, reduction %u: %s\n",
               setting(found[i].algo, CUBLASLT_ALGO_CONFIG_ID),
               setting(found[i].algo, CUBLASLT_ALGO_CONFIG_TILE_ID),
               setting(found[i].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
               setting(found[i].algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
               explain(want, download(p, data)).c_str());
    }
    cublasLtMatmulPreferenceDestroy(preference);
    cudaFree(workspace);
}

void try_problem(cublasHandle_t handle, cublasLtHandle_t lt, const Problem &p) {
    const Data data(p);
    const Expected want = expected(p, data);
    gemm(handle, p, data, CUDA_R_32F);
    printf("%s M=%d N=%d K=%d batch=%d\n    cublas: %s\n", p.fp16 ? "fp16" : "bf16", p.M, p.N, p.K,
           p.batch, explain(want, download(p, data)).c_str());
    if (p.batch == 1)
        try_algorithms(lt, p, data, want);
    fflush(stdout);
}

/* Results of `p` in its own type, as one more tensor of a safetensors file. */
void keep(cublasHandle_t handle, const Problem &p, std::string *header, std::string *bytes) {
    const Data data(p);
    const size_t size = (size_t)p.batch * p.M * p.N * 2;
    char text[256];
    std::string raw(size, '\0');
    gemm(handle, p, data, p.fp16 ? CUDA_R_16F : CUDA_R_16BF);
    must(cudaDeviceSynchronize(), "synchronise");
    must(cudaMemcpy(&raw[0], data.out, size, cudaMemcpyDeviceToHost), "cudaMemcpy");
    snprintf(text, sizeof text,
             ",\"%s_%dx%dx%d\":{\"dtype\":\"%s\",\"shape\":[%d,%d,%d],\"data_offsets\":[%zu,%zu]}",
             p.fp16 ? "fp16" : "bf16", p.M, p.N, p.K, p.fp16 ? "F16" : "BF16", p.batch, p.M, p.N,
             bytes->size(), bytes->size() + size);
    *header += text;
    *bytes += raw;
}

void write_file(cublasHandle_t handle, const char *path) {
    int version = 0;
    cudaDeviceProp board;
    must(cublasGetVersion(handle, &version), "version");
    must(cudaGetDeviceProperties(&board, 0), "device");
    std::string bytes, header = "{\"__metadata__\":{\"made_by\":\"cuBLAS " +
                                std::to_string(version) + " on " + board.name + "\"}";
    for (bool fp16 : {false, true}) {
        keep(handle, {16, 64, 1024, 1, fp16}, &header, &bytes);
        keep(handle, {24, 32, 328, 2, fp16}, &header, &bytes);
        keep(handle, {64, 64, 192, 1, fp16}, &header, &bytes);
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const uint64_t length = header.size();
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(&length, 8, 1, file) != 1 ||
        fwrite(header.data(), header.size(), 1, file) != 1 ||
        fwrite(bytes.data(), bytes.size(), 1, file) != 1 || fclose(file)) {
        printf("cannot write %s\n", path);
        exit(3);
    }
}

} // namespace

int main(int argc, char **argv) {
    static const Problem problems[] = {
        {64, 64, 64, 1, false},     {128, 128, 320, 1, false},    {256, 256, 1024, 1, false},
        {512, 768, 2048, 1, false}, {2048, 2048, 2048, 1, false}, {128, 128, 4096, 1, false},
        {16, 32, 16384, 1, false},  {1, 64, 4096, 1, false},      {128, 256, 768, 8, false},
        {8, 64, 2048, 64, false},
    };
    cublasHandle_t handle;
    cublasLtHandle_t lt;
    must(cublasCreate(&handle), "cublasCreate");
    must(cublasLtCreate(&lt), "cublasLtCreate");
    must(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH), "math mode");
    if (argc > 1)
        write_file(handle, argv[1]);
    for (Problem p : problems)
        for (bool fp16 : {false, true}) {
            p.fp16 = fp16;
            try_problem(handle, lt, p);
        }
    cublasLtDestroy(lt);
    cublasDestroy(handle);
    return 0;
}
