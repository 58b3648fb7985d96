/* Measured tables: text, rows as JSON, or the kernels of a bench report. */
#include "sim/fit/table.h"
#include "core/file.h"
#include "core/jsonx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT (64u << 20)
static void *grow(void *at, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity)
        return at;
    void *grown = realloc(at, (*capacity ? 2 * *capacity : 64) * size);
    if (grown)
        *capacity = *capacity ? 2 * *capacity : 64;
    return grown;
}

static uint64_t shape_hash(int64_t n, int64_t k, int64_t d, int64_t E, int64_t K) {
    return (uint64_t)n * 1000003u ^ (uint64_t)k * 69061u ^ (uint64_t)d * 7919u ^
           (uint64_t)E * 104729u ^ (uint64_t)K;
}

moe_status moe_int_table_add_row(moe_table *table, const moe_int_row *row, const moe_log *log) {
    moe_int_row *rows = grow(table->rows, table->count, &table->capacity, sizeof *rows);
    if (!rows)
        return moe_fail(log, MOE_E_NOMEM, "a measured table: out of memory");
    table->rows = rows;
    rows += table->count++;
    *rows = *row;
    if (table->kind == MOE_TABLE_TRANSFERS)
        return MOE_OK;
    rows->shape = shape_hash(row->n, row->k, 0, 0, 0);
    if (table->kind == MOE_TABLE_GEMMS) {
        snprintf(rows->gemm, sizeof rows->gemm, "gemm m=%lld n=%lld k=%lld batch=%lld",
                 (long long)row->m, (long long)row->n, (long long)row->k, (long long)row->batch);
    } else {
        rows->layer = table->n_layers - 1;
        const moe_case *c = &table->layers[rows->layer].c;
        rows->m = c->T;
        rows->shape = shape_hash(c->layer.n, 0, c->layer.d, c->layer.E, c->layer.K);
    }
    return MOE_OK;
}

static void clear_layer(moe_table_layer *l) {
    free(l->line);
    free(l->counts);
    moe_case_destroy(&l->c);
}

moe_status moe_int_table_add_layer(moe_table *table, const char *line, const char *where,
                                   const moe_log *log) {
    moe_table_layer l = {.line = strdup(line)}, *layers;
    moe_status status = moe_case_parse(line, log, &l.c);
    if (status) {
        status = moe_fail(log, MOE_E_FORMAT, "%s: \"%.200s\" is no case", where, line);
    } else {
        l.counts = malloc((size_t)l.c.layer.E * sizeof *l.counts);
        layers = grow(table->layers, table->n_layers, &table->layers_capacity, sizeof *layers);
        if (layers)
            table->layers = layers;
        status = l.line && l.counts && layers ? moe_counts_draw(&l.c, log, l.counts)
                                              : moe_fail(log, MOE_E_NOMEM, "out of memory");
    }
    if (status)
        clear_layer(&l);
    else
        table->layers[table->n_layers++] = l;
    return status;
}

static moe_status read_json(const char *text, size_t size, const char *path, const char *where,
                            const moe_log *log, moe_table *table) {
    json_t *root;
    char *lines;
    moe_status status = moe_int_json_parse(text, size, path, log, &root);
    if (status)
        return status;
    const json_t *rows = json_object_get(root, "rows");
    if (!rows) {
        status = moe_int_table_read_bench(text, size, path, log, table);
    } else {
        status = moe_int_table_text_of(rows, path, log, &lines);
        if (!status) {
            status = moe_int_table_read_text(lines, path, where, true, log, table);
            free(lines);
        }
    }
    json_decref(root);
    return status;
}

static moe_status read_any(const char *text, size_t size, const char *path, const char *where,
                           const moe_log *log, moe_table *table) {
    if (strlen(text) != size)
        return moe_fail(log, MOE_E_FORMAT, "%s: a NUL byte stands in it", path);
    moe_status status = text[strspn(text, " \t\r\n")] == '{'
                            ? read_json(text, size, path, where, log, table)
                            : moe_int_table_read_text(text, path, where, false, log, table);
    if (!status && table->count == 0)
        status = moe_fail(log, MOE_E_FORMAT, "%s: no rows", path);
    return status;
}

moe_status moe_int_table_parse(const char *text, size_t size, const char *path, const char *where,
                               const moe_log *log, moe_table **ret) {
    moe_table *table = calloc(1, sizeof *table);
    moe_status status = table ? read_any(text, size, path, where, log, table)
                              : moe_fail(log, MOE_E_NOMEM, "%s: out of memory", path);
    if (status)
        moe_table_destroy(&table);
    else
        *ret = table;
    return status;
}

moe_status moe_table_load(const char *path, const moe_log *log, moe_table **ret) {
    return moe_table_load_where(path, NULL, log, ret);
}

moe_status moe_table_load_where(const char *path, const char *where, const moe_log *log,
                                moe_table **ret) {
    char *text;
    size_t size;
    moe_status status = moe_int_file_read(path, LIMIT, log, &text, &size);
    if (status)
        return status;
    status = moe_int_table_parse(text, size, path, where, log, ret);
    free(text);
    return status;
}

void moe_table_destroy(moe_table **table) {
    if (!table || !*table)
        return;
    for (size_t i = 0; i < (*table)->n_layers; i++)
        clear_layer(&(*table)->layers[i]);
    free((*table)->layers);
    free((*table)->rows);
    free(*table);
    *table = NULL;
}

size_t moe_table_rows(const moe_table *table) {
    return table->count;
}
