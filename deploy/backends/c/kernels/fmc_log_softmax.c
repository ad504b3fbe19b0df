/* Logarithm of softmax in fixed point: x - greatest - log of the sum of exponentials. */
#include "fmc_exponential.h"
#include "fmc_kernels.h"

void fmc_log_softmax(const fmc_log_softmax_t *p, const int8_t *in, int8_t *out) {
  for (int32_t n = 0; n < p->count; n++, in += p->depth, out += p->depth) {
    int32_t greatest = INT8_MIN, sum = 0, log, least;
    for (int32_t i = 0; i < p->depth; i++) {
      greatest = fmc_at_least(greatest, in[i]);
    }
    for (int32_t i = 0; i < p->depth; i++) {
      if (in[i] - greatest >= p->least) {
        const int32_t x = fmc_scale(in[i] - greatest, p->multiplier, p->shift);
        sum += fmc_divide_by_power(fmc_exp_of_negative(x), 12);
      }
    }
    log = fmc_log(sum);
    /* Differences below this one leave the range of Q5.26. */
    least = fmc_scale(log + INT32_MIN, p->code_multiplier, p->code_shift);
    least = fmc_at_least(p->least - 1, least);
    for (int32_t i = 0; i < p->depth; i++) {
      int32_t value = INT8_MIN;
      if (in[i] - greatest > least) {
        value = fmc_scale(in[i] - greatest, p->multiplier, p->shift) - log;
        value = fmc_divide_by_power(value, 31 - 5 - 4) + INT8_MAX;
      }
      out[i] = fmc_clamp(value, INT8_MIN, INT8_MAX);
    }
  }
}
