/* Tokens that may have gone to other experts than the truth assumes. */
#include "check/routing/alternatives.h"
#include "check/truth/truth.h"

#include <stdlib.h>

enum { MOST_TIES = 256 };

typedef struct suspect {
    int64_t token;
    double off; /* NMSE of its O; -1: not known */
} suspect;

static int by_size(const void *a, const void *b) {
    const suspect *x = a, *y = b;
    if (x->off != y->off)
        return x->off > y->off ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* NMSE of one row; 0 where it is no number. */
static double row_error(const moe_tensor *got, int64_t token, const double *want, int64_t d,
                        double *work) {
    double off = 0, size = 0;
    moe_int_load(got, token * d, d, work);
    for (int64_t c = 0; c < d; c++) {
        off += (work[c] - want[c]) * (work[c] - want[c]);
        size += want[c] * want[c];
    }
    return off > 0 ? off / size : 0;
}

static moe_status list_wrong(const moe_int_truth *t, const moe_tensor *O, moe_dtype arithmetic,
                             suspect *ret, int64_t *ret_count) {
    const moe_tensor *want = &t->oracle->out.t[MOE_T_O];
    int64_t d = want->shape[1];
    double gate = moe_gate_for(MOE_T_O, arithmetic).group_nmse;
    double *work = malloc((size_t)d * sizeof *work);
    if (!work)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < want->shape[0]; i++) {
        int64_t token = t->sampled ? t->tokens[i] : i;
        double off = row_error(O, token, (const double *)want->data + i * d, d, work);
        if (off > gate)
            ret[(*ret_count)++] = (suspect){token, off};
    }
    free(work);
    return MOE_OK;
}

static bool is_sampled(const moe_int_truth *t, int64_t token) {
    for (int64_t i = 0; i < t->n_tokens; i++)
        if (t->tokens[i] == token)
            return true;
    return false;
}

static moe_status list_ties(const moe_problem *problem, const moe_int_routing *routing,
                            const moe_int_truth *t, const moe_int_reading *reading, int threads,
                            suspect *ret, int64_t *ret_count) {
    int64_t tied[MOST_TIES], count;
    moe_status status =
        moe_int_routing_ties(problem, routing, reading, threads, MOST_TIES, tied, &count);
    for (int64_t i = 0; !status && i < count; i++)
        if (!is_sampled(t, tied[i]))
            ret[(*ret_count)++] = (suspect){tied[i], -1};
    return status;
}

moe_status moe_int_truth_suspects(const moe_problem *problem, const moe_int_routing *routing,
                                  const moe_int_truth *t, const moe_tensor *O,
                                  const moe_int_reading *reading, int threads, int64_t **ret,
                                  int64_t *ret_count) {
    int64_t rows = t->oracle->out.t[MOE_T_O].shape[0], count = 0;
    suspect *list = malloc((size_t)(rows + MOST_TIES) * sizeof *list);
    int64_t *tokens = malloc((size_t)(rows + MOST_TIES) * sizeof *tokens);
    moe_status status =
        list && tokens ? list_wrong(t, O, reading->arithmetic, list, &count) : MOE_E_NOMEM;
    if (!status && t->sampled && moe_int_chooses_by_token(&problem->layer))
        status = list_ties(problem, routing, t, reading, threads, list, &count);
    if (!status) {
        qsort(list, (size_t)count, sizeof *list, by_size);
        for (int64_t i = 0; i < count; i++)
            tokens[i] = list[i].token;
        *ret = tokens;
        *ret_count = count;
        tokens = NULL;
    }
    free(tokens);
    free(list);
    return status;
}
