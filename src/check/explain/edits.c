/* What happens to a product's factors on their way in. */
#include "check/explain/scene.h"

#include <math.h>
#include <string.h>

double moe_int_to_bits(int bits, double v) {
    int power;
    const double part = frexp(v, &power);
    return bits ? ldexp(rint(ldexp(part, bits)), power - bits) : v;
}

void moe_int_edit_row(const moe_int_factor_edit *edit, int64_t width, double *row, double *room) {
    if (!edit)
        return;
    for (int64_t k = 0; edit->bits && !edit->of_matrix && k < width; k++)
        row[k] = moe_int_to_bits(edit->bits, row[k]);
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
