/* Any text as a Hugging Face config.json: refused, or a layer that passes its own check. */
#include "hf/hf.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    moe_int_hf_config config;
    moe_status status =
        moe_int_hf_config_parse((const char *)data, size, "fuzz/config.json", -1, NULL, &config);
    if (status == MOE_OK && moe_layer_desc_check(&config.layer, 1, NULL) != MOE_OK)
        abort();
    return 0;
}
