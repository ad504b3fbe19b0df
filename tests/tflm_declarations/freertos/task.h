#ifndef TESTS_FREERTOS_TASK_H_
#define TESTS_FREERTOS_TASK_H_
#include <stdint.h>
extern "C" void vTaskDelay(uint32_t ticks);
#endif
