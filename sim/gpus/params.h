/* Internal: the named numbers of a GPU description and of the software systems on it. */
#ifndef MOE_SIM_PARAMS_H
#define MOE_SIM_PARAMS_H

#include <jansson.h>

#include "moeref/model.h"

/* The order is that of the table in params.c. */
typedef enum moe_gp {
    MOE_GP_SMS,
    MOE_GP_CLOCK,
    MOE_GP_CLOCK_MAX,
    MOE_GP_TENSOR_FLOPS,
    MOE_GP_MMA_ROWS,
    MOE_GP_MMA_COLS,
    MOE_GP_TILE_MAX,
    MOE_GP_TILE_POW2,
    MOE_GP_CLUSTER,
    MOE_GP_SMEM_BW,
    MOE_GP_L2_MIB,
    MOE_GP_L2_BW,
    MOE_GP_L2_LATENCY,
    MOE_GP_HBM_BW,
    MOE_GP_HBM_GIB,
    MOE_GP_HBM_LATENCY,
    MOE_GP_STREAM_GAP_US,
    MOE_GP_TENSOR_EFF,
    MOE_GP_HBM_EFF,
    MOE_GP_INFLIGHT_KIB,
    MOE_GP_OVERLAP_P,
    MOE_GP_KERNEL_US,
    MOE_GP_TILE_US,
    MOE_GP_EPILOGUE_BW,
    MOE_GP_SPLITK_US,
    MOE_GP_SPLITK_EFF,
    MOE_GP_REFETCH,
    MOE_GP_THROTTLE,
    MOE_GP_THROTTLE_MS,
    MOE_GP_COUNT
} moe_gp;

typedef enum moe_sp {
    MOE_SP_TENSOR,
    MOE_SP_HBM,
    MOE_SP_STREAM,
    MOE_SP_LOAD,
    MOE_SP_INFLIGHT_KIB,
    MOE_SP_HIDDEN,
    MOE_SP_GAP_US,
    MOE_SP_FIXED_US,
    MOE_SP_COUNT
} moe_sp;

/* Software systems, in the order of the table in params.c. */
typedef enum moe_system {
    MOE_SYS_CUBLAS,
    MOE_SYS_SONICMOE,
    MOE_SYS_SCATTERMOE,
    MOE_SYS_MOMOE,
    MOE_SYS_MEGABLOCKS,
    MOE_SYS_GROUPED_MM,
    MOE_SYS_DEEPGEMM,
    MOE_SYS_CUTLASS_MOE,
    MOE_SYS_TRITON,
    MOE_SYS_SGLANG,
    MOE_SYS_MOEREF,
    MOE_SYS_COUNT
} moe_system;

struct moe_gpu {
    char name[64];
    double p[MOE_GP_COUNT];
    double sys[MOE_SYS_COUNT][MOE_SP_COUNT];
    unsigned char set_p[MOE_GP_COUNT]; /* changed since loading */
    unsigned char set_sys[MOE_SYS_COUNT][MOE_SP_COUNT];
    json_t *root; /* the file, for writing it again with its sources */
};

extern const moe_gpu_param moe_int_gpu_params[MOE_GP_COUNT];
extern const moe_gpu_param moe_int_system_params[MOE_SP_COUNT];
extern const double moe_int_system_defaults[MOE_SP_COUNT];
extern const char *const moe_int_system_names[MOE_SYS_COUNT + 1];

/* Shipped description files, made at build time: name and text, ending with a NULL name. */
typedef struct moe_int_gpu_file {
    const char *name;
    const char *text;
    size_t size;
} moe_int_gpu_file;
extern const moe_int_gpu_file moe_int_gpu_files[];
extern const char *const moe_int_gpu_names[]; /* theirs, ending with NULL */

/* Whether a parameter may have this value: in its range, and whole if it must be. */
int moe_int_gpu_allows(const moe_gpu_param *info, double value);

/* Where "KEY" or "SYSTEM.KEY" lives; NULL when unknown. ret_info and ret_set may be NULL. */
double *moe_int_gpu_slot(moe_gpu *gpu, const char *key, const moe_gpu_param **ret_info,
                         unsigned char **ret_set);

#endif
