set(TFLM_DIR "" CACHE PATH "TensorFlow Lite Micro source tree")
if(NOT EXISTS "${TFLM_DIR}/tensorflow/lite/micro/micro_interpreter.h")
  message(FATAL_ERROR "TFLM_DIR does not hold TensorFlow Lite Micro: '${TFLM_DIR}'")
endif()

file(GLOB_RECURSE TFLM_SOURCES CONFIGURE_DEPENDS
  "${TFLM_DIR}/tensorflow/*.cc" "${TFLM_DIR}/tensorflow/*.c" "${TFLM_DIR}/signal/*.cc"
  "${TFLM_DIR}/third_party/*.cc" "${TFLM_DIR}/third_party/*.c")
add_library(tflm STATIC ${TFLM_SOURCES})
target_include_directories(tflm PUBLIC
  "${TFLM_DIR}"
  "${TFLM_DIR}/third_party/flatbuffers/include"
  "${TFLM_DIR}/third_party/gemmlowp"
  "${TFLM_DIR}/third_party/ruy"
  "${TFLM_DIR}/third_party/kissfft"@{kernel_includes})
target_compile_definitions(tflm PUBLIC TF_LITE_STATIC_MEMORY@{kernel_definitions})
target_compile_options(tflm PUBLIC
  -ffunction-sections -fdata-sections
  $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti -fno-exceptions -fno-threadsafe-statics>)
