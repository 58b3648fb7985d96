/* A whole model over several GPUs: its MoE layers, and what lies where. */
#include "cli/verbs/predict_shared.h"
#include "cli/input/messages.h"

#include <math.h>
#include <string.h>

/* The tokens of one GPU, as moe_predict_ep counts them. */
static moe_status tokens_of_gpu(const cli_layout *l, int64_t tokens, int64_t *ret) {
    *ret = l->replicas == 1 ? tokens : tokens / l->attention_tp;
    if (l->replicas == 1 || tokens % l->attention_tp == 0)
        return MOE_OK;
    return moe_fail(cli_log(), MOE_E_INVALID,
                    "%lld tokens of a replica do not divide over its %lld GPUs, which exchange "
                    "them with others",
                    (long long)tokens, (long long)l->attention_tp);
}

/* Experts lie contiguously, tp GPUs having each part. */
static int64_t experts_of(const cli_layout *l, int64_t rank, int64_t E) {
    const int64_t group = rank / l->o.tp;
    return (group + 1) * E / l->o.ep - group * E / l->o.ep;
}

/* Is it a parameter of the routed experts, or its gradient? */
static bool is_of_experts(const char *name) {
    static const moe_tensor_id params[] = {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2};
    moe_tensor_id id = MOE_T_COUNT;
    bool is = false;
    if (moe_tensor_id_parse(name, &id))
        return false;
    id = moe_tensor_param_of(id) == MOE_T_COUNT ? id : moe_tensor_param_of(id);
    for (size_t i = 0; i < sizeof params / sizeof *params; i++)
        is |= id == params[i];
    return is;
}

/* Weights of the layer and their gradients: a GPU has its experts' part, all of the router and of
 * the projections, and of shared experts what their tokens need. */
static void add_weights(const cli_layout *l, const moe_prediction *p, int64_t E,
                        double *rank_bytes) {
    double experts = 0, everywhere = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        const moe_live *t = &p->tensors[i];
        if (t->kind != MOE_LIVE_WEIGHT && t->kind != MOE_LIVE_GRADIENT)
            continue;
        if (is_of_experts(t->name))
            experts += t->bytes;
        else if (strstr(t->name, "shared"))
            everywhere += l->replicas == 1 ? t->bytes / (double)l->gpus : t->bytes;
        else
            everywhere += t->bytes;
    }
    for (int64_t rank = 0; rank < l->gpus; rank++)
        rank_bytes[rank] +=
            everywhere + experts * (double)experts_of(l, rank, E) / (double)(E * l->o.tp);
}

moe_status cli_layout_add(const cli_layout *l, const moe_gpu *gpu, const moe_workload *state,
                          const cli_question *s, cli_layers *sum, double *rank_bytes) {
    moe_ep_prediction *spread = NULL;
    moe_prediction *whole = NULL;
    moe_case c = s->c;
    moe_status status = tokens_of_gpu(l, s->c.T, &c.T);
    if (!status)
        status = moe_predict_ep(l->node, gpu, &c, state, &l->o, cli_log(), &spread);
    if (!status)
        status = cli_question_predict(s, gpu, l->o.compute, state, cli_log(), &whole);
    if (!status) {
        /* Pairs and widths of all replicas are spread evenly. */
        const double part = (double)l->replicas / (double)l->gpus;
        sum->us += spread->total_us;
        sum->cached_bytes += whole->cached_bytes * part;
        sum->peak_bytes = fmax(sum->peak_bytes, whole->peak_bytes * part);
        add_weights(l, whole, s->c.layer.E, rank_bytes);
    }
    moe_ep_prediction_destroy(&spread);
    moe_prediction_destroy(&whole);
    return status;
}
