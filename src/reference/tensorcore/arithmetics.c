/* The bank of arithmetics and their names. A new one is a row. */
#include "reference/tensorcore/chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const moe_arithmetic bank[] = {
    {.unit = "sm_90"},
    {.unit = "sm_90.mma"},
    {.unit = "sm_80"},
    {.unit = "sm_89"},
    {.unit = "sm_100"},
    {.unit = "sm_90.tf32"},
    {.unit = "sm_80.tf32"},
    {.unit = "fp32"},
    {.unit = "sm_90", .order = MOE_K_DESCENDING},
    {.unit = "sm_90", .split = 2},
    {.unit = "sm_90", .split = 3},
    {.unit = "sm_90", .split = 4},
    {.unit = "sm_90", .split = 8},
    {.unit = "sm_90", .split = 16},
    {.unit = "sm_90", .split = 2, .block = 64}, /* cuBLAS's */
    {.unit = "sm_90", .split = 3, .block = 64},
    {.unit = "sm_90", .split = 4, .block = 64},
    {.unit = "sm_90", .split = 5, .block = 64},
    {.unit = "sm_90", .split = 8, .block = 64},
    {.unit = "sm_90", .split = 12, .block = 64},
    {.unit = "sm_90", .warps = 2},
    {.unit = "sm_90", .warps = 4},
    {.unit = "sm_90", .warps = 2, .block = 32},
    {.unit = "sm_90", .warps = 2, .block = 64},
    {.unit = "sm_90", .warps = 4, .block = 64},
    {.unit = "sm_90", .promote = 32},
    {.unit = "sm_90", .promote = 64},
    {.unit = "sm_90", .promote = 128},
    {.unit = "sm_90", .promote = 256},
    {.unit = "sm_90", .block = 64, .carry = MOE_BF16},
    {.unit = "fp32", .order = MOE_K_DESCENDING},
    {.unit = "fp32", .split = 2},
    {.unit = "fp32", .split = 4},
    {.unit = "fp32", .warps = 4},
    {.unit = "fp32", .promote = 128},
};
/* clang-format on */

size_t moe_arithmetics(const moe_arithmetic **ret) {
    *ret = bank;
    return sizeof bank / sizeof *bank;
}

/* Fields as words of check --bits. */
static const struct {
    const char *word, *sentence;
    size_t field;
} numbers[] = {
    {"split", " in %d parts of K", offsetof(moe_arithmetic, split)},
    {"warps", " in blocks of K dealt to %d sums", offsetof(moe_arithmetic, warps)},
    {"promote", ", a new sum every %d products", offsetof(moe_arithmetic, promote)},
    {"block", ", blocks of %d", offsetof(moe_arithmetic, block)},
    {"act", ", activations within %d", offsetof(moe_arithmetic, act_ulp)},
};

static int32_t *field_of(moe_arithmetic *how, size_t i) {
    return (int32_t *)((char *)how + numbers[i].field);
}

static void append(char *buf, size_t size, const char *format, int32_t number) {
    const size_t used = strlen(buf);
    if (used < size)
        snprintf(buf + used, size - used, format, (int)number);
}

char *moe_arithmetic_name(const moe_arithmetic *how, char *buf, size_t size) {
    moe_arithmetic copy = *how;
    snprintf(buf, size, "%.15s", how->unit);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (*field_of(&copy, i))
            append(buf, size, numbers[i].sentence, *field_of(&copy, i));
    if (how->order == MOE_K_DESCENDING)
        append(buf, size, ", descending k", 0);
    if (how->carry)
        append(buf, size, how->carry == MOE_BF16 ? ", carried in bf16" : ", carried in fp16", 0);
    return buf;
}

/* "split=4" and the like. */
static moe_status take_word(const char *word, moe_arithmetic *ret) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const size_t length = strlen(numbers[i].word);
        char *end;
        if (strncmp(word, numbers[i].word, length) != 0 || word[length] != '=')
            continue;
        const long value = strtol(word + length + 1, &end, 10);
        if (*end || end == word + length + 1 || value < 0 || value > INT32_MAX)
            return MOE_E_NOTFOUND;
        *field_of(ret, i) = (int32_t)value;
        return MOE_OK;
    }
    if (strcmp(word, "descending") == 0)
        ret->order = MOE_K_DESCENDING;
    else if (strcmp(word, "carry_bf16") == 0)
        ret->carry = MOE_BF16;
    else if (strcmp(word, "gates_first") == 0)
        ret->gates_first = 1;
    else if (strcmp(word, "fused") == 0)
        ret->fused = 1;
    else if (strcmp(word, "weighs_sums") == 0)
        ret->weighs_sums = 1;
    else
        return MOE_E_NOTFOUND;
    return MOE_OK;
}

moe_status moe_arithmetic_parse(const char *text, moe_arithmetic *ret) {
    char copy[128], *rest = copy;
    moe_arithmetic how = {.unit = ""};
    if (strlen(text) >= sizeof copy)
        return MOE_E_NOTFOUND;
    snprintf(copy, sizeof copy, "%s", text);
    const char *unit = strsep(&rest, "+");
    if (!moe_int_unit_find(unit))
        return MOE_E_NOTFOUND;
    snprintf(how.unit, sizeof how.unit, "%s", unit);
    while (rest) {
        moe_status status = take_word(strsep(&rest, "+"), &how);
        if (status)
            return status;
    }
    moe_int_chain chain;
    moe_status status = moe_int_chain_make(&how, MOE_INT_FORMAT_BF16, &chain);
    if (status)
        return MOE_E_NOTFOUND;
    *ret = how;
    return MOE_OK;
}
