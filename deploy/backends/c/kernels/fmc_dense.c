/* Fully connected: one scale for all units, or one for each. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

void fmc_dense(const fmc_dense_t *p, const fmc_weights_t *w, const int8_t *in, int8_t *out) {
  for (int32_t n = 0; n < p->count; n++, in += p->depth) {
    const int8_t *k = w->weights;
    for (int32_t o = 0; o < p->units; o++) {
      const int32_t scale = p->per_unit ? o : 0;
      const int8_t *a = in;
      int32_t sum = w->bias ? w->bias[o] : 0, i = p->depth;
      for (; i >= 4; i -= 4, a += 4, k += 4) {
        sum += (a[0] + p->in_offset) * k[0];
        sum += (a[1] + p->in_offset) * k[1];
        sum += (a[2] + p->in_offset) * k[2];
        sum += (a[3] + p->in_offset) * k[3];
      }
      for (; i > 0; i--) {
        sum += (*a++ + p->in_offset) * *k++;
      }
      *out++ = fmc_clamp(fmc_scale(sum, w->multiplier[scale], w->shift[scale]) + p->out_offset,
                         p->low, p->high);
    }
  }
}
