/* Quotients of two operands: a product with the reciprocal in fixed point. */
#include "fmc_each.h"
#include "fmc_functions.h"
#include "fmc_kernels.h"

static int8_t quotient(const fmc_binary_t *p, int32_t a, int32_t b) {
  const int32_t sign = b < 0 ? -1 : 1, up = sign * a, under = sign * b;
  const int32_t zeros = fmc_leading_zeros((uint32_t)under);
  /* under * 2^zeros is 1 + fraction in units of 2^31. */
  const uint32_t fraction = (under ? (uint32_t)under << zeros : 0u) - (1u << 31);
  const int32_t reciprocal = fmc_one_over_one_plus((int32_t)fraction);
  const int32_t room = fmc_leading_zeros((uint32_t)(up < 0 ? ~up : up)) - 1;
  const int32_t value = fmc_high_multiply((int32_t)((uint32_t)up << room), reciprocal);
  const int32_t shift = p->out_shift - (31 - zeros) - room;
  return fmc_clamp(fmc_scale(value, p->out_multiplier, shift) + p->out_offset, p->low, p->high);
}

void fmc_divide(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  FMC_EACH(quotient(p, x + p->a_offset, y + p->b_offset))
}
