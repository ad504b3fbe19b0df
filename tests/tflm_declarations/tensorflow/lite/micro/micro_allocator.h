#ifndef TESTS_TFLM_MICRO_ALLOCATOR_H_
#define TESTS_TFLM_MICRO_ALLOCATOR_H_
#include "tensorflow/lite/c/common.h"
#include "tflm_namespace.h"
FMC_TFLM_BEGIN
class MicroAllocator {
 public:
  static MicroAllocator* Create(uint8_t* tensor_arena, size_t arena_size);
};
FMC_TFLM_END
#endif
