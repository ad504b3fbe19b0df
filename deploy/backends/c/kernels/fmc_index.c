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
