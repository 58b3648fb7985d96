/* A problem of products, memory for it on the device, and the file that results go into. */
#ifndef MOE_TESTS_PRODUCTS_CUH
#define MOE_TESTS_PRODUCTS_CUH

#include "product_data.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

inline void must(int error, const char *what) {
    if (error == 0)
        return;
    printf("%s: error %d\n", what, error);
    exit(3);
}

/* M x N sums of K products, `batch` times. */
struct Problem {
    int M, N, K, batch, format;
    cudaDataType out;
    cudaDataType in() const {
        return format == 0 ? CUDA_R_16BF : CUDA_R_16F;
    }
    size_t out_size() const {
        return out == CUDA_R_32F ? 4 : 2;
    }
    const char *out_name() const {
        return out == CUDA_R_32F ? "F32" : out == CUDA_R_16F ? "F16" : "BF16";
    }
    std::string name() const {
        return std::string(product_formats[format].name) + "_" + std::to_string(M) + "x" +
               std::to_string(N) + "x" + std::to_string(K);
    }
};

/* Tensors of a safetensors file. */
struct Record {
    std::string header = "{\"__metadata__\":{}", bytes;
    void add(const std::string &name, const char *dtype, const std::vector<int> &shape,
             const std::string &data) {
        std::string dims;
        for (int n : shape)
            dims += (dims.empty() ? "" : ",") + std::to_string(n);
        header += ",\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + dims +
                  "],\"data_offsets\":[" + std::to_string(bytes.size()) + "," +
                  std::to_string(bytes.size() + data.size()) + "]}";
        bytes += data;
    }
    void write(const char *path) {
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
};

/* Memory on the device. */
struct Buffer {
    void *at = nullptr;
    size_t size;
    explicit Buffer(size_t size) : size(size) {
        must(cudaMalloc(&at, size), "cudaMalloc");
    }
    explicit Buffer(const std::vector<uint16_t> &from) : Buffer(from.size() * 2) {
        must(cudaMemcpy(at, from.data(), size, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    Buffer(const Buffer &) = delete;
    ~Buffer() {
        cudaFree(at);
    }
    std::string load() const {
        std::string ret(size, '\0');
        must(cudaDeviceSynchronize(), "synchronise");
        must(cudaMemcpy(&ret[0], at, size, cudaMemcpyDeviceToHost), "cudaMemcpy");
        return ret;
    }
};

#endif
