/* Layers that are larger than memory, piece by piece. The router's piece has every expert, but few
 * hidden units of each; the others have some experts as they are, and the plan that the router
 * made. Each is a layer, so whatever judges layers judges it. */
#include "core/elements.h"
#include "core/safetensors_int.h"
#include "hf/hf.h"
#include "layer/cut.h"
#include "layer/problem.h"
#include "moeref/reference.h"

#include <stdlib.h>
#include <string.h>

/* ---- which pieces ---- */

/* What judging holds at its worst, over a parameter's own element: its copies for the judge and
 * the backend; gradients in fp32 three times, the backend's, the first run's and the mirrored
 * input's, and two thirds of them once more while dW1 travels. */
static int64_t bytes_of_element(int32_t dtype) {
    return 2 * (int64_t)moe_dtype_size((moe_dtype)dtype) + (int64_t)4 * 3 + 3;
}

/* Beside that: programs, OpenBLAS's workspaces, and the float64 weights of one expert at a time in
 * the oracle, with their squares. */
enum { FIXED_BYTES = 400 << 20 };

static int64_t elements_of_expert(const moe_layer_desc *layer) {
    return (moe_h_width(layer, layer->n) + layer->n) * layer->d;
}

/* Rows of pairs in fp32: H, A, Y, dH, dX~, in the backend and in two sets of the judge. */
static int64_t bytes_of_pairs(const moe_layer_desc *layer, int64_t tokens) {
    return 12 * tokens * layer->K * (2 * moe_h_width(layer, layer->n) + layer->n + 2 * layer->d);
}

moe_status moe_int_hf_cut(const moe_layer_desc *layer, int32_t dtype, int64_t tokens, int64_t bytes,
                          moe_hf_piece **ret, size_t *ret_count) {
    const int64_t E = layer->E, element = elements_of_expert(layer);
    const int64_t fixed = FIXED_BYTES + (int64_t)3 * 8 * element;
    const int64_t each = element * bytes_of_element(dtype) + bytes_of_pairs(layer, tokens) / E;
    int64_t most = bytes > fixed ? (bytes - fixed) / each : 0;
    if (most >= E)
        return MOE_OK;
    const int64_t pieces = (E + (most < 1 ? 0 : most - 1)) / (most < 1 ? 1 : most);
    moe_hf_piece *at = calloc((size_t)pieces + 1, sizeof *at);
    if (!at)
        return MOE_E_NOMEM;
    at[0] = (moe_hf_piece){.units = MOE_HF_ROUTER_UNITS};
    for (int64_t i = 0; i < pieces; i++)
        at[i + 1] =
            (moe_hf_piece){.first = i * E / pieces, .count = (i + 1) * E / pieces - i * E / pieces};
    *ret = at;
    *ret_count = (size_t)pieces + 1;
    return MOE_OK;
}

/* ---- parameters ---- */

static bool is_of_experts(moe_tensor_id id) {
    return id == MOE_T_W1 || id == MOE_T_B1 || id == MOE_T_W2 || id == MOE_T_B2;
}

/* The parameters of the layer `desc` that `experts` says, in the type of the problem. */
static moe_status read_params(const moe_int_part_source *src, const moe_layer_desc *desc,
                              bool experts, int32_t dtype, const moe_log *log, moe_tensors *ret) {
    moe_status status = MOE_OK;
    for (int part = 0; !status && part < MOE_INT_PART_COUNT; part++) {
        const moe_tensor_id id = moe_int_part_param(part);
        if (is_of_experts(id) != experts || !moe_int_part_used(src, part))
            continue;
        if (!ret->t[id].data) {
            moe_tensor shape;
            moe_tensor_shape(desc, id, 0, 0, 0, &shape);
            status = moe_tensor_alloc((moe_dtype)dtype, shape.ndim, shape.shape, &ret->t[id]);
        }
        if (status)
            moe_fail(log, status, "%s: out of memory for %s", src->path, moe_tensor_name(id));
        else
            status = moe_int_part_copy(src, part, log, &ret->t[id]);
    }
    return status;
}

/* ---- the router's piece ---- */

static void copy_elements(const moe_tensor *src, int64_t from, int64_t count, moe_tensor *dst,
                          int64_t to) {
    const size_t size = moe_dtype_size(src->dtype);
    memcpy((char *)dst->data + (size_t)to * size, (const char *)src->data + (size_t)from * size,
           (size_t)count * size);
}

/* Expert e's first units, from the whole expert `one`. */
typedef struct cutting {
    const moe_tensor *one;
    moe_tensor *in;
    int64_t at; /* of the expert in `in` */
} cutting;

static void copy_cut(void *user, int64_t whole, int64_t part, int64_t count) {
    const cutting *k = user;
    copy_elements(k->one, whole, count, k->in, k->at + part);
}

static void cut_expert(const moe_layer_desc *whole, int64_t units, const moe_tensors *one,
                       int64_t e, moe_tensors *in) {
    static const moe_tensor_id of_experts[] = {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2};
    for (int i = 0; i < 4; i++) {
        moe_tensor *to = &in->t[of_experts[i]];
        cutting k = {&one->t[of_experts[i]], to,
                     to->data ? e * moe_tensor_count(to) / to->shape[0] : 0};
        if (to->data)
            moe_int_cut(whole, of_experts[i], 0, units, copy_cut, &k);
    }
}

static moe_status load_router(const moe_int_part_source *src, const moe_hf_piece *piece,
                              const moe_log *log, moe_problem *p) {
    static const moe_tensor_id of_experts[] = {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2};
    const moe_layer_desc whole = p->layer;
    moe_layer_desc single = whole;
    single.E = 1;
    p->layer.n = piece->units < whole.n ? piece->units : whole.n;
    moe_status status = read_params(src, &whole, false, p->dtype, log, &p->in);
    for (int i = 0; !status && i < 4; i++)
        if (moe_tensor_exists(&whole, of_experts[i], 0))
            status = moe_int_alloc_input(p, of_experts[i], log);
    moe_tensors one = {0};
    for (int64_t e = 0; !status && e < whole.E; e++) {
        moe_int_part_source of_one = *src;
        of_one.first = e;
        of_one.count = 1;
        status = read_params(&of_one, &single, true, p->dtype, log, &one);
        if (!status)
            cut_expert(&whole, p->layer.n, &one, e, &p->in);
        moe_int_st_forget(src->file); /* all experts may be more than there is memory */
    }
    moe_tensors_destroy(&one);
    return status;
}

/* ---- some experts ---- */

static bool is_in(const moe_hf_piece *piece, int64_t expert) {
    return expert >= piece->first && expert < piece->first + piece->count;
}

/* The pairs of `all` that belong to the piece's experts. */
static moe_status choose_pairs(const moe_plan *all, const moe_hf_piece *piece, const moe_log *log,
                               moe_plan **ret) {
    const size_t room = (size_t)all->n_pairs + 1;
    int32_t *token = malloc(room * sizeof *token), *expert = malloc(room * sizeof *expert);
    double *weight = malloc(room * sizeof *weight);
    moe_status status = token && expert && weight ? MOE_OK : MOE_E_NOMEM;
    int64_t n = 0;
    for (int64_t e = 0; !status && e < all->n_experts; e++)
        for (int64_t p = all->offsets[e]; is_in(piece, e) && p < all->offsets[e + 1]; p++, n++) {
            token[n] = all->token[p];
            expert[n] = (int32_t)(e - piece->first);
            weight[n] = all->weight[p];
        }
    status = status
                 ? moe_fail(log, status, "out of memory for a plan")
                 : moe_plan_create(all->n_tokens, piece->count, n, token, expert, weight, log, ret);
    free(token);
    free(expert);
    free(weight);
    return status;
}

/* The layer of these experts alone, which is given its plan. */
static moe_layer_desc desc_of(const moe_layer_desc *whole, const moe_hf_piece *piece) {
    moe_layer_desc plain, desc = *whole;
    moe_layer_desc_init(&plain);
    plain.router.weight_on = whole->router.weight_on;
    desc.router = plain.router;
    desc.E = piece->count;
    desc.K = whole->K < desc.E ? whole->K : desc.E;
    desc.n_zero = desc.n_shared = 0;
    desc.shared_gate = 0;
    return desc;
}

static moe_status load_experts(const moe_int_part_source *src, const moe_hf_piece *piece,
                               const moe_log *log, moe_problem *p) {
    const moe_layer_desc whole = p->layer;
    const moe_reference_params params = {.tokens = p->T, .precision = MOE_F64, .seed = p->seed};
    moe_tensors router = {0};
    moe_plan *all = NULL;
    moe_int_part_source wanted = *src;
    moe_status status = read_params(src, &whole, false, p->dtype, log, &router);
    if (!status) {
        moe_tensors in = router;
        in.t[MOE_T_X] = p->in.t[MOE_T_X];
        status = moe_reference_route(&whole, &in, &params, log, NULL, &all);
    }
    if (!status)
        status = choose_pairs(all, piece, log, &p->plan);
    moe_tensors_destroy(&router);
    moe_plan_destroy(&all);
    if (status)
        return status;
    p->layer = desc_of(&whole, piece);
    wanted.first = piece->first;
    wanted.count = piece->count;
    return read_params(&wanted, &p->layer, true, p->dtype, log, &p->in);
}

moe_status moe_int_hf_piece_load(const moe_int_part_source *src, const moe_hf_piece *piece,
                                 const moe_log *log, moe_problem *p) {
    if (piece->units > 0)
        return load_router(src, piece, log, p);
    if (piece->first < 0 || piece->count < 1 || piece->first > p->layer.E - piece->count)
        return moe_fail(log, MOE_E_INVALID, "%s: the layer has experts 0-%lld", src->path,
                        (long long)p->layer.E - 1);
    return load_experts(src, piece, log, p);
}
