// Runs @{model} in TensorFlow Lite Micro, in the arena that was planned for it.
#ifndef @{prefix}_MODEL_RUNNER_H_
#define @{prefix}_MODEL_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <limits>

namespace @{symbol} {

// Builds the interpreter; call it once. Returns false, with the reason in the log, if the
// model in flash is not the one that was planned or if the arena does not suffice.
bool Setup();

// Runs one inference on what the inputs hold. The inputs are overwritten: they share the
// arena with the feature maps.
bool Run();

@{conversions}
@{ports}
}  // namespace @{symbol}

#endif  // @{prefix}_MODEL_RUNNER_H_
