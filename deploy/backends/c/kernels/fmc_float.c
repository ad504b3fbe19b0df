/* Real numbers at the ends of a model: to codes and back. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

/* The nearest integer; halves go away from zero. What is beyond int8 stays so, NaN is 0. */
static int32_t nearest(float x) {
  const float most = 1024.0f, value = x > most ? most : x < -most ? -most : x == x ? x : 0.0f;
  const int32_t whole = (int32_t)value;
  const float rest = value - (float)whole;
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

void fmc_quantize(const float *in, int32_t count, float scale, int32_t zero, int8_t *out) {
  for (int32_t i = 0; i < count; i++) {
    out[i] = fmc_clamp(nearest(in[i] / scale) + zero, INT8_MIN, INT8_MAX);
  }
}

void fmc_dequantize(const int8_t *in, int32_t count, int32_t is_unsigned, float scale,
                    int32_t zero, float *out) {
  for (int32_t i = 0; i < count; i++) {
    out[i] = scale * (float)((is_unsigned ? (uint8_t)in[i] : in[i]) - zero);
  }
}
