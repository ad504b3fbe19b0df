/*
 * See arm_nnfunctions.h. STAND_IN_SCRATCH says how many bytes of scratch it asks for beyond what it
 * needs, which is none; with STAND_IN_ONE_ROUNDING it rounds once instead of twice.
 */
#include "arm_nnfunctions.h"

#include <string.h>

#include "fmc_fixed_point.h"
#include "fmc_kernels.h"

#ifndef STAND_IN_SCRATCH
#define STAND_IN_SCRATCH 0
#endif

static int32_t scaled(int32_t value, int32_t multiplier, int32_t shift) {
#ifdef STAND_IN_ONE_ROUNDING
  return (int32_t)(((int64_t)value * multiplier + ((int64_t)1 << (30 - shift))) >> (31 - shift));
#else
  return fmc_scale(value, multiplier, shift);
#endif
}

static void scribble(const cmsis_nn_context *ctx) {
  if (ctx->buf && ctx->size > 0) {
    memset(ctx->buf, 0x5A, (uint32_t)ctx->size);
  }
}

/* What a window of one channel of a map sees: the sum of products, or of values, or the greatest. */
typedef struct {
  const cmsis_nn_dims *in, *filter;
  cmsis_nn_tile stride, padding, dilation;
  const int8_t *data;
} view_t;

typedef void (*visit_t)(void *what, int8_t value, int32_t row, int32_t column);

static void look(const view_t *v, int32_t y, int32_t x, int32_t channel, visit_t visit,
                 void *what) {
  for (int32_t j = 0; j < v->filter->h; j++) {
    const int32_t row = y * v->stride.h - v->padding.h + j * v->dilation.h;
    for (int32_t i = 0; i < v->filter->w; i++) {
      const int32_t column = x * v->stride.w - v->padding.w + i * v->dilation.w;
      if (row >= 0 && row < v->in->h && column >= 0 && column < v->in->w) {
        visit(what, v->data[(row * v->in->w + column) * v->in->c + channel], j, i);
      }
    }
  }
}

/* A sum of products with weights `step` bytes from tap to tap. */
typedef struct {
  int32_t sum, offset, columns, step;
  const int8_t *weights;
} products_t;

static void add_product(void *what, int8_t value, int32_t row, int32_t column) {
  products_t *p = (products_t *)what;
  p->sum += (value + p->offset) * p->weights[(row * p->columns + column) * p->step];
}

arm_cmsis_nn_status arm_convolve_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_conv_params *conv_params,
    const cmsis_nn_per_channel_quant_params *quant_params, const cmsis_nn_dims *input_dims,
    const int8_t *input_data, const cmsis_nn_dims *filter_dims, const int8_t *filter_data,
    const cmsis_nn_dims *bias_dims, const int32_t *bias_data, const cmsis_nn_dims *upscale_dims,
    const cmsis_nn_dims *output_dims, int8_t *output_data) {
  const int32_t kernel = filter_dims->h * filter_dims->w * filter_dims->c;
  const view_t view = {input_dims,           filter_dims,           conv_params->stride,
                       conv_params->padding, conv_params->dilation, input_data};
  (void)bias_dims;
  scribble(ctx);
  if (upscale_dims || input_dims->c != filter_dims->c) {
    return ARM_CMSIS_NN_ARG_ERROR;
  }
  for (int32_t y = 0; y < output_dims->h; y++) {
    for (int32_t x = 0; x < output_dims->w; x++) {
      for (int32_t o = 0; o < output_dims->c; o++) {
        products_t p = {bias_data ? bias_data[o] : 0, conv_params->input_offset, filter_dims->w,
                        filter_dims->c, filter_data + o * kernel};
        for (int32_t c = 0; c < input_dims->c; c++, p.weights++) {
          look(&view, y, x, c, add_product, &p);
        }
        *output_data++ = fmc_clamp(
            scaled(p.sum, quant_params->multiplier[o], quant_params->shift[o]) +
                conv_params->output_offset,
            conv_params->activation.min, conv_params->activation.max);
      }
    }
  }
  return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_convolve_wrapper_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_conv_params *conv_params,
    const cmsis_nn_per_channel_quant_params *quant_params, const cmsis_nn_dims *input_dims,
    const int8_t *input_data, const cmsis_nn_dims *filter_dims, const int8_t *filter_data,
    const cmsis_nn_dims *bias_dims, const int32_t *bias_data, const cmsis_nn_dims *output_dims,
    int8_t *output_data) {
  return arm_convolve_s8(ctx, conv_params, quant_params, input_dims, input_data, filter_dims,
                         filter_data, bias_dims, bias_data, 0, output_dims, output_data);
}

arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_dw_conv_params *dw_conv_params,
    const cmsis_nn_per_channel_quant_params *quant_params, const cmsis_nn_dims *input_dims,
    const int8_t *input_data, const cmsis_nn_dims *filter_dims, const int8_t *filter_data,
    const cmsis_nn_dims *bias_dims, const int32_t *bias_data, const cmsis_nn_dims *output_dims,
    int8_t *output_data) {
  const view_t view = {input_dims,
                       filter_dims,
                       dw_conv_params->stride,
                       dw_conv_params->padding,
                       dw_conv_params->dilation,
                       input_data};
  (void)bias_dims;
  scribble(ctx);
  if (filter_dims->c != output_dims->c || input_dims->c * dw_conv_params->ch_mult != filter_dims->c) {
    return ARM_CMSIS_NN_ARG_ERROR;
  }
  for (int32_t y = 0; y < output_dims->h; y++) {
    for (int32_t x = 0; x < output_dims->w; x++) {
      for (int32_t o = 0; o < output_dims->c; o++) {
        products_t p = {bias_data ? bias_data[o] : 0, dw_conv_params->input_offset, filter_dims->w,
                        filter_dims->c, filter_data + o};
        look(&view, y, x, o / dw_conv_params->ch_mult, add_product, &p);
        *output_data++ = fmc_clamp(
            scaled(p.sum, quant_params->multiplier[o], quant_params->shift[o]) +
                dw_conv_params->output_offset,
            dw_conv_params->activation.min, dw_conv_params->activation.max);
      }
    }
  }
  return ARM_CMSIS_NN_SUCCESS;
}

static arm_cmsis_nn_status dense(const cmsis_nn_context *ctx, const cmsis_nn_fc_params *q,
                                 const int32_t *multiplier, const int32_t *shift, int32_t step,
                                 const cmsis_nn_dims *input_dims, const int8_t *in,
                                 const cmsis_nn_dims *filter_dims, const int8_t *weights,
                                 const int32_t *bias, const cmsis_nn_dims *output_dims,
                                 int8_t *out) {
  scribble(ctx);
  if (input_dims->n != output_dims->n || filter_dims->c != output_dims->c) {
    return ARM_CMSIS_NN_ARG_ERROR;
  }
  for (int32_t n = 0; n < output_dims->n; n++, in += filter_dims->n) {
    for (int32_t o = 0; o < output_dims->c; o++) {
      int32_t sum = bias ? bias[o] : 0;
      for (int32_t i = 0; i < filter_dims->n; i++) {
        sum += (in[i] + q->input_offset) * (weights[o * filter_dims->n + i] + q->filter_offset);
      }
      *out++ = fmc_clamp(scaled(sum, multiplier[o * step], shift[o * step]) + q->output_offset,
                         q->activation.min, q->activation.max);
    }
  }
  return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_fully_connected_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_fc_params *fc_params,
    const cmsis_nn_per_tensor_quant_params *quant_params, const cmsis_nn_dims *input_dims,
    const int8_t *input_data, const cmsis_nn_dims *filter_dims, const int8_t *filter_data,
    const cmsis_nn_dims *bias_dims, const int32_t *bias_data, const cmsis_nn_dims *output_dims,
    int8_t *output_data) {
  (void)bias_dims;
  return dense(ctx, fc_params, &quant_params->multiplier, &quant_params->shift, 0, input_dims,
               input_data, filter_dims, filter_data, bias_data, output_dims, output_data);
}

arm_cmsis_nn_status arm_fully_connected_per_channel_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_fc_params *fc_params,
    const cmsis_nn_per_channel_quant_params *quant_params, const cmsis_nn_dims *input_dims,
    const int8_t *input_data, const cmsis_nn_dims *filter_dims, const int8_t *filter_data,
    const cmsis_nn_dims *bias_dims, const int32_t *bias_data, const cmsis_nn_dims *output_dims,
    int8_t *output_data) {
  (void)bias_dims;
  return dense(ctx, fc_params, quant_params->multiplier, quant_params->shift, 1, input_dims,
               input_data, filter_dims, filter_data, bias_data, output_dims, output_data);
}

arm_cmsis_nn_status arm_vector_sum_s8(int32_t *vector_sum_buf, const int32_t vector_cols,
                                      const int32_t vector_rows, const int8_t *vector_data,
                                      const int32_t lhs_offset, const int32_t rhs_offset,
                                      const int32_t *bias_data) {
  (void)vector_cols;
  (void)vector_data;
  (void)lhs_offset;
  (void)rhs_offset;
  (void)bias_data;
  memset(vector_sum_buf, 0x5A, (uint32_t)vector_rows * sizeof(int32_t));
  return ARM_CMSIS_NN_SUCCESS;
}

/* Sum, count and greatest of what a window sees. */
typedef struct {
  int32_t sum, count, greatest;
} seen_t;

static void see(void *what, int8_t value, int32_t row, int32_t column) {
  seen_t *s = (seen_t *)what;
  (void)row;
  (void)column;
  s->sum += value;
  s->count++;
  s->greatest = fmc_at_least(s->greatest, value);
}

static arm_cmsis_nn_status pool(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *q,
                                const cmsis_nn_dims *input_dims, const int8_t *input_data,
                                const cmsis_nn_dims *filter_dims,
                                const cmsis_nn_dims *output_dims, int8_t *out, int average) {
  const cmsis_nn_tile close = {1, 1};
  const view_t view = {input_dims, filter_dims, q->stride, q->padding, close, input_data};
  scribble(ctx);
  for (int32_t y = 0; y < output_dims->h; y++) {
    for (int32_t x = 0; x < output_dims->w; x++) {
      for (int32_t c = 0; c < output_dims->c; c++) {
        seen_t seen = {0, 0, INT8_MIN};
        int32_t value;
        look(&view, y, x, c, see, &seen);
        if (seen.count == 0) {
          return ARM_CMSIS_NN_ARG_ERROR;
        }
        value = seen.greatest;
        if (average) {
          value = (seen.sum + (seen.sum > 0 ? 1 : -1) * (seen.count / 2)) / seen.count;
        }
        *out++ = fmc_clamp(value, q->activation.min, q->activation.max);
      }
    }
  }
  return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx,
                                   const cmsis_nn_pool_params *pool_params,
                                   const cmsis_nn_dims *input_dims, const int8_t *input_data,
                                   const cmsis_nn_dims *filter_dims,
                                   const cmsis_nn_dims *output_dims, int8_t *output_data) {
  return pool(ctx, pool_params, input_dims, input_data, filter_dims, output_dims, output_data, 1);
}

arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx,
                                    const cmsis_nn_pool_params *pool_params,
                                    const cmsis_nn_dims *input_dims, const int8_t *input_data,
                                    const cmsis_nn_dims *filter_dims,
                                    const cmsis_nn_dims *output_dims, int8_t *output_data) {
  return pool(ctx, pool_params, input_dims, input_data, filter_dims, output_dims, output_data, 0);
}

arm_cmsis_nn_status arm_elementwise_add_s8(
    const int8_t *input_1_vect, const int8_t *input_2_vect, const int32_t input_1_offset,
    const int32_t input_1_mult, const int32_t input_1_shift, const int32_t input_2_offset,
    const int32_t input_2_mult, const int32_t input_2_shift, const int32_t left_shift,
    int8_t *output, const int32_t out_offset, const int32_t out_mult, const int32_t out_shift,
    const int32_t out_activation_min, const int32_t out_activation_max, const int32_t block_size) {
  const int32_t one = 1 << left_shift;
  for (int32_t i = 0; i < block_size; i++) {
    const int32_t a = scaled((input_1_vect[i] + input_1_offset) * one, input_1_mult, input_1_shift);
    const int32_t b = scaled((input_2_vect[i] + input_2_offset) * one, input_2_mult, input_2_shift);
    output[i] = fmc_clamp(scaled(a + b, out_mult, out_shift) + out_offset, out_activation_min,
                          out_activation_max);
  }
  return ARM_CMSIS_NN_SUCCESS;
}

/* The softmax of fmc_softmax.c, whose arguments are the same. */
void arm_softmax_s8(const int8_t *input, const int32_t num_rows, const int32_t row_size,
                    const int32_t mult, const int32_t shift, const int32_t diff_min,
                    int8_t *output) {
  const fmc_softmax_t p = {num_rows, row_size, mult, shift, diff_min};
  fmc_softmax(&p, input, output);
}

int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *conv_params,
                                                const cmsis_nn_dims *input_dims,
                                                const cmsis_nn_dims *filter_dims,
                                                const cmsis_nn_dims *output_dims) {
  (void)conv_params;
  (void)input_dims;
  (void)filter_dims;
  (void)output_dims;
  return STAND_IN_SCRATCH;
}

int32_t arm_convolve_s8_get_buffer_size(const cmsis_nn_dims *input_dims,
                                        const cmsis_nn_dims *filter_dims) {
  (void)input_dims;
  (void)filter_dims;
  return STAND_IN_SCRATCH;
}

int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(
    const cmsis_nn_dw_conv_params *dw_conv_params, const cmsis_nn_dims *input_dims,
    const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims) {
  (void)dw_conv_params;
  (void)input_dims;
  (void)filter_dims;
  (void)output_dims;
  return STAND_IN_SCRATCH;
}

int32_t arm_fully_connected_s8_get_buffer_size(const cmsis_nn_dims *filter_dims) {
  (void)filter_dims;
  return STAND_IN_SCRATCH;
}

int32_t arm_avgpool_s8_get_buffer_size(const int dim_dst_width, const int ch_src) {
  (void)dim_dst_width;
  (void)ch_src;
  return STAND_IN_SCRATCH;
}
