/* Vectors of length one: each value over the root of the sum of squares, in 1/128. */
#include "fmc_functions.h"
#include "fmc_kernels.h"

void fmc_unit_length(const fmc_unit_length_t *p, const int8_t *in, int8_t *out) {
  for (int32_t n = 0; n < p->count; n++, in += p->depth, out += p->depth) {
    int32_t sum = 0, shift, root;
    for (int32_t i = 0; i < p->depth; i++) {
      sum += (in[i] + p->in_offset) * (in[i] + p->in_offset);
    }
    root = fmc_inverse_root(sum, &shift);
    for (int32_t i = 0; i < p->depth; i++) {
      out[i] = fmc_clamp(fmc_scale(in[i] + p->in_offset, root, shift + 7), INT8_MIN, INT8_MAX);
    }
  }
}
