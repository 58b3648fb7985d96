/* Tensor maps of the Hopper kernels (see HopperArgs for their coordinates). */
#include "layer.h"
#include "turns.h"

#include <cudaTypedefs.h>

namespace {

PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(
        driver_function("cuTensorMapEncodeTiled", 12000));
}

struct Encoder {
    PFN_cuTensorMapEncodeTiled_v12000 encode;
    CUtensorMapDataType type;
    CUresult result;

    template <int rank>
    void map(void *base, const cuuint64_t (&dims)[rank], const cuuint64_t (&strides)[rank - 1],
             const cuuint32_t (&box)[rank], CUtensorMap *ret) {
        const cuuint32_t step[4] = {1, 1, 1, 1};
        CUresult r = encode(ret, type, rank, base, dims, strides, box, step,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
        if (r != CUDA_SUCCESS)
            result = r;
    }

    /* [groups][rows][columns], contiguous. */
    void weights(void *base, int64_t groups, int64_t rows, int64_t columns, int box_rows,
                 CUtensorMap *ret) {
        cuuint64_t dims[3] = {(cuuint64_t)columns, (cuuint64_t)rows, (cuuint64_t)groups};
        cuuint64_t strides[2] = {(cuuint64_t)columns * 2, (cuuint64_t)(rows * columns) * 2};
        map<3>(base, dims, strides, {64, (cuuint32_t)box_rows, 1}, ret);
    }

    /* The same for boxes of 64 rows and 64 `slabs` columns, slab by slab: {64, rows, groups,
     * columns / 64}. */
    void weight_slabs(void *base, int64_t groups, int64_t rows, int64_t columns, int slabs,
                      CUtensorMap *ret) {
        cuuint64_t dims[4] = {64, (cuuint64_t)rows, (cuuint64_t)groups, (cuuint64_t)columns / 64};
        cuuint64_t strides[3] = {(cuuint64_t)columns * 2, (cuuint64_t)(rows * columns) * 2, 128};
        map<4>(base, dims, strides, {64, 64, 1, (cuuint32_t)slabs}, ret);
    }

    /* Rows of pairs, `columns` of them from `base` on, ld elements apart. Index {c, cap - rows_left
     * + r, end} is row end - rows_left + r: the map's base lies cap rows below the buffer, and its
     * middle dimension ends at cap, so rows at or after `end` do not exist. */
    void pairs(void *base, int64_t cap, int64_t columns, int64_t ld, int box_rows,
               CUtensorMap *ret) {
        cuuint64_t dims[3] = {(cuuint64_t)columns, (cuuint64_t)cap, (cuuint64_t)cap + 1};
        cuuint64_t strides[2] = {(cuuint64_t)ld * 2, (cuuint64_t)ld * 2};
        char *below = static_cast<char *>(base) - cap * ld * 2;
        map<3>(below, dims, strides, {64, (cuuint32_t)box_rows, 1}, ret);
    }

    /* The same in slabs, for rows of `columns` elements: {64, row, end, columns / 64}. */
    void pair_slabs(void *base, int64_t cap, int64_t columns, int slabs, CUtensorMap *ret) {
        cuuint64_t dims[4] = {64, (cuuint64_t)cap, (cuuint64_t)cap + 1, (cuuint64_t)columns / 64};
        cuuint64_t strides[3] = {(cuuint64_t)columns * 2, (cuuint64_t)columns * 2, 128};
        char *below = static_cast<char *>(base) - cap * columns * 2;
        map<4>(below, dims, strides, {64, 64, 1, (cuuint32_t)slabs}, ret);
    }
};

char *columns_at(void *base, int64_t column) {
    return static_cast<char *>(base) + column * 2;
}

/* What all of an expert bank's GEMMs share. */
HopperArgs common_args(const Layer *layer, const Experts *x) {
    HopperArgs g = {};
    g.offsets = x->rows.offsets;
    g.tiles = x->rows.tiles;
    g.tiles_from = x->rows.tile_offsets;
    g.tiles_to = x->rows.tile_offsets + x->rows.E;
    g.token = x->rows.token;
    g.E = x->rows.E;
    g.rows_cap = x->rows.cap;
    g.act = layer->act;
    return g;
}

bool op_takes_turns(HopperOp op, int columns, int k) {
    return (op == HOPPER_DOWN || op == HOPPER_DXP) && takes_turns(columns, k);
}

int tile_columns(HopperOp op, const HopperArgs *g) {
    return hopper_tile_columns(op, g->pingpong);
}

/* C[rows][columns] = A[rows][k] B: the tile counts. */
void set_shape(HopperArgs *g, HopperOp op, int columns, int k) {
    g->columns = columns;
    g->k_blocks = k / HOPPER_BK;
    g->pingpong = op_takes_turns(op, columns, k);
    const int tile = tile_columns(op, g);
    g->n_tiles = (columns + tile - 1) / tile;
}

/* C[rows][columns] of every expert. */
void set_weight_shape(HopperArgs *g, HopperOp op, int rows, int columns) {
    set_shape(g, op, columns, 0);
    g->m_tiles = (rows + HOPPER_BM - 1) / HOPPER_BM;
}

void make_forward(const Layer *layer, Experts *x, Encoder *enc) {
    const int d = (int)layer->desc.d, n = x->n, hw = x->hw, E = x->rows.E, cap = x->rows.cap;
    const bool gated = hw != n;
    const HopperOp up_op = gated ? HOPPER_UP_ACT : HOPPER_UP;
    HopperArgs *up = &x->op[up_op], *down = &x->op[HOPPER_DOWN];
    *up = *down = common_args(layer, x);
    up->gather = layer->x;
    up->gather_width = d;
    up->bias = x->b1;
    up->row_scale = x->on_input ? x->rows.weight : nullptr;
    set_shape(up, up_op, n, d);
    enc->weights(x->w1, gated ? 2 * E : E, n, d, tile_columns(up_op, up), &up->b);
    up->skips_hidden = !x->h; /* then only A has an output */
    if (x->h)
        enc->pairs(x->h, cap, n, hw, 64, &up->out[0]);
    if (gated) {
        if (x->h)
            enc->pairs(columns_at(x->h, n), cap, n, hw, 64, &up->out[1]);
        enc->pairs(x->a, cap, n, n, 64, &up->out[2]);
    }
    down->bias = x->b2;
    set_shape(down, HOPPER_DOWN, d, n);
    enc->pairs(x->a, cap, n, n, 128, &down->a);
    enc->weights(x->w2, E, d, n, tile_columns(HOPPER_DOWN, down), &down->b);
    enc->pairs(x->y, cap, d, d, 64, &down->out[0]);
}

void make_backward(const Layer *layer, Experts *x, Encoder *enc) {
    const int d = (int)layer->desc.d, n = x->n, hw = x->hw, E = x->rows.E, cap = x->rows.cap;
    const bool gated = hw != n;
    void *dh_for_weights = x->on_input ? x->dh_scaled : x->dh;
    HopperArgs *da = &x->op[HOPPER_DA_DACT], *dxp = &x->op[HOPPER_DXP];
    HopperArgs *dw2 = &x->op[HOPPER_DW2], *dw1 = &x->op[HOPPER_DW1];
    *da = *dxp = *dw2 = *dw1 = common_args(layer, x);
    da->gather = dw2->gather = layer->dout;
    dw1->gather = layer->x;
    da->gather_width = dw2->gather_width = dw1->gather_width = d;
    da->weight = x->weight;
    da->ds_part = x->ds_part;
    set_shape(da, HOPPER_DA_DACT, n, d);
    enc->weight_slabs(x->w2, E, d, n, tile_columns(HOPPER_DA_DACT, da) / 64, &da->b);
    if (gated) {
        enc->pairs(x->dh, cap, n, hw, 64, &da->out[0]);
        enc->pairs(columns_at(x->dh, n), cap, n, hw, 64, &da->out[1]);
        enc->pairs(x->a, cap, n, n, 64, &da->out[2]);
        enc->pairs(x->h, cap, n, hw, 128, &da->in[0]);
        enc->pairs(columns_at(x->h, n), cap, n, hw, 128, &da->in[1]);
    }
    set_shape(dxp, HOPPER_DXP, d, hw);
    enc->pairs(x->dh, cap, hw, hw, 128, &dxp->a);
    enc->weight_slabs(x->w1, E, hw, d, tile_columns(HOPPER_DXP, dxp) / 64, &dxp->b);
    enc->pairs(x->y, cap, d, d, 64, &dxp->out[0]);
    set_weight_shape(dw2, HOPPER_DW2, d, n);
    enc->pair_slabs(x->a, cap, n, tile_columns(HOPPER_DW2, dw2) / 64, &dw2->b);
    dw2->target = x->dw2_to;
    dw2->target_rows = d;
    if (x->dw2)
        enc->weights(x->dw2, E, d, n, 64, &dw2->out[0]);
    set_weight_shape(dw1, HOPPER_DW1, d, hw); /* C^T: rows are columns of W1 */
    enc->pair_slabs(dh_for_weights, cap, hw, tile_columns(HOPPER_DW1, dw1) / 64, &dw1->b);
    dw1->target = x->dw1_to;
    dw1->target_rows = d;
    if (x->dw1)
        enc->weights(x->dw1, E, hw, d, 64, &dw1->out[0]);
}

} // namespace

moe_status experts_make_maps(Layer *layer, Experts *x) {
    static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
    if (!x->hopper)
        return MOE_OK;
    Encoder enc = {encode,
                   layer->dtype == MOE_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                            : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                   CUDA_SUCCESS};
    if (!enc.encode)
        return moe_fail(layer->dev->log, MOE_E_DEVICE,
                        "cuda: the driver has no cuTensorMapEncodeTiled; it is older than 12.0");
    if (!layer->arena || !layer->arena->backward)
        make_forward(layer, x, &enc);
    if (layer->use.pass & MOE_PASS_BWD)
        make_backward(layer, x, &enc);
    if (enc.result != CUDA_SUCCESS)
        return moe_fail(layer->dev->log, MOE_E_DEVICE, "cuda: a tensor map was refused (error %d)",
                        (int)enc.result);
    return MOE_OK;
}
