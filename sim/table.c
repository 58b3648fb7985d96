/* Reads measured tables: tab-separated text with a header line. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "layer/number.h"

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
    const char *path;
    const moe_log *log;
    int line;
    column columns[COLUMNS_MAX];
    int n_columns;
} reader;

/* GEMM tables say m, n, k; layer tables T, d, n, K, E. */
static column name_column(moe_int_word w, int layers) {
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

/* The next field of the line at *at, which moves behind it; 0 at the end of the line. */
static int next_field(const char **at, moe_int_word *ret) {
    if (!*at)
        return 0;
    const size_t length = strcspn(*at, "\t\r\n");
    *ret = (moe_int_word){*at, length};
    *at = (*at)[length] == '\t' ? *at + length + 1 : NULL;
    return 1;
}

static moe_status read_header(reader *r, const char *line, int *ret_layers) {
    moe_int_word w;
    unsigned seen = 0;
    const char *at = line;
    const size_t length = strcspn(line, "\r\n");
    *ret_layers = length >= 7 && memcmp(line, "kernel\t", 7) == 0;
    while (next_field(&at, &w)) {
        if (r->n_columns == COLUMNS_MAX)
            return moe_fail(r->log, MOE_E_FORMAT, "%s: more than %d columns", r->path, COLUMNS_MAX);
        r->columns[r->n_columns] = name_column(w, *ret_layers);
        seen |= 1u << r->columns[r->n_columns++];
    }
    const unsigned need = *ret_layers ? 1u << KERNEL | 1u << TOKENS | 1u << D | 1u << WIDTH |
                                            1u << TOPK | 1u << EXPERTS | 1u << US
                                      : 1u << M | 1u << N | 1u << KDEPTH | 1u << US;
    if ((seen & need) != need)
        return moe_fail(r->log, MOE_E_FORMAT,
                        "%s: the header must name m, n, k, median_us or kernel, T, d, n, K, E, "
                        "median_us",
                        r->path);
    return MOE_OK;
}

static int64_t *size_slot(moe_row *row, column c) {
    switch (c) {
    case M:
    case TOKENS:
        return &row->m;
    case N:
    case WIDTH:
        return &row->n;
    case KDEPTH:
        return &row->k;
    case D:
        return &row->d;
    case TOPK:
        return &row->K;
    case EXPERTS:
        return &row->E;
    case BATCH:
        return &row->batch;
    default:
        return NULL;
    }
}

static int read_name(moe_int_word w, const char *const *names, int32_t count, int32_t *ret) {
    for (int32_t i = 0; i < count; i++) {
        if (strlen(names[i]) == w.length && memcmp(names[i], w.text, w.length) == 0) {
            *ret = i;
            return 1;
        }
    }
    return 0;
}

static int read_field(column c, moe_int_word w, moe_row *row) {
    static const char *const passes[] = {"default", "fwd", "bwd", "both"}; /* moe_pass */
    static const char *const routes[] = {"balanced", "uniform"};
    uint64_t value;
    if (c == IGNORED)
        return 1;
    if (c == US)
        return moe_int_parse_real(w, &row->us) == MOE_OK && row->us > 0;
    if (c == PASS)
        return read_name(w, passes, 4, &row->pass);
    if (c == ROUTE)
        return read_name(w, routes, 2, &row->uniform);
    if (c == KERNEL) {
        if (w.length >= sizeof row->kernel)
            return 0;
        memcpy(row->kernel, w.text, w.length);
        return 1;
    }
    if (moe_int_parse_uint(w, INT64_C(1) << 31, &value) != MOE_OK || value == 0)
        return 0;
    *size_slot(row, c) = (int64_t)value;
    return 1;
}

static moe_status read_row(const reader *r, const char *line, moe_row *ret) {
    moe_row row = {.batch = 1, .pass = MOE_PASS_FWD};
    moe_int_word w;
    const char *at = line;
    int i = 0;
    for (; next_field(&at, &w); i++) {
        if (i >= r->n_columns || !read_field(r->columns[i], w, &row))
            return moe_fail(r->log, MOE_E_FORMAT, "%s:%d: column %d cannot be \"%.*s\"", r->path,
                            r->line, i + 1, (int)(w.length < 40 ? w.length : 40), w.text);
    }
    if (i != r->n_columns)
        return moe_fail(r->log, MOE_E_FORMAT, "%s:%d: %d columns where the header has %d", r->path,
                        r->line, i, r->n_columns);
    row.shape = (uint64_t)row.n * 1000003u ^ (uint64_t)row.k * 69061u ^ (uint64_t)row.d * 7919u ^
                (uint64_t)row.E * 104729u ^ (uint64_t)row.K;
    *ret = row;
    return MOE_OK;
}

static moe_status read_rows(reader *r, const char *text, moe_table *table) {
    size_t capacity = 0;
    moe_status st = read_header(r, text, &table->layers);
    for (const char *line = strchr(text, '\n'); !st && line; line = strchr(line, '\n')) {
        line++;
        r->line++;
        if (*line == '\0' || *line == '\n')
            continue;
        if (table->count == capacity) {
            capacity = capacity ? 2 * capacity : 256;
            moe_row *grown = realloc(table->rows, capacity * sizeof *grown);
            if (!grown)
                return moe_fail(r->log, MOE_E_NOMEM, "%s: out of memory", r->path);
            table->rows = grown;
        }
        st = read_row(r, line, &table->rows[table->count]);
        table->count += st == MOE_OK;
    }
    if (!st && table->count == 0)
        st = moe_fail(r->log, MOE_E_FORMAT, "%s: no rows", r->path);
    return st;
}

moe_status moe_table_load(const char *path, const moe_log *log, moe_table **ret) {
    reader r = {.path = path, .log = log, .line = 1};
    char *text;
    size_t size;
    moe_status st = moe_int_file_read(path, LIMIT, log, &text, &size);
    if (st)
        return st;
    moe_table *table = calloc(1, sizeof *table);
    st = table ? read_rows(&r, text, table) : moe_fail(log, MOE_E_NOMEM, "%s: out of memory", path);
    free(text);
    if (st)
        moe_table_destroy(&table);
    else
        *ret = table;
    return st;
}

void moe_table_destroy(moe_table **table) {
    if (!table || !*table)
        return;
    free((*table)->rows);
    free(*table);
    *table = NULL;
}

size_t moe_table_rows(const moe_table *table) {
    return table->count;
}
