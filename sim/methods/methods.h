/* Internal: the methods, one for each software system of sim/gpus/systems.h. */
#ifndef MOE_SIM_METHODS_H
#define MOE_SIM_METHODS_H

#include "sim/kernels/list.h"

typedef struct moe_int_method {
    const char *brief;
    void (*forward)(moe_int_list *l);
    void (*backward)(moe_int_list *l); /* NULL: the system has none */
    unsigned storages; /* MOE_INT_STORAGE_BITs that it has kernels for beside 16 bits */
    struct {
        int least, most;
    } arch;             /* architectures that its kernels are written for; 0, 0: any */
    bool given_logits;  /* its layer starts from given logits and chooses experts itself */
    bool own_router;    /* its lists hold the router's kernels too, where there is a router */
    bool constant_data; /* its timings were taken with constant data */
    bool host_first;    /* fixed_us counts in the forward pass alone: the device waits for the
                              host before its first kernel, and in the backward pass never */
} moe_int_method;

#define MOE_INT_METHOD_DECLARED(constant, name) extern const moe_int_method moe_int_method_##name;
MOE_INT_SYSTEMS(MOE_INT_METHOD_DECLARED)

extern const moe_int_method *const moe_int_methods[MOE_INT_SYS_COUNT];

static inline bool moe_int_method_runs(const moe_int_method *m, double arch) {
    return m->arch.most == 0 || (arch >= m->arch.least && arch <= m->arch.most);
}

#endif
