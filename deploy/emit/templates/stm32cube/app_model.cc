// @{model}: @{size}, planned for @{target}.
#include "app_model.h"

#include "model_runner.h"

int app_model_setup(void) { return @{symbol}::Setup() ? 1 : 0; }

int app_model_run(void) {
    @{fill}
  if (!@{symbol}::Run()) {
    return 0;
  }
  static float result[@{symbol}::k@{out}Elements];
  for (size_t i = 0; i < @{symbol}::k@{out}Elements; ++i) {
    result[i] = static_cast<float>(@{result});
  }
  static_cast<void>(result);  // what the model says of this input
  return 1;
}
