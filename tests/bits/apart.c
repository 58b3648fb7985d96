/* moeref-apart [--nearest | CASE...]: how many elements of a layer whose sums cancel have other
 * bits than Hopper's wgmma gives under each wrong arithmetic of the bank, in % of what is decided,
 * and so for products of 8-bit factors (product_data.h). --nearest: of layers only those that
 * differ least. Exit 1: in some it is less than half. */
#include "check/bits/bits.h"
#include "check/verdict/result.h"
#include "moeref/case.h"
#include "moeref/reference.h"
#include "product_data.h"
#include "reference/tensorcore/chain.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RIGHT "sm_90"
#define LAYER "T=448 d=320 n=328 E=1 K=1 route=uniform data=cancel seed=7 dtype="

enum { STAGES = 5, NOTHING = -1, LANES = MOE_INT_LANES };
static const char *const stages[STAGES] = {"H", "Y", "dXp", "dW1", "dW2"};
static const char *const usual[] = {LAYER "bf16", LAYER "fp16"};

static bool same_rule(const moe_int_dot_rule *a, const moe_int_dot_rule *b) {
    return a->terms == b->terms && a->kept == b->kept && a->out == b->out &&
           a->by_fp16 == b->by_fp16;
}

/* Those that differ least: two sums of 8 in a step, and what leaves most of a sum as it is. */
static bool is_near(const moe_arithmetic *how) {
    return strcmp(how->unit, "sm_80") == 0 ||
           (how->promote == 256 && strcmp(how->unit, RIGHT) == 0);
}

/* Wrong arithmetics of the bank that a format has. The caller frees. */
static moe_int_chain *wrong_ones(moe_int_format format, int *ret_count) {
    const moe_arithmetic *bank;
    const size_t known = moe_arithmetics(&bank);
    moe_int_chain *ret = calloc(known, sizeof *ret), right;
    moe_arithmetic how;
    must(ret ? MOE_OK : MOE_E_NOMEM, "bank");
    must(moe_arithmetic_parse(RIGHT, &how), RIGHT);
    must(moe_int_chain_make(&how, format, &right), RIGHT);
    *ret_count = 0;
    for (size_t i = 0; i < known; i++) {
        moe_int_chain c;
        if (moe_int_chain_make(&bank[i], format, &c))
            continue;
        moe_arithmetic plain = {.unit = ""};
        memcpy(plain.unit, bank[i].unit, sizeof plain.unit);
        if (memcmp(&plain, &bank[i], sizeof plain) == 0 &&
            same_rule(&c.unit->rule[format], &right.unit->rule[format]))
            continue; /* the right one, or another name of it */
        ret[(*ret_count)++] = c;
    }
    return ret;
}

/* A layer as the right arithmetic plays it. */
typedef struct played {
    moe_problem *p;
    moe_reference_result *res;
} played;

static played play(const char *line) {
    moe_case c;
    played ret = {NULL};
    moe_arithmetic how;
    must(moe_arithmetic_parse(RIGHT, &how), RIGHT);
    must(moe_case_parse(line, NULL, &c), line);
    must(moe_problem_from_case(&c, NULL, &ret.p), line);
    const moe_reference_params params = {.tokens = ret.p->T,
                                         .precision = ret.p->dtype,
                                         .threads = 2,
                                         .plan = ret.p->plan,
                                         .plan_given = ret.p->plan != NULL,
                                         .seed = ret.p->seed,
                                         .products = &how};
    must(moe_reference_run(&ret.p->layer, &ret.p->in, &params, NULL, &ret.res), line);
    moe_case_destroy(&c);
    return ret;
}

/* What check --bits takes. */
static const char *words_of(const moe_arithmetic *how, char *buf, size_t size) {
    int used = snprintf(buf, size, "%.15s", how->unit);
    const struct {
        const char *word;
        int32_t value;
    } numbers[] = {{"split", how->split},
                   {"warps", how->warps},
                   {"promote", how->promote},
                   {"block", how->block}};
    for (int i = 0; i < 4; i++)
        if (numbers[i].value)
            used += snprintf(buf + used, size - (size_t)used, "+%s=%d", numbers[i].word,
                             (int)numbers[i].value);
    if (how->order == MOE_K_DESCENDING)
        used += snprintf(buf + used, size - (size_t)used, "+descending");
    if (how->carry)
        snprintf(buf + used, size - (size_t)used, "+carry_bf16");
    return buf;
}

/* Shares in % of each stage's decided elements that `how` does not have. */
static void shares_of(const played *l, const moe_arithmetic *how, double *ret) {
    char words[128];
    moe_check_result *r = NULL;
    const moe_check_params params = {
        .threads = 2, .no_explanation = true, .bits = words_of(how, words, sizeof words)};
    const moe_int_subject subject = {.problem = l->p,
                                     .arithmetic = (moe_dtype)l->p->dtype,
                                     .got = l->res->out,
                                     .plan = l->res->plan};
    must(moe_int_result_create(l->p, "apart", "--backend apart", NULL, &r), "result");
    must(moe_int_bits(&subject, l->res->plan, &params, r), words);
    for (int s = 0; s < STAGES; s++) {
        ret[s] = NOTHING;
        for (int i = 0; i < r->bits.n_stages; i++) {
            const moe_bits_stage *g = &r->bits.stage[i];
            if (strcmp(g->name, stages[s]) == 0 && g->elements > g->undecided)
                ret[s] = 100.0 * (double)g->differ / (double)(g->elements - g->undecided);
        }
    }
    moe_check_result_destroy(&r);
}

/* Prints a row; the least of its shares. */
static double row(const moe_arithmetic *how, const double *shares, int count) {
    char name[96];
    double least = 100;
    printf("| %s |", moe_arithmetic_name(how, name, sizeof name));
    for (int i = 0; i < count; i++) {
        least = shares[i] < least ? shares[i] : least;
        printf(" %.1f |", shares[i]);
    }
    printf("\n");
    fflush(stdout);
    return least;
}

static double layer(const char *line, bool nearest) {
    const played l = play(line);
    const moe_int_format format = l.p->dtype == MOE_F16 ? MOE_INT_FORMAT_FP16 : MOE_INT_FORMAT_BF16;
    int count;
    moe_int_chain *all = wrong_ones(format, &count);
    double least = 100, shares[STAGES];
    printf("%s\n| arithmetic | H | Y | dX~ | dW1 | dW2 |\n|---|---|---|---|---|---|\n", line);
    for (int a = 0; a < count; a++) {
        if (nearest && !is_near(&all[a].how))
            continue;
        shares_of(&l, &all[a].how, shares);
        const double one = row(&all[a].how, shares, STAGES);
        least = one < least ? one : least;
    }
    free(all);
    moe_reference_result_destroy((moe_reference_result **)&l.res);
    moe_problem_destroy((moe_problem **)&l.p);
    return least;
}

/* Eight bits know few places: what tells is an accumulator whose size comes and goes. */
static uint8_t code_of(moe_int_format format, uint64_t place) {
    const int exponent = (int)(product_bits(2, place) % 8) - 4;
    return (uint8_t)product_code((int)format, product_bits(1, place), exponent);
}

/* 32 rows and columns of a product of 8-bit factors. */
static double bytes_of(moe_int_format format) {
    enum { SIZE = 32, K = 1024 };
    static uint8_t codes[2][SIZE * K];
    moe_int_packed p[2];
    moe_arithmetic how;
    moe_int_chain right;
    int count;
    double least = 100;
    moe_int_chain *all = wrong_ones(format, &count);
    must(moe_arithmetic_parse(RIGHT, &how), RIGHT);
    must(moe_int_chain_make(&how, format, &right), RIGHT);
    for (int side = 0; side < 2; side++) {
        const moe_int_operand from = {codes[side], K, 1, NULL, NULL, false};
        for (int i = 0; i < SIZE * K; i++)
            codes[side][i] = code_of(format, (uint64_t)(side * SIZE * K + i));
        must(moe_int_pack(&from, format,
                          MOE_INT_PACK_VALUES | (side ? MOE_INT_PACK_RIGHT : MOE_INT_PACK_LEFT), 0,
                          SIZE, K, &p[side]),
             "pack");
    }
    printf("%s, products of K = %d\n| arithmetic | sums |\n|---|---|\n",
           moe_int_layouts[format].name, K);
    for (int a = 0; a < count; a++) {
        float is[LANES], want[LANES];
        int differ = 0;
        for (int i = 0; i < SIZE * SIZE; i += LANES) {
            moe_int_chain_row(&right, &p[0], i / SIZE, &p[1], i % SIZE / LANES, want);
            moe_int_chain_row(&all[a], &p[0], i / SIZE, &p[1], i % SIZE / LANES, is);
            for (int l = 0; l < LANES; l++)
                differ += memcmp(&is[l], &want[l], sizeof *is) != 0;
        }
        const double share = 100.0 * differ / (SIZE * SIZE), one = row(&all[a].how, &share, 1);
        least = one < least ? one : least;
    }
    moe_int_packed_destroy(&p[0]);
    moe_int_packed_destroy(&p[1]);
    free(all);
    return least;
}

int main(int argc, char **argv) {
    double least = 100;
    const bool nearest = argc == 2 && strcmp(argv[1], "--nearest") == 0, all = argc == 1 || nearest;
    const int cases = all ? (int)(sizeof usual / sizeof *usual) : argc - 1;
    for (int i = 0; i < cases; i++) {
        const double one = layer(all ? usual[i] : argv[i + 1], nearest);
        least = one < least ? one : least;
    }
    for (int format = MOE_INT_FORMAT_E4M3; all && format < MOE_INT_FORMATS; format++) {
        const double one = bytes_of((moe_int_format)format);
        least = one < least ? one : least;
    }
    printf("the least: %.1f %%\n", least);
    return least < 50;
}
