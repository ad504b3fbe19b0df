/* Softmax in fixed point: exp(x) of x <= 0 with five integer bits, and 1 / (1 + x). */
#include "fmc_exponential.h"
#include "fmc_kernels.h"

static int32_t exp_of_code(const fmc_softmax_t *p, int32_t difference) {
  return fmc_exp_of_negative(fmc_scale(difference, p->multiplier, p->shift));
}

void fmc_softmax(const fmc_softmax_t *p, const int8_t *in, int8_t *out) {
  for (int32_t n = 0; n < p->count; n++, in += p->depth, out += p->depth) {
    int32_t greatest = INT8_MIN, sum = 0, zeros, scale;
    for (int32_t i = 0; i < p->depth; i++) {
      greatest = fmc_at_least(greatest, in[i]);
    }
    for (int32_t i = 0; i < p->depth; i++) {
      if (in[i] - greatest >= p->least) {
        sum += fmc_divide_by_power(exp_of_code(p, in[i] - greatest), 12);
      }
    }
    zeros = fmc_leading_zeros((uint32_t)sum);
    scale = fmc_one_over_one_plus((int32_t)(((uint32_t)sum << zeros) - (1u << 31)));
    for (int32_t i = 0; i < p->depth; i++) {
      int32_t value = INT8_MIN;
      if (in[i] - greatest >= p->least) {
        value = fmc_high_multiply(scale, exp_of_code(p, in[i] - greatest));
        value = fmc_divide_by_power(value, 12 - zeros + 31 - 8) + INT8_MIN;
      }
      out[i] = fmc_clamp(value, INT8_MIN, INT8_MAX);
    }
  }
}
