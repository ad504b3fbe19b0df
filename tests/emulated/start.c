/* Bare start of a Cortex-M under QEMU: vectors, semihosting, and a clock of instructions.
 *
 * With -icount shift=0 the core runs one instruction in a nanosecond of its time, so SysTick counts
 * instructions; a loop of known length tells how many make a tick. */
#include <stdint.h>

#include "emulated.h"

extern uint32_t data_begin, data_end, data_origin, bss_begin, bss_end, stack_top;
int main(void);
void reset(void);

static volatile uint32_t wraps;

enum { WRITE0 = 0x04, EXIT = 0x18, STOPPED = 0x20026, FAILED = 0x20024 };

static void semihosting(uint32_t operation, uint32_t argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register uint32_t r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void say(const char *text) { semihosting(WRITE0, (uint32_t)(uintptr_t)text); }

static void fault(void) {
  say("fault\n");
  semihosting(EXIT, FAILED);
}

static void tick(void) { wraps++; }

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
    (void *)fault, 0, 0, 0, 0, (void *)fault, 0, 0, (void *)fault, (void *)tick};

void reset(void) {
  uint32_t *from = &data_origin;
  /* Coprocessors 10 and 11: floating point and vectors, where there are any. */
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
  __asm__ volatile("dsb\nisb");
  for (uint32_t *to = &data_begin; to < &data_end;) {
    *to++ = *from++;
  }
  for (uint32_t *to = &bss_begin; to < &bss_end;) {
    *to++ = 0;
  }
  semihosting(EXIT, main() == 0 ? STOPPED : FAILED);
  for (;;) {
  }
}

#define SYSTICK ((volatile uint32_t *)0xE000E010)
enum { RELOAD = 0xFFFFFF };

void clock_start(void) {
  SYSTICK[1] = RELOAD;
  SYSTICK[2] = 0;
  wraps = 0;
  SYSTICK[0] = 7;
}

uint64_t clock_ticks(void) {
  const uint32_t left = SYSTICK[2];
  SYSTICK[0] = 0;
  return (uint64_t)wraps * (RELOAD + 1u) + (RELOAD - left);
}

uint64_t clock_instructions_per_tick(void) {
  uint32_t n = 5000000;
  uint64_t ticks;
  clock_start();
  __asm__ volatile("1: subs %0, %0, #1\nbne 1b" : "+r"(n) : : "cc");
  ticks = clock_ticks();
  return (10000000u + ticks / 2) / ticks;
}
