#ifndef TESTS_ZEPHYR_SECTION_TAGS_H_
#define TESTS_ZEPHYR_SECTION_TAGS_H_
#define __noinit __attribute__((section(".noinit.test.0")))
#endif
