/* Sums over rows in int32, and what becomes of them; reductions over any dimensions. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

void fmc_accumulate(int32_t *sums, const int8_t *in, int32_t columns, int32_t channels,
                    int32_t row) {
  if (row == 0) {
    for (int32_t c = 0; c < channels; c++) {
      sums[c] = 0;
    }
  }
  while (columns-- > 0) {
    for (int32_t c = 0; c < channels; c++) {
      sums[c] += *in++;
    }
  }
}

static int8_t mean(const fmc_sums_t *p, int32_t sum) {
  const int32_t value = fmc_scale(sum - p->in_zero * p->count, p->multiplier, p->shift);
  return fmc_clamp(value + p->out_zero, p->low, p->high);
}

void fmc_sums_mean(const fmc_sums_t *p, const int32_t *sums, int8_t *out) {
  for (int32_t c = 0; c < p->channels; c++) {
    out[c] = mean(p, sums[c]);
  }
}

void fmc_sums_average(const fmc_sums_t *p, const int32_t *sums, int8_t *out) {
  const int32_t half = p->count / 2;
  for (int32_t c = 0; c < p->channels; c++) {
    const int32_t sum = sums[c];
    out[c] = fmc_clamp(sum > 0 ? (sum + half) / p->count : (sum - half) / p->count, p->low,
                       p->high);
  }
}

enum { SUM, GREATEST, LEAST };

static int32_t over(const fmc_reduce_t *p, const int8_t *in, int32_t kind) {
  int32_t value = kind == SUM ? 0 : *in;
  for (int32_t i = 0; i < p->over[0]; i++) {
    for (int32_t j = 0; j < p->over[1]; j++) {
      for (int32_t k = 0; k < p->over[2]; k++) {
        for (int32_t l = 0; l < p->over[3]; l++) {
          const int32_t x = in[i * p->over_step[0] + j * p->over_step[1] + k * p->over_step[2] +
                               l * p->over_step[3]];
          value = kind == SUM        ? value + x
                  : kind == GREATEST ? fmc_at_least(value, x)
                                     : fmc_at_most(value, x);
        }
      }
    }
  }
  return value;
}

static void reduce(const fmc_reduce_t *p, const int8_t *in, int8_t *out, int32_t kind) {
  for (int32_t i = 0; i < p->kept[0]; i++) {
    for (int32_t j = 0; j < p->kept[1]; j++) {
      for (int32_t k = 0; k < p->kept[2]; k++) {
        for (int32_t l = 0; l < p->kept[3]; l++) {
          const int8_t *first = in + i * p->kept_step[0] + j * p->kept_step[1] +
                                k * p->kept_step[2] + l * p->kept_step[3];
          const int32_t value = over(p, first, kind);
          *out++ = kind == SUM ? mean(&p->end, value) : (int8_t)value;
        }
      }
    }
  }
}

void fmc_reduce_sum(const fmc_reduce_t *p, const int8_t *in, int8_t *out) {
  reduce(p, in, out, SUM);
}

void fmc_reduce_max(const fmc_reduce_t *p, const int8_t *in, int8_t *out) {
  reduce(p, in, out, GREATEST);
}

void fmc_reduce_min(const fmc_reduce_t *p, const int8_t *in, int8_t *out) {
  reduce(p, in, out, LEAST);
}
