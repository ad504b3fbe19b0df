/* Functions of real numbers in fixed point; Qa.b has a integer and b fractional bits. */
#ifndef FMC_FUNCTIONS_H_
#define FMC_FUNCTIONS_H_

#include "fmc_fixed_point.h"

/* Of 32 bits; all of 0. */
static inline int32_t fmc_leading_zeros(uint32_t x) {
  int32_t n = 0;
  while (n < 32 && !(x & 0x80000000u)) {
    x <<= 1;
    n++;
  }
  return n;
}

static inline int32_t fmc_saturating_shift(int32_t x, int32_t n) {
  const int64_t value = (int64_t)x * ((int64_t)1 << n);
  return (int32_t)(value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value);
}

/* (a + b) / 2; halves go away from zero. */
static inline int32_t fmc_half_sum(int32_t a, int32_t b) {
  const int64_t sum = (int64_t)a + b;
  return (int32_t)((sum + (sum >= 0 ? 1 : -1)) / 2);
}

/* 1 / (1 + a) of 0 <= a < 1 in Q0.31: three steps of Newton. */
static inline int32_t fmc_one_over_one_plus(int32_t a) {
  const int32_t half = fmc_half_sum(a, INT32_MAX);
  int32_t x = 1515870810 + fmc_high_multiply(half, -1010580540);
  for (int32_t i = 0; i < 3; i++) {
    const int32_t more =
        fmc_saturating_shift(fmc_high_multiply(x, (1 << 29) - fmc_high_multiply(half, x)), 2);
    x = (int32_t)((uint32_t)x + (uint32_t)more); /* a quotient by zero leaves the range */
  }
  return fmc_saturating_shift(x, 1);
}

/* log(x) of x >= 1, Q12.19 to Q5.26. x is 2^n * r with r around 2^(-1/4): n * log(2), and a
   quotient of polynomials around there. */
static inline int32_t fmc_log(int32_t x) {
  const int32_t log_2 = 1488522236, root_of_half = 1518500250, middle = 1805811301;
  const int32_t quarter = 1 << 23; /* in Q6.25, as n is */
  const int32_t zeros = fmc_leading_zeros((uint32_t)x);
  const int32_t below = fmc_leading_zeros((uint32_t)fmc_high_multiply(x, root_of_half)) - 1;
  const int32_t r_a = fmc_saturating_shift(
      fmc_high_multiply(fmc_saturating_shift(x, zeros - 1), root_of_half), 1);
  const int32_t r_b = fmc_saturating_shift(x, below);
  const int32_t n_a = (12 - zeros) * (1 << 25) + quarter;
  const int32_t n_b = (12 - below) * (1 << 25) - quarter;
  const int32_t r = fmc_at_most(r_a, r_b), n = fmc_at_least(n_a, n_b);
  const int32_t q = 2 * (r - middle), p = fmc_half_sum(r, middle), q2 = fmc_high_multiply(q, q);
  const int32_t above = fmc_high_multiply(q, r) +
                        fmc_high_multiply(fmc_high_multiply(q, q2), 117049297);
  const int32_t under =
      fmc_high_multiply(p, 1057819769 + q + fmc_high_multiply(127690142, q2)) +
      fmc_high_multiply(638450708, q);
  const int32_t fraction =
      fmc_high_multiply(fmc_divide_by_power(above, 6), fmc_one_over_one_plus(under));
  return fmc_saturating_shift(fmc_high_multiply(n, log_2) + fraction, 1);
}

/* 1 / sqrt(x) of x >= 0 is the result * 2^(*shift - 31); 0 counts as 1. Five steps of Newton. */
static inline int32_t fmc_inverse_root(int32_t x, int32_t *shift) {
  const int32_t three_halves = (1 << 28) + (1 << 27);
  int32_t root = 1 << 28, right = 11, pairs, half;
  if (x <= 1) {
    *shift = 0;
    return INT32_MAX;
  }
  for (; x >= 1 << 29; x /= 4) {
    right++;
  }
  pairs = (fmc_leading_zeros((uint32_t)x) - 1) / 2 - 1;
  right -= pairs;
  half = fmc_divide_by_power((x << 2 * pairs) >> 1, 1);
  for (int32_t i = 0; i < 5; i++) {
    const int32_t cube = fmc_high_multiply(fmc_high_multiply(root, root), root);
    root = fmc_saturating_shift(
        fmc_high_multiply(three_halves, root) -
            fmc_high_multiply(half, fmc_saturating_shift(cube, 6)),
        3);
  }
  root = fmc_high_multiply(root, 1518500250);
  *shift = -fmc_at_least(right, 0);
  return root * (1 << fmc_at_least(-right, 0));
}

#endif
