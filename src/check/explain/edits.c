/* What happens to a product's factors on their way in. */
#include "check/explain/scene.h"

#include <math.h>
#include <string.h>

double moe_int_to_bits(int bits, double v) {
    int power;
    const double part = frexp(v, &power);
    return bits ? ldexp(rint(ldexp(part, bits)), power - bits) : v;
}

int64_t moe_int_b1_column(const moe_int_change *c, int64_t n, int64_t i) {
    const bool mixed = c->desc.glu_layout == MOE_GLU_INTERLEAVED;
    const int64_t unit = mixed ? i / 2 : i % n, up = mixed ? i % 2 : i / n;
    switch (c->b1_order) {
    case MOE_INT_B1_SWAPPED:
        return mixed ? 2 * unit + !up : unit + !up * n;
    case MOE_INT_B1_OF_GATE:
        return mixed ? 2 * unit : unit;
    case MOE_INT_B1_OF_UP:
        return mixed ? 2 * unit + 1 : unit + n;
    case MOE_INT_B1_INTERLEAVED:
        return 2 * unit + up;
    case MOE_INT_B1_APART:
        return unit + up * n;
    case MOE_INT_B1_RIGHT:
    case MOE_INT_B1_ORDERS:
        break;
    }
    return i;
}

void moe_int_edit_row(const moe_int_factor_edit *edit, int64_t width, double *row, double *room) {
    if (!edit)
        return;
    for (int64_t k = 0; edit->bits && !edit->of_matrix && k < width; k++)
        row[k] = moe_int_to_bits(edit->bits, row[k]);
    for (int64_t k = 0; edit->block && k < width; k++)
        row[k] *= k / edit->block % 2 == edit->from_block ? edit->times : 1;
    if (!edit->order)
        return;
    /* Term k takes number `at` of the matrix: so does the other's element k of the operand. */
    memcpy(room, row, (size_t)width * sizeof *room);
    memset(row, 0, (size_t)width * sizeof *row);
    for (int64_t k = 0; k < width; k++) {
        int64_t out = 0, at = k;
        edit->order->map(edit->order->size, width, &out, &at);
        row[at] += room[k];
    }
}
