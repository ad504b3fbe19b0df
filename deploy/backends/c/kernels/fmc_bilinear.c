/* Bilinear resizing in steps of 1/1024 of a pixel. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

enum { BITS = 10, ONE = 1 << BITS };

void fmc_bilinear(const fmc_bilinear_t *p, const int8_t *in, int32_t rows, int32_t fraction,
                  int8_t *out) {
  const int8_t *upper = in, *lower = rows > 1 ? in + p->in_columns * p->channels : in;
  for (int32_t x = 0; x < p->out_columns; x++) {
    const int32_t place =
        x * p->column_scale + (p->half_pixel ? p->column_scale / 2 - ONE / 2 : 0);
    const int32_t x0 = fmc_at_least(place / ONE, 0);
    const int32_t x1 = fmc_at_most((place + ONE - 1) / ONE, p->in_columns - 1);
    const int32_t right = place - ONE * x0, left = ONE - right;
    for (int32_t c = 0; c < p->channels; c++) {
      const int32_t a = x0 * p->channels + c, b = x1 * p->channels + c;
      const int64_t sum = (int64_t)upper[a] * (ONE - fraction) * left +
                          (int64_t)lower[a] * fraction * left +
                          (int64_t)upper[b] * (ONE - fraction) * right +
                          (int64_t)lower[b] * fraction * right;
      const int64_t half = sum > 0 ? 1 << 19 : -(1 << 19);
      *out++ = (int8_t)((sum + half) / (1 << 20));
    }
  }
}
