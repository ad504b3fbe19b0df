/* Transposed convolution, gathered: each output value sums the inputs that reach it. */
#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

void fmc_transpose_conv(const fmc_window_t *p, const fmc_weights_t *w, const int8_t *in,
                        int32_t rows, int32_t first, int8_t *out, int32_t row) {
  const int32_t channels = p->in_channels;
  for (int32_t x = 0; x < p->out_columns; x++) {
    const int32_t column = x + p->pad_columns;
    for (int32_t o = 0; o < p->out_channels; o++) {
      int32_t sum = w->bias ? w->bias[o] : 0;
      for (int32_t r = 0; r < rows; r++) {
        const int32_t j = row - (first + r) * p->stride_rows;
        if (j < 0 || j >= p->kernel_rows) {
          continue;
        }
        for (int32_t i = column % p->stride_columns; i < p->kernel_columns;
             i += p->stride_columns) {
          const int32_t source = (column - i) / p->stride_columns;
          const int8_t *a, *k;
          if (column < i || source >= p->in_columns) {
            continue;
          }
          a = in + (r * p->in_columns + source) * channels;
          k = w->weights + ((o * p->kernel_rows + j) * p->kernel_columns + i) * channels;
          for (int32_t c = 0; c < channels; c++) {
            sum += (a[c] + p->in_offset) * k[c];
          }
        }
      }
      *out++ = fmc_clamp(fmc_scale(sum, w->multiplier[o], w->shift[o]) + p->out_offset, p->low,
                         p->high);
    }
  }
}
