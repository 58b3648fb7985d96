#include "tasks.h"

#include <omp.h>
#include <stdlib.h>

/* Below this many columns a GEMM spends its time packing. */
#define MIN_COLS 128
/* A stage wants so many tasks per thread, so that the last ones to finish cost little. */
#define TASKS_PER_THREAD 3
/* Multiply-adds that one thread does while another would still be waking up. */
#define WORTH_THREADS 2000000

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

size_t ob_pack_floats(const ob_layer *layer) {
    const ob_experts *r = &layer->routed, *s = &layer->shared;
    int64_t rows = max64(r->rows, layer->T), d = layer->desc.d;
    int64_t widest = max64(d, max64(r->width, s->width));
    int64_t by_rows = min64(rows, OB_ROWS) * ob_pitch(widest);
    int64_t by_doubles = 2 * max64(min64(layer->T, OB_ROUTER_ROWS) * d, OB_SUM_COLS);
    return (size_t)(max64(by_rows, by_doubles) + 63) / 64 * 64;
}

/* Rows of a group are cut evenly: 600 rows in blocks of at most 512 are 2 x 300. */
typedef struct split {
    int64_t row_parts, rows, col_parts, cols;
} split;

static split split_group(const ob_cut *cut, int64_t rows, int64_t limit) {
    split s;
    s.row_parts = cut->row_block && rows ? ceil_div(rows, cut->row_block) : 1;
    s.rows = ceil_div(rows, s.row_parts);
    s.col_parts = cut->col_block ? ceil_div(cut->columns, cut->col_block) : 1;
    int64_t wanted = ceil_div(max64(s.rows, 1) * cut->columns, limit);
    int64_t most = max64(cut->columns / MIN_COLS, 1);
    s.col_parts = max64(s.col_parts, min64(wanted, most));
    s.cols = ceil_div(cut->columns, s.col_parts);
    return s;
}

static size_t cut_group(const ob_cut *cut, int64_t group, int64_t limit, ob_task *ret) {
    int64_t begin = cut->offsets[group], end = cut->offsets[group + 1];
    if (begin == end && !cut->empty)
        return 0;
    split s = split_group(cut, end - begin, limit);
    size_t count = 0;
    for (int64_t i = 0; i < s.row_parts; i++) {
        int64_t row = min64(begin + i * s.rows, end);
        for (int64_t col = 0; col < cut->columns; col += s.cols) {
            if (ret)
                ret[count] = (ob_task){group, row, min64(s.rows, end - row), col,
                                       min64(s.cols, cut->columns - col)};
            count++;
        }
    }
    return count;
}

static int larger_first(const void *left, const void *right) {
    const ob_task *a = left, *b = right;
    int64_t x = a->rows * a->cols, y = b->rows * b->cols;
    if (x != y)
        return x < y ? 1 : -1;
    if (a->expert != b->expert)
        return a->expert < b->expert ? -1 : 1;
    if (a->row != b->row)
        return a->row < b->row ? -1 : 1;
    return a->col < b->col ? -1 : a->col > b->col;
}

static moe_status make_tasks(ob_layer *layer, const ob_cut *cut, size_t *ret_count) {
    int64_t rows = cut->offsets[cut->groups] - cut->offsets[0];
    int64_t limit =
        max64(rows * cut->columns / ((int64_t)layer->dev->threads * TASKS_PER_THREAD), 1);
    size_t count = 0;
    for (int64_t g = 0; g < cut->groups; g++)
        count += cut_group(cut, g, limit, NULL);
    moe_status status = ob_reserve(layer, OB_BUF_TASKS, count * sizeof(ob_task));
    if (status)
        return status;
    ob_task *task = layer->buffer[OB_BUF_TASKS].data;
    size_t made = 0;
    for (int64_t g = 0; g < cut->groups; g++)
        made += cut_group(cut, g, limit, task + made);
    qsort(task, count, sizeof *task, larger_first);
    *ret_count = count;
    return MOE_OK;
}

moe_status ob_run(const ob_job *job, const ob_cut *cut, ob_body body) {
    ob_layer *layer = job->layer;
    size_t count, pack_floats = ob_pack_floats(layer);
    moe_status status = make_tasks(layer, cut, &count);
    if (!status)
        status = ob_reserve(layer, OB_BUF_PACK,
                            (size_t)layer->dev->threads * pack_floats * sizeof(float));
    if (status)
        return status;
    int64_t work = (cut->offsets[cut->groups] - cut->offsets[0]) * cut->columns * cut->depth;
    const ob_task *task = layer->buffer[OB_BUF_TASKS].data;
    float *packs = layer->buffer[OB_BUF_PACK].data;
#pragma omp parallel num_threads(layer->dev->threads) if (count > 1 && work > WORTH_THREADS)
    {
        /* OpenBLAS's OpenMP build asks this before each GEMM; the setting ends with the region. */
        omp_set_num_threads(1);
        float *pack = packs + (size_t)omp_get_thread_num() * pack_floats;
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < count; i++)
            body(job, &task[i], pack);
    }
    return MOE_OK;
}

moe_status ob_run_tokens(const ob_job *job, int64_t block, int64_t depth, ob_body body) {
    int64_t offsets[2] = {0, job->layer->T};
    ob_cut cut = {
        .offsets = offsets, .groups = 1, .row_block = block, .columns = 1, .depth = depth};
    return ob_run(job, &cut, body);
}
