/* moeref-explain draw FILE NAME...: factors of products that cancel (product_data.h), tensors
 * NAME.left [M][K] and NAME.right [N][K], their codes as the type's or as bytes.
 * moeref-explain [--as ARITHMETIC | --not ARITHMETIC | --named] FILE: of each tensor
 * FORMAT_MxNxK/LABEL, sums of such a product as somebody's kernel made them, the arithmetic that
 * explains all of its elements, or the nearest one; or how many elements the one that is named has,
 * or that the LABEL has after its last slash. Exit 1: not all tensors are explained, or one that
 * should not be is. */
#include "core/convert.h"
#include "moeref/safetensors.h"
#include "product_data.h"
#include "reference/tensorcore/chain.h"
#include "tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = MOE_INT_LANES, MOST_ARITHMETICS = 1024 };

/* A record's name: what was multiplied. */
typedef struct product {
    int format;
    int64_t M, N, K;
} product;

static bool parse_name(const char *name, product *ret) {
    char format[8];
    long long m, n, k;
    if (sscanf(name, "%7[^_]_%lldx%lldx%lld", format, &m, &n, &k) != 4)
        return false;
    for (int f = 0; f < MOE_INT_FORMATS; f++)
        if (strcmp(format, product_formats[f].name) == 0) {
            *ret = (product){f, m, n, k};
            return true;
        }
    return false;
}

/* Rows first, first + step ... of an operand, codes of 1 or 2 bytes. */
static void *draw(const product *p, int seed, int64_t first, int64_t step, int64_t rows) {
    const bool wide = product_formats[p->format].bits == 16;
    uint8_t *bytes = malloc((size_t)(rows * p->K) * 2 + 1);
    uint16_t *words = (uint16_t *)bytes;
    must(bytes ? MOE_OK : MOE_E_NOMEM, "codes");
    for (int64_t i = 0; i < rows * p->K; i++) {
        const uint16_t code = product_element(p->format, (uint64_t)seed, first + i / p->K * step,
                                              i % p->K, p->K, seed == PRODUCT_RIGHT);
        if (wide)
            words[i] = code;
        else
            bytes[i] = (uint8_t)code;
    }
    return bytes;
}

static int draw_all(const char *path, int count, char **names) {
    static const moe_dtype types[MOE_INT_FORMATS] = {MOE_BF16, MOE_F16, MOE_U8, MOE_U8};
    moe_named_tensor *all = calloc((size_t)count * 2, sizeof *all);
    must(all ? MOE_OK : MOE_E_NOMEM, "tensors");
    for (int i = 0; i < 2 * count; i++) {
        const bool is_right = i % 2;
        product p;
        char *name = malloc(64);
        must(name && parse_name(names[i / 2], &p) ? MOE_OK : MOE_E_INVALID, names[i / 2]);
        snprintf(name, 64, "%s.%s", names[i / 2], is_right ? "right" : "left");
        const int64_t rows = is_right ? p.N : p.M;
        all[i] = (moe_named_tensor){name, {.dtype = types[p.format], .ndim = 2}};
        all[i].tensor.shape[0] = rows;
        all[i].tensor.shape[1] = p.K;
        all[i].tensor.data = draw(&p, is_right ? PRODUCT_RIGHT : PRODUCT_LEFT, 0, 1, rows);
    }
    must(moe_safetensors_write(path, all, (size_t)count * 2, NULL, 0, &log_to_stderr), path);
    for (int i = 0; i < 2 * count; i++) {
        free((char *)all[i].name);
        free(all[i].tensor.data);
    }
    free(all);
    return 0;
}

/* Arithmetics that a format has: the one that is named, or the bank and every number of parts. */
static int candidates(moe_int_format format, const char *as, moe_int_chain *ret) {
    const moe_arithmetic *bank;
    const size_t known = moe_arithmetics(&bank);
    moe_arithmetic how;
    int count = 0;
    if (as) {
        must(moe_arithmetic_parse(as, &how), as);
        must(moe_int_chain_make(&how, format, ret), as);
        return 1;
    }
    for (size_t i = 0; i < known; i++)
        count += moe_int_chain_make(&bank[i], format, &ret[count]) == MOE_OK;
    for (int split = 2; split <= 32; split++)
        for (int block = 0; block <= 128; block = block ? 2 * block : 32) {
            char text[64];
            snprintf(text, sizeof text, "sm_90+split=%d+block=%d", split, block);
            if (moe_arithmetic_parse(text, &how) == MOE_OK)
                count += moe_int_chain_make(&how, format, &ret[count]) == MOE_OK;
        }
    return count;
}

/* Elements of `got` that are what a chain makes of rows and columns. */
static int64_t equal_of(const moe_int_chain *chain, const moe_int_packed *left,
                        const moe_int_packed *right, const moe_tensor *got) {
    const int64_t columns = got->shape[got->ndim - 1];
    float sum[LANES];
    int64_t equal = 0;
    for (int64_t i = 0; i < left->count; i++)
        for (int64_t j = 0; j < columns; j++) {
            if (j % LANES == 0)
                moe_int_chain_row(chain, left, i, right, j / LANES, sum);
            const float is = (float)moe_load(got->data, got->dtype, (size_t)(i * columns + j));
            const float want = (float)moe_round_to(sum[j % LANES], got->dtype);
            equal += moe_int_f32_bits(is) == moe_int_f32_bits(want);
        }
    return equal;
}

/* Rows of the left operand that a tensor [rows][columns], or whole [batch][M][N], has. */
static void pack(const product *p, const moe_tensor *got, int64_t batch, moe_int_packed *left,
                 moe_int_packed *right) {
    const int64_t rows = got->shape[got->ndim - 2], columns = got->shape[got->ndim - 1];
    const int64_t step = got->ndim == 2 ? product_row_step(p->M) : 1;
    void *a = draw(p, PRODUCT_LEFT, batch * p->M, step, rows);
    void *b = draw(p, PRODUCT_RIGHT, batch * p->N, 1, columns);
    const moe_int_operand from_a = {a, p->K, 1, NULL, NULL, false},
                          from_b = {b, p->K, 1, NULL, NULL, false};
    must(moe_int_pack(&from_a, (moe_int_format)p->format, MOE_INT_PACK_VALUES, 0, rows, p->K, left),
         "pack");
    must(moe_int_pack(&from_b, (moe_int_format)p->format, MOE_INT_PACK_RIGHT | MOE_INT_PACK_VALUES,
                      0, columns, p->K, right),
         "pack");
    free(a);
    free(b);
}

/* true: one arithmetic has all elements. */
static bool explain(const char *name, const product *p, const moe_tensor *got, const char *as) {
    static moe_int_chain chains[MOST_ARITHMETICS];
    static int64_t equal[MOST_ARITHMETICS];
    const int count = candidates((moe_int_format)p->format, as, chains);
    const int64_t batches = got->ndim == 3 ? got->shape[0] : 1, all = moe_tensor_count(got);
    int best = 0, whole = 0;
    char text[96];
    memset(equal, 0, sizeof equal);
    for (int64_t b = 0; b < batches; b++) {
        moe_int_packed left = {0}, right = {0};
        moe_tensor one = *got;
        const int64_t size = all / batches;
        one.data = (char *)got->data + (size_t)(b * size) * moe_dtype_size(got->dtype);
        pack(p, got, b, &left, &right);
        for (int a = 0; a < count; a++)
            equal[a] += equal_of(&chains[a], &left, &right, &one);
        moe_int_packed_destroy(&left);
        moe_int_packed_destroy(&right);
    }
    for (int a = 0; a < count; a++) {
        whole += equal[a] == all;
        best = equal[a] > equal[best] ? a : best;
    }
    moe_arithmetic_name(&chains[best].how, text, sizeof text);
    printf("%s: %s%s, %lld of %lld", name, whole ? "" : "none; the nearest, ", text,
           (long long)equal[best], (long long)all);
    printf(whole > 1 ? " (%d explain it)\n" : "\n", whole);
    return whole > 0;
}

/* How tensors are to be explained. */
typedef enum mode { BY_ANY, BY_ONE, NOT_BY_ONE, BY_ITS_NAME } mode;

static int explain_file(const char *path, mode how, const char *one) {
    moe_safetensors *file = NULL;
    int wrong = 0, count = 0;
    must(moe_safetensors_open(path, &log_to_stderr, &file), path);
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        const char *name = moe_safetensors_name(file, i), *last = strrchr(name, '/');
        moe_tensor got;
        product p;
        if (!parse_name(name, &p) || moe_safetensors_get(file, name, &got) != MOE_OK ||
            got.dtype == MOE_I32)
            continue;
        must(how != BY_ITS_NAME || last ? MOE_OK : MOE_E_FORMAT, name);
        wrong +=
            explain(name, &p, &got, how == BY_ITS_NAME ? last + 1 : one) == (how == NOT_BY_ONE);
        count++;
    }
    moe_safetensors_close(&file);
    must(count > 0 ? MOE_OK : MOE_E_FORMAT, path);
    return wrong > 0;
}

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "draw") == 0)
        return draw_all(argv[2], argc - 3, argv + 3);
    if (argc == 4 && strcmp(argv[1], "--as") == 0)
        return explain_file(argv[3], BY_ONE, argv[2]);
    if (argc == 4 && strcmp(argv[1], "--not") == 0)
        return explain_file(argv[3], NOT_BY_ONE, argv[2]);
    if (argc == 3 && strcmp(argv[1], "--named") == 0)
        return explain_file(argv[2], BY_ITS_NAME, NULL);
    if (argc == 2)
        return explain_file(argv[1], BY_ANY, NULL);
    fprintf(stderr, "usage: moeref-explain [--as ARITHMETIC | --not ARITHMETIC | --named] FILE\n"
                    "       moeref-explain draw FILE NAME...\n");
    return 2;
}
