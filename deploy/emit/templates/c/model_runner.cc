#include "model_runner.h"

namespace @{symbol} {
namespace {

// What the model says; memory of the application, beside the model's own.
@{buffers}

}  // namespace

@{definitions}
@{accessors}
}  // namespace @{symbol}
