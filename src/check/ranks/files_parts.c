/* Gradients of experts that lie in parts or on several ranks, in the files of those: put together
 * as one device's. */
#include "check/ranks/files.h"
#include "layer/cut.h"

#include <stdlib.h>
#include <string.h>

typedef struct joining {
    const moe_tensor *from;
    int64_t at; /* of the slot in `from` */
    double *to;
    bool add;
} joining;

static void take_cut(void *user, int64_t whole, int64_t part, int64_t count) {
    const joining *k = user;
    for (int64_t i = 0; i < count; i++) {
        const double x = moe_load(k->from->data, k->from->dtype, (size_t)(k->at + part + i));
        k->to[whole + i] = k->add ? k->to[whole + i] + x : x;
    }
}

static moe_tensor shape_of(const moe_layer_desc *desc, moe_tensor_id id, int64_t experts,
                           int64_t units) {
    moe_layer_desc own = *desc;
    moe_tensor shape = {0};
    own.E = experts;
    own.n = units;
    moe_tensor_shape(&own, id, 1, 0, 0, &shape);
    return shape;
}

static int64_t unit_of(const moe_problem *problem, const moe_ep_slots *s, int32_t part) {
    return part * problem->layer.n / s->tp;
}

static int64_t first_unit(const moe_problem *problem, const moe_ep_slots *s, int32_t rank) {
    return unit_of(problem, s, rank % s->tp);
}

static int64_t units(const moe_problem *problem, const moe_ep_slots *s, int32_t rank) {
    return unit_of(problem, s, rank % s->tp + 1) - first_unit(problem, s, rank);
}

/* A slot of the same part of the same expert on a rank before; -1: there is none. */
static int64_t former(const moe_ep_slots *s, int32_t rank, int64_t slot, int32_t *ret_rank) {
    for (int32_t r = rank % s->tp; r < rank; r += s->tp)
        for (int64_t i = s->first[r]; i < s->first[r + 1]; i++)
            if (s->expert[i] == s->expert[slot]) {
                *ret_rank = r;
                return i - s->first[r];
            }
    return -1;
}

/* One of a rank that has none is not asked for. */
static int64_t slots_of(const moe_tensor *part) {
    return part->shape[0] > 0 ? part->shape[0] : 1;
}

static const char *slot_of(const moe_tensor *part, int64_t slot, size_t *ret_bytes) {
    *ret_bytes = (size_t)(moe_tensor_bytes(part) / slots_of(part));
    return (const char *)part->data + (size_t)slot * *ret_bytes;
}

/* Replicas that have the same bits have been added up by whoever wrote them. */
static bool is_sum_already(const moe_tensor *parts, int32_t a, int64_t i, int32_t b, int64_t j) {
    size_t bytes, other;
    const char *x = slot_of(&parts[a], i, &bytes), *y = slot_of(&parts[b], j, &other);
    return bytes == other && memcmp(x, y, bytes) == 0;
}

static void join_slots(const moe_tensor *parts, moe_tensor_id id, const moe_problem *problem,
                       const moe_ep_slots *s, double *to) {
    const moe_tensor one = shape_of(&problem->layer, id, 1, problem->layer.n);
    for (int32_t r = 0; r < s->ranks; r++)
        for (int64_t i = s->first[r]; i < s->first[r + 1]; i++) {
            const int64_t slot = i - s->first[r];
            int32_t before = r;
            const int64_t other = former(s, r, i, &before);
            if ((id == MOE_T_DB2 && r % s->tp) ||
                (other >= 0 && is_sum_already(parts, before, other, r, slot)))
                continue;
            joining k = {&parts[r], slot * (moe_tensor_count(&parts[r]) / slots_of(&parts[r])),
                         to + s->expert[i] * moe_tensor_count(&one), other >= 0};
            moe_int_cut(&problem->layer, id, first_unit(problem, s, r), units(problem, s, r),
                        take_cut, &k);
        }
}

static moe_status check_shapes(const moe_int_files *f, const moe_tensor *parts, moe_tensor_id id,
                               const moe_ep_slots *s, const moe_log *log) {
    const moe_problem *problem = f->problem;
    char path[PATH_MAX];
    int32_t typed = 0; /* the first rank with a part */
    while (typed + 1 < s->ranks && !parts[typed].data)
        typed++;
    for (int32_t r = typed; r < s->ranks; r++)
        if (parts[r].data && parts[r].dtype != parts[typed].dtype)
            return moe_int_files_refuse(f, moe_tensor_name(id), r, typed, log);
    for (int32_t r = 0; r < s->ranks; r++) {
        const int64_t slots = s->first[r + 1] - s->first[r];
        const moe_tensor due = shape_of(&problem->layer, id, slots, units(problem, s, r));
        if (!slots || (parts[r].data && moe_tensor_same_shape(&parts[r], &due)))
            continue;
        moe_int_files_path(f, r, path);
        return moe_fail(log, MOE_E_INVALID,
                        "%s: %s of rank %d is not of the %lld experts, of %lld units each, that "
                        "the case gives it",
                        path, moe_tensor_name(id), (int)r, (long long)slots,
                        (long long)units(problem, s, r));
    }
    return MOE_OK;
}

static moe_dtype type_of(const moe_tensor *parts, int32_t ranks) {
    int32_t r = 0;
    while (r + 1 < ranks && !parts[r].data)
        r++;
    return parts[r].dtype;
}

bool moe_int_files_in_parts(const moe_problem *problem, moe_tensor_id id) {
    return (problem->split.tp > 1 || problem->split.n_replicas) &&
           moe_ep_placed_of(id) == MOE_EP_OF_EXPERTS;
}

moe_status moe_int_files_join(const moe_int_files *f, moe_tensor_id id, const moe_log *log,
                              moe_tensor *ret) {
    moe_tensor parts[MOE_EP_MAX_RANKS] = {{0}};
    const moe_problem *problem = f->problem;
    const moe_split *split = &problem->split;
    const moe_tensor shape = shape_of(&problem->layer, id, problem->layer.E, problem->layer.n);
    moe_ep_slots s;
    moe_status status = moe_ep_slots_make(problem->layer.E, moe_split_ranks(split), split->tp,
                                          split->replicas, split->n_replicas, log, &s);
    if (status)
        return status;
    for (int32_t r = 0; r < f->count; r++)
        parts[r] = moe_int_files_part(f, r, moe_tensor_name(id));
    status = check_shapes(f, parts, id, &s, log);
    moe_tensor sum = {0};
    if (!status)
        status = moe_tensor_alloc(MOE_F64, shape.ndim, shape.shape, &sum);
    if (!status)
        join_slots(parts, id, problem, &s, sum.data);
    if (!status)
        status = moe_tensor_cast(&sum, type_of(parts, s.ranks), ret);
    moe_tensor_destroy(&sum);
    moe_ep_slots_destroy(&s);
    return status;
}
