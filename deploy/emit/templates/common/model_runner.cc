#include "model_runner.h"
@{section_include}
#include "arena_plan.h"
#include "model_data.h"
#include "plan_check.h"@{shared_include}@{allocator_include}
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

// Versions of TFLM from 2026 on keep their names in tflite::micro, earlier ones in tflite.
namespace tflite {
namespace micro {}
}  // namespace tflite
@{own_kernels}
namespace @{symbol} {
namespace {

using namespace tflite;
using namespace tflite::micro;

@{arenas}

MicroInterpreter* interpreter = nullptr;

// What the size of the arena holds for.
const char kTarget[] = "@{target}";

// Whether Setup() fails where TFLM does not use the memory that was planned: 0 lets it run on.
// @{grows}
#ifndef MODEL_STOP_UNLESS_AS_PLANNED
#define MODEL_STOP_UNLESS_AS_PLANNED @{stop}
#endif

// The kinds of operators that the model uses; no other kernel is linked.
using OpResolver = MicroMutableOpResolver<@{kinds}>;

bool RegisterOperators(OpResolver& resolver) {
@{registrations}
  return true;
}

// Says what TFLM really used; returns whether that is what was planned.
bool IsAsPlanned(int used) {
  @{used_report}
  if (used == @{used}) {
    return true;
  }
  MicroPrintf("@{symbol}: not as planned: this build is not %s", kTarget);
  return false;
}

}  // namespace

bool Setup() {
  InitializeTarget();
  uint32_t where = 0;
  const fmc_plan_status status = fmc_plan_check(
      @{model_symbol}, @{model_symbol}_len, @{symbol}_tensor_offsets,
      @{symbol}_tensor_bytes, @{prefix}_TENSOR_COUNT, &where);
  if (status != FMC_PLAN_OK) {
    MicroPrintf("@{symbol}: %s (tensor %d)", fmc_plan_status_text(status),
                static_cast<int>(where));
    return false;
  }
  static OpResolver resolver;
  if (!RegisterOperators(resolver)) {
    MicroPrintf("@{symbol}: an operator cannot be registered");
    return false;
  }@{allocator}
  static MicroInterpreter the_interpreter(GetModel(@{model_symbol}), resolver, @{memory});
  if (the_interpreter.AllocateTensors() != kTfLiteOk) {
    MicroPrintf("@{symbol}: %d bytes do not suffice; they were planned for %s",
                @{arena_macro}, kTarget);
    return false;
  }
  const bool as_planned = IsAsPlanned(static_cast<int>(the_interpreter.arena_used_bytes()));
  if (!as_planned && MODEL_STOP_UNLESS_AS_PLANNED) {
    MicroPrintf("@{symbol}: stopped; -DMODEL_STOP_UNLESS_AS_PLANNED=0 lets it run on");
    return false;
  }
  interpreter = &the_interpreter;
  return true;
}

bool Run() {
  if (interpreter == nullptr || interpreter->Invoke() != kTfLiteOk) {
    MicroPrintf("@{symbol}: inference failed");
    return false;
  }
  return true;
}

@{accessors}
}  // namespace @{symbol}
