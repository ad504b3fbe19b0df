/* The exponential in fixed point. It is not marked inline, as it is long. */
#ifndef FMC_EXPONENTIAL_H_
#define FMC_EXPONENTIAL_H_

#include "fmc_functions.h"

/* exp(a) of -1/4 <= a < 0 in Q0.31: a Taylor polynomial around -1/8. */
static int32_t fmc_exp_of_quarter(int32_t a) {
  const int32_t exp_of_eighth = 1895147668, third = 715827883;
  const int32_t x = a + (1 << 28);
  const int32_t x2 = fmc_high_multiply(x, x), x3 = fmc_high_multiply(x2, x);
  const int32_t x4 = fmc_high_multiply(x2, x2);
  const int32_t rest = fmc_high_multiply(fmc_divide_by_power(x4, 2) + x3, third) + x2;
  return exp_of_eighth + fmc_high_multiply(exp_of_eighth, x + fmc_divide_by_power(rest, 1));
}

/* exp(a) of a <= 0, Q5.26 to Q0.31: exp(-2^k) for each bit of -a above a quarter. */
static int32_t fmc_exp_of_negative(int32_t a) {
  static const int32_t factor[7] = {1672461947, 1302514674, 790015084, 290630308,
                                    39332535,   720401,     242};
  const int32_t quarter = 1 << 24, rest = (a & (quarter - 1)) - quarter, bits = rest - a;
  int32_t value = fmc_exp_of_quarter(fmc_saturating_shift(rest, 5));
  for (int32_t k = 0; k < 7; k++) {
    if (bits & (1 << (24 + k))) {
      value = fmc_high_multiply(value, factor[k]);
    }
  }
  return a == 0 ? INT32_MAX : value;
}

#endif
