#ifndef TESTS_ESP_ATTR_H_
#define TESTS_ESP_ATTR_H_
#define EXT_RAM_BSS_ATTR __attribute__((section(".ext_ram.bss")))
#endif
