/* Any text as a measured table: refused, or rows that have a prediction or a reason for none. */
#include "sim/fit/table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static moe_gpu *gpu;
    const moe_fit_params params = {.method = "moeref"};
    moe_table *table = NULL;
    moe_row_error e;
    if (!gpu && moe_gpu_load("h100-sxm", NULL, &gpu))
        abort();
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (moe_int_table_parse(text, size, "fuzz", "ranks=8", NULL, &table) == MOE_OK) {
        if (moe_table_rows(table) == 0)
            abort();
        for (size_t i = 0; i < moe_table_rows(table) && i < 3; i++) {
            if (moe_table_predict(table, i, gpu, &params, NULL, &e) == MOE_OK &&
                !(e.predicted_us > 0 && e.measured_us > 0))
                abort();
        }
    }
    moe_table_destroy(&table);
    free(text);
    return 0;
}
