// The arena that the models share, and the allocator that manages it.
#ifndef FMC_SHARED_ARENA_H_
#define FMC_SHARED_ARENA_H_

#include "tensorflow/lite/micro/micro_allocator.h"

// Versions of TFLM from 2026 on keep their names in tflite::micro, earlier ones in tflite.
namespace tflite {
namespace micro {}
}  // namespace tflite

namespace shared_arena {

using namespace tflite;
using namespace tflite::micro;

// The one allocator; made at the first call.
MicroAllocator* Allocator();

}  // namespace shared_arena

#endif  // FMC_SHARED_ARENA_H_
