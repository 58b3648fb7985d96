/* Verdicts: is a backend's output right, and if not, where?
 *
 * The order of the checks (all are reported, the first kind that fails gives the verdict): buffers
 * (canaries, unwritten elements, inputs changed), finiteness, routing, then values tensor by tensor
 * against float64 with the gates of gates.c, then bitwise repetition. */
#ifndef MOEREF_CHECK_H
#define MOEREF_CHECK_H

#include "moeref/backend.h"
#include "moeref/case.h"
#include "moeref/ep.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum moe_verdict {
    MOE_VERDICT_PASS = 0,
    MOE_VERDICT_AMBIGUOUS = 1,  /* passed, with routing choices inside the rounding margin */
    MOE_VERDICT_SKIP = 2,       /* the backend does not support the case, and says why */
    MOE_VERDICT_MISTRUSTED = 3, /* the case cannot tell a wrong result from a right one: at all, or
                                   in what it is there to decide. A case that is there for nothing
                                   in particular passes, MISTRUSTED for `undecided` */
    MOE_VERDICT_FAIL = 4,
    MOE_VERDICT_ERROR = 5 /* could not be run */
} moe_verdict;
/* "pass", "ambiguous", "skip", "mistrusted", "fail" or "error". */
MOE_API const char *moe_verdict_str(moe_verdict verdict);

/* Limits for one kind of tensor at one arithmetic; 0 in a field: not gated. Their origin is in
 * src/check/compare/gates.c. NMSE = sum (out - ref)^2 / sum ref^2.
 * Thread-safety: plain data. */
typedef struct moe_gate {
    double nmse;       /* whole tensor */
    double group_nmse; /* worst token, or worst expert for weight gradients */
    double tile_nmse;  /* worst 128-row tile */
    double max_z;
    double row_rms_z;
} moe_gate;

#define MOE_GATES_VERSION 2
/* The gate of tensor `id` for results in `arithmetic`. */
MOE_API moe_gate moe_gate_for(moe_tensor_id id, moe_dtype arithmetic);

/* One tensor's judgement. Fields that do not apply are 0.
 * Thread-safety: plain data. */
typedef struct moe_tensor_verdict {
    char name[24]; /* moe_tensor_name, or "topk_index" */
    moe_verdict verdict;
    char why[160];     /* "" when passed: which gate, or which rule, with figures */
    const char *truth; /* "oracle", "golden", "sampled" or "given" */
    double nmse;
    double worst_group_nmse; /* token or expert */
    int64_t worst_group;
    double worst_tile_nmse;
    int64_t worst_tile; /* first row of the tile */
    double max_abs, max_z, row_rms_z;
    int64_t worst_index[MOE_MAX_DIMS]; /* element with the largest z (or |d| without z) */
    int32_t worst_ndim;
    int64_t worst_expert; /* expert of that element where the tensor has one, else -1 */
    double got, want;
    int64_t bad_elements; /* unwritten, or not finite where the oracle is finite */
    int64_t nonzero;      /* elements judged against a finite truth other than 0 */
    int64_t not_compared; /* the truth itself is not finite there, or on the edge of a branch */
    char where[320];   /* "" or where the error is concentrated: experts, rows, tokens, columns */
    moe_gate gate;     /* the limits that it was held against */
    double floor_nmse; /* NMSE that a correct kernel is expected to have here; 0: unknown */
} moe_tensor_verdict;

/* What would make the results right again: the best of the hypotheses that were tried on a failing
 * subject. A residual is the NMSE of `tensor` against the truth, before and after the truth is
 * changed as the hypothesis says.
 * Thread-safety: plain data. */
typedef struct moe_explanation {
    char kind[32];   /* the hypothesis: "renorm_missing", "gate_up_swapped" ...; "": none explains
                        it, or nothing failed */
    char text[256];  /* one sentence with its parameters */
    char tensor[24]; /* where the residuals were measured */
    double before, after;
    struct {
        char name[16]; /* "expert", "factor", "first_row" ... */
        double value;
    } param[6];
    int32_t n_params;
    int32_t tried; /* hypotheses that were tried; 0: none was, as nothing failed */
    bool ended;    /* there are more: who waited had enough (moe_check_waiting) */
} moe_explanation;

/* Features of a layer, like "clamp_gate_above": what a case can decide, counted in tokens, pairs or
 * elements (src/check/coverage). */
#define MOE_FEATURES_MAX 128
/* How many there are, and the name of number 0 .. moe_features()-1, and what is counted. */
MOE_API int32_t moe_features(void);
MOE_API const char *moe_feature_name(int32_t feature);
MOE_API const char *moe_feature_counted(int32_t feature); /* "gates above the limit" */

/* How often each feature decides something in a case: a backend without it would give other
 * results there.
 * Thread-safety: plain data. */
typedef struct moe_coverage {
    bool counted;  /* false: nobody asked, the case was refused, or its truth is a sample */
    int32_t dtype; /* moe_dtype of the inputs */
    int64_t decided[MOE_FEATURES_MAX];
    bool carried[MOE_FEATURES_MAX]; /* the case asks for it */
} moe_coverage;
/* Batch invariance: has a token's O (and dX; with a given plan dS) the same bits alone, among
 * others, in another order, beside padding? Batches of 1, 2, 17, 64, 257 and 512 of the problem's
 * tokens are held against the one of 512 in order, with the router and with the plan it chose.
 * Thread-safety: plain data. */
typedef struct moe_invariance {
    bool asked;          /* false: the rest is 0 */
    moe_verdict verdict; /* FAIL only where it was promised; SKIP: it differs without that, or the
                            question does not apply */
    bool promised;       /* MOE_PROMISE_BATCH_INVARIANT, for every batch */
    char why[256];
    int32_t arrangements; /* that were compared */
    char agree[1000];     /* which of them have all the same bits, and which have not */
    char differ[1000];
    char tensor[24]; /* of the first difference; "": there is none */
    char arrangement[48];
    int64_t token, element; /* of the problem's tokens, of the token's row */
    double got, want;       /* in that arrangement, and in the one of 512 in order */
    double largest;         /* difference of all */
} moe_invariance;

/* A layer over several ranks, beside its results: what went where, how much of it, and whether that
 * gives one rank's bits.
 * Thread-safety: plain data. */
typedef struct moe_ranks {
    bool asked; /* false: the rest is 0 */
    moe_verdict verdict;
    char why[256];
    int32_t ranks;
    char transport[24], combine[8];
    int64_t rows;      /* whose places were checked by what lies in them; 0: too narrow for that */
    int64_t bytes;     /* sent by all ranks in a forward and a backward */
    int64_t same;      /* elements with one rank's bits */
    int64_t differ;    /* and those without */
    char not_same[64]; /* tensors whose bits may differ: sums of ranks' parts */
    int32_t repeats;   /* runs with random delays that gave the same bits */
} moe_ranks;

/* One product of the layer in an arithmetic that is known bit for bit.
 * Thread-safety: plain data. */
typedef struct moe_bits_stage {
    char name[24];            /* of the tensor */
    char arithmetic[96];      /* the one given, or the one of the bank that has most elements */
    int64_t total;            /* elements of the tensor; of large ones rows are left out */
    int64_t elements, differ; /* compared, and those that have other bits */
    int64_t undecided;        /* of the compared: what they are made of leaves two numbers open */
    int32_t explained_by;     /* arithmetics of the bank that give all of them; 0 where not tried */
    char first[512];          /* the first difference, and the chain that leads to the right bits */
} moe_bits_stage;

#define MOE_BITS_STAGES 10
/* The stages of a layer, each from the subject's own ones before it: router_logits, H, A, Y, O, dH,
 * dXp, dX, dW1, dW2.
 * Thread-safety: plain data. */
typedef struct moe_bits {
    bool asked;    /* false: the rest is 0 */
    bool declared; /* nobody but the backend itself named the arithmetic */
    char why[160]; /* "" or why nothing was compared */
    int32_t n_stages;
    moe_bits_stage stage[MOE_BITS_STAGES];
} moe_bits;

#define MOE_MAP_ROWS    64
#define MOE_MAP_COLUMNS 48

/* How a failing tensor's error lies over experts and tiles: a grid with a row for each expert (of a
 * shared expert's gradient: for each tile of its rows) and a column for each tile of what
 * `across` counts: "row" of the expert's pairs, "token", or "row" or "column" of its slice.
 * A token's error counts in the cell of each of its experts. Without pointers, so that it can be
 * copied, or sent to another process.
 * Thread-safety: plain data. */
typedef struct moe_error_map {
    char tensor[24], down[16], across[16];
    int64_t tile;          /* of `across`, in a column */
    int64_t extent;        /* of `across` in all; the last tile may have fewer */
    int64_t rows_of;       /* rows that there are; where they are too many, the worst are shown */
    int32_t rows, columns; /* of the grid */
    int64_t row[MOE_MAP_ROWS]; /* ascending: expert, or first row of the tile */
    /* Squared error over the largest that the gate lets pass: above 1 is too large, infinite not
     * finite or nonzero where only 0 is right, negative a cell without elements. */
    float over[MOE_MAP_ROWS][MOE_MAP_COLUMNS];
    float nmse[MOE_MAP_ROWS][MOE_MAP_COLUMNS];
} moe_error_map;

#define MOE_BLOCK_RESULTS 40 /* most that a block around the layer adds to its tensors */

/* Thread-safety: plain data. */
typedef struct moe_check_result {
    char *case_name, *backend, *reproduce; /* owned by the result */
    moe_verdict verdict;
    char why[256];
    char first_wrong_stage[24]; /* first failing tensor in the order of computation, "" if none */
    int64_t ambiguous_tokens;
    int64_t checked_elements;
    char sampled[160];    /* what was sampled; "" when everything was compared */
    char identities[208]; /* then: tensors of which every element was held to what the subject made
                             it of, "H, A, Y, O; not: dH"; "" where none was asked for */
    char scouted[96];     /* then: whose fast run was looked through for the places that lie
                             farthest from it, which were judged too, and which tensors:
                             "openblas:fp32: O, dX, dS, dW1, dW2"; "" where there was none */
    char undecided[160];  /* features that the case is MISTRUSTED for, ", " between them: it carries
                             them and they decide nothing in it, so that a backend without them
                             passes. The verdict holds for all else; with must_decide it is
                             MISTRUSTED itself. "" none, or not counted */
    moe_explanation explanation;
    int32_t arithmetic; /* moe_dtype whose gates judged, and why that one */
    char arithmetic_why[64];
    char recipe[24]; /* whose rounding points, "" in fp32 and fp64; and why that one */
    char recipe_why[160];
    char suggestion[96]; /* on failure: the reading under which all would pass; "" if none does */
    int32_t narrower;    /* moe_dtype of it, where that is its arithmetic; 0: it is not */
    moe_coverage coverage;
    moe_invariance invariance;
    moe_bits bits;
    moe_ranks over_ranks;
    moe_tensor_verdict tensor[MOE_T_COUNT + 1 + MOE_BLOCK_RESULTS];
    size_t n_tensors;
    moe_error_map *map; /* [n_maps] of failing tensors, at most two of each; owned */
    size_t n_maps;
    double seconds;
} moe_check_result;

/* Who waits for a verdict; each may be NULL. Thread-safety: as moe_log. */
typedef struct moe_check_waiting {
    /* Told once, before or while the cause of a failure is looked for, if that takes long: of a
     * sampled layer at once, else after two seconds. `so_far` has tensors, verdict and why. */
    void (*failed)(void *user, const moe_check_result *so_far);
    /* Asked after `failed`, between hypotheses: is that enough? The result then has what was found,
     * and its explanation is `ended`. */
    bool (*enough)(void *user);
    void *user;
} moe_check_waiting;

/* Thread-safety: plain data. */
typedef struct moe_check_params {
    int64_t sample_above_flops; /* sample the oracle when a full one would need more model FLOPs; 0:
                                   default of 4e10; negative: never sample */
    int32_t repeats;      /* runs compared bit for bit if deterministic; 0: default of 2. Above
                             2 memory must not grow over as many calls, however long they
                             take; else over 4 short ones */
    int32_t threads;      /* the oracle's; 0: all */
    bool invariance;      /* moe_check_invariance too, unless the check failed */
    bool coverage;        /* count what the case decides */
    bool must_decide;     /* count it, and where a feature decides nothing the verdict of a
                             pass is MISTRUSTED */
    const char *dump_dir; /* on failure write inputs, outputs and the oracle into this folder,
                             which is made if need be (moe_check_bundle); NULL: no */
    int64_t map_tile;     /* rows, tokens or columns in a tile of an error map; 0: as fits. Doubled
                             until the map has at most MOE_MAP_COLUMNS columns */
    bool unwatched;       /* memory is not watched: threads of several ranks have it, or other
                             processes judge the same and must run what this one runs */
    bool no_explanation;  /* do not look for the cause of a failure, which takes longest */
    const char *spec;     /* how the backend was opened, for the reproducing line; NULL: its name */
    const char *bits;   /* compare bit for bit in this arithmetic, as moe_arithmetic_parse takes it;
                           "find": in all of the bank, to say which one it is; "none": do not. NULL:
                           in the one that the backend declares, if it does, and in fewer rows */
    const char *recipe; /* whose rounding points the results must have (recipe.h); NULL: those of
                           any recipe that explains them all, this project's own first */
    moe_backends *backends; /* where the truth is a sample, a backend of these runs the layer too,
                               and the tokens and hidden units that lie farthest from its results
                               are judged as well; NULL: none does */
    const char *scout; /* which one; "none"; NULL: openblas:fp32, where it is usable and may take
                          a minute at most. Not the one that is judged */
    const moe_progress *progress; /* run, oracle, comparison, fast run, identities, explanation, and
                                     each slot of the backend that is called; or NULL */
    const moe_check_waiting *waiting; /* or NULL */
} moe_check_params;

/* Is the problem so large that its truth may be a sample? Where it is not, no other backend is run
 * (moe_check_params.backends). */
MOE_API bool moe_check_may_sample(const moe_problem *problem, const moe_check_params *params);

/* Runs `problem` on `backend` and judges it. Returns MOE_OK whenever a verdict was reached (also
 * FAIL and SKIP). params may be NULL. Free with moe_check_result_destroy. */
MOE_API moe_status moe_check_backend(moe_backend *backend, const moe_problem *problem,
                                     const moe_check_params *params, const moe_log *log,
                                     moe_check_result **ret);

/* The same of a layer over ranks (moe_ep_open): results are judged as any backend's, and then what
 * crosses between ranks. */
MOE_API moe_status moe_check_ranks(moe_backend *const *inner, int32_t count,
                                   const moe_ep_params *ep, const moe_problem *problem,
                                   const moe_check_params *params, const moe_log *log,
                                   moe_check_result **ret);

/* *ret holds whatever was found, errors too. */
MOE_API void moe_check_invariance(moe_backend *backend, const moe_problem *problem,
                                  moe_invariance *ret);

/* Judges outputs that any program wrote: a safetensors file with tensors named as in the table
 * ("O", "dX", "dW1" ...; optional "topk_index" [T][K] and "topk_weight" [T][K]). Numbers of pairs
 * may come as [T][K] by those ids, or by those of the problem's own plan (moe_problem_slots).
 * Arithmetic comes from O's dtype (without it, from another tensor's, or from X's where there are
 * weights, dS or logits alone), or from `arithmetic` if it is not negative. Tensors that are
 * absent are listed as skipped; none at all is MOE_E_NOTFOUND. One of another shape than the
 * case's, or of integers, fails. MOE_E_INVALID: a tensor of pairs of another shape, where
 * "topk_index" does not tell how many pairs there are; MOE_E_UNSUPPORTED: an element type that
 * cannot be read. */
MOE_API moe_status moe_check_outputs(const char *path, const moe_problem *problem,
                                     int32_t arithmetic, const moe_check_params *params,
                                     const moe_log *log, moe_check_result **ret);

/* The same of an open file or of tensors in memory (moe_safetensors_of); `name` stands for the
 * path.
 */
MOE_API moe_status moe_check_tensors(const moe_safetensors *tensors, const char *name,
                                     const moe_problem *problem, int32_t arithmetic,
                                     const moe_check_params *params, const moe_log *log,
                                     moe_check_result **ret);

/* The same of outputs that ranks wrote into a file each, "out/rank%d.safetensors" for rank 0 and so
 * on: as many as the problem's split says, or as there are. Tokens and experts of rank r follow
 * those of rank r-1 (a rank without may leave a tensor out). A rank with another number of tokens
 * than the split's `tokens` fails, even where the rows put together are right; without `tokens` so
 * does one with more or fewer in one tensor than in the others, unless that rank alone has all of
 * it, and with as many experts. Numbers of pairs lie by slots, [T_r][K], or in the order of the
 * rank's own plan, [pairs of its tokens]. Gradients of experts that the split puts on several ranks
 * are those of each rank's slots, [slots][..]: parts side by side, replicas added unless they have
 * the same bits. What every rank has, dW_r and the shared expert's gradients, must have the same
 * bits in all. MOE_E_INVALID: no %d, or parts of other shapes. */
MOE_API moe_status moe_check_rank_outputs(const char *pattern, const moe_problem *problem,
                                          int32_t arithmetic, const moe_check_params *params,
                                          const moe_log *log, moe_check_result **ret);

/* Judges again what `dump_dir` kept of a failure: inputs, results and routing are in the file, so
 * neither the backend nor its device is needed. MOE_E_FORMAT: not such a file, or a damaged one. */
MOE_API moe_status moe_check_bundle(const char *path, const moe_check_params *params,
                                    const moe_log *log, moe_check_result **ret);

MOE_API void moe_check_result_destroy(moe_check_result **result);

/* Compares two tensors of kind `id` under the gate of `arithmetic`; the building block of all of
 * the above. variance (float64, shaped like want, or NULL) gives z = d / sqrt(u^2/3 (want^2 +
 * variance)), u the roundoff of the arithmetic: the variance of the errors that went into an
 * element before it was stored. plan (or NULL) gives experts of rows. */
MOE_API void moe_compare(moe_tensor_id id, moe_dtype arithmetic, const moe_layer_desc *desc,
                         const moe_tensor *got, const moe_tensor *want, const moe_tensor *variance,
                         const moe_plan *plan, moe_tensor_verdict *ret);

#ifdef __cplusplus
}
#endif
#endif
