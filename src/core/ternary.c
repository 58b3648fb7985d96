/* Ternary codes as words of 16 bits, QMoE's way: a word stands for a run of codes, and runs of
 * zeros, which most codes are, are long. */
#include "moeref/quant.h"

#include <math.h>
#include <stdlib.h>

/* Runs are 1 to 14 pairs of codes; pair p is codes p / 3 - 1 and p % 3 - 1. */
enum { WORDS = 65536, PAIRS = 14, KINDS = 9, NONZERO = 2 * PAIRS + 1 };

struct moe_ternary_words {
    /* Run 0 is the empty one, word w stands for run w + 1. next: the run with one pair more behind,
     * or 0; before: the run without its last pair. */
    int32_t next[WORDS + 1][KINDS], before[WORDS + 1];
    unsigned char last[WORDS + 1], pairs[WORDS + 1]; /* the last pair, and how many there are */
    int32_t count;
};

static int nonzero(int pair) {
    return (pair / 3 != 1) + (pair % 3 != 1);
}

/* Runs with so many pairs and nonzero codes: all are equally likely. */
typedef struct likeness {
    double chance; /* logarithm */
    int pairs, nonzero;
    double runs;
} likeness;

static int by_chance(const void *a, const void *b) {
    const likeness *x = a, *y = b;
    if (x->chance != y->chance)
        return x->chance > y->chance ? -1 : 1;
    return x->pairs != y->pairs ? x->pairs - y->pairs : x->nonzero - y->nonzero;
}

/* room[pairs][nonzero]: how many such runs are among the WORDS likeliest. */
static void choose_runs(double zeros, double room[PAIRS + 1][NONZERO]) {
    likeness all[PAIRS * NONZERO];
    double left = WORDS;
    int n = 0;
    for (int m = 1; m <= PAIRS; m++) {
        double runs = 1; /* (2m over k) 2^k */
        for (int k = 0; k <= 2 * m; k++) {
            const double chance = (2 * m - k) * log(zeros) + k * log((1 - zeros) / 2);
            all[n++] = (likeness){chance, m, k, runs};
            runs = runs * 2 * (2 * m - k) / (k + 1);
        }
    }
    qsort(all, (size_t)n, sizeof *all, by_chance);
    for (int i = 0; i < n; i++) {
        const double take = fmin(left, all[i].runs);
        room[all[i].pairs][all[i].nonzero] = take;
        left -= take;
    }
}

/* Runs in the order of their lengths: what a run begins with is likelier than the run, so it is
 * there before. */
static void fill(moe_ternary_words *w, double room[PAIRS + 1][NONZERO]) {
    unsigned char others[WORDS + 1] = {0};
    for (int32_t at = 0; at <= w->count; at++) {
        for (int p = 0; w->pairs[at] < PAIRS && p < KINDS; p++) {
            const int with = others[at] + nonzero(p);
            double *left = &room[w->pairs[at] + 1][with];
            if (*left < 1)
                continue;
            *left -= 1;
            const int32_t run = ++w->count;
            w->next[at][p] = run;
            w->before[run] = at;
            w->last[run] = (unsigned char)p;
            w->pairs[run] = (unsigned char)(w->pairs[at] + 1);
            others[run] = (unsigned char)with;
        }
    }
}

moe_status moe_ternary_words_make(double zeros, const moe_log *log, moe_ternary_words **ret) {
    double room[PAIRS + 1][NONZERO] = {{0}};
    if (!(zeros >= 0.34 && zeros <= 0.9999))
        return moe_fail(log, MOE_E_INVALID, "words for a share of zeros of %g: 0.34 to 0.9999 is",
                        zeros);
    moe_ternary_words *w = calloc(1, sizeof *w);
    if (!w)
        return moe_fail(log, MOE_E_NOMEM, "no memory for words of ternary codes");
    choose_runs(zeros, room);
    fill(w, room);
    *ret = w;
    return MOE_OK;
}

void moe_ternary_words_destroy(moe_ternary_words **w) {
    free(*w);
    *w = NULL;
}

/* Codes 2i and 2i+1 of a row; behind its end are zeros. */
static int pair_at(const int8_t *row, int64_t columns, int64_t i) {
    const int second = 2 * i + 1 < columns ? row[2 * i + 1] : 0;
    return 3 * (row[2 * i] + 1) + second + 1;
}

int64_t moe_ternary_pack(const moe_ternary_words *w, const int8_t *code, int64_t rows,
                         int64_t columns, uint16_t *ret_word, int64_t *ret_offset) {
    int64_t n = 0;
    for (int64_t r = 0; r < rows; r++) {
        int32_t run = 0;
        if (ret_offset)
            ret_offset[r] = n;
        for (int64_t i = 0; i < (columns + 1) / 2; i++) {
            const int p = pair_at(code + r * columns, columns, i);
            if (run && !w->next[run][p]) {
                if (ret_word)
                    ret_word[n] = (uint16_t)(run - 1);
                n++;
                run = 0;
            }
            run = w->next[run][p];
        }
        if (ret_word && run)
            ret_word[n] = (uint16_t)(run - 1);
        n += run != 0;
    }
    if (ret_offset)
        ret_offset[rows] = n;
    return n;
}

void moe_ternary_unpack(const moe_ternary_words *w, const uint16_t *word, int64_t count,
                        int64_t columns, int8_t *ret_code) {
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t end = at + 2 * (int64_t)w->pairs[word[i] + 1];
        for (int32_t run = word[i] + 1; run; run = w->before[run]) {
            const int64_t c = at + 2 * ((int64_t)w->pairs[run] - 1);
            if (c < columns)
                ret_code[c] = (int8_t)(w->last[run] / 3 - 1);
            if (c + 1 < columns)
                ret_code[c + 1] = (int8_t)(w->last[run] % 3 - 1);
        }
        at = end;
    }
}
