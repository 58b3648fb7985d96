/* Parts of tensors: the sampled groups with their truth, and gathering the same groups of a result.
 */
#include "check/truth/truth.h"

#include <stdlib.h>
#include <string.h>

moe_status moe_int_part_alloc(moe_tensor_id id, int64_t groups, int64_t width, bool variance,
                              moe_int_part *ret) {
    moe_int_part part = {0};
    int64_t shape[2] = {groups, width};
    moe_status status = moe_tensor_alloc(MOE_F64, 2, shape, &part.want);
    if (!status && variance)
        status = moe_tensor_alloc(MOE_F64, 2, shape, &part.variance);
    part.base = calloc((size_t)groups + 1, sizeof *part.base);
    part.expert = calloc((size_t)groups + 1, sizeof *part.expert);
    if (!status && (!part.base || !part.expert))
        status = MOE_E_NOMEM;
    if (status) {
        moe_int_part_destroy(&part);
        return status;
    }
    part.layout = moe_int_layout_of(id, &part.want);
    part.layout.groups = groups;
    part.layout.width = width;
    part.layout.tiled = false; /* neighbours in the sample are no neighbours */
    part.layout.base = part.base;
    part.layout.expert = part.expert;
    *ret = part;
    return MOE_OK;
}

void moe_int_part_destroy(moe_int_part *part) {
    moe_tensor_destroy(&part->want);
    moe_tensor_destroy(&part->variance);
    free(part->base);
    free(part->expert);
    memset(part, 0, sizeof *part);
}

moe_status moe_int_part_gather(const moe_tensor *tensor, const moe_int_part *part,
                               moe_tensor *ret) {
    const moe_int_layout *l = &part->layout;
    moe_tensor out;
    moe_status status = moe_tensor_alloc(tensor->dtype, 2, part->want.shape, &out);
    size_t size = moe_dtype_size(tensor->dtype);
    if (status)
        return status;
    for (int64_t g = 0; g < l->groups; g++) {
        for (int64_t c = 0; c < l->width; c++) {
            size_t from = (size_t)moe_int_layout_flat(l, g, c), to = (size_t)(g * l->width + c);
            memcpy((char *)out.data + to * size, (const char *)tensor->data + from * size, size);
        }
    }
    *ret = out;
    return MOE_OK;
}
