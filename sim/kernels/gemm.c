/* The tile model of GEMMs. Equations: sim/README.md; their measured worth: sim/CALIBRATION.md. */
#include "sim/kernels/trial.h"

#include <math.h>
#include <string.h>

static double ceil_div(double a, double b) {
    return ceil(a / b);
}

/* What one instruction, or one warp that has operands of its own, reads from shared memory at once:
 * m rows of A and n columns of B. A tile's rows are multiplied in multiples of `granule`. */
typedef struct moe_int_operand {
    double m, n, granule;
} moe_int_operand;

/* What mma.sync reaches where the SM has a wider instruction: of an H800's dense rate, arXiv
 * 2402.13499, table of mma's throughput. */
#define SYNC_RATE 0.629
#define WIDE_ROWS 64 /* least of wgmma and of tcgen05.mma: PTX ISA */

/* Four warps and more, two along each side of the tile at least: CUTLASS' warp tiles for mma.sync
 * m16n8k16 (include/cutlass/gemm/device/default_gemm_configuration.h) are half a tile's side and at
 * most mma_rows x mma_cols. */
static moe_int_operand operand_of(const moe_int_rates *r, bool warps_alone, moe_int_tile t) {
    if (warps_alone)
        return (moe_int_operand){moe_int_least(r->mma_rows, moe_int_most(16, t.m / 2.0)),
                                 moe_int_least(r->mma_cols, moe_int_most(16, t.n / 2.0)), 16};
    return (moe_int_operand){r->mma_rows, moe_int_least(t.n, r->mma_cols), r->mma_rows};
}

/* Clocks of a k-step in which no warp multiplies. */
static double idle_clocks(const moe_int_rates *r, moe_int_tile t) {
    return r->sync + r->promote * t.m * t.n;
}

/* Rows of A that a tile's k-step loads: those gathered from a region that L2 does not hold count
 * for more. */
static double rows_loaded(const moe_int_rates *r, const moe_int_gemm *g, double rows) {
    return rows *
           (1 + (g->region > 0 ? r->scattered * moe_int_most(0, 1 - r->l2_bytes / g->region) : 0));
}

/* Clocks of a k-step that loads `bytes` through L2. */
static double loading_step(const moe_int_step *s, double bytes, double rate) {
    return moe_int_most(moe_int_most(s->tensor, s->smem), bytes / rate);
}

/* Multicast: CTAs of a cluster along the rows load columns once, along the columns rows. A free
 * cluster lies along the side that is faster, if there is a second tile. Where a group's row tiles
 * do not fill clusters, CTAs that have none wait for the others: as if each k-step took longer. */
static void share_loads(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                        moe_int_fill fill, moe_int_step *ret) {
    const double share = (double)moe_int_cluster(r, g), cols = moe_int_least(t.n, g->n);
    const double loaded = rows_loaded(r, g, fill.rows), each = MOE_INT_KSTEP * g->element * g->load;
    const double along_m = (loaded + cols / share) * each;
    const double along_n = ((g->n > t.n ? loaded / share : loaded) + cols) * each;
    const double latency = r->l2_latency + fill.miss * (r->hbm_latency - r->l2_latency);
    const double rate = moe_int_least(r->l2, r->inflight / latency);
    const double padded = g->cluster > 1 || fill.padded == 0 ? 1 : fill.padded;
    const double by_rows = loading_step(ret, along_m, rate) * padded;
    const double by_columns = loading_step(ret, along_n, rate);
    const bool rows =
        g->cluster > 1 || by_rows < by_columns || (by_rows == by_columns && along_m < along_n);
    ret->l2_step_bytes = rows ? along_m : along_n;
    ret->l2 = ret->l2_step_bytes / rate;
    ret->step = (rows ? by_rows : by_columns) + idle_clocks(r, t);
}

void moe_int_gemm_step(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                       moe_int_fill fill, moe_int_step *ret) {
    const double step = MOE_INT_KSTEP * g->element;
    const bool narrow = g->narrow && r->warps <= 1 && t.m < WIDE_ROWS;
    const moe_int_operand block = operand_of(r, narrow || r->warps > 1, t);
    const double rows_done = ceil_div(t.m, block.granule) * block.granule;
    const double tensor = narrow ? moe_int_least(r->tensor, SYNC_RATE * r->tensor_peak) : r->tensor;
    ret->tensor = rows_done * t.n * MOE_INT_KSTEP * 2 / (tensor * (g->tensor > 0 ? g->tensor : 1));
    ret->smem_step_bytes = ceil_div(t.m, block.m) * (t.n / block.n) * (block.m + block.n) * step;
    ret->smem = ret->smem_step_bytes / r->smem;
    share_loads(r, g, t, fill, ret);
    ret->epilogue = t.m * (double)t.n * g->epilogue / r->epilogue;
}

/* Operands are read again by each wave of tiles whose footprint L2 cannot keep. */
static double refetched(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                        const moe_int_sums *s) {
    if (r->refetch <= 0 || s->tiles <= r->sms)
        return 0;
    const double groups = (double)g->groups, tiles_n = ceil_div(g->n, t.n);
    const double per_group = s->tiles / groups / t.split, wave = moe_int_least(per_group, r->sms);
    const double k = s->steps / moe_int_most(1, s->tiles) * MOE_INT_KSTEP * t.split;
    const double wn = moe_int_least(tiles_n, moe_int_most(1, sqrt(wave * t.m / t.n))),
                 wm = wave / wn;
    const double waves = groups * moe_int_most(1, per_group / wave);
    const double traffic = waves * (wm * t.m + wn * t.n) * k * g->element;
    const double inputs = groups * (s->tiles_m / groups * t.m + g->n) * k * g->element;
    const double over = moe_int_most(0, 1 - r->l2_shared / (inputs / groups));
    return r->refetch * over * moe_int_most(0, traffic - inputs);
}

static const char *bound_of(const moe_int_step *step, double epilogue, double steps_per_tile,
                            double tile_us, double memory_us, double fixed_us, double clock) {
    const double loop = step->step * steps_per_tile / clock;
    if (fixed_us > tile_us && fixed_us > memory_us)
        return "latency";
    if (memory_us > tile_us)
        return "hbm";
    if (epilogue / clock > loop)
        return "epilogue";
    if (step->tensor >= moe_int_most(step->l2, step->smem))
        return "tensor";
    return step->l2 >= step->smem ? "l2" : "smem";
}

/* The SMs' clock is `slower`; what waits for L2 notices only once the SM needs longer than that. */
static double join_times(const moe_int_rates *r, const moe_int_times *t, double slower) {
    slower = moe_int_most(1, slower * t->bound);
    return moe_int_join(t->full * slower, t->memory_full, r->overlap_p) +
           moe_int_join(t->tail * slower, t->tail > 0 ? t->memory_tail : 0, r->overlap_p) + t->rest;
}

void moe_int_floor(const moe_int_rates *r, double flops, double bytes, moe_kernel *kernel) {
    const double work = flops / r->floor_flops,
                 from_memory = moe_int_most(0, bytes - 2 * r->l2_bytes);
    kernel->cost.floor_us = moe_int_most(work, bytes / r->hbm_nominal);
    kernel->least_us = moe_int_most(work, from_memory / r->hbm_nominal);
}

/* Clocks of a k-step of tiles of `rows` rows; `step` are those of tiles of mean.rows. */
static double step_of(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                      moe_int_fill mean, double rows, double step) {
    moe_int_step own;
    if (rows == mean.rows)
        return step;
    mean.rows = rows;
    moe_int_gemm_step(r, g, t, mean, &own);
    return own.step;
}

/* What the fullest tile loads, over the mean: of one round of tiles it ends last. */
static double unevenness(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                         const moe_int_sums *s) {
    const double mean = s->rows + g->n / ceil_div(g->n, t.n);
    return s->tiles > 0 && s->tiles <= r->sms ? (s->fill[0] + moe_int_least(t.n, g->n)) / mean : 1;
}

/* Clocks of each batch's tiles become their times, us: of SMs that take several tiles full and
 * other ones, of one round each its own. ret: the sum of all tiles' times. */
static double time_batches(const moe_int_rates *r, const moe_int_gemm *g, moe_int_fill mean,
                           moe_int_trial *trial) {
    const moe_int_step *step = &trial->step;
    const double exposed = step->epilogue * (1 - g->hidden);
    moe_int_sums *s = &trial->s;
    double busy = 0;
    for (int i = 0; i < s->batches; i++) {
        const double rows = s->tiles > r->sms ? mean.rows : s->fill[i];
        const double loop = s->batch[i].cost * step_of(r, g, trial->tile, mean, rows, step->step);
        s->batch[i].cost = moe_int_most(loop + exposed, step->epilogue) / r->clock + r->tile_us;
        busy += s->batch[i].cost * s->batch[i].count;
    }
    return busy;
}

bool moe_int_gemm_try(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                      const moe_int_rows *rows, double limit_us, moe_int_trial *ret) {
    moe_int_sums *s = &ret->s;
    ret->tile = t;
    moe_int_tiles_sum(g, t, rows, s);
    ret->bytes = g->read + g->again + g->write + refetched(r, g, t, s);
    const double loads =
        s->steps * (s->rows + moe_int_least(t.n, g->n)) * MOE_INT_KSTEP * g->element;
    const moe_int_fill mean = {s->rows, s->padded,
                               loads > 0 ? moe_int_least(1, (g->read + g->again) / loads) : 0};
    moe_int_gemm_step(r, g, t, mean, &ret->step);
    const double busy = time_batches(r, g, mean, ret);
    ret->fixed = r->kernel_us + r->gap_us + r->drain * ret->step.epilogue / r->clock;
    ret->partial = t.split > 1 ? (double)g->groups * g->m * g->n * t.split * 8 : 0;
    const double fix_up = t.split > 1 ? r->splitk_us + ret->partial / r->splitk : 0;
    const double rest = ret->fixed + fix_up;
    /* Memory time is spread over the tiles' time; where few SMs are left, each draws no more than
     * its bytes in flight allow. */
    const double per_sm = r->inflight / r->hbm_latency * r->clock / unevenness(r, g, t, s);
    const double memory = moe_int_least(r->hbm, r->sms * per_sm);
    if (moe_int_most(busy / r->sms, ret->bytes / memory) + rest > limit_us)
        return false;
    moe_int_schedule_tiles(s->batch, s->batches, r->sms, &ret->sched);
    const double share = busy > 0 ? ret->bytes / busy : 0;
    const double full_bytes = share * ret->sched.full * r->sms;
    ret->times = (moe_int_times){
        .full = ret->sched.full,
        .memory_full = full_bytes / memory,
        .tail = ret->sched.end - ret->sched.full,
        .memory_tail =
            (ret->bytes - full_bytes) /
            moe_int_least(r->hbm, (s->tiles <= r->sms ? s->tiles : ret->sched.active) * per_sm),
        .rest = rest,
        .bound = ret->step.step > 0
                     ? (moe_int_most(ret->step.tensor, ret->step.smem) + idle_clocks(r, t)) /
                           ret->step.step
                     : 1,
    };
    if (moe_int_most(ret->sched.end, ret->times.memory_full + ret->times.memory_tail) + rest >
        limit_us)
        return false;
    ret->us = join_times(r, &ret->times, 1);
    return true;
}

void moe_int_gemm_told(const moe_int_rates *r, const moe_int_gemm *g, const moe_int_trial *trial,
                       moe_kernel *ret) {
    const moe_int_sums *s = &trial->s;
    const moe_int_step *step = &trial->step;
    const moe_int_tile t = trial->tile;
    const moe_int_times *times = &trial->times;
    memset(ret, 0, sizeof *ret);
    ret->cost.us = trial->us;
    ret->cost.flops = s->flops;
    ret->cost.hbm_bytes = trial->bytes;
    ret->cost.l2_bytes = s->steps * step->l2_step_bytes + trial->partial + g->write;
    ret->smem_bytes = s->steps * step->smem_step_bytes;
    ret->cost.tiles = s->tiles;
    ret->cost.waves = s->tiles / r->sms;
    moe_int_floor(r, s->flops, g->read + g->write, ret);
    ret->padded_flops = s->steps * t.m * (double)t.n * MOE_INT_KSTEP * 2;
    ret->tile_m = t.m;
    ret->tile_n = t.n;
    ret->split = t.split;
    strcpy(ret->cost.bound_by,
           bound_of(step, step->epilogue, s->tiles > 0 ? s->steps / s->tiles : 0, trial->sched.end,
                    times->memory_full + times->memory_tail, trial->fixed, r->clock));
}

void moe_int_gemm_tile(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile t,
                       moe_kernel *ret, moe_int_times *ret_times) {
    moe_int_rows rows;
    moe_int_trial trial;
    moe_int_tiles_rows(g, t.m, moe_int_cluster(r, g), &rows);
    moe_int_gemm_try(r, g, t, &rows, INFINITY, &trial);
    moe_int_gemm_told(r, g, &trial, ret);
    *ret_times = trial.times;
}

/* How far the clock falls where a kernel of `flops` takes `us`. */
static double slow_down(const moe_int_rates *r, double work_us, double flops, double us) {
    const double peak = r->sms * r->tensor_peak * r->clock, use = us > 0 ? flops / peak / us : 0;
    return 1 + r->throttle * use * work_us / (work_us + r->throttle_us);
}

/* What L2 slows saves no power for each operation: such a kernel takes no less than it would beside
 * an L2 that is no bound. */
double moe_int_throttle(const moe_int_rates *r, double work_us, const moe_int_times *times,
                        moe_kernel *kernel) {
    const double flops = kernel->cost.flops;
    if (!(r->throttle > 0 && flops > 0))
        return 1;
    double slower = slow_down(r, work_us, flops, kernel->cost.us);
    kernel->cost.us = join_times(r, times, slower);
    if (times->bound < 1 && times->bound + slower > 2) { /* else L2 takes longer all the same */
        moe_int_times alone = *times;
        alone.full *= times->bound;
        alone.tail *= times->bound;
        alone.bound = 1;
        slower = slow_down(r, work_us, flops, join_times(r, &alone, 1));
        kernel->cost.us = moe_int_most(kernel->cost.us, join_times(r, &alone, slower));
    }
    return slower;
}
