// @{model}: @{size}, planned for @{target}.
#include "model_runner.h"

int main() {
  // Clocks, caches and the output of DebugLog() are your board's; set them up here.
  if (!@{symbol}::Setup()) {
    return 1;
  }
  float result[@{symbol}::k@{out}Elements];
  for (;;) {
    @{fill}
    if (!@{symbol}::Run()) {
      return 1;
    }
    for (size_t i = 0; i < @{symbol}::k@{out}Elements; ++i) {
      result[i] = static_cast<float>(@{result});
    }
    static_cast<void>(result);  // what the model says of this input
  }
}
