/* Comparisons of two operands of any scales to 0 or 1, and what a condition selects. */
#include "fmc_each.h"
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

enum { HEADROOM_BITS = 8 };

static int32_t left(const fmc_binary_t *p, int32_t a) {
  return fmc_scale((a + p->a_offset) * (1 << HEADROOM_BITS), p->a_multiplier, p->a_shift);
}

static int32_t right(const fmc_binary_t *p, int32_t b) {
  return fmc_scale((b + p->b_offset) * (1 << HEADROOM_BITS), p->b_multiplier, p->b_shift);
}

void fmc_equal(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH((int8_t)(left(p, x) == right(p, y)))
}

void fmc_not_equal(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH((int8_t)(left(p, x) != right(p, y)))
}

void fmc_less(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH((int8_t)(left(p, x) < right(p, y)))
}

void fmc_less_equal(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH((int8_t)(left(p, x) <= right(p, y)))
}

void fmc_select(const fmc_select_t *p, const int8_t *condition, const int8_t *a, const int8_t *b,
                int8_t *out) {
  for (int32_t i = 0; i < p->columns; i++) {
    for (int32_t c = 0; c < p->channels; c++) {
      *out++ = condition[c * p->condition_channel] ? a[c * p->a_channel] : b[c * p->b_channel];
    }
    condition += p->condition_column;
    a += p->a_column;
    b += p->b_column;
  }
}
