#ifndef TESTS_TFLM_MICRO_RESOURCE_VARIABLE_H_
#define TESTS_TFLM_MICRO_RESOURCE_VARIABLE_H_
#include "tensorflow/lite/micro/micro_allocator.h"
FMC_TFLM_BEGIN
class MicroResourceVariables {
 public:
  static MicroResourceVariables* Create(MicroAllocator* allocator, int num_variables);
};
FMC_TFLM_END
#endif
