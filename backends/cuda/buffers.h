/* The buffers of a layer: which there are and how large, on the backend's own memory and on an
 * operator's caller's. Plain C without a device: the backend allocates by this list, and the cost
 * model's ledger (sim/allocated.c) adds it up. */
#ifndef MOE_CUDA_BUFFERS_H
#define MOE_CUDA_BUFFERS_H

#include "moeref/plugin.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BUFFER_ALIGN = 256,      /* bytes, of the pieces of a caller's memory */
    BUFFER_TILE_ROWS = 128,  /* rows of an expert's tile */
    BUFFER_TILE_BYTES = 32,  /* of its entry in the list of tiles (RowTile) */
    BUFFER_DS_COLUMNS = 256, /* of dA' that one partial sum of dS covers */
    BUFFER_CHUNK_STEP = 8    /* the sort's chunks are of so many tokens, or a multiple */
};

/* What a buffer counts as in moe_memory. */
typedef enum BufferKind {
    BUFFER_WEIGHTS,
    BUFFER_CACHED,
    BUFFER_WORK,
    BUFFER_GRADIENTS,
    BUFFER_KINDS
} BufferKind;

/* The experts' come twice in the same order, the routed ones' and the shared one's. */
/* clang-format off */
#define BUFFERS_OF_EXPERTS(ROW, S, WORD)                                                           \
    ROW(W1##S, "W1" WORD) ROW(B1##S, "b1" WORD) ROW(W2##S, "W2" WORD) ROW(B2##S, "b2" WORD)        \
    ROW(DW1##S, "dW1" WORD) ROW(DW2##S, "dW2" WORD) ROW(DB1##S, "db1" WORD)                        \
    ROW(DB2##S, "db2" WORD) ROW(H##S, "H" WORD) ROW(A##S, "A, A'" WORD) ROW(Y##S, "Y, dX~" WORD)   \
    ROW(DS##S, "dS" WORD) ROW(DH##S, "dH" WORD) ROW(DS_PART##S, "dS parts" WORD)                   \
    ROW(DA##S, "dA'" WORD) ROW(DH_SCALED##S, "s dH" WORD)
#define BUFFERS(ROW)                                                                               \
    ROW(X, "X") ROW(O, "O") ROW(DOUT, "dO") ROW(DX, "dX")                                          \
    ROW(OFFSETS, "offsets") ROW(TILE_OFFSETS, "tile offsets") ROW(TOKEN_OFFSETS, "token offsets")  \
    ROW(TILES, "tiles") ROW(TOKEN, "token of pair") ROW(WEIGHT, "weight of pair")                  \
    ROW(PAIR_OF_TOKEN, "pair of token")                                                            \
    BUFFERS_OF_EXPERTS(ROW, , "") BUFFERS_OF_EXPERTS(ROW, _SHARED, " shared")                      \
    ROW(ALL_OFFSETS, "all tokens' offsets") ROW(ALL_TILE_OFFSETS, "all tokens' tile offsets")      \
    ROW(ALL_TILES, "all tokens' tiles") ROW(ALL_TOKENS, "all tokens")                              \
    ROW(SLICE_OFFSETS, "slices' offsets") ROW(SLICE_SUMS, "slices' sums")                          \
    ROW(W_R, "W_r") ROW(B_R, "b_r") ROW(B_SELECT, "b_select") ROW(LOGITS, "logits")                \
    ROW(CHOICE, "choices") ROW(CHOICE_WEIGHT, "choices' weights") ROW(COUNTS, "counts of chunks")  \
    ROW(DZ, "d logits") ROW(DZ_ROWS, "d logits' rows") ROW(DX_ROUTER, "dX router")                 \
    ROW(DW_R, "dW_r") ROW(DB_R, "db_r")                                                            \
    ROW(W_GATE, "w_gate") ROW(GATE, "gate") ROW(GATE_DZ, "d gate") ROW(DW_GATE, "dw_gate")
/* clang-format on */

typedef enum BufferId {
#define BUFFER_ID(id, name) BUFFER_##id,
    BUFFERS(BUFFER_ID)
#undef BUFFER_ID
        BUFFER_COUNT
} BufferId;

/* A buffer of the routed experts (BUFFER_W1 to BUFFER_DH_SCALED), or the shared one's. */
static inline BufferId buffer_of_experts(BufferId id, bool shared) {
    return (BufferId)((int)id + (shared ? BUFFER_W1_SHARED - BUFFER_W1 : 0));
}

/* All that decides sizes. */
typedef struct LayerShape {
    const moe_layer_desc *desc;
    int64_t tokens, columns; /* choices of a token: K, or an operator's slots */
    int64_t rows;            /* pairs that there is room for, zero experts' included */
    int sms;                 /* of the device */
    bool hopper;             /* its wgmma kernels run */
    bool plan_given, backward;
    bool of_caller; /* an operator's call: parameters, X, O, dO, dX and dW are its caller's */
    bool keeps;     /* false: an operator for inference, whose H nobody asks for again */
    bool away;      /* the routed experts run on other ranks */
} LayerShape;

typedef struct LayerBuffers {
    int64_t bytes[BUFFER_COUNT]; /* -1: there is no such buffer */
    BufferKind kind[BUFFER_COUNT];
} LayerBuffers;

/* "H shared" */
const char *moe_int_cuda_buffer_name(BufferId id);
void moe_int_cuda_buffers(const LayerShape *shape, LayerBuffers *ret);

/* Of a layer on the backend's own memory, in which nothing is given back between passes. */
moe_memory moe_int_cuda_memory(const LayerBuffers *buffers);
/* Pieces of a caller's memory lie BUFFER_ALIGN apart. */
int64_t moe_int_cuda_padded(int64_t bytes);
/* Whether a piece of an operator's is in `cached`, or in the workspace. */
bool moe_int_cuda_is_cached(BufferKind kind, bool keeps);
/* What an operator asks its caller for: forward and, if it trains, backward calls of so many tokens
 * and slots. Of a shape only desc, tokens, columns, sms, hopper and plan_given are looked at. */
moe_operator_sizes moe_int_cuda_operator_sizes(const LayerShape *shape, bool trains);

/* Parameters of an operator's call that the kernels need in another order, in turn. */
enum { BUFFERS_CONVERTIBLE = 5 };
extern const moe_tensor_id moe_int_cuda_convertible[BUFFERS_CONVERTIBLE];
bool moe_int_cuda_is_interleaved(const moe_layer_desc *desc, moe_tensor_id id);
bool moe_int_cuda_is_row_major(const moe_view *v);
/* Where such a parameter lies in call->converted, of whose base the first aligned byte counts; -1:
 * it is used where it is. */
int64_t moe_int_cuda_converted_at(const moe_layer_desc *desc, const moe_call *call,
                                  moe_tensor_id id);
/* Bytes of all of them; 0: none. */
int64_t moe_int_cuda_converted_bytes(const moe_layer_desc *desc, const moe_call *call);

/* The most rows that can come: of all slots, or of the pairs that the layer's router can make. */
int64_t moe_int_cuda_most_rows(const LayerShape *shape);
/* Entries of the list of tiles of `rows` rows of E experts. */
int64_t moe_int_cuda_most_tiles(int64_t rows, int64_t E);
/* Tokens that a block sorts, of at most as many blocks as there are multiprocessors. */
int moe_int_cuda_chunk(int64_t tokens, int sms);
/* Slices in which sums over all tokens of up to `height` rows of d columns are made. */
int moe_int_cuda_slices(int64_t tokens, int64_t d, int64_t height, int sms);
/* Elements of a row of d logits: two of 16 bits for each, in rows of 16 bytes. */
int moe_int_cuda_dz_ld(const moe_layer_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
