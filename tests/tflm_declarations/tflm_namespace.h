#ifndef TESTS_TFLM_NAMESPACE_H_
#define TESTS_TFLM_NAMESPACE_H_
#ifdef FMC_TFLM_MICRO_NAMESPACE
#define FMC_TFLM_BEGIN \
  namespace tflite {   \
  namespace micro {
#define FMC_TFLM_END \
  }                  \
  }
#else
#define FMC_TFLM_BEGIN namespace tflite {
#define FMC_TFLM_END }
#endif
#endif
