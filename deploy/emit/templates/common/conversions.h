// The code nearest to a real value, real = scale * (code - zero_point), at the ends of the
// type where the value is beyond them.
template <typename Code>
Code Quantize(float value, float scale, int32_t zero_point) {
  const int32_t low = std::numeric_limits<Code>::min();
  const int32_t high = std::numeric_limits<Code>::max();
  const float steps = value / scale;
  if (!(steps > static_cast<float>(low - zero_point))) {  // not a number, too
    return static_cast<Code>(low);
  }
  if (steps >= static_cast<float>(high - zero_point)) {
    return static_cast<Code>(high);
  }
  const float half = steps < 0.0f ? -0.5f : 0.5f;
  return static_cast<Code>(static_cast<int32_t>(steps + half) + zero_point);
}

inline float Dequantize(int32_t code, float scale, int32_t zero_point) {
  return scale * static_cast<float>(code - zero_point);
}
