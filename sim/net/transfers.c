/* Reading measured transfers. */
#include "sim/net/transfers.h"
#include "layer/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LL_HEADER 16 /* bytes before a row: its token */
#define KIB       1024.0

/* SMs that the low-latency kernels were measured with, and those of a GPU. */
#define GPU_SMS 132

double moe_int_moved_us(const moe_node *node, const moe_int_moved *m) {
    if (m->op < MOE_INT_COLLECTIVES)
        return moe_int_collective_us(node, m->op, m->load.ranks, m->bytes);
    return moe_int_transfer_us(node, m->carrier, &m->load);
}

static moe_int_load loads(double ranks, double here, double tokens, double copies, double row) {
    return (moe_int_load){.ranks = ranks,
                          .tokens = tokens,
                          .copies = copies,
                          .row = row,
                          .near = copies * row * (here - 1) / ranks,
                          .far = copies * row * (ranks - here) / ranks};
}

/* A copy to another host crosses the network once, whatever the number of its ranks there. */
moe_int_load moe_int_even_load(double ranks, double here, double tokens, double E, double K,
                               double row) {
    const double copies = tokens * ranks * moe_int_reach(E / ranks, E, K);
    moe_int_load load = loads(ranks, here, tokens, copies, row);
    const double hosts = ranks / here;
    if (hosts > 1) {
        load.far = tokens * (hosts - 1) * moe_int_reach(E / hosts, E, K) * row;
        load.near = copies * row * (here - 1) / here;
    }
    return load;
}

moe_int_load moe_int_even_pairs(double ranks, double here, double tokens, double E, double K,
                                double row) {
    moe_int_load load = loads(ranks, here, tokens, tokens * K, row);
    load.experts = E;
    return load;
}

/* The next field at *at; false at the end of the line. */
static bool next_field(const char **at, moe_int_word *ret) {
    if (!*at)
        return false;
    const size_t length = strcspn(*at, "\t\r\n");
    *ret = (moe_int_word){*at, length};
    *at = (*at)[length] == '\t' ? *at + length + 1 : NULL;
    return true;
}

static bool is_word(moe_int_word w, const char *text, size_t length) {
    return w.text && w.length == length && memcmp(w.text, text, length) == 0;
}

/* The field of the column of that name; length 0 and text NULL: there is none. */
static moe_int_word field(const char *header, const char *line, const char *name, size_t length) {
    moe_int_word column, value;
    while (next_field(&header, &column) && next_field(&line, &value)) {
        if (is_word(column, name, length))
            return value;
    }
    return (moe_int_word){0};
}

static bool has(const char *header, const char *name) {
    return field(header, header, name, strlen(name)).text != NULL;
}

bool moe_int_is_transfers(const char *header) {
    return (has(header, "op") && has(header, "gpus") && has(header, "bytes")) ||
           (has(header, "ranks") && has(header, "tokens_per_rank"));
}

typedef struct reader {
    const char *header, *line;
    bool bad;
} reader;

static double number(reader *r, const char *name) {
    double value = 0;
    const moe_int_word w = field(r->header, r->line, name, strlen(name));
    if (!w.text || moe_int_parse_real(w, &value) != MOE_OK || !(value >= 0 && value < 1e15))
        r->bad = true;
    return value;
}

static double number_or(reader *r, const char *name, double absent) {
    return has(r->header, name) ? number(r, name) : absent;
}

static bool is_chosen(const reader *r, const char *where) {
    while (where && *where) {
        const size_t length = strcspn(where, ","), name = strcspn(where, "=");
        const moe_int_word w = field(r->header, r->line, where, name);
        if (name >= length || !w.text || !is_word(w, where + name + 1, length - name - 1))
            return false;
        where += length + (where[length] == ',');
    }
    return true;
}

static int read_collective(reader *r, moe_int_measured *ret) {
    const moe_int_word op = field(r->header, r->line, "op", 2);
    const double bytes = number(r, "bytes");
    int i = 0;
    while (i < MOE_INT_COLLECTIVES &&
           !is_word(op, moe_int_collective_names[i], strlen(moe_int_collective_names[i])))
        i++;
    r->bad |= i == MOE_INT_COLLECTIVES;
    if (r->bad)
        return 0;
    ret->moved = (moe_int_moved){.op = (moe_int_collective)i, .bytes = bytes};
    ret->moved.load.ranks = number(r, "gpus");
    ret->us = number(r, "us");
    ret->size = (int64_t)(bytes / KIB);
    ret->shape = (uint64_t)bytes;
    strcpy(ret->kernel, moe_int_collective_names[i]);
    return 1;
}

/* The columns that all kernels share. */
typedef struct shape {
    double ranks, here, tokens, d, E, K;
} shape;

static shape read_shape(reader *r) {
    shape s = {.ranks = number(r, "ranks"), .tokens = number(r, "tokens_per_rank")};
    s.here = s.ranks / number_or(r, "nodes", 1);
    s.d = number_or(r, "d", 7168);
    s.E = number_or(r, "E", 256);
    s.K = number_or(r, "K", 8);
    r->bad |= !(s.ranks >= 1 && s.here >= 1 && s.E >= 1 && s.K >= 1 && s.K <= s.E && s.E <= 65536);
    return s;
}

static void put(const shape *s, moe_int_carrier carrier, moe_int_load load, double us,
                moe_int_measured *ret) {
    load.token_row = 2 * s->d;
    ret->moved = (moe_int_moved){.op = MOE_INT_COLLECTIVES, .carrier = carrier, .load = load};
    ret->us = us;
    ret->size = (int64_t)s->tokens;
    ret->shape = (uint64_t)s->d * 1000003u ^ (uint64_t)s->E * 104729u ^ (uint64_t)s->K;
    if (s->here < s->ranks)
        ret->shape = (uint64_t)s->tokens; /* one layer alone: sizes are left out */
    strcpy(ret->kernel, moe_int_carrier_names[carrier]);
}

/* FP8 rows carry a scale of 4 bytes for 128 values. */
static double fp8_row(double d) {
    return d + 4 * d / 128;
}

static int read_normal(reader *r, moe_int_measured ret[MOE_INT_MEASURED_MAX]) {
    const shape s = read_shape(r);
    const double rows[] = {fp8_row(s.d), 2 * s.d};
    const char *const us[] = {"dispatch_us", "combine_us"};
    const char *const sms[] = {"dispatch_sms", "combine_sms"};
    for (int i = 0; !r->bad && i < 2; i++) {
        moe_int_load load = moe_int_even_load(s.ranks, s.here, s.tokens, s.E, s.K, rows[i]);
        load.sms = number(r, sms[i]);
        put(&s, i ? MOE_INT_CARRIER_COMBINE : MOE_INT_CARRIER_DISPATCH, load, number(r, us[i]),
            &ret[i]);
    }
    return 2;
}

static int read_low_latency(reader *r, moe_int_measured ret[MOE_INT_MEASURED_MAX]) {
    const shape s = read_shape(r);
    const double rows[] = {fp8_row(s.d) + LL_HEADER, 2 * s.d};
    const char *const us[] = {"dispatch_us", "combine_us"};
    for (int i = 0; !r->bad && i < 2; i++) {
        moe_int_load load = moe_int_even_pairs(s.ranks, s.here, s.tokens, s.E, s.K, rows[i]);
        load.sms = moe_int_low_latency_sms(s.E, GPU_SMS);
        put(&s, i ? MOE_INT_CARRIER_LL_COMBINE : MOE_INT_CARRIER_LL_DISPATCH, load,
            number(r, us[i]), &ret[i]);
    }
    return 2;
}

/* Bytes of a row: combine adds up in bf16, or sends FP8 in low precision. */
static double nvlink_row(reader *r, bool combine, double d) {
    const moe_int_word op = field(r->header, r->line, "op", 2);
    const moe_int_word type = field(r->header, r->line, "dtype", 5);
    if (combine)
        return is_word(op, "alltoall_combine", 16) ? 2 * d : d;
    return is_word(type, "nvfp4", 5) ? d / 2 + d / 16 : is_word(type, "fp8", 3) ? d : 2 * d;
}

static int read_nvlink(reader *r, moe_int_measured *ret) {
    const moe_int_word kernel = field(r->header, r->line, "kernel", 6);
    const moe_int_word op = field(r->header, r->line, "op", 2);
    const bool one = is_word(kernel, "NVLinkOneSided", 14);
    const bool combine = op.length >= 16 && memcmp(op.text, "alltoall_combine", 16) == 0;
    const shape s = read_shape(r);
    if (!combine && !is_word(op, "alltoall_dispatch", 17))
        return 0; /* counts and offsets alone */
    const double row = nvlink_row(r, combine, s.d);
    const moe_int_carrier c =
        one       ? combine ? MOE_INT_CARRIER_ONE_COMBINE : MOE_INT_CARRIER_ONE_DISPATCH
        : combine ? MOE_INT_CARRIER_TWO_COMBINE
                  : MOE_INT_CARRIER_TWO_DISPATCH;
    if (!r->bad)
        put(&s, c, moe_int_even_load(s.ranks, s.ranks, s.tokens, s.E, s.K, row), number(r, "us"),
            ret);
    ret->shape = (uint64_t)s.tokens; /* one layer: sizes are left out */
    return 1;
}

bool moe_int_read_transfers(const char *header, const char *line, const char *where,
                            moe_int_measured ret[MOE_INT_MEASURED_MAX], int *ret_count) {
    reader r = {.header = header, .line = line};
    *ret_count = 0;
    if (!is_chosen(&r, where))
        return true;
    if (has(header, "bytes"))
        *ret_count = read_collective(&r, ret);
    else if (has(header, "dispatch_sms"))
        *ret_count = read_normal(&r, ret);
    else if (has(header, "dispatch_us"))
        *ret_count = read_low_latency(&r, ret);
    else
        *ret_count = read_nvlink(&r, ret);
    for (int i = 0; !r.bad && i < *ret_count; i++)
        r.bad |= !(ret[i].us > 0);
    return !r.bad;
}
