/* Rows by CMSIS-NN's public functions. What they return depends on shapes alone, never on values. */
#include "fmc_cmsis_nn.h"

#include <stddef.h>
#include <string.h>

#include "arm_nnfunctions.h"

static cmsis_nn_dims dims(int32_t n, int32_t h, int32_t w, int32_t c) {
  cmsis_nn_dims d;
  d.n = n;
  d.h = h;
  d.w = w;
  d.c = c;
  return d;
}

static cmsis_nn_tile tile(int32_t h, int32_t w) {
  cmsis_nn_tile t;
  t.h = h;
  t.w = w;
  return t;
}

static cmsis_nn_activation between(int32_t low, int32_t high) {
  cmsis_nn_activation a;
  a.min = low;
  a.max = high;
  return a;
}

static cmsis_nn_dims in_dims(const fmc_window_t *p, int32_t rows) {
  return dims(1, rows, p->in_columns, p->in_channels);
}

static cmsis_nn_dims out_dims(const fmc_window_t *p, int32_t rows) {
  return dims(1, rows, p->out_columns, p->out_channels);
}

static cmsis_nn_context context(void *scratch, int32_t scratch_bytes) {
  cmsis_nn_context c;
  c.buf = scratch;
  c.size = scratch_bytes;
  return c;
}

static cmsis_nn_per_channel_quant_params channels(const fmc_cmsis_nn_weights_t *w) {
  cmsis_nn_per_channel_quant_params q;
  q.multiplier = (int32_t *)w->multiplier;
  q.shift = (int32_t *)w->shift;
  return q;
}

static cmsis_nn_conv_params conv_params(const fmc_window_t *p, int32_t above) {
  cmsis_nn_conv_params q;
  q.input_offset = p->in_offset;
  q.output_offset = p->out_offset;
  q.stride = tile(p->stride_rows, p->stride_columns);
  q.padding = tile(above, p->pad_columns);
  q.dilation = tile(p->dilation_rows, p->dilation_columns);
  q.activation = between(p->low, p->high);
  return q;
}

/* arm_convolve_1_x_n_s8, which the wrapper takes for a kernel of one row, gets the last columns
   wrong on cores with vector instructions, for some paddings and strides. */
static int has_one_row(const fmc_window_t *p) {
  return p->kernel_rows == 1 && p->kernel_columns > 1;
}

void fmc_cmsis_nn_conv(const fmc_window_t *p, const fmc_cmsis_nn_weights_t *w, const int8_t *in,
                       int32_t rows, int32_t above, int8_t *out, int32_t out_rows, void *scratch,
                       int32_t scratch_bytes) {
  const cmsis_nn_context c = context(scratch, scratch_bytes);
  const cmsis_nn_conv_params q = conv_params(p, above);
  const cmsis_nn_per_channel_quant_params r = channels(w);
  const cmsis_nn_dims i = in_dims(p, rows), o = out_dims(p, out_rows), b = dims(1, 1, 1, p->out_channels);
  const cmsis_nn_dims f = dims(p->out_channels, p->kernel_rows, p->kernel_columns, p->in_channels);
  if (has_one_row(p)) {
    (void)arm_convolve_s8(&c, &q, &r, &i, in, &f, w->weights, &b, w->bias, NULL, &o, out);
  } else {
    (void)arm_convolve_wrapper_s8(&c, &q, &r, &i, in, &f, w->weights, &b, w->bias, &o, out);
  }
}

int32_t fmc_cmsis_nn_conv_bytes(const fmc_window_t *p, int32_t rows, int32_t above,
                                int32_t out_rows) {
  const cmsis_nn_conv_params q = conv_params(p, above);
  const cmsis_nn_dims i = in_dims(p, rows), o = out_dims(p, out_rows);
  const cmsis_nn_dims f = dims(p->out_channels, p->kernel_rows, p->kernel_columns, p->in_channels);
  if (has_one_row(p)) {
    return arm_convolve_s8_get_buffer_size(&i, &f);
  }
  return arm_convolve_wrapper_s8_get_buffer_size(&q, &i, &f, &o);
}

static cmsis_nn_dw_conv_params depthwise_params(const fmc_window_t *p, int32_t above) {
  const cmsis_nn_conv_params c = conv_params(p, above);
  cmsis_nn_dw_conv_params q;
  q.input_offset = c.input_offset;
  q.output_offset = c.output_offset;
  q.ch_mult = p->out_channels / p->in_channels;
  q.stride = c.stride;
  q.padding = c.padding;
  q.dilation = c.dilation;
  q.activation = c.activation;
  return q;
}

void fmc_cmsis_nn_depthwise(const fmc_window_t *p, const fmc_cmsis_nn_weights_t *w,
                            const int8_t *in, int32_t rows, int32_t above, int8_t *out,
                            int32_t out_rows, void *scratch, int32_t scratch_bytes) {
  const cmsis_nn_context c = context(scratch, scratch_bytes);
  const cmsis_nn_dw_conv_params q = depthwise_params(p, above);
  const cmsis_nn_per_channel_quant_params r = channels(w);
  const cmsis_nn_dims i = in_dims(p, rows), o = out_dims(p, out_rows), b = dims(1, 1, 1, p->out_channels);
  const cmsis_nn_dims f = dims(1, p->kernel_rows, p->kernel_columns, p->out_channels);
  (void)arm_depthwise_conv_wrapper_s8(&c, &q, &r, &i, in, &f, w->weights, &b, w->bias, &o, out);
}

int32_t fmc_cmsis_nn_depthwise_bytes(const fmc_window_t *p, int32_t rows, int32_t above,
                                     int32_t out_rows) {
  const cmsis_nn_dw_conv_params q = depthwise_params(p, above);
  const cmsis_nn_dims i = in_dims(p, rows), o = out_dims(p, out_rows);
  const cmsis_nn_dims f = dims(1, p->kernel_rows, p->kernel_columns, p->out_channels);
  return arm_depthwise_conv_wrapper_s8_get_buffer_size(&q, &i, &f, &o);
}

void fmc_cmsis_nn_dense(const fmc_dense_t *p, const fmc_cmsis_nn_weights_t *w, const int8_t *in,
                        int8_t *out, void *scratch, int32_t scratch_bytes) {
  const cmsis_nn_context c = context(scratch, scratch_bytes);
  const cmsis_nn_dims i = dims(p->count, 1, 1, p->depth), o = dims(p->count, 1, 1, p->units);
  const cmsis_nn_dims f = dims(p->depth, 1, 1, p->units), b = dims(1, 1, 1, p->units);
  cmsis_nn_fc_params q;
  q.input_offset = p->in_offset;
  q.filter_offset = 0;
  q.output_offset = p->out_offset;
  q.activation = between(p->low, p->high);
  if (fmc_cmsis_nn_dense_bytes(p) > 0) {
    (void)arm_vector_sum_s8((int32_t *)scratch, p->depth, p->units, w->weights, p->in_offset, 0,
                            w->bias);
  }
  if (p->per_unit) {
    const cmsis_nn_per_channel_quant_params r = channels(w);
    (void)arm_fully_connected_per_channel_s8(&c, &q, &r, &i, in, &f, w->weights, &b, w->bias, &o,
                                             out);
  } else {
    cmsis_nn_per_tensor_quant_params r;
    r.multiplier = w->multiplier[0];
    r.shift = w->shift[0];
    (void)arm_fully_connected_s8(&c, &q, &r, &i, in, &f, w->weights, &b, w->bias, &o, out);
  }
}

int32_t fmc_cmsis_nn_dense_bytes(const fmc_dense_t *p) {
  const cmsis_nn_dims f = dims(p->depth, 1, 1, p->units);
  return arm_fully_connected_s8_get_buffer_size(&f);
}

static cmsis_nn_pool_params pool_params(const fmc_window_t *p, int32_t above) {
  cmsis_nn_pool_params q;
  q.stride = tile(p->stride_rows, p->stride_columns);
  q.padding = tile(above, p->pad_columns);
  q.activation = between(p->low, p->high);
  return q;
}

void fmc_cmsis_nn_average_pool(const fmc_window_t *p, const int8_t *in, int32_t rows,
                               int32_t above, int8_t *out, int32_t out_rows, void *scratch,
                               int32_t scratch_bytes) {
  const cmsis_nn_context c = context(scratch, scratch_bytes);
  const cmsis_nn_pool_params q = pool_params(p, above);
  const cmsis_nn_dims i = in_dims(p, rows), o = out_dims(p, out_rows);
  const cmsis_nn_dims f = dims(1, p->kernel_rows, p->kernel_columns, 1);
  (void)arm_avgpool_s8(&c, &q, &i, in, &f, &o, out);
}

int32_t fmc_cmsis_nn_average_pool_bytes(const fmc_window_t *p, int32_t rows, int32_t above,
                                        int32_t out_rows) {
  (void)rows;
  (void)above;
  (void)out_rows;
  return arm_avgpool_s8_get_buffer_size((int)p->out_columns, (int)p->in_channels);
}

void fmc_cmsis_nn_max_pool(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t above,
                           int8_t *out, int32_t out_rows) {
  const cmsis_nn_context c = context(NULL, 0);
  const cmsis_nn_pool_params q = pool_params(p, above);
  const cmsis_nn_dims i = in_dims(p, rows), o = out_dims(p, out_rows);
  const cmsis_nn_dims f = dims(1, p->kernel_rows, p->kernel_columns, 1);
  (void)arm_max_pool_s8(&c, &q, &i, in, &f, &o, out);
}

void fmc_cmsis_nn_add(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out) {
  (void)arm_elementwise_add_s8(a, b, p->a_offset, p->a_multiplier, p->a_shift, p->b_offset,
                               p->b_multiplier, p->b_shift, 20, out, p->out_offset,
                               p->out_multiplier, p->out_shift, p->low, p->high,
                               p->columns * p->channels);
}

void fmc_cmsis_nn_softmax(const fmc_softmax_t *p, const int8_t *in, int8_t *out) {
  arm_softmax_s8(in, p->count, p->depth, p->multiplier, p->shift, p->least, out);
}

/* Four pixels of six channels to four; two of the sums lie where one rounding is not like two. */
int fmc_cmsis_nn_agrees(void) {
  static const int8_t in[] = {99,   67,  -63, 12,  -113, 10, -41, 29, -5,  -41, 117, -56,
                              -128, -47, -10, -13, 14,   -11, 37, 51, -82, -73, 20,  -58};
  static const int8_t weights[] = {-86, -8,  -126, 86, -84, 56,  9,   -83, 2,  -84, 106, 4,
                                   70,  120, -103, 0,  -66, 113, -36, -81, 23, -10, 1,   -37};
  static const int32_t bias[] = {1500, -1181, -839, -2933};
  static const int32_t multiplier[] = {1966484907, 2037902823, 1125255552, 1449148293};
  static const int32_t shift[] = {-8, -9, -7, -8};
  static const int8_t wanted[] = {35, -39, 119, -42, -45, 18, -57, -8,
                                  34, 4,   -68, 10,  -17, 2,  34,  -24};
  static const fmc_window_t window = {4, 6, 4, 4, 1, 1, 1, 1, 1, 1, 0, 5, -3, -128, 127};
  static const fmc_cmsis_nn_weights_t w = {weights, bias, multiplier, shift};
  int32_t scratch[8];
  int8_t out[sizeof(wanted)];
  if (fmc_cmsis_nn_conv_bytes(&window, 1, 0, 1) > (int32_t)sizeof(scratch)) {
    return 0;
  }
  fmc_cmsis_nn_conv(&window, &w, in, 1, 0, out, 1, scratch, (int32_t)sizeof(scratch));
  return memcmp(out, wanted, sizeof(wanted)) == 0;
}
