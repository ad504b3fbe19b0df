// Runs @{model}, generated C, through the functions of @{header}.
#ifndef @{prefix}_MODEL_RUNNER_H_
#define @{prefix}_MODEL_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "@{header}"

namespace @{symbol} {

// There is nothing to build: the memory is static, or handed over with @{function}_set_arena().
inline bool Setup() { return true; }
@{functions}
@{conversions}
@{ports}
}  // namespace @{symbol}

#endif  // @{prefix}_MODEL_RUNNER_H_
