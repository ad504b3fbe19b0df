// Runs @{model}, generated C, through the functions of @{header}.
#ifndef @{prefix}_MODEL_RUNNER_H_
#define @{prefix}_MODEL_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "@{header}"

namespace @{symbol} {

@{setup}
@{functions}
@{conversions}
@{ports}
}  // namespace @{symbol}

#endif  // @{prefix}_MODEL_RUNNER_H_
