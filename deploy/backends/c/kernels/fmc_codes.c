/* Codes of 6, 4, 2 or 1 bits, packed into bytes and unpacked; those of 6 bits straddle bytes. */
#include "fmc_kernels.h"

void fmc_pack_codes(const int8_t *in, int32_t count, int32_t bits, int32_t low, int8_t *out) {
  uint32_t held = 0;
  int32_t have = 0;
  if (bits == 4) {
    for (; count >= 2; count -= 2, in += 2) {
      *out++ = (int8_t)((in[0] - low) | (in[1] - low) * 16);
    }
  } else if (bits == 2) {
    for (; count >= 4; count -= 4, in += 4) {
      *out++ = (int8_t)((in[0] - low) | (in[1] - low) * 4 | (in[2] - low) * 16 |
                        (in[3] - low) * 64);
    }
  }
  while (count-- > 0) {
    held |= (uint32_t)(*in++ - low) << have;
    have += bits;
    if (have >= 8) {
      *out++ = (int8_t)(held & 255u);
      held >>= 8;
      have -= 8;
    }
  }
  if (have > 0) {
    *out = (int8_t)held;
  }
}

void fmc_unpack_codes(const int8_t *in, int32_t count, int32_t bits, int32_t low, int8_t *out) {
  const uint32_t mask = (1u << bits) - 1u;
  uint32_t held = 0;
  int32_t have = 0;
  if (bits == 4) {
    for (; count >= 2; count -= 2, out += 2) {
      const int32_t byte = (uint8_t)*in++;
      out[0] = (int8_t)((byte & 15) + low);
      out[1] = (int8_t)((byte >> 4) + low);
    }
  } else if (bits == 2) {
    for (; count >= 4; count -= 4, out += 4) {
      const int32_t byte = (uint8_t)*in++;
      out[0] = (int8_t)((byte & 3) + low);
      out[1] = (int8_t)((byte >> 2 & 3) + low);
      out[2] = (int8_t)((byte >> 4 & 3) + low);
      out[3] = (int8_t)((byte >> 6) + low);
    }
  }
  while (count-- > 0) {
    if (have < bits) {
      held |= (uint32_t)(uint8_t)*in++ << have;
      have += 8;
    }
    *out++ = (int8_t)((int32_t)(held & mask) + low);
    held >>= bits;
    have -= bits;
  }
}
