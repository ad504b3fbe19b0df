#ifndef TESTS_ZEPHYR_KERNEL_H_
#define TESTS_ZEPHYR_KERNEL_H_
#include <stdint.h>
extern "C" int32_t k_msleep(int32_t ms);
#endif
