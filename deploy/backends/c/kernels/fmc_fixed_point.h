/* Fixed-point arithmetic of the kernels. Right shifts of negative numbers keep the sign, as in
   every compiler for the cores this is for. */
#ifndef FMC_FIXED_POINT_H_
#define FMC_FIXED_POINT_H_

#include <stdint.h>

/* a * b / 2^31, rounded. */
static inline int32_t fmc_high_multiply(int32_t a, int32_t b) {
  if (a == INT32_MIN && b == INT32_MIN) {
    return INT32_MAX;
  }
  return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^n; halves go away from zero. */
static inline int32_t fmc_divide_by_power(int32_t x, int32_t n) {
  const int32_t mask = (int32_t)((1u << n) - 1u);
  return (x >> n) + ((x & mask) > (mask >> 1) + (x < 0) ? 1 : 0);
}

/* x * multiplier * 2^(shift - 31), rounded twice. */
static inline int32_t fmc_scale(int32_t x, int32_t multiplier, int32_t shift) {
  if (shift > 0) {
    return fmc_high_multiply((int32_t)((uint32_t)x << shift), multiplier);
  }
  return fmc_divide_by_power(fmc_high_multiply(x, multiplier), -shift);
}

static inline int8_t fmc_clamp(int32_t value, int32_t low, int32_t high) {
  return (int8_t)(value < low ? low : value > high ? high : value);
}

static inline int32_t fmc_at_least(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t fmc_at_most(int32_t a, int32_t b) { return a < b ? a : b; }

#endif
