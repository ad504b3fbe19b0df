/* Maps of single bits: made by tables, weighed where they stand, and turned into values. */
#include "fmc_kernels.h"

void fmc_bits_of(const fmc_bits_t *p, const int8_t *table, const int8_t *in, int8_t *out) {
  for (int32_t x = 0; x < p->columns; x++) {
    uint32_t held = 0;
    int32_t have = 0;
    for (int32_t c = 0; c < p->channels; c++) {
      held |= (uint32_t)(uint8_t)table[*in++ + 128] << have;
      have += p->bits;
      if (have >= 8) {
        *out++ = (int8_t)(held & 255u);
        held >>= 8;
        have -= 8;
      }
    }
    if (have > 0) {
      *out++ = (int8_t)held;
    }
  }
}

void fmc_values_of_bits(const fmc_bits_t *p, const int8_t *table, const int8_t *in, int8_t *out) {
  const uint32_t mask = (1u << p->bits) - 1u;
  for (int32_t x = 0; x < p->columns; x++) {
    uint32_t held = 0;
    int32_t have = 0;
    for (int32_t c = 0; c < p->channels; c++) {
      while (have < p->bits) {
        held |= (uint32_t)(uint8_t)*in++ << have;
        have += 8;
      }
      *out++ = table[held & mask];
      held >>= p->bits;
      have -= p->bits;
    }
  }
}

/* Eight sums of 16 bits; a sum of 2^15 or more makes a 1. */
typedef struct {
  uint32_t a, b, c, d;
} sums_t;

/* Adds what each half byte of a pixel is worth; a pixel outside of the map is all zeros. */
static sums_t add_pixel(sums_t s, const int8_t *in, int32_t bytes, const uint32_t *table) {
  const uint32_t *const end = table + bytes * 128;
  for (; table != end; table += 128) {
    const uint32_t byte = in ? (uint8_t)*in++ : 0u;
    const uint32_t *half = table + (byte & 15u) * 4u;
    s.a += half[0];
    s.b += half[1];
    s.c += half[2];
    s.d += half[3];
    half = table + 64 + (byte >> 4) * 4u;
    s.a += half[0];
    s.b += half[1];
    s.c += half[2];
    s.d += half[3];
  }
  return s;
}

static int8_t decided(sums_t s) {
  const uint32_t ones = 0x00010001u;
  const uint32_t both = (s.a >> 15 & ones) | (s.b >> 15 & ones) << 1 | (s.c >> 15 & ones) << 2 |
                        (s.d >> 15 & ones) << 3;
  return (int8_t)((both | both >> 12) & 255u);
}

static void bits_of_pixels(const fmc_bits_window_t *p, const fmc_sums_table_t *t, const int8_t *in,
                           int8_t *out) {
  const int32_t step = p->in_bytes * 128;
  for (int32_t x = 0; x < p->out_columns; x++, in += p->stride_columns * p->in_bytes) {
    const uint32_t *table = t->worth, *start = t->start;
    for (int32_t o = 0; o < p->out_bytes; o++, table += step, start += 4) {
      const sums_t s = {start[0], start[1], start[2], start[3]};
      *out++ = decided(add_pixel(s, in, p->in_bytes, table));
    }
  }
}

void fmc_bits_conv(const fmc_bits_window_t *p, const fmc_sums_table_t *t, const int8_t *in,
                   int32_t rows, int32_t above, int8_t *out, int32_t out_rows) {
  const int32_t in_row = p->in_columns * p->in_bytes, out_row = p->out_columns * p->out_bytes;
  const int32_t step = p->in_bytes * 128;
  for (int32_t y = 0; y < out_rows; y++) {
    const int32_t top = y * p->stride_rows - above;
    if (p->kernel_rows == 1 && p->kernel_columns == 1) {
      bits_of_pixels(p, t, in + top * in_row, out);
      out += out_row;
      continue;
    }
    for (int32_t x = 0; x < p->out_columns; x++) {
      const int32_t left = x * p->stride_columns - p->pad_columns;
      const uint32_t *table = t->worth, *start = t->start;
      for (int32_t o = 0; o < p->out_bytes; o++, start += 4) {
        sums_t s = {start[0], start[1], start[2], start[3]};
        for (int32_t i = top; i < top + p->kernel_rows; i++) {
          for (int32_t j = left; j < left + p->kernel_columns; j++, table += step) {
            const int inside = i >= 0 && i < rows && j >= 0 && j < p->in_columns;
            s = add_pixel(s, inside ? in + i * in_row + j * p->in_bytes : 0, p->in_bytes, table);
          }
        }
        *out++ = decided(s);
      }
    }
  }
}
