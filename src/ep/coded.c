/* Dispatch in 8 bits: rows of X go out as codes and scales. */
#include "core/coded.h"
#include "ep/handle.h"

#include <stdlib.h>
#include <string.h>

static moe_status code_tokens(const moe_tensor *tokens, moe_tensor *ret) {
    const int64_t T = tokens->shape[0], d = tokens->shape[1], bytes = moe_int_coded_bytes(d);
    const int64_t shape[2] = {T, bytes}, size = (int64_t)moe_dtype_size(tokens->dtype) * d;
    moe_status status = moe_tensor_alloc(MOE_U8, 2, shape, ret);
    for (int64_t t = 0; !status && t < T; t++)
        moe_int_code_row((const char *)tokens->data + t * size, tokens->dtype, d,
                         (char *)ret->data + t * bytes);
    return status;
}

/* Every row gets the scales of the one before it. */
static void shift_scales(char *rows, int64_t count, int64_t d) {
    const int64_t bytes = moe_int_coded_bytes(d);
    for (int64_t i = count - 1; i > 0; i--)
        memcpy(rows + i * bytes + d, rows + (i - 1) * bytes + d, (size_t)(bytes - d));
}

moe_status moe_int_dispatch_coded(const moe_int_handle *h, moe_int_comm *c,
                                  const moe_tensor *tokens, void *ret) {
    const int64_t d = tokens->shape[1], bytes = moe_int_coded_bytes(d);
    const int64_t size = (int64_t)moe_dtype_size(tokens->dtype) * d;
    moe_tensor sent = {0};
    char *came = malloc((size_t)(h->received_copies * bytes) + 1);
    moe_status status = came ? code_tokens(tokens, &sent) : MOE_E_NOMEM;
    if (!status)
        status = moe_int_dispatch(h, c, MOE_EP_DISPATCH, &sent, came);
    if (!status && h->fault == MOE_INT_EP_SCALES_SHIFTED)
        shift_scales(came, h->received_copies, d);
    for (int64_t i = 0; !status && i < h->received_copies; i++)
        moe_int_decode_row(came + i * bytes, d, tokens->dtype, (char *)ret + i * size);
    free(came);
    moe_tensor_destroy(&sent);
    return status;
}
