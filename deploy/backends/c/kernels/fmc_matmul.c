/* Products of matrices that are both computed: attention, and its like. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

static int32_t product(const fmc_matmul_t *p, const int8_t *a, const int8_t *b) {
  int32_t sum = 0;
  for (int32_t k = 0; k < p->depth; k++, a += p->a_depth, b += p->b_depth) {
    sum += (*a + p->a_offset) * (*b + p->b_offset);
  }
  return sum;
}

static int8_t *multiply(const fmc_matmul_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  for (int32_t i = 0; i < p->rows; i++, a += p->a_row) {
    for (int32_t j = 0; j < p->columns; j++) {
      const int32_t sum = product(p, a, b + j * p->b_column);
      *out++ = fmc_clamp(fmc_scale(sum, p->multiplier, p->shift) + p->out_offset, INT8_MIN,
                         INT8_MAX);
    }
  }
  return out;
}

void fmc_matmul(const fmc_matmul_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  for (int32_t i = 0; i < p->batch[0]; i++) {
    for (int32_t j = 0; j < p->batch[1]; j++) {
      for (int32_t k = 0; k < p->batch[2]; k++) {
        out = multiply(p, a + i * p->a_batch[0] + j * p->a_batch[1] + k * p->a_batch[2],
                       b + i * p->b_batch[0] + j * p->b_batch[1] + k * p->b_batch[2], out);
      }
    }
  }
}
