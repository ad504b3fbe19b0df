/* What start.c offers. */
#ifndef EMULATED_H_
#define EMULATED_H_

#include <stdint.h>

#ifdef __riscv
#define STACK_POINTER(sp) __asm__ volatile("mv %0, sp" : "=r"(sp))
#else
#define STACK_POINTER(sp) __asm__ volatile("mov %0, sp" : "=r"(sp))
#endif

void say(const char *text);
void say_number(const char *name, uint64_t value);
void clock_start(void);
uint64_t clock_ticks(void);
uint64_t clock_instructions_per_tick(void);

#endif
