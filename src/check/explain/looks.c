/* Looking at wrong tensors one by one. */
#include "check/explain/bank.h"

#include <stdlib.h>

/* A look at the first wrong tensor; if it is so there, at the others too. */
static void try_look(moe_int_evidence *e, const moe_int_hypothesis *h, moe_int_sight *sights) {
    moe_int_finding f = moe_int_finding_start(h, e->first), other = f;
    if (!sights[e->first].rows || !h->look(&sights[e->first], &f) ||
        !moe_int_explains(e, e->first, f.is.before, f.is.after))
        return;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!e->wrong[id] || !sights[id].rows)
            continue;
        other = moe_int_finding_start(h, (moe_tensor_id)id);
        if (id != (int)e->first &&
            (!h->look(&sights[id], &other) ||
             !moe_int_explains(e, (moe_tensor_id)id, other.is.before, other.is.after)))
            continue;
        f.explains[id] = true;
        f.explained++;
    }
    moe_int_offer(e, &f);
}

void moe_int_try_looks(moe_int_evidence *e, bool place) {
    moe_int_sight *sights = calloc(MOE_T_COUNT, sizeof *sights);
    if (!sights || e->first == MOE_INT_CHOICE) {
        free(sights);
        return;
    }
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (e->wrong[id])
            moe_int_sight_make(e, (moe_tensor_id)id, &sights[id]);
    for (size_t i = 0; i < moe_int_bank_count; i++)
        if (moe_int_bank[i].look && moe_int_bank[i].place == place && moe_int_goes_on(e, i))
            try_look(e, &moe_int_bank[i], sights);
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_int_sight_destroy(&sights[id]);
    free(sights);
}
