/* Depthwise convolution, four output channels at a time where each input channel has one. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

typedef struct {
  const int8_t *in, *weights;
  int32_t rows, columns, in_row, in_column, weight_row, weight_column;
} patch_t;

static void four(const patch_t *p, int32_t offset, int32_t *sum) {
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  const int8_t *row = p->in, *row_weights = p->weights;
  for (int32_t j = 0; j < p->rows; j++) {
    const int8_t *a = row, *k = row_weights;
    for (int32_t i = p->columns; i > 0; i--) {
      s0 += (a[0] + offset) * k[0];
      s1 += (a[1] + offset) * k[1];
      s2 += (a[2] + offset) * k[2];
      s3 += (a[3] + offset) * k[3];
      a += p->in_column;
      k += p->weight_column;
    }
    row += p->in_row;
    row_weights += p->weight_row;
  }
  sum[0] = s0;
  sum[1] = s1;
  sum[2] = s2;
  sum[3] = s3;
}

static int32_t one(const patch_t *p, int32_t offset) {
  int32_t sum = 0;
  const int8_t *row = p->in, *row_weights = p->weights;
  for (int32_t j = 0; j < p->rows; j++) {
    const int8_t *a = row, *k = row_weights;
    for (int32_t i = p->columns; i > 0; i--) {
      sum += (*a + offset) * *k;
      a += p->in_column;
      k += p->weight_column;
    }
    row += p->in_row;
    row_weights += p->weight_row;
  }
  return sum;
}

static int8_t scaled(const fmc_window_t *p, const fmc_weights_t *w, int32_t o, int32_t sum) {
  const int32_t all = sum + (w->bias ? w->bias[o] : 0);
  return fmc_clamp(fmc_scale(all, w->multiplier[o], w->shift[o]) + p->out_offset, p->low, p->high);
}

/* Taps [*first, *stop) of a window lie on the map. */
static void taps(int32_t origin, int32_t extent, int32_t count, int32_t dilation, int32_t *first,
                 int32_t *stop) {
  *first = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
  *stop = origin >= extent ? 0 : fmc_at_most(count, (extent - origin + dilation - 1) / dilation);
  *stop = fmc_at_least(*stop, *first);
}

void fmc_depthwise(const fmc_window_t *p, const fmc_weights_t *w, const int8_t *in, int32_t rows,
                   int32_t above, int8_t *out, int32_t out_rows) {
  const int32_t multiplier = p->out_channels / p->in_channels;
  const int32_t row = p->in_columns * p->in_channels;
  patch_t patch;
  patch.in_row = p->dilation_rows * row;
  patch.in_column = p->dilation_columns * p->in_channels;
  patch.weight_column = p->out_channels;
  patch.weight_row = p->kernel_columns * p->out_channels;
  for (int32_t y = 0; y < out_rows; y++) {
    const int32_t top = y * p->stride_rows - above;
    int32_t j0, j1;
    taps(top, rows, p->kernel_rows, p->dilation_rows, &j0, &j1);
    patch.rows = j1 - j0;
    for (int32_t x = 0; x < p->out_columns; x++) {
      const int32_t left = x * p->stride_columns - p->pad_columns;
      int32_t i0, i1, o = 0;
      taps(left, p->in_columns, p->kernel_columns, p->dilation_columns, &i0, &i1);
      patch.columns = i1 - i0;
      patch.in = in + (top + j0 * p->dilation_rows) * row +
                 (left + i0 * p->dilation_columns) * p->in_channels;
      patch.weights = w->weights + j0 * patch.weight_row + i0 * patch.weight_column;
      if (multiplier == 1) {
        for (; o + 4 <= p->out_channels; o += 4) {
          int32_t sum[4];
          four(&patch, p->in_offset, sum);
          for (int32_t k = 0; k < 4; k++) {
            *out++ = scaled(p, w, o + k, sum[k]);
          }
          patch.in += 4;
          patch.weights += 4;
        }
      }
      for (int32_t k = 0; o < p->out_channels; o++) {
        *out++ = scaled(p, w, o, one(&patch, p->in_offset));
        patch.weights++;
        if (++k == multiplier) {
          patch.in++;
          k = 0;
        }
      }
    }
  }
}
