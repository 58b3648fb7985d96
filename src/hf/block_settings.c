/* The settings of what a family's block has beside its layer. */
#include "hf/settings.h"

#include <string.h>

static moe_status applies(const moe_int_hf_keys *k, const moe_int_block_row *row, bool *ret) {
    const char *type = "";
    moe_status status = MOE_OK;
    *ret = row != NULL;
    if (row && row->when == MOE_INT_BLOCK_LATENT)
        *ret = moe_int_hf_has(k, row->latent_key);
    if (row && row->when == MOE_INT_BLOCK_HASH) {
        status = k->layer >= 0 ? moe_int_hf_word(k, "mlp_layer_types", &type) : MOE_OK;
        *ret = strstr(type, "hash") != NULL;
    }
    return status;
}

static moe_status read_op(const moe_int_hf_keys *k, const moe_int_op_row *op, double *ret) {
    const bool linear = op->kind == MOE_INT_OP_LINEAR;
    int64_t width = 0;
    *ret = op->kind == MOE_INT_OP_RMS ? 1e-6 : linear ? 0 : 1;
    if (!op->key)
        return MOE_OK;
    if (!linear)
        return moe_int_hf_real(k, op->key, MOE_INT_JSON_OPTIONAL, ret);
    moe_status status = moe_int_hf_size(k, op->key, MOE_INT_JSON_REQUIRED, &width);
    *ret = (double)width;
    return status;
}

static moe_status read_ops(const moe_int_hf_keys *k, const moe_int_block_row *row,
                           moe_int_block_numbers *ret) {
    moe_status status = MOE_OK;
    for (int place = 0; place < MOE_INT_PLACE_COUNT; place++)
        for (int i = 0; !status && i < MOE_INT_CHAIN_MAX && row->op[place][i].kind; i++)
            status = read_op(k, &row->op[place][i], &ret->op[place][i]);
    return status;
}

/* Settings that would change the choice, which is as it is without them. */
static moe_status refuse_flag(const moe_int_hf_keys *k, const char *key) {
    bool on = false;
    moe_status status = moe_int_hf_flag(k, key, &on);
    if (status || !on)
        return status;
    return moe_fail(k->at->log, MOE_E_UNSUPPORTED, "%s: \"%s\" is not supported", k->at->where,
                    key);
}

static moe_status read_stages(const moe_int_hf_keys *k, const moe_int_block_row *row,
                              moe_int_hf_config *ret) {
    double dropped = 0;
    moe_status status = refuse_flag(k, "normalize_router_prob_before_dropping");
    if (!status)
        status = refuse_flag(k, "batch_prioritized_routing");
    if (!status)
        status =
            moe_int_hf_real(k, row->fraction_key, MOE_INT_JSON_REQUIRED, &ret->numbers.fraction);
    if (!status)
        status = moe_int_hf_real(k, row->keep_key, MOE_INT_JSON_REQUIRED, &dropped);
    ret->layer.router.scale = ret->weight_factor = 1 - dropped;
    return status;
}

moe_status moe_int_hf_read_block(const moe_int_hf_keys *k, const moe_int_family *f,
                                 moe_int_hf_config *ret) {
    const moe_int_block_row *row = f->block;
    bool has;
    moe_status status = applies(k, row, &has);
    if (status || !has)
        return status;
    ret->block = row;
    ret->numbers.latent = ret->layer.d;
    status = read_ops(k, row, &ret->numbers);
    if (!status && row->latent_key)
        status = moe_int_hf_size(k, row->latent_key, MOE_INT_JSON_REQUIRED, &ret->numbers.latent);
    if (!status && row->sinks_key)
        status = moe_int_hf_size(k, row->sinks_key, MOE_INT_JSON_REQUIRED, &ret->numbers.sinks);
    if (!status && row->choice == MOE_INT_CHOICE_TWO_STAGES)
        status = read_stages(k, row, ret);
    if (row->choice == MOE_INT_CHOICE_TOKEN_IDS)
        ret->layer.router.select_bias = 0;
    return status;
}
