/* Any bytes as a safetensors image: refused, or every tensor readable to its last byte. */
#include "image.h"
#include "moeref/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
    if (!condition)
        abort();
}

/* Reads all bytes of a tensor, so that a sanitizer sees a view that leaves the image. */
static void read_tensor(const moe_tensor *tensor) {
    static volatile unsigned char sink;
    int64_t bytes = moe_tensor_bytes(tensor);
    require(bytes >= 0 && tensor->data);
    require((uintptr_t)tensor->data % moe_dtype_size(tensor->dtype) == 0);
    unsigned char sum = 0;
    for (int64_t i = 0; i < bytes; i++)
        sum ^= ((const unsigned char *)tensor->data)[i];
    sink = sum;
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    moe_safetensors *file = NULL;
    moe_status status = moe_safetensors_open_memory(data, size, "fuzz", NULL, &file);
    if (status != MOE_OK) {
        require(status == MOE_E_FORMAT && !file);
        return 0;
    }
    size_t count = moe_safetensors_count(file);
    for (size_t i = 0; i < count; i++) {
        moe_tensor tensor;
        const char *name = moe_safetensors_name(file, i);
        require(i == 0 || strcmp(moe_safetensors_name(file, i - 1), name) < 0);
        status = moe_safetensors_get(file, name, &tensor);
        require(status == MOE_OK || status == MOE_E_UNSUPPORTED);
        if (status == MOE_OK)
            read_tensor(&tensor);
    }
    require(!moe_safetensors_name(file, count));
    (void)moe_safetensors_metadata(file, "format");
    moe_safetensors_close(&file);
    return 0;
}
