// @{model}: @{size}, planned for @{target}.
#include <cstdio>

#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "model_runner.h"

extern "C" void app_main(void) {
  if (!@{symbol}::Setup()) {
    return;
  }
  for (;;) {
    @{fill}
    if (@{symbol}::Run()) {
      for (size_t i = 0; i < @{symbol}::k@{out}Elements; ++i) {
        std::printf("%.4f ", static_cast<double>(@{result}));
      }
      std::printf("\n");
    }
    vTaskDelay(pdMS_TO_TICKS(1000));
  }
}
