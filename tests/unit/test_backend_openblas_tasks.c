/* How the openblas plug-in cuts a stage into tasks: nothing twice, nothing left out, no block
 * larger than asked for, enough tasks for every thread, the largest first. */
#include "tasks.h"

#include <criterion/criterion.h>
#include <string.h>

enum { ROWS = 2000, COLUMNS = 700, TASKS = 4096 };

/* What the body saw, on one thread; `seen` counts [row][column], `empty` the columns of groups
 * without rows. */
typedef struct record {
    ob_task task[TASKS];
    int count;
    unsigned char seen[ROWS][COLUMNS];
    int64_t empty;
} record;

static record now;

static void note(const ob_job *job, const ob_task *t, float *pack) {
    cr_assert_not_null(pack);
    cr_assert_not_null(job->layer);
    cr_assert_lt(now.count, TASKS);
    now.task[now.count++] = *t;
    for (int64_t r = t->row; r < t->row + t->rows; r++)
        for (int64_t c = t->col; c < t->col + t->cols; c++)
            now.seen[r][c]++;
    now.empty += t->rows == 0 ? t->cols : 0;
}

/* A layer of so many threads; only one runs, as there is too little work to share. */
static void cut(ob_cut how, int threads) {
    ob_device dev = {.threads = threads};
    ob_layer layer = {.dev = &dev, .T = ROWS, .desc = {.d = COLUMNS}};
    ob_job job = {.layer = &layer};
    memset(&now, 0, sizeof now);
    how.depth = 0;
    cr_assert_eq(ob_run(&job, &how, note), MOE_OK);
    ob_buffers_destroy(&layer);
}

static void expect_each_once(const ob_cut *how) {
    const int64_t first = how->offsets[0], last = how->offsets[how->groups];
    int64_t empty = 0;
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t c = 0; c < COLUMNS; c++)
            cr_assert_eq(now.seen[r][c], r >= first && r < last && c < how->columns,
                         "row %d, column %d", (int)r, (int)c);
    for (int64_t g = 0; g < how->groups; g++)
        empty += how->empty && how->offsets[g] == how->offsets[g + 1] ? how->columns : 0;
    cr_expect_eq(now.empty, empty);
}

static void expect_well_formed(const ob_cut *how) {
    for (int i = 0; i < now.count; i++) {
        const ob_task *t = &now.task[i];
        cr_expect(t->expert >= 0 && t->expert < how->groups);
        cr_expect_geq(t->row, how->offsets[t->expert]);
        cr_expect_leq(t->row + t->rows, how->offsets[t->expert + 1]);
        cr_expect(!how->row_block || t->rows <= how->row_block, "%d rows", (int)t->rows);
        cr_expect(!how->col_block || t->cols <= how->col_block, "%d columns", (int)t->cols);
        cr_expect(i == 0 || t->rows * t->cols <= now.task[i - 1].rows * now.task[i - 1].cols);
    }
}

static const int64_t uneven[] = {0, 0, 1, 513, 1025, 1025, 1637, 2000, 2000};
static const int64_t later[] = {100, 400, 401};

Test(openblas_tasks, every_element_once) {
    static const ob_cut cuts[] = {
        {.offsets = uneven, .groups = 8, .row_block = 512, .columns = 700},
        {.offsets = uneven, .groups = 8, .row_block = 100, .columns = 129, .col_block = 50},
        {.offsets = uneven, .groups = 8, .columns = 700, .empty = 1},
        {.offsets = uneven, .groups = 8, .columns = 513, .col_block = 512, .empty = 1},
        {.offsets = later, .groups = 2, .row_block = 64, .columns = 1},
        {.offsets = later, .groups = 2, .columns = 255},
        {.offsets = uneven, .groups = 1, .columns = 300},
        {.offsets = uneven, .groups = 1, .columns = 300, .col_block = 128, .empty = 1},
    };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
        for (int threads = 1; threads <= 8; threads *= 2) {
            cut(cuts[i], threads);
            expect_each_once(&cuts[i]);
            expect_well_formed(&cuts[i]);
        }
}

/* Rows of a group are cut evenly: 600 in blocks of at most 512 are 2 x 300. */
Test(openblas_tasks, rows_are_cut_evenly) {
    const int64_t offsets[] = {0, 600};
    const ob_cut how = {.offsets = offsets, .groups = 1, .row_block = 512, .columns = 100};
    cut(how, 1);
    cr_assert_eq(now.count, 2);
    cr_expect_eq(now.task[0].rows, 300);
    cr_expect_eq(now.task[1].rows, 300);
    cr_expect_eq(now.task[0].row, 0, "equal ones in their order");
    cr_expect_eq(now.task[1].row, 300);
}

/* Few rows and many threads: columns are cut for three tasks a thread, but not below 128. */
Test(openblas_tasks, columns_are_cut_where_rows_are_too_few) {
    const int64_t offsets[] = {0, 10};
    ob_cut how = {.offsets = offsets, .groups = 1, .row_block = 512, .columns = 600};
    cut(how, 1);
    cr_expect_eq(now.count, 3);
    cut(how, 2);
    cr_expect_eq(now.count, 4, "600 / 128");
    cut(how, 8);
    cr_expect_eq(now.count, 4);
    how.columns = 127;
    cut(how, 8);
    cr_expect_eq(now.count, 1);
}

Test(openblas_tasks, equal_sizes_go_in_order) {
    const int64_t offsets[] = {0, 20, 40, 60};
    const ob_cut how = {.offsets = offsets, .groups = 3, .columns = 200, .col_block = 100};
    cut(how, 1);
    cr_assert_eq(now.count, 6);
    for (int i = 0; i < 6; i++) {
        cr_expect_eq(now.task[i].expert, i / 2);
        cr_expect_eq(now.task[i].row, 20 * (i / 2));
        cr_expect_eq(now.task[i].col, 100 * (i % 2));
    }
}

Test(openblas_tasks, tokens_are_one_group) {
    ob_device dev = {.threads = 1};
    ob_layer layer = {.dev = &dev, .T = 130, .desc = {.d = 8}};
    ob_job job = {.layer = &layer};
    memset(&now, 0, sizeof now);
    cr_assert_eq(ob_run_tokens(&job, 64, 8, note), MOE_OK);
    cr_expect_eq(now.count, 3);
    for (int r = 0; r < ROWS; r++)
        cr_expect_eq(now.seen[r][0], r < 130);
    ob_buffers_destroy(&layer);
}

/* A thread's packing: rows of a block by the widest matrix, and float64 sums; in whole lines. */
Test(openblas_tasks, packing_holds_what_tasks_gather) {
    const ob_device dev = {.threads = 1};
    ob_layer layer = {.dev = &dev, .T = 2000, .desc = {.d = 300}};
    layer.routed = (ob_experts){.rows = 100, .width = 200};
    cr_expect_eq(ob_pack_floats(&layer), (512 * 300 + 63) / 64 * 64);
    layer.shared = (ob_experts){.rows = 2000, .width = 1000};
    cr_expect_eq(ob_pack_floats(&layer), 512 * 1000);
    layer.shared.width = 1024; /* rows are kept apart */
    cr_expect_eq(ob_pack_floats(&layer), (size_t)(512 * ob_pitch(1024)));
    cr_expect_gt(ob_pitch(1024), 1024);
    layer = (ob_layer){.dev = &dev, .T = 1, .desc = {.d = 8}, .routed = {.rows = 1, .width = 8}};
    cr_expect_eq(ob_pack_floats(&layer), 2 * OB_SUM_COLS);
    layer =
        (ob_layer){.dev = &dev, .T = 100, .desc = {.d = 3001}, .routed = {.rows = 100, .width = 8}};
    cr_expect_eq(ob_pack_floats(&layer), (2 * 100 * 3001 + 63) / 64 * 64);
}
