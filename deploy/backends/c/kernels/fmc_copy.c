/* Bytes that move: slices, concatenations, transpositions, padding, picked rows. */
#include <string.h>

#include "fmc_kernels.h"

void fmc_copy(const fmc_copy_t *p, const int8_t *in, int8_t *out) {
  for (int32_t i = 0; i < p->extent[0]; i++) {
    for (int32_t j = 0; j < p->extent[1]; j++) {
      for (int32_t k = 0; k < p->extent[2]; k++) {
        for (int32_t l = 0; l < p->extent[3]; l++) {
          const int8_t *from = in + i * p->in_step[0] + j * p->in_step[1] + k * p->in_step[2] +
                               l * p->in_step[3];
          int8_t *to = out + i * p->out_step[0] + j * p->out_step[1] + k * p->out_step[2] +
                       l * p->out_step[3];
          for (int32_t m = 0; m < p->extent[4]; m++) {
            memcpy(to, from, (uint32_t)p->run);
            from += p->in_step[4];
            to += p->out_step[4];
          }
        }
      }
    }
  }
}

void fmc_pad(const fmc_pad_t *p, const int8_t *in, int32_t rows, int8_t *out) {
  const int32_t channels = p->before + p->channels + p->after;
  const int32_t columns = p->left + p->columns + p->right;
  memset(out, p->value, (uint32_t)(columns * channels));
  if (rows > 0) {
    out += p->left * channels + p->before;
    for (int32_t i = 0; i < p->columns; i++, in += p->channels, out += channels) {
      memcpy(out, in, (uint32_t)p->channels);
    }
  }
}

void fmc_pick(const int16_t *index, int32_t count, int32_t run, const int8_t *in, int8_t *out) {
  for (int32_t i = 0; i < count; i++, out += run) {
    memcpy(out, in + index[i] * run, (uint32_t)run);
  }
}
