#ifndef TESTS_TFLM_SYSTEM_SETUP_H_
#define TESTS_TFLM_SYSTEM_SETUP_H_
#include "tflm_namespace.h"
FMC_TFLM_BEGIN
void InitializeTarget();
FMC_TFLM_END
#endif
