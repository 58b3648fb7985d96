/* Internal: the named numbers of a GPU description and of the software systems on it. */
#ifndef MOE_SIM_PARAMS_H
#define MOE_SIM_PARAMS_H

#include "core/jsonx.h"
#include "moeref/model.h"
#include "sim/gpus/described.h"
#include "sim/gpus/systems.h"

#include <jansson.h>

/* The order is that of the table in params.c. */
typedef enum moe_int_gp {
    MOE_INT_GP_ARCH,
    MOE_INT_GP_SMS,
    MOE_INT_GP_CLOCK_MAX,
    MOE_INT_GP_CLOCK,
    MOE_INT_GP_TENSOR_FLOPS,
    MOE_INT_GP_FP8_RATE,
    MOE_INT_GP_FP4_RATE,
    MOE_INT_GP_INT8_RATE,
    MOE_INT_GP_TF32_RATE,
    MOE_INT_GP_MMA_ROWS,
    MOE_INT_GP_MMA_COLS,
    MOE_INT_GP_MMA_WARPS,
    MOE_INT_GP_TILE_MAX,
    MOE_INT_GP_TILE_POW2,
    MOE_INT_GP_CLUSTER,
    MOE_INT_GP_HIDDEN,
    MOE_INT_GP_SMEM_BW,
    MOE_INT_GP_L2_MIB,
    MOE_INT_GP_L2_PARTS,
    MOE_INT_GP_L2_BW,
    MOE_INT_GP_L2_LATENCY,
    MOE_INT_GP_HBM_BW,
    MOE_INT_GP_HBM_GIB,
    MOE_INT_GP_HBM_LATENCY,
    MOE_INT_GP_STREAM_GAP_US,
    MOE_INT_GP_TENSOR_EFF,
    MOE_INT_GP_HBM_EFF,
    MOE_INT_GP_INFLIGHT_KIB,
    MOE_INT_GP_OVERLAP_P,
    MOE_INT_GP_KERNEL_US,
    MOE_INT_GP_TILE_US,
    MOE_INT_GP_SYNC,
    MOE_INT_GP_EPILOGUE_BW,
    MOE_INT_GP_SPLITK_US,
    MOE_INT_GP_SPLITK_EFF,
    MOE_INT_GP_REFETCH,
    MOE_INT_GP_THROTTLE,
    MOE_INT_GP_THROTTLE_MS,
    MOE_INT_GP_COUNT
} moe_int_gp;

typedef enum moe_int_sp {
    MOE_INT_SP_TENSOR,
    MOE_INT_SP_HBM,
    MOE_INT_SP_STREAM,
    MOE_INT_SP_LOAD,
    MOE_INT_SP_INFLIGHT_KIB,
    MOE_INT_SP_HIDDEN,
    MOE_INT_SP_GAP_US,
    MOE_INT_SP_FIXED_US,
    MOE_INT_SP_HALF_LINES,
    MOE_INT_SP_SCATTERED,
    MOE_INT_SP_EPILOGUE,
    MOE_INT_SP_SUM,
    MOE_INT_SP_COUNT
} moe_int_sp;

/* Software systems: a constant for each row of systems.h. */
#define MOE_INT_SYSTEM_CONSTANT(constant, name) MOE_INT_SYS_##constant,
typedef enum moe_int_system {
    MOE_INT_SYSTEMS(MOE_INT_SYSTEM_CONSTANT) MOE_INT_SYS_COUNT
} moe_int_system;

/* Where the measured time lies, as a share of the predicted one, in 80 of 100 cases. */
typedef struct moe_int_spread {
    double low, high;
} moe_int_spread;

/* Classes of predictions: products of less than 20 us and layers of less than 1024 tokens, and the
 * others. */
typedef enum moe_int_size { MOE_INT_SMALL, MOE_INT_LARGE, MOE_INT_SIZES } moe_int_size;

#define MOE_INT_LARGE_US     20
#define MOE_INT_LARGE_TOKENS 1024

/* How the sources of sim/gpus/template.json begin, which nobody's description keeps. */
#define MOE_INT_TEMPLATE_SOURCE "look here: "

struct moe_gpu {
    char name[64];
    double p[MOE_INT_GP_COUNT];
    double sys[MOE_INT_SYS_COUNT][MOE_INT_SP_COUNT];
    bool derived[MOE_INT_GP_COUNT];        /* its file does not say it */
    unsigned char set_p[MOE_INT_GP_COUNT]; /* changed since loading */
    unsigned char set_sys[MOE_INT_SYS_COUNT][MOE_INT_SP_COUNT];
    moe_int_spread spread[MOE_INT_SYS_COUNT][MOE_INT_SIZES];
    bool set_spread[MOE_INT_SYS_COUNT][MOE_INT_SIZES]; /* found since loading */
    bool set_held[MOE_STORAGE_COUNT]; /* whose rate a table was fitted to since loading */
    json_t *root;                     /* the file, for writing it again with its sources */
};

extern const moe_gpu_param moe_int_gpu_params[MOE_INT_GP_COUNT];
extern const moe_gpu_param moe_int_system_params[MOE_INT_SP_COUNT];
extern const double moe_int_system_defaults[MOE_INT_SP_COUNT];
extern const char *const moe_int_system_names[MOE_INT_SYS_COUNT + 1];

/* The interval where no measurement bounds it. */
extern const moe_int_spread moe_int_unmeasured;

extern const char *const moe_int_size_names[MOE_INT_SIZES]; /* their keys in a description */

/* The system of that name, MOE_INT_SYS_COUNT for none. */
moe_int_system moe_int_system_find(const char *name, size_t length);

/* Shipped description files. */
typedef moe_int_file moe_int_gpu_file;
extern const moe_int_gpu_file moe_int_gpu_files[];
extern const char *const moe_int_gpu_names[]; /* theirs, ending with NULL */

/* Whether a parameter may have this value: in its range, and whole if it must be. */
bool moe_int_gpu_allows(const moe_gpu_param *info, double value);

/* {"value": 3.35, "kind": "nominal", "source": "..."}: a number without its origin is refused, and
 * so is a key that the table does not have. */
moe_status moe_int_gpu_read_number(const moe_int_json *at, const moe_gpu_param *info, double *ret);
moe_status moe_int_gpu_refuse_unknown(const moe_int_json *at, const moe_gpu_param *table,
                                      size_t count);

/* Writing them: an entry (not 0: no memory), a member that is made where it is missing, and the
 * whole (NULL: no memory). */
int moe_int_gpu_put_number(json_t *parent, const moe_gpu_param *info, double value,
                           const char *kind, const char *source);
json_t *moe_int_gpu_member(json_t *parent, const char *key);
moe_status moe_int_gpu_write_json(const json_t *root, const char *path, const moe_log *log);

/* "KEY*NUMBER". */
typedef struct moe_int_what_if {
    char key[64];
    char op; /* one of "*" "/" "+" "-" "=" */
    double value;
} moe_int_what_if;

moe_status moe_int_what_if_parse(const char *text, const moe_log *log, moe_int_what_if *ret);
double moe_int_what_if_apply(const moe_int_what_if *w, double old);

/* Its own numbers, and those of a system on it. */
moe_int_numbers moe_int_gpu_numbers(moe_gpu *gpu);
moe_int_numbers moe_int_gpu_numbers_of(moe_gpu *gpu, int system);

/* Where "KEY" or "SYSTEM.KEY" lives; NULL when unknown. ret_info and ret_set may be NULL. */
double *moe_int_gpu_slot(moe_gpu *gpu, const char *key, const moe_gpu_param **ret_info,
                         unsigned char **ret_set);

#endif
