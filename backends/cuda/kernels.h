/* Launchers of the portable kernels (sm_80 and newer). Element type is MOE_BF16 or MOE_F16; every
 * launcher returns the launch's error. Widths are multiples of 8. */
#ifndef MOE_CUDA_KERNELS_H
#define MOE_CUDA_KERNELS_H

#include "activation.cuh"
#include "buffers.h"
#include "launch.h"
#include "weight_target.cuh"

#include <cuda_runtime.h>

/* 128 rows of an expert, from 128 index on; the last tile has fewer. */
struct alignas(16) RowTile {
    int expert, index;
    int row0, rows;     /* the expert's first row and how many it has */
    int group0, height; /* tiles group0 ... group0 + height - 1 are multiplied side by side */
    int unused[2];
};

/* Rows grouped by expert, on the device. */
struct RowGroups {
    int *offsets;      /* [bins + 1]; bins >= E are identity experts */
    int *tile_offsets; /* [E + 1] running sum of 128-row tiles */
    RowTile *tiles;    /* [row_tiles_cap()], expert by expert */
    int *token;        /* [cap] */
    float *weight;     /* [cap] */
    int E, bins, cap;

    static RowGroups empty(int E, int bins, int cap) {
        return {nullptr, nullptr, nullptr, nullptr, nullptr, E, bins, cap};
    }
};

static_assert(sizeof(RowTile) == BUFFER_TILE_BYTES, "buffers.h says how large the list is");

/* Most tiles that `cap` rows of E experts can have. */
inline int row_tiles_cap(int cap, int E) {
    return (int)moe_int_cuda_most_tiles(cap, E);
}

/* generic_gemm.cu -------------------------------------------------------------------------- */

/* How the operands of C = A B lie in memory; "rows" is the dimension grouped by expert. */
enum GenericForm {
    GENERIC_NT, /* C[rows][N] = A[rows][K] B[e][N][K]^T */
    GENERIC_NN, /* C[rows][N] = A[rows][K] B[e][K][N] */
    GENERIC_TN  /* C[e][M][N] = A[rows][M]^T B[rows][N] */
};

struct GenericArgs {
    const void *a, *b;
    int lda, ldb;
    int64_t b_stride;         /* elements from expert to expert; NT and NN */
    const int *a_map, *b_map; /* row -> row of a or b; NULL: the same */
    const RowGroups *rows;
    int M, N, K; /* the grouped dimension's size is taken from rows */
    void *out;   /* element type, or float */
    int out_f32, ldc;
    int64_t out_stride;     /* TN: elements from expert to expert */
    const void *bias;       /* [E][N] or NULL */
    const float *row_scale; /* [rows] or NULL */
    WeightTarget target;    /* TN: instead of out, if it has one */

    /* C[rows][N] = A[rows][K] B_e, weights [E][N][K] (GENERIC_NT) or [E][K][N] (GENERIC_NN). */
    static GenericArgs of_rows(const RowGroups *rows, GenericForm form, const void *a,
                               const void *b, int N, int K, void *out) {
        GenericArgs g = {};
        g.rows = rows;
        g.a = a;
        g.b = b;
        g.lda = g.K = K;
        g.ldb = form == GENERIC_NT ? K : N;
        g.b_stride = (int64_t)N * K;
        g.N = g.ldc = N;
        g.out = out;
        return g;
    }

    /* GENERIC_TN: C[e][M][N] = A[rows][M]^T B[rows][N]; rows of A lie lda apart, M of them count.
     */
    static GenericArgs over_rows(const RowGroups *rows, const void *a, int lda, int M,
                                 const void *b, int N, void *out) {
        GenericArgs g = {};
        g.rows = rows;
        g.a = a;
        g.b = b;
        g.lda = lda;
        g.M = M;
        g.ldb = g.N = g.ldc = N;
        g.out = out;
        g.out_stride = (int64_t)M * N;
        return g;
    }
};
cudaError_t generic_gemm(int dtype, GenericForm form, const GenericArgs *args,
                         const Stream &stream);

/* expert_kernels.cu ------------------------------------------------------------------------ */

/* A from H; H is [rows][2n] (gates, then ups) or [rows][n]. */
cudaError_t act_forward(int dtype, const RowGroups *rows, const ActParams *act, int n,
                        const void *h, void *a, const Stream &stream);

/* From da = dA' and H: A' = s A, dH and ds[row] = <dA', A>. weight NULL: s = 1. */
cudaError_t act_backward(int dtype, const RowGroups *rows, const ActParams *act, int n,
                         const void *h, const float *weight, const float *da, void *a, void *dh,
                         float *ds, const Stream &stream);

/* ds[row] = sum of `parts` partial sums, plus <dO, b2> where b2 is given; rows of identity experts
 * get <dO, x>. part NULL: only the identity experts' rows are written. */
struct DsArgs {
    const float *part;
    int parts;
    const void *dout, *b2, *x;
    int d;
    float *ds;
};
cudaError_t sum_ds_parts(const RowGroups *rows, const float *part, int parts, float *ds,
                         const Stream &stream);
cudaError_t finish_ds(int dtype, const RowGroups *rows, const DsArgs *args, const Stream &stream);

/* ds[row] = <dxp[row], x[token]>: the weight sat on the input. */
cudaError_t input_weight_ds(int dtype, const RowGroups *rows, int d, const void *dxp, const void *x,
                            float *ds, const Stream &stream);

/* out[row] = weight[row] * in[row]. */
cudaError_t scale_rows(int dtype, const RowGroups *rows, int width, const void *in, void *out,
                       const Stream &stream);

/* out[e][c] = sum over the expert's rows of s * in[map(row)][c], fp32; map and weight may be NULL.
 */
cudaError_t column_sums(int dtype, const RowGroups *rows, int width, const void *in, int ld,
                        const int *map, const float *weight, float *out, const Stream &stream);

/* combine.cu ------------------------------------------------------------------------------- */

/* out[t] = start + sum over the token's pairs of weight * rows[pair] (+ weight * identity[t] for
 * pairs of identity experts) + shared_weight[t] * shared[t] + gate[t] * gate_row. */
struct CombineArgs {
    int tokens, d;
    int K; /* pairs that a token has as a rule: how many are looked up at a time */
    const int *token_offsets, *pair_of_token;
    const int *offsets; /* offsets[E]: first identity pair */
    int E;
    const float *weight;        /* of all pairs */
    int weigh_rows;             /* 0: real pairs count once */
    const void *rows;           /* [pairs][d] */
    const void *const *row_at;  /* [pairs] where rows lie instead, or NULL */
    const int *broken;          /* with row_at: 1 there, and nothing is read or written */
    const void *identity;       /* [T][d] */
    const void *shared;         /* [T][d] or NULL */
    const float *shared_weight; /* [T] or NULL: 1 */
    const float *gate;          /* [T] or NULL */
    const void *gate_row;       /* [d] */
    const float *start;         /* [T][d] or NULL */
    void *out;
};
cudaError_t combine(int dtype, const CombineArgs *args, const Stream &stream);

/* router.cu -------------------------------------------------------------------------------- */

struct RouterArgs {
    const moe_router_desc *desc;
    int tokens, outputs, K; /* outputs = E + n_zero */
    const float *logits;    /* [T][outputs] */
    const float *b_select;  /* [outputs] or NULL */
    int *expert;            /* [T][K] */
    float *expert_weight;   /* [T][K] */
    const int *pair;        /* [T][K] row of each choice; backward */
    const float *ds;        /* [pairs]; backward */
    void *dz;               /* [T][dz_ld] element type, high and low halves; backward */
    int dz_ld;
};
cudaError_t router_choose(const RouterArgs *args, const Stream &stream);
cudaError_t router_backward(int dtype, const RouterArgs *args, const Stream &stream);

/* slots.cu: a call of an operator --------------------------------------------------------- */

/* out[i] = i * numerator / denominator */
cudaError_t fill_steps(int *out, int count, int64_t numerator, int denominator,
                       const Stream &stream);
/* out[i] = j for j = i % half below `most`, else 0 */
cudaError_t fill_folded(int *out, int count, int half, int most, const Stream &stream);

/* out[slot] = the sum of `parts` numbers at part[pair[slot]], `cap` apart; 0 for empty slots */
cudaError_t give_slots(const int *pair, const float *part, int parts, int cap, int64_t count,
                       float *out, const Stream &stream);

/* Elements of 16 bits: out [E][rows][columns] dense, gate rows first, from wherever `from` says
 * they lie (`out` of it is read here). */
cudaError_t gather_weight(const WeightTarget *from, int E, int rows, int columns, void *out,
                          const Stream &stream);
/* to: a dense gradient [E][rows] in the layer's type or fp32, gates and ups interleaved or not. */
cudaError_t give_gradient(int dtype, const WeightTarget *to, int E, int64_t rows, const float *in,
                          const Stream &stream);
cudaError_t widen(int dtype, const void *in, int count, float *out, const Stream &stream);

/* metadata.cu ------------------------------------------------------------------------------ */

struct SortArgs {
    int tokens, K;
    const int *expert;   /* [T][K]; -1: none */
    const float *weight; /* [T][K] */
    int *counts;         /* [chunks][bins] scratch */
    int chunk;           /* tokens of a chunk, as buffers.h says */
    int *pair;           /* [T][K] row of each choice, -1 of none */
};
/* A caller's slots, [T][K]: experts outside 0 .. bins-1 are none. */
struct SlotArgs {
    const void *index, *weight;
    bool wide_index, f32_weight; /* int64; else the layer's type */
    int *expert;                 /* [T][K] -1: none */
    float *expert_weight;        /* [T][K] */
    int *token_offsets;          /* [T + 1] multiples of K */
};
/* Fills offsets, tile_offsets, tiles, token, weight and pair: stable by token within an expert. */
cudaError_t sort_by_expert(const SortArgs *args, const RowGroups *rows, const Stream &stream);
/* The same of a caller's slots, which become args->expert and args->weight. */
cudaError_t sort_slots(int dtype, const SlotArgs *slots, const SortArgs *args,
                       const RowGroups *rows, const Stream &stream);
/* tile_offsets and tiles from offsets. */
cudaError_t list_tiles(const RowGroups *rows, const Stream &stream);

/* gate.cu: the shared expert's gate -------------------------------------------------------- */

/* s[t] = sigmoid(<x_t, w>) */
cudaError_t gate_forward(int dtype, int tokens, int d, const void *x, const void *w, float *s,
                         const Stream &stream);
/* dz[t] = ds[t] s (1 - s) */
cudaError_t gate_slope(int tokens, const float *s, const float *ds, float *dz,
                       const Stream &stream);

#endif
