/* moeref-products GOLDEN.safetensors RECORD.safetensors: what cuBLAS makes of products that cancel
 * (product_data.h), for moeref-explain to find the arithmetic of. GOLDEN: small ones in their own
 * type, for golden/bits. RECORD: fp32 sums, dense, batched, and by each algorithm that cublasLt
 * proposes, as it is and with K split by several schemes; of split ones also in which order parts
 * of K meet. By hand, on a device. */
#include "products.cuh"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <set>
#include <string.h>

namespace {

std::vector<uint16_t> drawn(const Problem &p, int64_t rows, int seed) {
    std::vector<uint16_t> ret((size_t)(rows * p.K));
    for (size_t i = 0; i < ret.size(); i++)
        ret[i] = product_element(p.format, seed, (int64_t)i / p.K, (int64_t)i % p.K, p.K,
                                 seed == PRODUCT_RIGHT);
    return ret;
}

/* Rows of ones, row i with `huge` at place i % PRODUCT_PLACES; as many as fill chunks of `chunk`.
 */
std::vector<uint16_t> probes(const Problem &p, int chunk, uint16_t huge) {
    const int rows = (PRODUCT_PLACES + chunk - 1) / chunk * chunk;
    std::vector<uint16_t> ret((size_t)rows * p.K, product_code(p.format, 0, 0));
    for (int i = 0; i < rows; i++)
        ret[(size_t)i * p.K + product_place(i % PRODUCT_PLACES, p.K)] = huge;
    return ret;
}

void gemm(cublasHandle_t handle, const Problem &p, const void *a, const void *b, void *out) {
    const float one = 1, zero = 0;
    if (p.batch == 1)
        must(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, p.N, p.M, p.K, &one, b, p.in(), p.K, a,
                          p.in(), p.K, &zero, out, p.out, p.N, CUBLAS_COMPUTE_32F,
                          CUBLAS_GEMM_DEFAULT),
             "cublasGemmEx");
    else
        must(cublasGemmStridedBatchedEx(
                 handle, CUBLAS_OP_T, CUBLAS_OP_N, p.N, p.M, p.K, &one, b, p.in(), p.K,
                 (long long)p.N * p.K, a, p.in(), p.K, (long long)p.M * p.K, &zero, out, p.out, p.N,
                 (long long)p.M * p.N, p.batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
             "cublasGemmStridedBatchedEx");
}

/* One product for cublasLt. */
struct Lt {
    enum { MOST = 24, ROOM = 64 << 20 };
    cublasLtHandle_t handle;
    const Problem &p;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t left, right, out;
    Buffer workspace{ROOM};
    Lt(cublasLtHandle_t handle, const Problem &p) : handle(handle), p(p) {
        const cublasOperation_t turned = CUBLAS_OP_T;
        must(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "desc");
        must(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                            sizeof turned),
             "attribute");
        must(cublasLtMatrixLayoutCreate(&left, p.in(), p.K, p.N, p.K), "layout");
        must(cublasLtMatrixLayoutCreate(&right, p.in(), p.K, p.M, p.K), "layout");
        must(cublasLtMatrixLayoutCreate(&out, p.out, p.N, p.M, p.N), "layout");
    }
    ~Lt() {
        cublasLtMatrixLayoutDestroy(left);
        cublasLtMatrixLayoutDestroy(right);
        cublasLtMatrixLayoutDestroy(out);
        cublasLtMatmulDescDestroy(product);
    }
    int propose(cublasLtMatmulHeuristicResult_t (&found)[MOST]) {
        const size_t room = ROOM;
        int count = 0;
        cublasLtMatmulPreference_t preference;
        must(cublasLtMatmulPreferenceCreate(&preference), "preference");
        must(cublasLtMatmulPreferenceSetAttribute(
                 preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room),
             "preference");
        cublasLtMatmulAlgoGetHeuristic(handle, product, left, right, out, out, preference, MOST,
                                       found, &count);
        cublasLtMatmulPreferenceDestroy(preference);
        return count;
    }
    /* The algorithm with K split otherwise; false: there is none. */
    bool resplit(cublasLtMatmulAlgo_t *algo, uint32_t split, uint32_t scheme) {
        cublasLtMatmulHeuristicResult_t result;
        const int32_t parts = (int32_t)split;
        return !cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                                     sizeof parts) &&
               !cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                     &scheme, sizeof scheme) &&
               !cublasLtMatmulAlgoCheck(handle, product, left, right, out, out, algo, &result) &&
               result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= ROOM;
    }
    bool run(const cublasLtMatmulAlgo_t &algo, const void *a, const void *b, const Buffer &to) {
        const float one = 1, zero = 0;
        must(cudaMemset(to.at, 0xff, to.size), "cudaMemset");
        return !cublasLtMatmul(handle, product, &one, b, left, a, right, &zero, to.at, out, to.at,
                               out, &algo, workspace.at, ROOM, 0);
    }
};

uint32_t setting(const cublasLtMatmulAlgo_t &algo, cublasLtMatmulAlgoConfigAttributes_t which) {
    uint32_t value = 0;
    size_t written;
    cublasLtMatmulAlgoConfigGetAttribute(&algo, which, &value, sizeof value, &written);
    return value;
}

std::string label_of(const cublasLtMatmulAlgo_t &algo) {
    char text[160];
    snprintf(text, sizeof text, "lt%u,split%u,scheme%u,tile%u,stages%u,swizzle%u,custom%u",
             setting(algo, CUBLASLT_ALGO_CONFIG_ID), setting(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
             setting(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
             setting(algo, CUBLASLT_ALGO_CONFIG_TILE_ID),
             setting(algo, CUBLASLT_ALGO_CONFIG_STAGES_ID),
             setting(algo, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING),
             setting(algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION));
    return text;
}

/* Sampled elements of the first batch. */
std::string sample(const Problem &p, const std::string &all, int *ret_rows, int *ret_columns) {
    std::string ret;
    const int columns = p.N < PRODUCT_COLUMNS ? p.N : PRODUCT_COLUMNS;
    *ret_rows = 0;
    *ret_columns = columns;
    for (int64_t i = 0; i < p.M; i += product_row_step(p.M), ++*ret_rows)
        ret += all.substr((size_t)i * p.N * p.out_size(), columns * p.out_size());
    return ret;
}

void record(Record *file, const Problem &p, const std::string &label, const std::string &all) {
    int rows, columns;
    const std::string kept = sample(p, all, &rows, &columns);
    file->add(p.name() + "/" + label, p.out_name(), {rows, columns}, kept);
}

/* The problem's products and whoever multiplies them. */
struct Bench {
    Problem p;
    Lt lt;
    Record *file;
    Buffer a, b, out;
    Buffer probe_a, probe_b;
    std::set<std::string> seen; /* bits */
    Bench(cublasLtHandle_t handle, const Problem &problem, Record *file)
        : p(problem), lt(handle, p), file(file), a(drawn(p, (int64_t)p.batch * p.M, PRODUCT_LEFT)),
          b(drawn(p, (int64_t)p.batch * p.N, PRODUCT_RIGHT)),
          out((size_t)p.batch * p.M * p.N * p.out_size()),
          probe_a(probes(p, p.M, product_code(p.format, 0, huge()))),
          probe_b(probes(p, p.N, product_code(p.format, (uint64_t)1 << 63, huge()))) {
    }
    int huge() const {
        return p.format == 0 ? 40 : 15;
    }
    /* Counts of ones, [place of the huge][of its opposite]. */
    std::string order(const cublasLtMatmulAlgo_t &algo) {
        std::vector<int32_t> ret(PRODUCT_PLACES * PRODUCT_PLACES);
        for (int i = 0; i < PRODUCT_PLACES; i += p.M)
            for (int j = 0; j < PRODUCT_PLACES; j += p.N) {
                if (!lt.run(algo, (uint16_t *)probe_a.at + (size_t)i * p.K,
                            (uint16_t *)probe_b.at + (size_t)j * p.K, out))
                    return "";
                const std::string got = out.load();
                for (int e = 0; e < p.M * p.N; e++) {
                    const int row = i + e / p.N, column = j + e % p.N;
                    float count;
                    memcpy(&count, &got[(size_t)e * 4], 4);
                    if (row < PRODUCT_PLACES && column < PRODUCT_PLACES)
                        ret[row * PRODUCT_PLACES + column] = (int32_t)count;
                }
            }
        return std::string((const char *)ret.data(), ret.size() * sizeof ret[0]);
    }
    /* What is new of an algorithm; split ones with their order, twice, since it may vary. */
    void try_one(const cublasLtMatmulAlgo_t &algo) {
        const std::string label = label_of(algo);
        const uint32_t split = setting(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
        if (!lt.run(algo, a.at, b.at, out))
            return;
        const uint32_t scheme = setting(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
        const std::string first = out.load(),
                          key = std::to_string(split) + "," + std::to_string(scheme) + ":";
        lt.run(algo, a.at, b.at, out);
        const bool same = out.load() == first;
        const bool is_new = seen.insert(key + first).second;
        printf("  %s%s%s\n", label.c_str(), same ? "" : ", other bits each time",
               is_new ? "" : ", bits as before");
        if (!is_new)
            return;
        record(file, p, label + "," + p.out_name() + (same ? "" : ",varies"), first);
        const std::string counts =
            split > 1 && p.format == 0 && p.out == CUDA_R_32F ? order(algo) : "";
        if (!counts.empty())
            file->add(p.name() + "/" + label + "/order", "I32", {PRODUCT_PLACES, PRODUCT_PLACES},
                      counts);
    }
    void try_all() {
        cublasLtMatmulHeuristicResult_t found[Lt::MOST];
        const int count = lt.propose(found);
        for (int i = 0; i < count; i++)
            try_one(found[i].algo);
        for (int i = 0; i < count; i++)
            for (uint32_t split : {2, 3, 5, 8})
                for (uint32_t scheme : {1, 2, 4}) {
                    cublasLtMatmulAlgo_t algo = found[i].algo;
                    if (lt.resplit(&algo, split, scheme))
                        try_one(algo);
                }
    }
};

void try_problem(cublasHandle_t handle, cublasLtHandle_t lt, const Problem &p, Record *file) {
    Bench bench(lt, p, file);
    printf("%s batch %d to %s\n", p.name().c_str(), p.batch, p.out_name());
    gemm(handle, p, bench.a.at, bench.b.at, bench.out.at);
    record(file, p, std::string(p.batch > 1 ? "cublas,batched," : "cublas,") + p.out_name(),
           bench.out.load());
    if (p.batch == 1)
        bench.try_all();
    fflush(stdout);
}

/* All of p's results in its own type. */
void keep(cublasHandle_t handle, const Problem &p, Record *file) {
    const Buffer a(drawn(p, (int64_t)p.batch * p.M, PRODUCT_LEFT)),
        b(drawn(p, (int64_t)p.batch * p.N, PRODUCT_RIGHT)), out((size_t)p.batch * p.M * p.N * 2);
    gemm(handle, p, a.at, b.at, out.at);
    file->add(p.name(), p.out_name(), {p.batch, p.M, p.N}, out.load());
}

void write_golden(cublasHandle_t handle, const char *path) {
    int version = 0;
    cudaDeviceProp board;
    must(cublasGetVersion(handle, &version), "version");
    must(cudaGetDeviceProperties(&board, 0), "device");
    Record file;
    file.header = "{\"__metadata__\":{\"made_by\":\"cuBLAS " + std::to_string(version) + " on " +
                  board.name + "\"}";
    printf("cuBLAS %d on %s\n", version, board.name);
    for (int format : {0, 1}) {
        const cudaDataType own = format == 0 ? CUDA_R_16BF : CUDA_R_16F;
        keep(handle, {16, 64, 1024, 1, format, own}, &file);
        keep(handle, {24, 32, 328, 2, format, own}, &file);
        keep(handle, {64, 64, 192, 1, format, own}, &file);
    }
    file.write(path);
}

} // namespace

int main(int argc, char **argv) {
    static const int sizes[][4] = {
        {64, 64, 64, 1},   {128, 128, 320, 1}, {256, 256, 1024, 1}, {512, 768, 2048, 1},
        {64, 64, 2080, 1}, {64, 64, 4096, 1},  {128, 128, 4096, 1}, {16, 32, 16384, 1},
        {1, 64, 4096, 1},  {128, 256, 768, 8}, {8, 64, 2048, 64},   {2048, 2048, 2048, 1},
    };
    cublasHandle_t handle;
    cublasLtHandle_t lt;
    Record file;
    if (argc != 3) {
        printf("usage: moeref-products GOLDEN.safetensors RECORD.safetensors\n");
        return 2;
    }
    must(cublasCreate(&handle), "cublasCreate");
    must(cublasLtCreate(&lt), "cublasLtCreate");
    must(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH), "math mode");
    write_golden(handle, argv[1]);
    for (const auto &s : sizes)
        for (int format : {0, 1})
            for (bool wide : {true, false}) {
                const cudaDataType own = format == 0 ? CUDA_R_16BF : CUDA_R_16F;
                try_problem(handle, lt, {s[0], s[1], s[2], s[3], format, wide ? CUDA_R_32F : own},
                            &file);
            }
    file.write(argv[2]);
    cublasLtDestroy(lt);
    cublasDestroy(handle);
    return 0;
}
