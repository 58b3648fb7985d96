/* What the plug-in's table knows of ranks (ep/): a layer over several devices. */
#ifndef MOE_CUDA_RANKS_H
#define MOE_CUDA_RANKS_H

#include "layer.h"

/* What the variant says: "ranks2", "ranks8+chunks3+limit2+late". */
struct GroupWords {
    int ranks;  /* 0: one device, no group */
    int chunks; /* of experts, whose rows are brought home while the next is multiplied; 1: rows are
                   read from where they are made; 0: what pays */
    int early;  /* how often tiles of own tokens alone fill the multiprocessors while others' tokens
                   come; -1: what pays */
    int limit_s;
    bool late;  /* the last rank does not say that its rows are there: the others must notice */
    bool links; /* timings tell of copies between ranks too, which run beside the others */
    bool portable;
};
/* NULL, or what is wrong. */
const char *group_parse(const char *variant, GroupWords *ret);

/* Device r mod the number of devices for rank r: ranks may share one. */
moe_status group_open(Device *dev, const GroupWords *words);
void group_close(Device *dev);

/* The slots of the table: ep/prepare.cu, */
moe_status ranks_supports(const Device *dev, const moe_layer_desc *desc, const moe_use *use,
                          char *reason, size_t size);
moe_status ranks_prepare(Device *dev, const moe_layer_desc *desc, const moe_use *use,
                         const moe_tensors *params, void **ret);
void ranks_release(RanksLayer *l);
moe_status ranks_set_input(RanksLayer *l, const moe_input *input);

/* ep/passes.cu, */
moe_status ranks_forward(RanksLayer *l);
moe_status ranks_backward(RanksLayer *l);

/* ep/timings.cu, */
size_t ranks_timings(const RanksLayer *l, moe_cost *ret, size_t capacity);

/* ep/results.cu. */
moe_status ranks_fetch(RanksLayer *l, moe_tensor_id id, moe_tensor *dst);
moe_status ranks_routing(RanksLayer *l, const moe_plan **ret);
moe_status ranks_memory(const RanksLayer *l, moe_memory *ret);

#endif
