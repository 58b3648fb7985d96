/* Measured tables: text with a header line, in tabs or commas, rows as JSON, or the kernels of a
 * bench report. sim/README.md has the columns. */
#include "sim/fit/table.h"
#include "core/file.h"
#include "core/jsonx.h"
#include "layer/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT       (64u << 20)
#define COLUMNS_MAX 32

typedef enum column {
    IGNORED,
    KERNEL,
    M,
    N,
    KDEPTH,
    TOKENS,
    D,
    WIDTH,
    TOPK,
    EXPERTS,
    BATCH,
    PASS,
    ROUTE,
    US
} column;

typedef struct reader {
    const char *path, *where;
    const moe_log *log;
    int line;
    char separator;
    column columns[COLUMNS_MAX];
    int n_columns;
} reader;

/* The fields of one line. A layer's become a case. */
typedef struct fields {
    moe_int_row row;
    int64_t d, E, K;
    int32_t pass, uniform;
} fields;

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

/* GEMM tables say m, n, k; layer tables T, d, n, K, E. */
static column name_column(moe_int_word w, bool layers) {
    static const struct {
        const char *name;
        column gemm, layer;
    } names[] = {{"kernel", IGNORED, KERNEL}, {"m", M, IGNORED},       {"n", N, WIDTH},
                 {"k", KDEPTH, IGNORED},      {"T", IGNORED, TOKENS},  {"d", IGNORED, D},
                 {"K", IGNORED, TOPK},        {"E", IGNORED, EXPERTS}, {"median_us", US, US},
                 {"batch", BATCH, IGNORED},   {"pass", IGNORED, PASS}, {"route", IGNORED, ROUTE}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].name) == w.length && memcmp(names[i].name, w.text, w.length) == 0)
            return layers ? names[i].layer : names[i].gemm;
    }
    return IGNORED;
}

/* The next field of the line at *at, which moves behind it; false at the end of the line. */
static bool next_field(const reader *r, const char **at, moe_int_word *ret) {
    const char ends[] = {r->separator, '\r', '\n', 0};
    if (!*at)
        return false;
    const size_t length = strcspn(*at, ends);
    *ret = (moe_int_word){*at, length};
    *at = (*at)[length] == r->separator ? *at + length + 1 : NULL;
    return true;
}

static moe_status read_header(reader *r, const char *line, moe_int_table_kind *ret) {
    moe_int_word w;
    unsigned seen = 0;
    const char *at = line;
    const size_t length = strcspn(line, "\r\n");
    r->separator = memchr(line, '\t', length) ? '\t' : ',';
    const bool layers = length >= 7 && memcmp(line, "kernel", 6) == 0 && line[6] == r->separator;
    while (next_field(r, &at, &w)) {
        if (r->n_columns == COLUMNS_MAX)
            return moe_fail(r->log, MOE_E_FORMAT, "%s: more than %d columns", r->path, COLUMNS_MAX);
        const column c = name_column(w, layers);
        if (c != IGNORED && seen >> c & 1)
            return moe_fail(r->log, MOE_E_FORMAT, "%s: the header names \"%.*s\" twice", r->path,
                            (int)w.length, w.text);
        r->columns[r->n_columns++] = c;
        seen |= 1u << c;
    }
    const unsigned need = layers ? 1u << KERNEL | 1u << TOKENS | 1u << D | 1u << WIDTH |
                                       1u << TOPK | 1u << EXPERTS | 1u << US
                                 : 1u << M | 1u << N | 1u << KDEPTH | 1u << US;
    if ((seen & need) != need)
        return moe_fail(r->log, MOE_E_FORMAT,
                        "%s: the header must name m, n, k, median_us or kernel, T, d, n, K, E, "
                        "median_us",
                        r->path);
    *ret = layers ? MOE_TABLE_LAYERS : MOE_TABLE_GEMMS;
    return MOE_OK;
}

static int64_t *size_slot(fields *f, column c) {
    switch ((int)c) {
    case M:
    case TOKENS:
        return &f->row.m;
    case N:
    case WIDTH:
        return &f->row.n;
    case KDEPTH:
        return &f->row.k;
    case D:
        return &f->d;
    case TOPK:
        return &f->K;
    case EXPERTS:
        return &f->E;
    case BATCH:
        return &f->row.batch;
    default:
        return NULL;
    }
}

/* names[0] is `first` in numbers. */
static bool read_name(moe_int_word w, const char *const *names, int32_t count, int32_t first,
                      int32_t *ret) {
    for (int32_t i = 0; i < count; i++) {
        if (strlen(names[i]) == w.length && memcmp(names[i], w.text, w.length) == 0) {
            *ret = first + i;
            return true;
        }
    }
    return false;
}

static const char *const passes[] = {"fwd", "bwd", "both"}; /* from MOE_PASS_FWD on */
static const char *const routes[] = {"balanced", "uniform"};

static bool read_field(column c, moe_int_word w, fields *f) {
    uint64_t value;
    if (c == IGNORED)
        return true;
    if (c == US)
        return moe_int_parse_real(w, &f->row.us) == MOE_OK && f->row.us > 0;
    if (c == PASS)
        return read_name(w, passes, 3, MOE_PASS_FWD, &f->pass);
    if (c == ROUTE)
        return read_name(w, routes, 2, 0, &f->uniform);
    if (c == KERNEL) {
        if (w.length >= sizeof f->row.kernel)
            return false;
        memcpy(f->row.kernel, w.text, w.length);
        return true;
    }
    if (moe_int_parse_uint(w, INT64_C(1) << 31, &value) != MOE_OK || value == 0)
        return false;
    *size_slot(f, c) = (int64_t)value;
    return true;
}

static moe_status add_fields(const reader *r, const fields *f, moe_table *table) {
    char line[256], where[512];
    if (table->kind == MOE_TABLE_GEMMS)
        return moe_int_table_add_row(table, &f->row, r->log);
    snprintf(line, sizeof line, "T=%lld d=%lld n=%lld E=%lld K=%lld route=%s pass=%s",
             (long long)f->row.m, (long long)f->d, (long long)f->row.n, (long long)f->E,
             (long long)f->K, routes[f->uniform], passes[f->pass - MOE_PASS_FWD]);
    snprintf(where, sizeof where, "%.400s:%d", r->path, r->line);
    moe_status status = moe_int_table_add_layer(table, line, where, r->log);
    return status ? status : moe_int_table_add_row(table, &f->row, r->log);
}

/* What a column of names may say. */
static const char *choices(column c) {
    return c == PASS ? ": fwd, bwd or both" : c == ROUTE ? ": balanced or uniform" : "";
}

static moe_status read_row(const reader *r, const char *line, moe_table *table) {
    fields f = {.row.batch = 1, .pass = MOE_PASS_FWD};
    moe_int_word w;
    const char *at = line;
    int i = 0;
    for (; next_field(r, &at, &w); i++) {
        if (i >= r->n_columns || !read_field(r->columns[i], w, &f))
            return moe_fail(r->log, MOE_E_FORMAT, "%s:%d: column %d cannot be \"%.*s\"%s", r->path,
                            r->line, i + 1, (int)(w.length < 40 ? w.length : 40), w.text,
                            i < r->n_columns ? choices(r->columns[i]) : "");
    }
    if (i != r->n_columns)
        return moe_fail(r->log, MOE_E_FORMAT, "%s:%d: %d columns where the header has %d", r->path,
                        r->line, i, r->n_columns);
    return add_fields(r, &f, table);
}

static moe_status read_transfer(const reader *r, const char *header, const char *line,
                                moe_table *table) {
    moe_int_measured found[MOE_INT_MEASURED_MAX] = {0};
    int count;
    if (!moe_int_read_transfers(header, line, r->where, found, &count))
        return moe_fail(r->log, MOE_E_FORMAT,
                        "%s:%d: a number is missing, negative or none, or the op is unknown",
                        r->path, r->line);
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < count; i++) {
        moe_int_row row = {.us = found[i].us,
                           .moved = found[i].moved,
                           .m = found[i].size,
                           .shape = found[i].shape};
        strcpy(row.kernel, found[i].kernel);
        snprintf(row.gemm, sizeof row.gemm, "%.30s size=%lld", found[i].kernel,
                 (long long)found[i].size);
        status = moe_int_table_add_row(table, &row, r->log);
    }
    return status;
}

/* Comments stand before the header. */
static const char *skip_comments(reader *r, const char *text) {
    while (*text == '#' && strchr(text, '\n')) {
        text = strchr(text, '\n') + 1;
        r->line++;
    }
    return text;
}

static moe_status read_rows(reader *r, const char *text, moe_table *table) {
    text = skip_comments(r, text);
    const bool moved = moe_int_is_transfers(text);
    moe_status status = MOE_OK;
    if (moved)
        table->kind = MOE_TABLE_TRANSFERS;
    else
        status = read_header(r, text, &table->kind);
    for (const char *line = strchr(text, '\n'); !status && line; line = strchr(line, '\n')) {
        line++;
        r->line++;
        if (!strchr("\r\n", *line))
            status = moved ? read_transfer(r, text, line, table) : read_row(r, line, table);
    }
    return status;
}

static moe_status read_json(reader *r, const char *text, size_t size, moe_table *table) {
    json_t *root;
    char *lines;
    moe_status status = moe_int_json_parse(text, size, r->path, r->log, &root);
    if (status)
        return status;
    const json_t *rows = json_object_get(root, "rows");
    if (!rows) {
        status = moe_int_table_read_bench(text, size, r->path, r->log, table);
    } else {
        status = moe_int_table_text_of(rows, r->path, r->log, &lines);
        if (!status) {
            status = read_rows(r, lines, table);
            free(lines);
        }
    }
    json_decref(root);
    return status;
}

static moe_status read_text(const char *text, size_t size, const char *path, const char *where,
                            const moe_log *log, moe_table *table) {
    reader r = {.path = path, .where = where, .log = log, .line = 1};
    if (strlen(text) != size)
        return moe_fail(log, MOE_E_FORMAT, "%s: a NUL byte stands in it", path);
    moe_status status = text[strspn(text, " \t\r\n")] == '{' ? read_json(&r, text, size, table)
                                                             : read_rows(&r, text, table);
    if (!status && table->count == 0)
        status = moe_fail(log, MOE_E_FORMAT, "%s: no rows", path);
    return status;
}

moe_status moe_int_table_parse(const char *text, size_t size, const char *path, const char *where,
                               const moe_log *log, moe_table **ret) {
    moe_table *table = calloc(1, sizeof *table);
    moe_status status = table ? read_text(text, size, path, where, log, table)
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
