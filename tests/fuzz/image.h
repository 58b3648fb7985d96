/* Mutations of safetensors images: included by the targets that take one. */
#ifndef MOE_FUZZ_IMAGE_H
#define MOE_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* Most mutations change the header's size; a length that is wrong again and again would keep
 * the fuzzer from everything behind it. So most of the time it is set to end after the last
 * brace. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 0 || size < 10)
        return size;
    for (size_t i = size; i-- > 8;) {
        if (data[i] == '}') {
            uint64_t length = i + 1 - 8;
            memcpy(data, &length, 8);
            break;
        }
    }
    return size;
}

#endif
