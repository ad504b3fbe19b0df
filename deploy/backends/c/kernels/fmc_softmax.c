/* Softmax in fixed point: exp(x) of x <= 0 with five integer bits, and 1 / (1 + x). */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

static int32_t saturating_shift(int32_t x, int32_t n) {
  const int64_t value = (int64_t)x * ((int64_t)1 << n);
  return (int32_t)(value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value);
}

/* exp(a) of -1/4 <= a < 0 in Q0.31: a Taylor polynomial around -1/8. */
static int32_t exp_of_quarter(int32_t a) {
  const int32_t exp_of_eighth = 1895147668, third = 715827883;
  const int32_t x = a + (1 << 28);
  const int32_t x2 = fmc_high_multiply(x, x), x3 = fmc_high_multiply(x2, x);
  const int32_t x4 = fmc_high_multiply(x2, x2);
  const int32_t rest = fmc_high_multiply(fmc_divide_by_power(x4, 2) + x3, third) + x2;
  return exp_of_eighth + fmc_high_multiply(exp_of_eighth, x + fmc_divide_by_power(rest, 1));
}

/* exp(a) of a <= 0, Q5.26 to Q0.31: exp(-2^k) for each bit of -a above a quarter. */
static int32_t exp_of_negative(int32_t a) {
  static const int32_t factor[7] = {1672461947, 1302514674, 790015084, 290630308,
                                    39332535,   720401,     242};
  const int32_t quarter = 1 << 24, rest = (a & (quarter - 1)) - quarter, bits = rest - a;
  int32_t value = exp_of_quarter(saturating_shift(rest, 5));
  for (int32_t k = 0; k < 7; k++) {
    if (bits & (1 << (24 + k))) {
      value = fmc_high_multiply(value, factor[k]);
    }
  }
  return a == 0 ? INT32_MAX : value;
}

static int32_t one_over_one_plus(int32_t a) {
  const int64_t twice = (int64_t)a + INT32_MAX;
  const int32_t half = (int32_t)((twice + (twice >= 0 ? 1 : -1)) / 2);
  int32_t x = 1515870810 + fmc_high_multiply(half, -1010580540);
  for (int32_t i = 0; i < 3; i++) {
    x += saturating_shift(fmc_high_multiply(x, (1 << 29) - fmc_high_multiply(half, x)), 2);
  }
  return saturating_shift(x, 1);
}

static int32_t leading_zeros(uint32_t x) {
  int32_t n = 0;
  while (!(x & 0x80000000u)) {
    x <<= 1;
    n++;
  }
  return n;
}

static int32_t exp_of_code(const fmc_softmax_t *p, int32_t difference) {
  return exp_of_negative(fmc_scale(difference, p->multiplier, p->shift));
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
    zeros = leading_zeros((uint32_t)sum);
    scale = one_over_one_plus((int32_t)(((uint32_t)sum << zeros) - (1u << 31)));
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
