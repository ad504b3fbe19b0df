/* Average and maximum over windows; padding does not count. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

/* The part of a window that lies on the map, as the place of its first value. */
typedef struct {
  const int8_t *in;
  int32_t rows, columns;
} part_t;

static part_t part(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t top,
                   int32_t left) {
  const int32_t y0 = fmc_at_least(top, 0), y1 = fmc_at_most(top + p->kernel_rows, rows);
  const int32_t x0 = fmc_at_least(left, 0);
  const int32_t x1 = fmc_at_most(left + p->kernel_columns, p->in_columns);
  part_t found;
  found.in = in + (y0 * p->in_columns + x0) * p->in_channels;
  found.rows = y1 - y0;
  found.columns = x1 - x0;
  return found;
}

void fmc_average_pool(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t above,
                      int8_t *out, int32_t out_rows) {
  const int32_t row = p->in_columns * p->in_channels;
  for (int32_t y = 0; y < out_rows; y++) {
    for (int32_t x = 0; x < p->out_columns; x++) {
      const part_t w = part(p, in, rows, y * p->stride_rows - above,
                            x * p->stride_columns - p->pad_columns);
      const int32_t count = w.rows * w.columns;
      for (int32_t c = 0; c < p->in_channels; c++) {
        int32_t sum = 0;
        for (int32_t j = 0; j < w.rows; j++) {
          const int8_t *a = w.in + j * row + c;
          for (int32_t i = w.columns; i > 0; i--, a += p->in_channels) {
            sum += *a;
          }
        }
        sum = sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
        *out++ = fmc_clamp(sum, p->low, p->high);
      }
    }
  }
}

void fmc_max_pool(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t above,
                  int8_t *out, int32_t out_rows) {
  const int32_t row = p->in_columns * p->in_channels;
  for (int32_t y = 0; y < out_rows; y++) {
    for (int32_t x = 0; x < p->out_columns; x++) {
      const part_t w = part(p, in, rows, y * p->stride_rows - above,
                            x * p->stride_columns - p->pad_columns);
      for (int32_t c = 0; c < p->in_channels; c++) {
        int32_t greatest = INT8_MIN;
        for (int32_t j = 0; j < w.rows; j++) {
          const int8_t *a = w.in + j * row + c;
          for (int32_t i = w.columns; i > 0; i--, a += p->in_channels) {
            greatest = fmc_at_least(greatest, *a);
          }
        }
        *out++ = fmc_clamp(greatest, p->low, p->high);
      }
    }
  }
}
