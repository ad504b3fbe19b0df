// @{model}: @{size}, planned for @{target}.
#include <cstdio>

#include <zephyr/kernel.h>

#include "model_runner.h"

int main(void) {
  if (!@{symbol}::Setup()) {
    return 1;
  }
  for (;;) {
    @{fill}
    if (@{symbol}::Run()) {
      for (size_t i = 0; i < @{symbol}::k@{out}Elements; ++i) {
        std::printf("%.4f ", static_cast<double>(@{result}));
      }
      std::printf("\n");
    }
    k_msleep(1000);
  }
}
