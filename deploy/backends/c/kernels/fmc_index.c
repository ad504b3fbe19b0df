/* Codes as int32 indices of a table. */
#include <string.h>

#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

void fmc_widen(const int8_t *in, int32_t count, int32_t is_unsigned, int32_t *out) {
  for (int32_t i = 0; i < count; i++) {
    out[i] = is_unsigned ? (uint8_t)in[i] : in[i];
  }
}

void fmc_add_int32(const int32_t *in, int32_t count, int32_t value, int32_t low, int32_t high,
                   int32_t *out) {
  for (int32_t i = 0; i < count; i++) {
    const int64_t sum = (int64_t)in[i] + value;
    out[i] = (int32_t)(sum < low ? low : sum > high ? high : sum);
  }
}

void fmc_lookup(const int8_t *table, int32_t entries, int32_t run, const int32_t *index,
                int32_t count, int8_t *out) {
  for (int32_t i = 0; i < count; i++, out += run) {
    const int32_t entry = fmc_at_most(fmc_at_least(index[i], 0), entries - 1);
    memcpy(out, table + entry * run, (uint32_t)run);
  }
}

static void first_best(const int8_t *in, int32_t outer, int32_t count, int32_t inner, int32_t sign,
                       int32_t *out) {
  for (int32_t i = 0; i < outer; i++, in += count * inner) {
    for (int32_t j = 0; j < inner; j++) {
      int32_t best = 0;
      for (int32_t k = 1; k < count; k++) {
        if (sign * in[k * inner + j] > sign * in[best * inner + j]) {
          best = k;
        }
      }
      *out++ = best;
    }
  }
}

void fmc_arg_max(const int8_t *in, int32_t outer, int32_t count, int32_t inner, int32_t *out) {
  first_best(in, outer, count, inner, 1, out);
}

void fmc_arg_min(const int8_t *in, int32_t outer, int32_t count, int32_t inner, int32_t *out) {
  first_best(in, outer, count, inner, -1, out);
}
