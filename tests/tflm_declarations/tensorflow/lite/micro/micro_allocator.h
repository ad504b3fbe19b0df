#ifndef TESTS_TFLM_MICRO_ALLOCATOR_H_
#define TESTS_TFLM_MICRO_ALLOCATOR_H_
#include "tensorflow/lite/c/common.h"
#include "tflm_namespace.h"
FMC_TFLM_BEGIN
class MicroAllocator {
 public:
  static MicroAllocator* Create(uint8_t* tensor_arena, size_t arena_size);
  static MicroAllocator* Create(uint8_t* persistent_tensor_arena, size_t persistent_arena_size,
                                uint8_t* non_persistent_tensor_arena,
                                size_t non_persistent_arena_size);
};
FMC_TFLM_END
#endif
