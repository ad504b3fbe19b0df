/* Two operands value by value, with broadcasting over columns and channels; and tables. */
#include "fmc_each.h"
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

enum { HEADROOM_BITS = 20, SQUARE_HEADROOM_BITS = 7 };

static int8_t sum(const fmc_binary_t *p, int32_t a, int32_t b, int32_t sign) {
  const int32_t x =
      fmc_scale((a + p->a_offset) * (1 << HEADROOM_BITS), p->a_multiplier, p->a_shift);
  const int32_t y =
      fmc_scale((b + p->b_offset) * (1 << HEADROOM_BITS), p->b_multiplier, p->b_shift);
  return fmc_clamp(fmc_scale(x + sign * y, p->out_multiplier, p->out_shift) + p->out_offset,
                   p->low, p->high);
}

static int8_t squared(const fmc_binary_t *p, int32_t a, int32_t b) {
  const int32_t up = 1 << SQUARE_HEADROOM_BITS;
  const int32_t x = fmc_scale((a + p->a_offset) * up, p->a_multiplier, p->a_shift);
  const int32_t y = fmc_scale((b + p->b_offset) * up, p->b_multiplier, p->b_shift);
  return fmc_clamp(
      fmc_scale((x - y) * (x - y), p->out_multiplier, p->out_shift) + p->out_offset, p->low,
      p->high);
}

void fmc_add(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH(sum(p, x, y, 1))
}

void fmc_sub(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH(sum(p, x, y, -1))
}

void fmc_squared_difference(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH(squared(p, x, y))
}

void fmc_mul(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH(fmc_clamp(fmc_scale((x + p->a_offset) * (y + p->b_offset), p->out_multiplier,
                               p->out_shift) +
                         p->out_offset,
                     p->low, p->high))
}

void fmc_maximum(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH((int8_t)(x > y ? x : y))
}

void fmc_minimum(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH((int8_t)(x < y ? x : y))
}

static int32_t leaky(const fmc_binary_t *p, int32_t value, int32_t slope) {
  return value >= 0 ? fmc_scale(value, p->a_multiplier, p->a_shift)
                    : fmc_scale(value * slope, p->b_multiplier, p->b_shift);
}

void fmc_prelu(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH(fmc_clamp(leaky(p, x + p->a_offset, y + p->b_offset) + p->out_offset, p->low, p->high))
}

void fmc_table(const int8_t *table, const int8_t *in, int8_t *out, int32_t count) {
  while (count-- > 0) {
    *out++ = table[*in++ + 128];
  }
}
