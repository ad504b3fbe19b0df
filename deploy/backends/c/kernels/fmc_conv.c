/* Convolution, four output channels at a time: each input value is read once for all four. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

/* The taps of a window that lie on the map: [first, stop); none where it lies beside the map. */
typedef struct {
  int32_t first, stop;
} taps_t;

static taps_t taps(int32_t origin, int32_t extent, int32_t count, int32_t dilation) {
  taps_t t;
  t.first = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
  t.stop = origin >= extent ? 0 : fmc_at_most(count, (extent - origin + dilation - 1) / dilation);
  t.stop = fmc_at_least(t.stop, t.first);
  return t;
}

static void four(int32_t *sum, const int8_t *in, int32_t offset, const int8_t *w, int32_t step,
                 int32_t count) {
  const int8_t *w0 = w, *w1 = w + step, *w2 = w1 + step, *w3 = w2 + step;
  const int8_t *const end = in + count;
  int32_t s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
  while (end - in >= 2) {
    int32_t a = *in++ + offset;
    s0 += a * *w0++;
    s1 += a * *w1++;
    s2 += a * *w2++;
    s3 += a * *w3++;
    a = *in++ + offset;
    s0 += a * *w0++;
    s1 += a * *w1++;
    s2 += a * *w2++;
    s3 += a * *w3++;
  }
  if (in != end) {
    const int32_t a = *in + offset;
    s0 += a * *w0;
    s1 += a * *w1;
    s2 += a * *w2;
    s3 += a * *w3;
  }
  sum[0] = s0;
  sum[1] = s1;
  sum[2] = s2;
  sum[3] = s3;
}

static int32_t one(const int8_t *in, int32_t offset, const int8_t *w, int32_t count) {
  int32_t sum = 0;
  while (count-- > 0) {
    sum += (*in++ + offset) * *w++;
  }
  return sum;
}

void fmc_conv(const fmc_window_t *p, const fmc_weights_t *w, const int8_t *in, int32_t rows,
              int32_t above, int8_t *out, int32_t out_rows) {
  const int32_t channels = p->in_channels, in_row = p->in_columns * channels;
  const int32_t kernel_row = p->kernel_columns * channels;
  const int32_t kernel = p->kernel_rows * kernel_row;
  const int joined = p->dilation_columns == 1; /* the taps of a row lie side by side */
  for (int32_t y = 0; y < out_rows; y++) {
    const int32_t top = y * p->stride_rows - above;
    const taps_t v = taps(top, rows, p->kernel_rows, p->dilation_rows);
    for (int32_t x = 0; x < p->out_columns; x++) {
      const int32_t left = x * p->stride_columns - p->pad_columns;
      const taps_t h = taps(left, p->in_columns, p->kernel_columns, p->dilation_columns);
      const int32_t groups = joined ? 1 : h.stop - h.first;
      const int32_t run = joined ? (h.stop - h.first) * channels : channels;
      const int32_t step = p->dilation_columns * channels;
      const int8_t *const origin = in + (top + v.first * p->dilation_rows) * in_row +
                                   (left + h.first * p->dilation_columns) * channels;
      const int8_t *weights = w->weights + v.first * kernel_row + h.first * channels;
      int32_t o = 0;
      for (; o + 4 <= p->out_channels; o += 4, weights += 4 * kernel) {
        int32_t sum[4] = {0, 0, 0, 0};
        const int8_t *row = origin, *row_weights = weights;
        for (int32_t j = v.first; j < v.stop; j++) {
          for (int32_t g = 0; g < groups; g++) {
            four(sum, row + g * step, p->in_offset, row_weights + g * channels, kernel, run);
          }
          row += p->dilation_rows * in_row;
          row_weights += kernel_row;
        }
        for (int32_t k = 0; k < 4; k++) {
          const int32_t bias = w->bias ? w->bias[o + k] : 0;
          const int32_t value = fmc_scale(sum[k] + bias, w->multiplier[o + k], w->shift[o + k]);
          *out++ = fmc_clamp(value + p->out_offset, p->low, p->high);
        }
      }
      for (; o < p->out_channels; o++, weights += kernel) {
        int32_t sum = w->bias ? w->bias[o] : 0;
        const int8_t *row = origin, *row_weights = weights;
        for (int32_t j = v.first; j < v.stop; j++) {
          for (int32_t g = 0; g < groups; g++) {
            sum += one(row + g * step, p->in_offset, row_weights + g * channels, run);
          }
          row += p->dilation_rows * in_row;
          row_weights += kernel_row;
        }
        *out++ = fmc_clamp(fmc_scale(sum, w->multiplier[o], w->shift[o]) + p->out_offset, p->low,
                           p->high);
      }
    }
  }
}
