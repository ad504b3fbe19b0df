#ifndef TESTS_TFLITE_C_COMMON_H_
#define TESTS_TFLITE_C_COMMON_H_
#include <stddef.h>
#include <stdint.h>
typedef enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
typedef union TfLitePtrUnion {
  int32_t* i32;
  float* f;
  int8_t* int8;
  void* data;
} TfLitePtrUnion;
typedef struct TfLiteTensor {
  TfLitePtrUnion data;
  size_t bytes;
} TfLiteTensor;
#endif
