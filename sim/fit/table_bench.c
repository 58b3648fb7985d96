/* Reads measured kernels and passes from a report of `moeref bench --output json`. */
#include "core/jsonx.h"
#include "sim/fit/table.h"

#include <stdio.h>
#include <string.h>

static moe_status read_time(const json_t *time, bool is_pass, const char *where, const moe_log *log,
                            moe_table *table) {
    const moe_int_json at = moe_int_json_root(time, where, log);
    const char *name;
    moe_int_row row = {.batch = 1, .is_pass = is_pass};
    moe_status status = moe_int_json_str(&at, "name", MOE_INT_JSON_REQUIRED, &name);
    if (!status)
        status = moe_int_json_f64(&at, "measured_us", MOE_INT_JSON_REQUIRED, &row.us);
    if (status)
        return status;
    if (!(row.us > 0) || strlen(name) >= sizeof row.kernel)
        return moe_fail(log, MOE_E_FORMAT, "%s: %s \"%.64s\" cannot have taken %g us", where,
                        is_pass ? "pass" : "kernel", name, row.us);
    strcpy(row.kernel, name);
    return moe_int_table_add_row(table, &row, log);
}

static moe_status read_entry(const json_t *entry, const char *where, const moe_log *log,
                             moe_table *table) {
    const moe_int_json at = moe_int_json_root(entry, where, log);
    const char *line;
    const json_t *kernels, *passes = NULL;
    moe_status status = moe_int_json_str(&at, "case", MOE_INT_JSON_REQUIRED, &line);
    if (!status)
        status = moe_int_json_array(&at, "kernels", MOE_INT_JSON_REQUIRED, &kernels);
    if (!status)
        status = moe_int_json_array(&at, "passes", MOE_INT_JSON_OPTIONAL, &passes);
    if (status)
        return status;
    if (!strchr(line, '=')) {
        moe_log_send(log, MOE_LOG_WARN, "%s: %s is no case line and is skipped", where, line);
        return MOE_OK;
    }
    status = moe_int_table_add_layer(table, line, where, log);
    for (size_t i = 0; !status && i < json_array_size(kernels); i++)
        status = read_time(json_array_get(kernels, i), false, where, log, table);
    for (size_t i = 0; !status && i < json_array_size(passes); i++)
        status = read_time(json_array_get(passes, i), true, where, log, table);
    return status;
}

moe_status moe_int_table_read_bench(const char *text, size_t size, const char *path,
                                    const moe_log *log, moe_table *table) {
    char where[512];
    const json_t *entries;
    json_t *root;
    moe_status status = moe_int_json_parse(text, size, path, log, &root);
    if (status)
        return status;
    const moe_int_json at = moe_int_json_root(root, path, log);
    table->kind = MOE_TABLE_KERNELS;
    status = moe_int_json_array(&at, "bench", MOE_INT_JSON_REQUIRED, &entries);
    for (size_t i = 0; !status && i < json_array_size(entries); i++) {
        snprintf(where, sizeof where, "%.400s: bench[%zu]", path, i);
        status = read_entry(json_array_get(entries, i), where, log, table);
    }
    json_decref(root);
    return status;
}
