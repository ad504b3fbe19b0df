/* What start.c offers. */
#ifndef EMULATED_H_
#define EMULATED_H_

#include <stdint.h>

void say(const char *text);
void say_number(const char *name, uint64_t value);
void clock_start(void);
uint64_t clock_ticks(void);
uint64_t clock_instructions_per_tick(void);

#endif
