/*
 * Kernels of generated models: int8, the rounding of TensorFlow Lite Micro's reference kernels.
 *
 * A kernel makes rows of one map. `rows` are the input rows that it is given from `in` on, `above`
 * those of its window that lie above the map, which count as the zero point, as do those below
 * what is given. Descriptors are constants. No kernel keeps state, allocates, or reads outside of
 * what it is given. An output may stand where the input's rows are no longer needed: an output
 * row is written after the rows that it is made from were read, or value by value behind them
 * where a kernel says "in place".
 */
#ifndef FMC_KERNELS_H_
#define FMC_KERNELS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Weights, one row for each output channel; multiplier and shift of each output channel. */
typedef struct {
  const int8_t *weights;
  const int32_t *bias; /* or NULL */
  const int32_t *multiplier;
  const int8_t *shift;
} fmc_weights_t;

/* A window over rows and columns. Convolutions: in_offset is minus the input's zero point. */
typedef struct {
  int32_t in_columns, in_channels, out_columns, out_channels;
  int32_t kernel_rows, kernel_columns, stride_rows, stride_columns;
  int32_t dilation_rows, dilation_columns, pad_columns;
  int32_t in_offset, out_offset, low, high;
} fmc_window_t;

void fmc_conv(const fmc_window_t *p, const fmc_weights_t *w, const int8_t *in, int32_t rows,
              int32_t above, int8_t *out, int32_t out_rows);
/* Weights [kernel_rows][kernel_columns][out_channels]. */
void fmc_depthwise(const fmc_window_t *p, const fmc_weights_t *w, const int8_t *in, int32_t rows,
                   int32_t above, int8_t *out, int32_t out_rows);
/* One output row; `first` is the number of the first row given, `row` that of the output row
   counted from the first row that padding cuts off. */
void fmc_transpose_conv(const fmc_window_t *p, const fmc_weights_t *w, const int8_t *in,
                        int32_t rows, int32_t first, int8_t *out, int32_t row);
void fmc_average_pool(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t above,
                      int8_t *out, int32_t out_rows);
void fmc_max_pool(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t above,
                  int8_t *out, int32_t out_rows);

typedef struct {
  int32_t count, depth, units, per_unit;
  int32_t in_offset, out_offset, low, high;
} fmc_dense_t;

void fmc_dense(const fmc_dense_t *p, const fmc_weights_t *w, const int8_t *in, int8_t *out);

/* Two operands, each with a step from column to column and from channel to channel. In place. */
typedef struct {
  int32_t columns, channels;
  int32_t a_column, a_channel, b_column, b_channel;
  int32_t a_offset, b_offset, out_offset;
  int32_t a_multiplier, b_multiplier, out_multiplier;
  int32_t a_shift, b_shift, out_shift;
  int32_t low, high;
} fmc_binary_t;

void fmc_add(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_sub(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_mul(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_squared_difference(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_maximum(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_minimum(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_divide(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
/* 0 or 1. */
void fmc_equal(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_not_equal(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_less(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_less_equal(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
/* b holds the slopes of negative values. */
void fmc_prelu(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);

/* a where the condition is not 0, else b. In place. */
typedef struct {
  int32_t columns, channels;
  int32_t condition_column, condition_channel, a_column, a_channel, b_column, b_channel;
} fmc_select_t;

void fmc_select(const fmc_select_t *p, const int8_t *condition, const int8_t *a, const int8_t *b,
                int8_t *out);

/* out[batch][row][column]: sums over the depth of a[batch][row] * b[batch][column]. */
typedef struct {
  int32_t batch[3], a_batch[3], b_batch[3];
  int32_t rows, columns, depth;
  int32_t a_row, a_depth, b_column, b_depth;
  int32_t a_offset, b_offset, out_offset, multiplier, shift;
} fmc_matmul_t;

void fmc_matmul(const fmc_matmul_t *p, const int8_t *a, const int8_t *b, int8_t *out);

/* out[i] = table[in[i] + 128]; in place. */
void fmc_table(const int8_t *table, const int8_t *in, int8_t *out, int32_t count);

typedef struct {
  int32_t count, depth, multiplier, shift, least;
} fmc_softmax_t;

void fmc_softmax(const fmc_softmax_t *p, const int8_t *in, int8_t *out);

/* code_multiplier and code_shift: from Q5.26 to levels of the input. In place. */
typedef struct {
  int32_t count, depth, multiplier, shift, least, code_multiplier, code_shift;
} fmc_log_softmax_t;

void fmc_log_softmax(const fmc_log_softmax_t *p, const int8_t *in, int8_t *out);

typedef struct {
  int32_t count, depth, in_offset;
} fmc_unit_length_t;

/* In place. */
void fmc_unit_length(const fmc_unit_length_t *p, const int8_t *in, int8_t *out);

/* sums[c] += in[i][c]; the first row clears them. */
void fmc_accumulate(int32_t *sums, const int8_t *in, int32_t columns, int32_t channels,
                    int32_t row);

typedef struct {
  int32_t channels, count;
  int32_t multiplier, shift, in_zero, out_zero, low, high;
} fmc_sums_t;

void fmc_sums_mean(const fmc_sums_t *p, const int32_t *sums, int8_t *out);
void fmc_sums_average(const fmc_sums_t *p, const int32_t *sums, int8_t *out);

/* Sums, the greatest or the least over some dimensions of five. */
typedef struct {
  int32_t kept[4], kept_step[4];
  int32_t over[4], over_step[4];
  fmc_sums_t end;
} fmc_reduce_t;

void fmc_reduce_sum(const fmc_reduce_t *p, const int8_t *in, int8_t *out);
void fmc_reduce_max(const fmc_reduce_t *p, const int8_t *in, int8_t *out);
void fmc_reduce_min(const fmc_reduce_t *p, const int8_t *in, int8_t *out);

/* Bytes from a grid of five dimensions to another; runs of `run` bytes. */
typedef struct {
  int32_t extent[5], in_step[5], out_step[5];
  int32_t run;
} fmc_copy_t;

void fmc_copy(const fmc_copy_t *p, const int8_t *in, int8_t *out);

/* A row with columns and channels of one value around it; a row of that value if rows is 0. */
typedef struct {
  int32_t columns, channels, left, right, before, after, value;
} fmc_pad_t;

void fmc_pad(const fmc_pad_t *p, const int8_t *in, int32_t rows, int8_t *out);

/* Rows or columns picked by number: out[i] = in[index[i]], `run` bytes each. */
void fmc_pick(const int16_t *index, int32_t count, int32_t run, const int8_t *in, int8_t *out);

/* Real numbers to codes, in place; codes to real numbers. */
void fmc_quantize(const float *in, int32_t count, float scale, int32_t zero, int8_t *out);
void fmc_dequantize(const int8_t *in, int32_t count, int32_t is_unsigned, float scale,
                    int32_t zero, float *out);

/* Bytes to int32; a number added, within [low, high], in place; entries of `run` bytes. */
void fmc_widen(const int8_t *in, int32_t count, int32_t is_unsigned, int32_t *out);
void fmc_add_int32(const int32_t *in, int32_t count, int32_t value, int32_t low, int32_t high,
                   int32_t *out);
void fmc_lookup(const int8_t *table, int32_t entries, int32_t run, const int32_t *index,
                int32_t count, int8_t *out);

/* The first place of the greatest or least value: in[outer][count][inner] to out[outer][inner]. */
void fmc_arg_max(const int8_t *in, int32_t outer, int32_t count, int32_t inner, int32_t *out);
void fmc_arg_min(const int8_t *in, int32_t outer, int32_t count, int32_t inner, int32_t *out);

typedef struct {
  int32_t in_columns, out_columns, channels, column_scale, half_pixel;
} fmc_bilinear_t;

/* `fraction` is 1024 times the place of the output row below the first row given. */
void fmc_bilinear(const fmc_bilinear_t *p, const int8_t *in, int32_t rows, int32_t fraction,
                  int8_t *out);

/* Codes `low` .. low + 2^bits - 1 one after the other in bytes, the least significant bits first. */
void fmc_pack_codes(const int8_t *in, int32_t count, int32_t bits, int32_t low, int8_t *out);
void fmc_unpack_codes(const int8_t *in, int32_t count, int32_t bits, int32_t low, int8_t *out);

/* Pixels of `bits` bits for each channel; each pixel begins a byte. */
typedef struct {
  int32_t columns, channels, bits;
} fmc_bits_t;

/* The bits that a table gives for each value, and the values that it gives for groups of bits. */
void fmc_bits_of(const fmc_bits_t *p, const int8_t *table, const int8_t *in, int8_t *out);
void fmc_values_of_bits(const fmc_bits_t *p, const int8_t *table, const int8_t *in, int8_t *out);

typedef struct {
  int32_t in_columns, in_bytes, out_columns, out_bytes;
  int32_t kernel_rows, kernel_columns, stride_rows, stride_columns, pad_columns;
} fmc_bits_window_t;

/* For each 8 output bits and each half byte of the window, what its 16 values are worth: 4 words of
   two sums, bits 0 to 3 in the lower halves, 4 to 7 in the upper. `start` holds 2^15 less the
   thresholds, 4 words for each 8 output bits. */
typedef struct {
  const uint32_t *worth, *start;
} fmc_sums_table_t;

/* A convolution of bits to bits: 1 where the sum over its window's ones reaches a threshold. */
void fmc_bits_conv(const fmc_bits_window_t *p, const fmc_sums_table_t *t, const int8_t *in,
                   int32_t rows, int32_t above, int8_t *out, int32_t out_rows);

#ifdef __cplusplus
}
#endif

#endif
