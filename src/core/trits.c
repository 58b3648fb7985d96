/* Codes -1, 0, 1 in words of 16 bits. A word is a sequence of pairs of codes; the dictionary has
 * the 65536 likeliest ones. A beginning of a word is likelier than the word, so it is one too: the
 * dictionary is a tree, in which the longest word that a row begins with is a way down. */
#include "moeref/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 1 << 16, PAIRS = 14, KINDS = 9, BITS_OF_PAIR = 4 };

typedef struct node {
    uint64_t pairs; /* pair i at bit 4 i, 3 a + b of codes a - 1, b - 1 */
    uint8_t length, nonzeros;
    int32_t child[KINDS]; /* 0: none, as the root is nobody's child */
} node;

struct moe_trits {
    int32_t count; /* nodes; the root, the empty sequence, is 0 and no word */
    node node[WORDS + 1];
};

static int nonzeros_of(int pair) {
    return (pair / 3 != 1) + (pair % 3 != 1);
}

/* Adds all words of so many pairs and nonzeros, which are equally likely, as far as there is room:
 * words that lack one pair are there before them. */
static void add_words(moe_trits *d, int length, int nonzeros) {
    const int32_t before = d->count;
    for (int32_t i = 0; i < before; i++) {
        for (int pair = 0; pair < KINDS && d->node[i].length == length - 1; pair++) {
            const node *n = &d->node[i];
            if (n->nonzeros + nonzeros_of(pair) != nonzeros || d->count > WORDS)
                continue;
            d->node[i].child[pair] = d->count;
            d->node[d->count++] =
                (node){.pairs = n->pairs | (uint64_t)pair << BITS_OF_PAIR * (length - 1),
                       .length = (uint8_t)length,
                       .nonzeros = (uint8_t)nonzeros};
        }
    }
}

/* The likeliest kind of word that is not `done`; false: none is left. */
static bool likeliest(double zeros, const unsigned char done[][2 * PAIRS + 1], int *ret_length,
                      int *ret_nonzeros) {
    double best = -INFINITY;
    for (int length = 1; length <= PAIRS; length++) {
        for (int n = 0; n <= 2 * length; n++) {
            const double chance = (2 * length - n) * log(zeros) + n * log((1 - zeros) / 2);
            if (done[length][n] || chance <= best)
                continue;
            best = chance;
            *ret_length = length;
            *ret_nonzeros = n;
        }
    }
    return best > -INFINITY;
}

moe_status moe_trits_create(double zeros, const moe_log *log, moe_trits **ret) {
    unsigned char done[PAIRS + 1][2 * PAIRS + 1] = {0};
    int length = 0, nonzeros = 0;
    if (!(zeros > 0 && zeros < 1))
        return moe_fail(log, MOE_E_INVALID, "a share of zeros of %g is not between 0 and 1", zeros);
    moe_trits *d = calloc(1, sizeof *d);
    if (!d)
        return moe_fail(log, MOE_E_NOMEM, "no memory for a dictionary of codes");
    d->count = 1;
    /* Single pairs are words however unlikely, so that every row can be written. */
    for (length = 1; nonzeros <= 2; nonzeros++) {
        add_words(d, length, nonzeros);
        done[length][nonzeros] = 1;
    }
    while (d->count <= WORDS && likeliest(zeros, done, &length, &nonzeros)) {
        add_words(d, length, nonzeros);
        done[length][nonzeros] = 1;
    }
    *ret = d;
    return MOE_OK;
}

void moe_trits_destroy(moe_trits **dictionary) {
    free(*dictionary);
    *dictionary = NULL;
}

/* Code c of a row as 0 .. 2; beyond the row's end it is that of 0. */
static int digit(const unsigned char *row, int64_t columns, int64_t c) {
    return c < columns ? (int)(signed char)row[c] + 1 : 1;
}

int64_t moe_trits_pack(const moe_trits *d, const void *code, int64_t rows, int64_t columns,
                       int64_t *ret_offset, uint16_t *ret_word) {
    int64_t count = 0;
    for (int64_t r = 0; r < rows; r++) {
        const unsigned char *row = (const unsigned char *)code + r * columns;
        ret_offset[r] = count;
        for (int64_t c = 0; c < columns;) {
            int32_t at = 0, next;
            while (
                c < columns &&
                (next =
                     d->node[at].child[3 * digit(row, columns, c) + digit(row, columns, c + 1)]) !=
                    0) {
                at = next;
                c += 2;
            }
            ret_word[count++] = (uint16_t)(at - 1);
        }
    }
    ret_offset[rows] = count;
    return count;
}

void moe_trits_unpack(const moe_trits *d, const uint16_t *word, const int64_t *offset, int64_t rows,
                      int64_t columns, void *ret_code) {
    for (int64_t r = 0; r < rows; r++) {
        unsigned char *row = (unsigned char *)ret_code + r * columns;
        int64_t c = 0;
        for (int64_t w = offset[r]; w < offset[r + 1]; w++) {
            const node *n = &d->node[1 + word[w]];
            for (int i = 0; i < 2 * n->length && c < columns; i++) {
                const int pair = (int)(n->pairs >> BITS_OF_PAIR * (i / 2) & 15);
                row[c++] = (unsigned char)((i % 2 ? pair % 3 : pair / 3) - 1);
            }
        }
    }
}
