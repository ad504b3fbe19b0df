#ifndef TESTS_FREERTOS_H_
#define TESTS_FREERTOS_H_
#include <stdint.h>
#define pdMS_TO_TICKS(ms) (static_cast<uint32_t>(ms) / 10)
#endif
