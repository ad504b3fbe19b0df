/*
 * The kernels of fmc_kernels.h that CMSIS-NN has, by its public functions. The library is yours:
 * commit 4ab83cc of 17 June 2026, which TensorFlow Lite Micro of August 2026 pins, or 99f736a of
 * 15 July 2026 are known to agree. Other versions may: the model's check function tells.
 *
 * A window over rows is a small map of its own to the library: `rows` of input with padding above,
 * `out_rows` of output. `scratch` is used during a call only. What a call writes stands apart from
 * what it reads, save for sums and softmax, which work in place.
 */
#ifndef FMC_CMSIS_NN_H_
#define FMC_CMSIS_NN_H_

#include "fmc_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As fmc_weights_t, with shifts as the library reads them. */
typedef struct {
  const int8_t *weights;
  const int32_t *bias; /* or NULL */
  const int32_t *multiplier, *shift;
} fmc_cmsis_nn_weights_t;

void fmc_cmsis_nn_conv(const fmc_window_t *p, const fmc_cmsis_nn_weights_t *w, const int8_t *in,
                       int32_t rows, int32_t above, int8_t *out, int32_t out_rows, void *scratch,
                       int32_t scratch_bytes);
void fmc_cmsis_nn_depthwise(const fmc_window_t *p, const fmc_cmsis_nn_weights_t *w,
                            const int8_t *in, int32_t rows, int32_t above, int8_t *out,
                            int32_t out_rows, void *scratch, int32_t scratch_bytes);
void fmc_cmsis_nn_dense(const fmc_dense_t *p, const fmc_cmsis_nn_weights_t *w, const int8_t *in,
                        int8_t *out, void *scratch, int32_t scratch_bytes);
void fmc_cmsis_nn_average_pool(const fmc_window_t *p, const int8_t *in, int32_t rows,
                               int32_t above, int8_t *out, int32_t out_rows, void *scratch,
                               int32_t scratch_bytes);
void fmc_cmsis_nn_max_pool(const fmc_window_t *p, const int8_t *in, int32_t rows, int32_t above,
                           int8_t *out, int32_t out_rows);
/* Operands of one shape. */
void fmc_cmsis_nn_add(const fmc_binary_t *p, const int8_t *a, const int8_t *b, int8_t *out);
void fmc_cmsis_nn_softmax(const fmc_softmax_t *p, const int8_t *in, int8_t *out);

/* The scratch that the library says it needs for a window. */
int32_t fmc_cmsis_nn_conv_bytes(const fmc_window_t *p, int32_t rows, int32_t above,
                                int32_t out_rows);
int32_t fmc_cmsis_nn_depthwise_bytes(const fmc_window_t *p, int32_t rows, int32_t above,
                                     int32_t out_rows);
int32_t fmc_cmsis_nn_dense_bytes(const fmc_dense_t *p);
int32_t fmc_cmsis_nn_average_pool_bytes(const fmc_window_t *p, int32_t rows, int32_t above,
                                        int32_t out_rows);

/* Whether the library makes of one small convolution what it should, to the last bit: one that
   was built with CMSIS_NN_USE_SINGLE_ROUNDING does not. */
int fmc_cmsis_nn_agrees(void);

#ifdef __cplusplus
}
#endif

#endif
